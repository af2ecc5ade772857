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

    from hub.core.diagnosis import ArchiveTrace, Diagnosis, DocumentTrace, Link, PartTrace, RefusalTrace
    from hub.core.due import DueTime
    from hub.core.working_calendar import WorkingCalendar
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
        calendar = settings.calendar()
        found = asyncio.run(_find(settings.database_url.get_secret_value(), what))
    if not found:
        raise fail(
            Exit.NOT_FOUND,
            f"nothing is known about {what}: looked for documents (by id, envelope id, delivery id and number), "
            "refused documents and parked submissions",
        )
    now = datetime.now().astimezone()
    if as_json:
        print_json({"version": 1, "found": [_as_json(item, calendar, now) for item in found]})
        return
    from rich.console import Console

    console = Console(highlight=False)
    for item in found:
        _show(console, item, calendar, now, settings.language)


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


def _as_json(item: "Finding", calendar: "WorkingCalendar", now: datetime) -> dict[str, Any]:
    from hub.core.diagnosis import DocumentTrace, diagnose_delivery, due_time_to_send, due_times

    value = asdict(item) | {"type": type(item).__name__.removesuffix("Trace").lower()}
    value["diagnosis"] = asdict(_diagnose(item, now))
    if isinstance(item, DocumentTrace):
        value["due"] = [_due_as_json(due_time_to_send(item, calendar), now)]
        for row, delivery in zip(value["deliveries"], item.deliveries, strict=True):
            row["diagnosis"] = asdict(diagnose_delivery(delivery, now))
            row["due"] = [_due_as_json(due, now) for due in due_times(delivery, calendar) if item.archived is None]
    return value


def _due_as_json(due: "DueTime", now: datetime) -> dict[str, Any]:
    return asdict(due) | {"punctuality": due.punctuality(now)}


def _show(console: "Console", item: "Finding", calendar: "WorkingCalendar", now: datetime, language: str) -> None:
    from hub.core.diagnosis import DocumentTrace, RefusalTrace

    diagnosis = _diagnose(item, now)
    sentence = diagnosis.vi if language == "vi" else diagnosis.en
    console.print(sentence, style="bold", markup=False)  # it may quote what an agency says
    acts = ACTS_VI[diagnosis.acts] if language == "vi" else diagnosis.acts
    console.print(f"Ai xử lý: {acts}" if language == "vi" else f"Who acts: {acts}")
    if isinstance(item, DocumentTrace):
        _show_document(console, item, calendar, now, language)
    elif isinstance(item, RefusalTrace):
        _show_refusal(console, item, language)
    else:
        user = "tài khoản" if language == "vi" else "user"
        console.print(f"{item.parked_id}  {user} {item.user or '—'}", markup=False)
    console.print()


def _show_document(
    console: "Console", item: "DocumentTrace", calendar: "WorkingCalendar", now: datetime, language: str
) -> None:
    from rich.table import Table
    from rich.text import Text

    from hub.core.diagnosis import clock_time, diagnose_delivery, due_time_to_send, due_times

    console.print(f"{item.kind} {item.printed_number or '—'}: {item.subject}", markup=False)
    via = f" qua {item.via}" if item.via else ""
    console.print(f"{item.sender}{via}  {clock_time(item.accepted_at)}  {item.document_id}", markup=False)
    console.print(_due_text(due_time_to_send(item, calendar), now, language), markup=False)
    if item.archived is not None:
        console.print(_archive_line(item.archived, language), markup=False, soft_wrap=True)
    table = Table("Đơn vị nhận", "Trạng thái", "Lần", "Từ lúc", "Thời hạn", "Kết luận", box=None, header_style="bold")
    if language == "en":
        table = Table("Recipient", "State", "Attempts", "Since", "Due", "Diagnosis", box=None, header_style="bold")
    for row in item.deliveries:
        said = diagnose_delivery(row, now)
        state = STATE_VI[row.delivery.state] if language == "vi" else row.delivery.state
        table.add_row(
            row.delivery.recipient,
            state,
            str(row.delivery.attempts),
            clock_time(row.changed_at),
            "\n".join(_due_text(due, now, language) for due in due_times(row, calendar) if item.archived is None),
            Text(said.vi if language == "vi" else said.en),
        )
    console.print(table)
    for part in item.parts:
        console.print(_part_line(part, language), markup=False)
    for link in item.chain:
        for line in _link_lines(link, language):
            console.print(line, markup=False)


_DUTIES = {
    "send": ("gửi", "send"),
    "notify": ("báo trạng thái", "first status"),
    "register": ("vào sổ", "register"),
}
_PUNCTUALITIES = {
    "met": ("đúng hạn", "in time"),
    "late": ("trễ", "late"),
    "open": ("còn hạn", "open"),
    "overdue": ("QUÁ HẠN", "OVERDUE"),
}
_ACTIONS = {
    "new": ("văn bản gốc", "original"),
    "revoke": ("thu hồi", "recalls"),
    "update": ("cập nhật", "updates"),
    "replace": ("thay thế", "replaces"),
}
_ANSWERS = {
    "asked": ("chưa trả lời", "no answer"),
    "agreed": ("đồng ý (15)", "agreed (15)"),
    "declined": ("từ chối (16)", "declined (16)"),
    None: ("—", "—"),
}


def _due_text(due: "DueTime", now: datetime, language: str) -> str:
    from hub.core.diagnosis import clock_time

    which = 0 if language == "vi" else 1
    until = ("trước", "by")[which]
    return f"{_DUTIES[due.duty][which]} {until} {clock_time(due.at)}: {_PUNCTUALITIES[due.punctuality(now)][which]}"


LEVELS = {
    "vi": {
        "A2": "edXML A2: chữ ký số của đơn vị gửi phủ toàn gói",
        "A1": "edXML A1: bên ký gói tin bảo đảm cho gói",
        "A0": "edXML A0: bản lưu trữ, không có chữ ký nào còn chứng minh được",
    },
    "en": {
        "A2": "edXML A2: the sending agency's own signature covers the packet",
        "A1": "edXML A1: whoever signed the envelope vouches for the packet",
        "A0": "edXML A0: from an archive, with no signature that still proves anything",
    },
}


def _archive_line(archive: "ArchiveTrace", language: str) -> str:
    from hub.core.diagnosis import clock_time

    at = clock_time(archive.archived_at)
    if language == "vi":
        return f"Đã lưu trữ lúc {at}: nội dung văn bản và diễn biến trong tháng {archive.month} ở tệp {archive.file}"
    return f"Archived at {at}: the signed bytes, and what happened in {archive.month}, are in {archive.file}"


def _part_line(part: "PartTrace", language: str) -> str:
    stored = {"vi": ("còn trong kho", "KHÔNG CÒN TRONG KHO"), "en": ("stored", "NOT STORED")}[language][not part.stored]
    name = "".join(each if each.isprintable() else " " for each in part.name)
    level = f"  {LEVELS[language][part.level]}" if part.level is not None else ""
    return f"□ {name or '—'}  {part.length:,} byte  {part.sha256[:12]}  {stored}{level}"


def _link_lines(link: "Link", language: str) -> list[str]:
    """Write a document of the chain, and below it who has answered what."""
    from hub.core.diagnosis import clock_time

    which = 0 if language == "vi" else 1
    refs = ", ".join(ref[:12] for ref in link.refs)
    lines = [
        f"↔ {_ACTIONS[link.action][which]} {refs}".rstrip()
        + f"  {link.printed_number or '—'}  {clock_time(link.accepted_at)}  {link.document_id}"
    ]
    for answer in link.answers:
        since = clock_time(answer.since) if answer.since is not None else ""
        lines.append(f"    {answer.recipient}  {_ANSWERS[answer.request][which]}  {since}".rstrip())
    if len(link.answers) < link.recipients and link.answers:
        lines.append(f"    … {link.recipients - len(link.answers)}")
    return lines


def _show_refusal(console: "Console", item: "RefusalTrace", language: str) -> None:
    console.print(f"{item.signer}  {item.document_id}", markup=False)
    for problem in item.problems:
        found = problem.get(language) or ""
        console.print(f"  {problem['code']} {problem['pointer'] or '/'} {found}", markup=False)
