"""`truc audit`: proves from the ledger that nothing was lost and every number adds up."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import STATE_VI, Exit, print_json, reporting

SAMPLE = 10_000
"""Signed objects whose identity is computed again without `--full`."""

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
        print_json({"version": 1, "clean": report.holds} | asdict(report))
    else:
        _show(report)
    if not report.holds:
        raise typer.Exit(Exit.NEGATIVE)


async def _ask(url: str, *, full: bool) -> "AuditReport":
    from hub.store.audit import audit as check
    from hub.store.pool import open_pool

    async with open_pool(url) as pool:
        return await check(pool, identities=None if full else SAMPLE)


def _show(report: "AuditReport") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("Văn bản đã nhận vào trục", str(report.documents), box=None, header_style="bold")
    if report.archived_months:
        table.add_row("Tháng đã lưu trữ", str(report.archived_months))
    table.add_row("Lượt chuyển phải có", str(report.owed))
    for state, count in report.by_state.items():
        table.add_row(f"  {STATE_VI[state]}", str(count))
    table.add_row("Mã băm đã tính lại", str(report.identities_checked))
    console.print(table)
    for violation in report.violations:
        console.print(f"[red]SAI[/red] {violation.rule}: {violation.count}")
        for item in violation.ids:
            console.print(f"    {item}", markup=False)
    console.print("[green]Sổ cái khớp.[/green]" if report.holds else "[red]Sổ cái KHÔNG khớp.[/red]")
