"""What the commands about dead letters and replays ask alike: which letters, who acts, on which database."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hub.cli.output import reporting

if TYPE_CHECKING:
    from hub.core.selection import Selection
    from hub.store.pool import Pool

T = TypeVar("T")

_FILTERS_HELP = (
    "Which: code=E807, side=recipient, agency=H26, sender=G22, tier=commune, document=ID, kind=submission, "
    "since=2026-11-23 or 2h, until=…, state=dismissed, a group such as E807@H26, or ids. All must hold."
)

Filters = Annotated[list[str] | None, typer.Argument(metavar="[FILTER]...", help=_FILTERS_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Actor = Annotated[str | None, typer.Option("--as", help="Who acts; by default the user of this machine.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")]


def now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def actor_of(given: str | None) -> str:
    """Say who acts."""
    return (given or getpass.getuser()).strip() or getpass.getuser()


def selection_of(filters: list[str] | None) -> "Selection":
    """Read filters; what is none is wrong use."""
    from hub.core.selection import read_selection

    try:
        return read_selection(filters or [], now())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def with_pool(work: "Callable[[Pool], Awaitable[T]]") -> T:
    """Do something with the database of the settings."""

    async def run() -> T:
        from hub.settings import load_settings
        from hub.store.pool import open_pool

        async with open_pool(load_settings().database_url.get_secret_value()) as pool:
            return await work(pool)

    with reporting():
        return asyncio.run(run())


def said(reason: str) -> str:
    """Take a reason that says something."""
    if not reason.strip():
        raise typer.BadParameter("a reason must say something")
    return reason.strip()[:2000]
