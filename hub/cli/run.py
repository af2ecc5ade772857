"""`truc run`: the hub's processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import reporting, say

if TYPE_CHECKING:
    from hub.installation import Installation
    from hub.wiring import Loop


class LoopName(StrEnum):
    """Loops that can run as a process of their own."""

    INTAKE = "intake"
    DISPATCH = "dispatch"
    RECEIPTS = "receipts"
    RETURNS = "returns"
    RECONCILE = "reconcile"
    REPLAY = "replay"
    SWEEP = "sweep"
    WEB = "web"


def run(
    loops: Annotated[
        list[LoopName] | None, typer.Argument(help="Which loops; all of them in one process by default.")
    ] = None,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev", help="With a small directory; RabbitMQ and PostgreSQL that are not given are started below .truc/."
        ),
    ] = False,
    port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz, /metrics; 0 takes a free one.")] = None,
) -> None:
    """Run the hub until SIGTERM or Ctrl-C: what is in hand is finished and settled, the rest stays in the broker."""
    from hub.settings import load_settings
    from hub.telemetry.log import configure
    from hub.wiring import LOOPS, Loop

    wanted: list[Loop] = [loop for loop in LOOPS if not loops or loop in loops]
    with reporting():
        settings = load_settings(http_port=port)
        if dev:
            _run_dev(wanted, settings.http_host, settings.http_port)
            return
        configure(settings.log_level, settings.log_format)
        from hub import wiring

        _use_uvloop(lambda: until_signal(lambda stop: wiring.run(settings, wanted, stop)))


def _run_dev(wanted: "list[Loop]", host: str, port: int) -> None:
    from hub import wiring
    from hub.dev.processes import free_ports
    from hub.dev.servers import BASE_DIR, Servers
    from hub.installation import install_demo
    from hub.settings import load_settings
    from hub.telemetry.log import configure

    say("Khởi động RabbitMQ và PostgreSQL riêng dưới .truc/run, trừ máy chủ đã cho …")
    with Servers(purpose="run") as servers:
        port = port or free_ports(1)[0]  # agencies have to know it beforehand
        folder = BASE_DIR / "run" / "installation"
        near = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
        installation = asyncio.run(install_demo(servers, folder, f"http://{near}:{port}"))
        settings = load_settings(**installation.settings, http_port=port)
        configure(settings.log_level, settings.log_format)
        say(f"Khởi động trục: http://{settings.http_host}:{settings.http_port}/readyz  (Ctrl-C để dừng)")
        say(f"Cho lệnh truc khác:  set -a; . {installation.environment_file}; set +a")
        with _echo(installation):
            _use_uvloop(lambda: until_signal(lambda stop: wiring.run(settings, wanted, stop)))
        say("Đang dừng các máy chủ riêng …")


@contextmanager
def _echo(installation: "Installation") -> Iterator[None]:
    """Run the echo agency as a process of its own, as its operator would: hub and adapters never import each other."""
    from hub.dev.country import ECHO
    from hub.dev.processes import Process

    if ECHO not in installation.accounts:
        say(f"Danh mục ở {installation.directory_file} có từ trước, chưa có đơn vị phản hồi {ECHO}.")
        yield
        return
    folder = installation.environment_file.parent.absolute()
    echo = Process("echo", folder)
    config = folder / "agencies" / f"{ECHO}.toml"
    root = str(Path(__file__).parents[2])
    program = [sys.executable, "-m", "adapters", "--config", str(config), "echo"]
    try:
        echo.start(program, {**os.environ, "PYTHONPATH": root})
        say(f"Đơn vị phản hồi {ECHO} trả lời mọi văn bản thử (truc-agency test).")
        yield
    finally:
        echo.stop()


async def until_signal(process: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a process that is told to stop by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await process(stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _use_uvloop(start: Callable[[], Awaitable[None]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_awaited(start))


async def _awaited(start: Callable[[], Awaitable[None]]) -> None:
    await start()
