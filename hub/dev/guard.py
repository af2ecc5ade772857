"""Run one server and end it when the process that asked for it is gone.

`processes.Process` starts this file as a program of its own (`python -I -S guard.py <order>`), because a server must
end even when its owner was killed with -9 and can no longer do anything about it.

* The guard looks whether its own parent is still the owner. The kernel's parent-death signal would not do between
  owner and server: it follows the *thread* that forked, and owners start servers from short-lived threads.
* Between guard and server it does: the guard has a single thread. So the server ends with the guard, too.
* The guard adopts orphans, so nothing that the server has forked escapes (PostgreSQL's backends have sessions of
  their own; a signal to the process group would miss them).

Standard library only, and nothing from the project: it must run without the virtual environment.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_OWNER_CHECK_S = 0.3
_OPEN_FILES = 262_144
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run, for whom, and how to stop it.

    Attributes:
        argv: The server's command line.
        owner_pid: The process that the server must not outlive.
        pid_file: Written with the process ids of guard and server, removed at the end.
        stop_signal: The signal that asks this server for an orderly shutdown.
        grace_s: Seconds that the shutdown may take before the server is killed.
        uid: The account to run the server as; None for the guard's own.
        gid: The group that goes with `uid`.
    """

    argv: list[str]
    owner_pid: int
    pid_file: str
    stop_signal: int
    grace_s: float
    uid: int | None
    gid: int | None


def descendants(pid: int) -> list[int]:
    """Return the process ids of all children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # It ended while we were looking.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, []))
    for child in found:
        found.extend(children.get(child, []))  # The list grows while it is walked: breadth first.
    return found


def kill_tree(pid: int) -> None:
    """Kill a process and all that descends from it, without giving any of them time to react."""
    try:
        os.kill(pid, signal.SIGSTOP)  # A stopped process forks no more children while we list them.
    except ProcessLookupError:
        return
    for each in [pid, *descendants(pid)]:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _start(order: Order) -> subprocess.Popen[bytes]:
    def in_the_child() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    return subprocess.Popen(
        order.argv,
        stdin=subprocess.DEVNULL,
        process_group=0,
        user=order.uid,
        group=order.gid,
        extra_groups=None if order.uid is None else [],
        preexec_fn=in_the_child,  # noqa: PLW1509  # Safe: the guard has a single thread.
    )


def _raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bury_orphans(server: subprocess.Popen[bytes]) -> None:
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != server.pid:
        os.waitpid(ended.si_pid, 0)


def _end(server: subprocess.Popen[bytes], order: Order) -> None:
    if server.poll() is None:
        server.send_signal(order.stop_signal)
        try:
            server.wait(order.grace_s)
        except subprocess.TimeoutExpired:
            kill_tree(server.pid)
            server.wait()
    for orphan in descendants(os.getpid()):
        kill_tree(orphan)


def _run(order: Order) -> int:
    watched = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _raise_open_files()
    server = _start(order)
    pid_file = Path(order.pid_file)
    unfinished = pid_file.with_suffix(".new")
    unfinished.write_text(f"{os.getpid()} {server.pid}\n")
    unfinished.replace(pid_file)
    while server.poll() is None and os.getppid() == order.owner_pid:
        arrived = signal.sigtimedwait(watched, _OWNER_CHECK_S)
        _bury_orphans(server)
        if arrived is not None and arrived.si_signo == signal.SIGTERM:
            break
    _end(server, order)
    pid_file.unlink(missing_ok=True)
    return server.returncode


if __name__ == "__main__":
    sys.exit(_run(Order(**json.loads(sys.argv[1]))) != 0)
