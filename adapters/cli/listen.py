"""`truc-agency listen`."""

import asyncio
import contextlib
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.cli.output import OUTCOMES_VI, STATUSES_VI, Exit, Misused, Session, explain_error, run, say

if TYPE_CHECKING:
    from adapters.arrivals import Arrival, Delivery
    from adapters.client import AgencyClient


def listen(
    context: typer.Context,
    *,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what arrives: ID.jws as it was signed, ID.json to read, ID.parts/ with its parts."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    for_s: Annotated[float | None, typer.Option("--for", min=0, help="End after so many seconds.")] = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="After the loss of a disk: also documents whose lifetime is over.")
    ] = False,
) -> None:
    """Take what arrives, answer with receipts, print one line each.

    A document counts as handed over once its line is printed and, with --into, its files are on disk, its parts too when
    hub_url is set. Their names are the delivery id: a document that comes again after a crash replaces itself. One whose
    parts do not come is answered `failed`: the axis sends it again later.
    """
    session: Session = context.obj

    async def command() -> Exit:
        from adapters.cli.wiring import client_of
        from adapters.inbox_guard import InboxGuard

        settings = session.settings()
        if into is not None and not into.is_dir():
            raise Misused(into, "there is no such folder", "không có thư mục này")
        with InboxGuard(settings.guard_file) as guard:
            await guard.forget(datetime.now(UTC) - timedelta(days=settings.guard_days))
            async with client_of(settings, guard, expired_too=catch_up) as client:
                fetches = into is not None and settings.hub_url is not None
                seen = await _take(client, _Printer(session, as_json, into, client if fetches else None), count, for_s)
        return Exit.NEGATIVE if count is not None and seen < count else Exit.DONE

    run(session, command)


async def _take(client: "AgencyClient", printer: "_Printer", count: int | None, for_s: float | None) -> int:
    """Take arrivals until one of the ends; returns how many."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    if for_s is not None:
        loop.call_later(for_s, stop.set)
    arrivals = client.arrivals()
    seen = 0
    while count is None or seen < count:
        taking: asyncio.Future[Any] = asyncio.ensure_future(anext(arrivals))
        try:
            await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # Ctrl-C
            taking.cancel()
            raise
        if not taking.done():
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking
            break
        arrival: Arrival = taking.result()
        seen += await printer.handle(arrival)
    stopping.cancel()
    return seen


class _Printer:
    """Hands arrivals over to the terminal and to files."""

    def __init__(self, session: Session, as_json: bool, into: Path | None, fetcher: "AgencyClient | None") -> None:
        self._session = session
        self._as_json = as_json
        self._into = into
        self._fetcher = fetcher

    async def handle(self, arrival: "Arrival") -> bool:
        """Hand an arrival over; returns whether it counts, which a document whose parts did not come does not."""
        from adapters.arrivals import Delivery, Letter
        from adapters.errors import PartError

        facts = _facts(arrival)
        match arrival:
            case Delivery():
                try:
                    async with arrival:  # when its parts do not come, it is answered `failed` at the end of the block
                        await self._fetch(arrival)
                        await self._hand_over(facts, arrival.token, arrival.envelope.to_json())
                except PartError as error:
                    say(explain_error(error, self._session.language))
                    return False
            case Letter():
                async with arrival:
                    await self._hand_over(facts, arrival.token, arrival.content.to_json())
            case _:
                print(self._line(facts), flush=True)
        return True

    async def _fetch(self, delivery: "Delivery") -> None:
        """Bring the parts of a document to a folder of its own; those that are there already are fetched anew."""
        from adapters.folder.places import plain_name

        if self._into is None or self._fetcher is None or not delivery.envelope.parts:
            return
        folder = self._into / f"{delivery.delivery_id}.parts"
        folder.mkdir(exist_ok=True)
        for number, part in enumerate(delivery.envelope.parts, 1):
            await self._fetcher.fetch(delivery, part, folder / f"{number:03}-{plain_name(part.name)}")

    async def _hand_over(self, facts: dict[str, Any], token: bytes, payload: bytes) -> None:
        if self._into is not None:
            await asyncio.to_thread(_write, self._into, str(facts["delivery"]), token, payload)
        print(self._line(facts), flush=True)

    def _line(self, facts: dict[str, Any]) -> str:
        if self._as_json:
            return json.dumps({"v": 1, **facts}, ensure_ascii=False)
        from schemas.directory_file import VIETNAM

        now = datetime.now(VIETNAM).strftime("%H:%M:%S %d/%m/%Y")
        vietnamese = self._session.language == "vi"
        kind = _KINDS[facts["arrival"]][0 if vietnamese else 1]
        shown = facts | {"codes": ", ".join(facts.get("codes", ()))} | (_in_vietnamese(facts) if vietnamese else {})
        rest = "  ".join(str(shown[name]) for name in _SHOWN if shown.get(name))
        return "".join(each if each.isprintable() else " " for each in f"{now}  {kind}  {rest}")


_SHOWN = ("from", "to", "number", "kind", "subject", "outcomes", "status", "detail", "codes", "delivery")
_KINDS = {
    "document": ("văn bản", "document"),
    "receipt": ("biên nhận", "receipt"),
    "status": ("trạng thái xử lý", "status"),
    "notice": ("thông báo của trục", "notice"),
    "rejected": ("không tin được, đã báo trục", "not believed, the axis was told"),
}

_NOTICES_VI = {
    "refused": "bị từ chối",
    "expiring": "sắp hết hạn chuyển",
    "expired": "hết hạn chuyển",
    "parked": "để riêng, không đọc được",
}


def _in_vietnamese(facts: dict[str, Any]) -> dict[str, str]:
    """Translate the words of the wire; in JSON they stay as they are."""
    match facts:
        case {"answers": answers}:
            return {"outcomes": ", ".join(f"{OUTCOMES_VI[each['outcome']]} {each['delivery']}" for each in answers)}
        case {"arrival": "status", "status": status}:
            return {"status": f"{status} {STATUSES_VI[status]}"}
        case {"arrival": "notice", "kind": kind}:
            return {"kind": _NOTICES_VI.get(kind, kind)}
        case _:
            return {}


def _facts(arrival: "Arrival") -> dict[str, Any]:
    from adapters.arrivals import Delivery, Letter
    from schemas.receipt import Receipt, Status

    facts: dict[str, Any] = {"delivery": str(arrival.delivery_id), "to": arrival.recipient}
    match arrival:
        case Delivery(envelope=envelope):
            doc = envelope.doc
            return {
                "arrival": "document",
                **facts,
                "document": arrival.document_id,
                "from": envelope.from_,
                "number": doc.printed_number,
                "kind": doc.kind,
                "subject": doc.subject,
                "parts": [part.model_dump(mode="json") for part in envelope.parts],
                "interrupted": arrival.interrupted,
            }
        case Letter(content=content):
            if isinstance(content, Receipt):
                answers = [
                    {"delivery": each.delivery, "outcome": each.outcome, "code": each.code} for each in content.answers
                ]
                outcomes = ", ".join(f"{each.outcome} {each.delivery}" for each in content.answers)
                return {"arrival": "receipt", **facts, "from": content.from_, "outcomes": outcomes, "answers": answers}
            if isinstance(content, Status):
                return {
                    "arrival": "status",
                    **facts,
                    "from": content.from_,
                    "document": content.document,
                    "status": content.status,
                    "detail": content.detail,
                }
            codes = [problem.code for problem in content.problems]
            return {
                "arrival": "notice",
                **facts,
                "from": content.from_,
                "kind": content.kind,
                "document": content.document,
                "codes": codes,
            }
        case _:
            return {"arrival": "rejected", **facts, "codes": [problem.code for problem in arrival.problems]}


def _write(folder: Path, name: str, token: bytes, payload: bytes) -> None:
    """Write both files so that each is there in whole or not at all; the readable one comes last."""
    for suffix, content in ((".jws", token), (".json", payload)):
        part = folder / f".{name}{suffix}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{name}{suffix}")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
