"""`truc audit`: proves from the ledger that nothing was lost and every number adds up."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import Exit, print_json, reporting

if TYPE_CHECKING:
    from hub.store.audit import AuditReport


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Also recompute the identity of every signed object.")] = False,
) -> None:
    """Check the conservation law: every accepted document × recipient is in exactly one state. Exits 1 if not."""
    from hub.settings import load_settings

    with reporting():
        report = asyncio.run(_ask(load_settings().database_url.get_secret_value(), full=full))
    if as_json:
        print_json({"version": 1, "clean": report.is_clean} | asdict(report))
    else:
        _show(report)
    if not report.is_clean:
        raise typer.Exit(Exit.NEGATIVE)


async def _ask(url: str, *, full: bool) -> "AuditReport":
    from hub.store.audit import audit as check
    from hub.store.pool import open_pool

    async with open_pool(url) as pool:
        return await check(pool, full=full)


def _show(report: "AuditReport") -> None:
    raise SystemExit(repr(report))
