"""`truc broker`: exchanges, queues, bindings and users, as the directory wants them."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import Exit, agreed, fail, print_json, reporting, say

if TYPE_CHECKING:
    from hub.broker.topology import Drift, Step, Topology
    from hub.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Hàng đợi, liên kết và tài khoản trên máy chủ chuyển tin.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Show what `apply` would do; changes nothing."""
    with reporting():
        found, shortage = asyncio.run(_compare())
    if as_json:
        print_json({"version": 1, "steps": [str(step) for step in found.missing], "shortage": shortage})
    else:
        _print_steps(found.missing)
        if shortage:
            print(f"chưa đủ: {shortage}")


@app.command()
def apply(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make what is missing. Never deletes an exchange, a queue or a binding that may still be a route."""
    with reporting():
        found, shortage = asyncio.run(_compare())
        if shortage:
            raise fail(Exit.CONFLICT, shortage)
        if not found.missing:
            say("Không có gì phải làm.")
            return
        _print_steps(found.missing)
        if not yes and not agreed(f"Thực hiện {len(found.missing)} bước?"):
            raise fail(Exit.NEGATIVE, "nothing was done")
        asyncio.run(_apply(found.missing))
        say(f"Đã thực hiện {len(found.missing)} bước.")


@app.command()
def drift(as_json: AsJson = False) -> None:
    """Compare the broker with the directory both ways; exits 1 when they differ."""
    with reporting():
        found, shortage = asyncio.run(_compare())
    wrong = [*found.wrong, *([shortage] if shortage else [])]
    if as_json:
        print_json(
            {
                "version": 1,
                "missing": [str(step) for step in found.missing],
                "wrong": wrong,
                "surplus": list(found.surplus),
            }
        )
    else:
        _print_steps(found.missing)
        for sentence in wrong:
            print(f"sai khác (cần người xử lý): {sentence}")
        for sentence in found.surplus:
            print(f"thừa (không tự xóa): {sentence}")
        if not found and not shortage:
            say("Máy chủ chuyển tin khớp với danh mục.")
    if found or shortage:
        raise typer.Exit(Exit.NEGATIVE)


def _print_steps(steps: "tuple[Step, ...]") -> None:
    for step in steps:
        print(step)
    if not steps:
        say("Không thiếu gì.")


async def _compare() -> "tuple[Drift, str | None]":
    """Compare, and say what the broker is short of for what is wanted."""
    from hub.broker.management import Management
    from hub.broker.topology import drift as compare
    from hub.broker.topology import files_needed
    from hub.settings import load_settings

    settings = load_settings()
    wanted = await _wanted(settings)
    async with Management(_management_url(settings), vhost=_vhost(settings)) as management:
        found = compare(wanted, await management.topology())
        limit = await management.file_limit()
    needed = files_needed(wanted)
    if limit is None or needed <= limit:
        return found, None
    return found, (
        f"the broker may open {limit} files, {len(wanted.queues)} queues with their agencies need {needed}; past its limit "
        "it takes no connection from anybody: raise LimitNOFILE of its service (or ulimit -n), and restart it"
    )


async def _apply(steps: "tuple[Step, ...]") -> None:
    from hub.broker.management import Management
    from hub.settings import load_settings

    settings = load_settings()
    async with Management(_management_url(settings), vhost=_vhost(settings)) as management:
        await management.apply(steps)


async def _wanted(settings: "Settings") -> "Topology":
    from datetime import UTC, datetime

    from hub.broker.topology import Bounds, desired
    from hub.store.directory import DirectoryStore
    from hub.store.pool import open_pool
    from schemas.checks.directory import snapshot

    async with open_pool(settings.database_url.get_secret_value()) as pool:
        epoch, file = await DirectoryStore(pool).read()
    bounds = Bounds(
        agency_queue_max_messages=settings.queue_max_messages,
        agency_queue_max_bytes=settings.queue_max_bytes,
    )
    return desired(snapshot(file, epoch=epoch, as_of=datetime.now(UTC), keys=[]), bounds)


def _management_url(settings: "Settings") -> str:
    if settings.amqp_management_url is None:
        raise fail(Exit.CONFIGURATION, "set TRUC_AMQP_MANAGEMENT_URL, such as http://user:password@broker:15672")
    return settings.amqp_management_url.get_secret_value()


def _vhost(settings: "Settings") -> str:
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(settings.amqp_url.get_secret_value()).path[1:]) or "/"
