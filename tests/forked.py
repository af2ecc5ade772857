"""Processes of the hub that begin where everything is imported already: real ones, each forked from one that waits.

To import the hub takes a hundred times as long as a short command, and the tests give hundreds of commands. The process
that waits is this module run as a program; it has one thread, talks to nobody else and ends with the process of the tests.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

_IMPORTED = (
    "hub.cli",
    "hub.wiring",
    "hub.broker.management",
    "hub.broker.topology",
    "hub.core.diagnosis",
    "hub.store.audit",
    "hub.store.dead_letters",
    "hub.store.holds",
    "hub.store.replay_orders",
    "hub.store.trace",
    "rich.console",
    "rich.table",
    "uvloop",
)
"""What `truc` and its commands import; what is missing here is only imported later."""

_control_is_free = threading.Lock()


class Forked:
    """One run of `truc`, as far as `subprocess.Popen` is needed for it."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdout: IO[Any], stderr: IO[Any]
    ) -> None:
        self.returncode: int | None = None
        self._talk, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs, _control_is_free:
            socket.send_fds(_waiting()[0], [b"!"], [theirs.fileno(), stdout.fileno(), stderr.fileno()])
        self._talk.send(json.dumps([list(arguments), dict(environment)]).encode())
        self.pid = int(self._talk.recv(100))

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._talk], [], [], timeout_s)[0]:
                raise subprocess.TimeoutExpired("truc", timeout_s or 0)
            self.returncode = int(self._talk.recv(100))
            self._talk.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _waiting() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process that waits; what is sent to it goes unanswered until it has imported everything."""
    ours, theirs = socket.socketpair()
    with theirs:
        return ours, subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs)


def _wait_for_work() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is never looked at by the collector stays shared
    assert threading.active_count() == 1, "who forks has one thread"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    while received := socket.recv_fds(control, 1, 3)[1]:
        if os.fork() == 0:
            control.close()
            _attend(*received)
            os._exit(0)
        for number in received:
            os.close(number)


def _attend(talk: int, stdout: int, stderr: int) -> None:
    """Let a child be `truc`, and tell its pid and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=talk) as connection:
        arguments, environment = json.loads(connection.recv(2**20))
        pid = os.fork()
        if pid == 0:
            _be_truc(arguments, environment, stdout, stderr)
        with contextlib.suppress(OSError):  # nobody may want to know any more
            connection.send(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _be_truc(arguments: list[str], environment: dict[str, str], stdout: int, stderr: int) -> NoReturn:
    with Path(os.devnull).open() as nothing:
        for number, source in enumerate((nothing.fileno(), stdout, stderr)):
            os.dup2(source, number)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["truc", *arguments]
    code: object = 1
    try:
        from hub.__main__ import main

        main()
        code = 0
    except SystemExit as ending:
        code = ending.code
    except BaseException:  # noqa: BLE001 - it ends here in any case
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _wait_for_work()
