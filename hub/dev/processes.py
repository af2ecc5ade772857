"""Start, stop and find child processes. Nothing else in `hub.dev` does.

Every server runs under a guard (`guard.py`), which ends it when this process is gone. Each leaves a pid file beside
its data; the next start reads it and ends what an earlier, crashed run has left over. A process id in such a file is
believed only while that process works inside the same directory.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from hub.dev import guard
from hub.dev.guard import Order, kill_tree

_POLL_S = 0.05
_LOG_TAIL_LINES = 40
_BURIAL_S = 5.0
# Below the ephemeral range, so that no outgoing connection takes the port of a server that is being restarted, and
# below the ports 35672 to 35682 of RabbitMQ's own command line tools.
_PORTS = range(20_000, 32_768)


class DevError(Exception):
    """A private server cannot be started or used; the message is one sentence for the person at the terminal."""


class Process:
    """One server of ours: its guard, its log and its pid file, all in one directory.

    Args:
        name: Names the log (`<name>.log`) and the pid file (`<name>.pid`).
        directory: Where the server works; must exist.
        stop_signal: The signal that asks it for an orderly shutdown.
        grace_s: Seconds that the shutdown may take before the server is killed.
        account: User and group id to run it as; None for our own.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 15.0,
        account: tuple[int, int] | None = None,
    ) -> None:
        self._name = name
        self._directory = directory
        self._stop_signal = stop_signal
        self._grace_s = grace_s
        self._account = account
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid_file = directory / f"{name}.pid"
        self._log_file = directory / f"{name}.log"

    @property
    def running(self) -> bool:
        """Whether the server has been started and not yet ended."""
        guarding = self._guard  # Another thread may be stopping it.
        return guarding is not None and guarding.poll() is None

    @property
    def pid(self) -> int:
        """The server's own process id.

        Raises:
            DevError: When the server does not run.
        """
        pids = _read_pids(self._pid_file) if self.running else []
        if not pids:
            raise DevError(f"{self._name} does not run.")
        return pids[-1]

    def start(self, argv: list[str], environment: Mapping[str, str]) -> None:
        """Start the server with exactly this environment. It runs when this returns, and does not when it raises.

        Raises:
            DevError: When it ends at once.
        """
        uid, gid = self._account or (None, None)
        order = Order(
            argv=argv,
            owner_pid=os.getpid(),
            pid_file=str(self._pid_file),
            stop_signal=self._stop_signal,
            grace_s=self._grace_s,
            uid=uid,
            gid=gid,
        )
        self._pid_file.unlink(missing_ok=True)
        try:
            with self._log_file.open("ab") as log, interrupts_held():
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, json.dumps(asdict(order))],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    env=dict(environment),
                    start_new_session=True,
                )
            self.wait_until(self._pid_file.exists, timeout_s=10)
        except BaseException:
            self.stop()  # Who called does not have it yet.
            raise

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until the server is ready.

        Raises:
            DevError: When it ends before, or takes longer; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise DevError(f"{self._name} ended while starting; the end of its log:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise DevError(
                    f"{self._name} is not ready after {timeout_s:.0f} s; the end of its log:\n{self.log_tail()}"
                )
            time.sleep(_POLL_S)

    def log_tail(self) -> str:
        """Return the last lines that the server has written."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def stop(self) -> None:
        """Shut the server down in order; kill it when that takes too long. Nothing happens when it does not run."""
        if self._guard is None:
            return
        self._guard.terminate()
        try:
            self._guard.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:
            kill_tree(self._guard.pid)
            self._guard.wait()
        self._guard = None

    def kill(self) -> None:
        """Kill the server and all its children with SIGKILL, as a power failure would.

        Raises:
            DevError: When the server does not run.
        """
        kill_tree(self.pid)
        assert self._guard is not None
        self._guard.wait()
        self._guard = None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a Ctrl-C wait until the end of the block: within `Popen` it would leave a process that nobody knows.

    In another thread than the main one there is nothing to hold, as a Ctrl-C never ends what runs there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def end_leftovers(directory: Path) -> None:
    """End the servers that an earlier, crashed run has left running in a directory."""
    for pid_file in directory.glob("*.pid"):
        pids = [pid for pid in _read_pids(pid_file) if _works_in(directory, pid)]
        # The server first: its guard then buries it. Where nobody does, PostgreSQL takes the dead one for a living one.
        for pid in reversed(pids):
            kill_tree(pid)
            _resume(pids[0])
            deadline = time.monotonic() + _BURIAL_S
            while any(_works_in(directory, each) for each in pids) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        pid_file.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Return different TCP ports on which nothing listens on loopback."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", random.choice(_PORTS)))  # noqa: S311  # A port, not a secret.
            except OSError:
                continue
            ports.append(probe.getsockname()[1])
        return ports


def _read_pids(pid_file: Path) -> list[int]:
    try:
        return [int(pid) for pid in pid_file.read_text().split()]
    except FileNotFoundError:
        return []


def _resume(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _works_in(directory: Path, pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(directory.resolve())
    except OSError:
        return False  # It has ended, or it belongs to somebody else.
