"""`truc trace`: where a document is, delivery by delivery, and who must act."""

import asyncio
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import ACTS_VI, STATE_VI, Exit, fail, print_json, reporting

if TYPE_CHECKING:
    from rich.console import Console

    from hub.core.diagnosis import Diagnosis, DocumentTrace, RefusalTrace
    from hub.store.trace import Finding


class Language(StrEnum):
    """Language of texts for people."""

    VI = "vi"
    EN = "en"


def trace(
    what: Annotated[
        str, typer.Argument(help="Document id, delivery id, envelope id, or number such as 7816/VPCP-TTĐT.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lang: Annotated[Language | None, typer.Option(help="Language of texts for people.")] = None,
) -> None:
    """Say where a document is, delivery by delivery, and in one sentence who must act."""
    from hub.settings import load_settings

    with reporting():
        settings = load_settings(language=lang)
        found = asyncio.run(_find(settings.database_url.get_secret_value(), what))
    if not found:
        raise fail(
            Exit.NOT_FOUND,
            f"nothing is known about {what}: looked for documents (by id, envelope id, delivery id and number), "
            "refused documents and parked submissions",
        )
    now = datetime.now().astimezone()
    if as_json:
        print_json({"version": 1, "found": [_as_json(item, now) for item in found]})
        return
    from rich.console import Console

    console = Console(highlight=False)
    for item in found:
        _show(console, item, now, settings.language)


async def _find(url: str, what: str) -> list["Finding"]:
    from hub.store.pool import open_pool
    from hub.store.trace import find

    async with open_pool(url) as pool:
        return await find(pool, what)


def _diagnose(item: "Finding", now: datetime) -> "Diagnosis":
    from hub.core.diagnosis import DocumentTrace, RefusalTrace, diagnose_document, diagnose_parked, diagnose_refusal

    if isinstance(item, DocumentTrace):
        return diagnose_document(item, now)
    if isinstance(item, RefusalTrace):
        return diagnose_refusal(item)
    return diagnose_parked(item)


def _as_json(item: "Finding", now: datetime) -> dict[str, Any]:
    from hub.core.diagnosis import DocumentTrace, diagnose_delivery

    value = asdict(item) | {"type": type(item).__name__.removesuffix("Trace").lower()}
    value["diagnosis"] = asdict(_diagnose(item, now))
    if isinstance(item, DocumentTrace):
        for row, delivery in zip(value["deliveries"], item.deliveries, strict=True):
            row["diagnosis"] = asdict(diagnose_delivery(delivery, now))
    return value


def _show(console: "Console", item: "Finding", now: datetime, language: str) -> None:
    from hub.core.diagnosis import DocumentTrace, RefusalTrace

    diagnosis = _diagnose(item, now)
    sentence = diagnosis.vi if language == "vi" else diagnosis.en
    console.print(f"[bold]{sentence}[/bold]")
    acts = ACTS_VI[diagnosis.acts] if language == "vi" else diagnosis.acts
    console.print(f"Ai xử lý: {acts}" if language == "vi" else f"Who acts: {acts}")
    if isinstance(item, DocumentTrace):
        _show_document(console, item, now, language)
    elif isinstance(item, RefusalTrace):
        _show_refusal(console, item, language)
    else:
        user = "tài khoản" if language == "vi" else "user"
        console.print(f"{item.parked_id}  {user} {item.user or '—'}", markup=False)
    console.print()


def _show_document(console: "Console", item: "DocumentTrace", now: datetime, language: str) -> None:
    from rich.table import Table

    from hub.core.diagnosis import clock_time, diagnose_delivery

    console.print(f"{item.kind} {item.printed_number or '—'}: {item.subject}", markup=False)
    via = f" qua {item.via}" if item.via else ""
    console.print(f"{item.sender}{via}  {clock_time(item.accepted_at)}  {item.document_id}", markup=False)
    table = Table("Đơn vị nhận", "Trạng thái", "Lần", "Từ lúc", "Kết luận", box=None, header_style="bold")
    if language == "en":
        table = Table("Recipient", "State", "Attempts", "Since", "Diagnosis", box=None, header_style="bold")
    for row in item.deliveries:
        said = diagnose_delivery(row, now)
        state = STATE_VI[row.delivery.state] if language == "vi" else row.delivery.state
        table.add_row(
            row.delivery.recipient,
            state,
            str(row.delivery.attempts),
            clock_time(row.changed_at),
            said.vi if language == "vi" else said.en,
        )
    console.print(table)


def _show_refusal(console: "Console", item: "RefusalTrace", language: str) -> None:
    console.print(f"{item.signer}  {item.document_id}", markup=False)
    for problem in item.problems:
        found = problem.get(language) or ""
        console.print(f"  {problem['code']} {problem['pointer'] or '/'} {found}", markup=False)
