"""The hub as a process of its own, to be asked, stopped and killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from hub.installation import Installation
from tests.forked import Forked

_PATIENCE = 4


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def hub_url_of(installation: Installation) -> str:
    """Where the agencies of an installation expect the hub's API."""
    return next(iter(installation.accounts.values())).hub_url


class HubProcess:
    """`truc run` with the settings of an installation; one of them may serve where agencies expect the hub's API."""

    def __init__(
        self,
        installation: Installation,
        log_file: Path,
        *loops: str,
        at_hub_url: bool = False,
        **settings: object,
    ) -> None:
        self.port = urlsplit(hub_url_of(installation)).port if at_hub_url else free_port()
        self.log_file = log_file
        given = {f"TRUC_{key.upper()}": str(value) for key, value in settings.items()}
        self.environment: Mapping[str, str] = {
            **os.environ,
            **installation.environment,
            "TRUC_HTTP_PORT": str(self.port),
            **given,
        }
        self.loops = loops
        self.process: Forked | None = None

    def start(self) -> Self:
        with self.log_file.open("ab") as log:
            self.process = Forked(["run", *self.loops], self.environment, log, log)
        return self

    def failing(self) -> dict[str, str] | None:
        """What `/readyz` says fails; `None` while nobody answers."""
        return self._ask("/readyz")

    def dead(self) -> dict[str, str] | None:
        """What `/livez` says has ended; `None` while nobody answers."""
        return self._ask("/livez")

    def _ask(self, path: str) -> dict[str, str] | None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return dict(json.load(answer)["failing"])
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error)["failing"])
        except OSError:
            return None

    async def ready(self, timeout_s: float = 30) -> Self:
        async def is_ready() -> bool:
            # Asked in a thread: the way from the hub to its broker may lead through a proxy in this event loop.
            return await asyncio.to_thread(self.failing) == {}

        await eventually(is_ready, timeout_s, lambda: f"{self.failing()}\n{self.log()[-3000:]}")
        return self

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def end(self) -> None:
        """Whatever state it is in, leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(15)
            if self.process.poll() is None:
                self.kill()


async def eventually(
    condition: object, timeout_s: float, what: object = "the condition", pause_s: float = 0.05
) -> None:
    """Wait for something that will happen; fails with what was seen when it does not.

    The time is that of an idle machine, and is given several times over: two processes of tests and all their servers
    may share two cores.
    """
    end = time.monotonic() + _PATIENCE * timeout_s
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        if time.monotonic() > end:
            seen = what() if callable(what) else what
            raise AssertionError(f"did not happen within {timeout_s} s: {seen}")
        await asyncio.sleep(pause_s)
