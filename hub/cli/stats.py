"""`truc stats show`: what each tier sent and received in a period, counted from the ledger."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import TIERS_VI, Exit, fail, print_json, reporting

if TYPE_CHECKING:
    from hub.store.statistics import Exchange

app = typer.Typer(no_args_is_help=True, help="Figures for leaders, counted from the ledger.")

_BEGINNING = date(2000, 1, 1)


@app.command()
def show(
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, in the time of Vietnam.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count documents sent, by the tier of the sender, and received, by the tier of the recipient.

    A document counts as sent on the day on which the hub accepted it, and its deliveries on the same day; received is
    what the recipient has signed for by now. Tiers are those of that day.
    """
    first = since.date() if since else _BEGINNING
    with reporting():
        from schemas.directory_file import VIETNAM

        last = until.date() if until else datetime.now(UTC).astimezone(VIETNAM).date()
        if last < first:
            raise fail(Exit.USAGE, f"--from {first} lies after --to {last}")
        figures = asyncio.run(_ask(first, last))
    if as_json:
        print_json(_as_json(figures, first, last))
    else:
        _show(figures, first, last)


async def _ask(first: date, last: date) -> "Exchange":
    from hub.settings import load_settings
    from hub.store.pool import open_pool
    from hub.store.statistics import exchange
    from schemas.directory_file import VIETNAM

    begin = datetime.combine(first, time(), VIETNAM)
    end = datetime.combine(last + timedelta(days=1), time(), VIETNAM)
    async with open_pool(load_settings().database_url.get_secret_value()) as pool:
        return await exchange(pool, begin, end)


def _as_json(figures: "Exchange", first: date, last: date) -> dict[str, Any]:
    tiers = {tier: {"sent": figures.sent.get(tier, 0), "received": figures.received(tier)} for tier in TIERS_VI}
    total = {kind: sum(row[kind] for row in tiers.values()) for kind in ("sent", "received")}
    return {
        "version": 1,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "tiers": tiers,
        "total": total,
        "refused": dict(figures.refused),
        "parked": dict(figures.parked),
    }


def _show(figures: "Exchange", first: date, last: date) -> None:
    from rich.console import Console
    from rich.table import Table

    since = "" if first == _BEGINNING else f"từ {first:%d/%m/%Y} "
    table = Table("Cấp", "Văn bản gửi", "Văn bản nhận", title=f"Gửi, nhận {since}đến hết {last:%d/%m/%Y}")
    table.title_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    counted = _as_json(figures, first, last)
    for tier, row in counted["tiers"].items():
        table.add_row(TIERS_VI[tier], _number(row["sent"]), _number(row["received"]))
    table.add_section()
    table.add_row("Cộng", _number(counted["total"]["sent"]), _number(counted["total"]["received"]))
    console = Console(highlight=False)
    console.print(table)
    turned_down = sum(figures.refused.values()) + sum(figures.parked.values())
    if turned_down:
        console.print(f"Bị trục từ chối hoặc để riêng: {_number(turned_down)} lượt gửi")


def _number(count: int) -> str:
    return f"{count:,}".replace(",", ".")
