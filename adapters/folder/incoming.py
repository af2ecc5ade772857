"""What arrives is laid into inbox, or beside what it is about; the order of effects stands in `adapters.folder`.

A packet is believed to be what its envelope says only after it was read: the signature covers its digest, so whoever
signed could still have put another sender into the packet, and the recipient's software reads nothing but that.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from adapters.arrivals import Arrival, Delivery, Letter
from adapters.client import AgencyClient
from adapters.examination import unproven_envelope
from adapters.folder.journal import Arrived, Sent
from adapters.folder.outgoing import Outgoing
from adapters.folder.places import Places, plain_name, read_whole
from adapters.folder.reasons import Told, lies_apart, told, told_by_hub
from adapters.mailbox import says_more
from schemas.directory_file import VIETNAM
from schemas.edxml import documents, statuses
from schemas.edxml.mapping import NationalId
from schemas.edxml.packet import Packet
from schemas.edxml.parsing import MAX_PACKET_BYTES
from schemas.edxml.reader import read_packet
from schemas.edxml.writer import write_packet
from schemas.envelope import Envelope, Part
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import Notice, Receipt, Status
from schemas.refusal import Problem
from schemas.wire import Wire

log = logging.getLogger(__name__)

_MOST_PACKED_BYTES: Final = MAX_PACKET_BYTES // 4 * 3 - 2 * 1024 * 1024
"""Base64 makes a third more of the parts; the rest of a packet is small."""

_LONG_S: Final = 3600
"""What waited less between signature and refusal was not refused for the waiting."""

_TOO_OLD, _PART_MISSING, _CONFLICT, _CONTRADICTS = "E601", "E503", "E603", "A302"
_ASKED_BACK: Final = "13"


@dataclass(slots=True, eq=False)
class Incoming:
    """The way into one folder.

    Attributes:
        outgoing: The way out of the same folder, with all that both work with.
        sends_arrival: Whether status 01 is sent for what was laid into inbox.
        noting: Held by whoever looks whether something is news and writes it down then.
        opening: Held by whoever has a whole packet in memory, which is several times its size.
    """

    outgoing: Outgoing
    sends_arrival: bool = True
    noting: asyncio.Lock = field(default_factory=asyncio.Lock)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take_in(self, arrival: Arrival) -> None:
        """Lay an arrival down and answer it.

        Raises:
            AgencyError: When that does not work for now; the arrival was not answered and comes again.
        """
        try:
            if isinstance(arrival, Delivery):
                await self._hand_over(arrival)
            elif isinstance(arrival, Letter):
                await self._lay_beside(arrival)
                await self._client.acknowledge(arrival)
        except BaseException:
            if isinstance(arrival, Delivery | Letter):
                self._client.leave_open(arrival.delivery_id)
            raise

    async def _hand_over(self, delivery: Delivery) -> None:
        arrived = await self.outgoing.journal.arrival(delivery.delivery_id)
        if arrived is None:
            fault = await self._bring(delivery)
            if fault is not None:
                log.warning("delivery.refused delivery_id=%s code=%s %s", delivery.delivery_id, fault.code, fault.en)
                detail = f"{fault.vi} / {fault.en}"[:500]
                await self._client.receipt(delivery, "refused", code=fault.code, detail=detail)
                return
            arrived = _arrived(delivery, self.outgoing.clock())
            await self.outgoing.journal.keep(arrived, delivery.envelope.ref)
        await asyncio.to_thread(_leave_arriving, self._places, str(delivery.delivery_id))
        if self.sends_arrival:
            await self._client.status(
                document=arrived.document_id,
                to=arrived.sender,
                status="01",
                from_=None if arrived.recipient == self.outgoing.code else arrived.recipient,
                at=datetime.fromtimestamp(arrived.at, VIETNAM),
            )
        await self._client.receipt(delivery)

    async def _bring(self, delivery: Delivery) -> Problem | None:
        """Fetch a document to arriving; gives why its packet cannot be believed, where that is so."""
        envelope, name = delivery.envelope, str(delivery.delivery_id)
        into = self._places.arriving / f"{name}.edxml"
        if envelope.edxml is None:
            await self._compose(delivery, into)
            return None
        part = next(part for part in envelope.parts if part.sha256 == envelope.edxml.part)
        await self._client.fetch(delivery, part, into)
        if part.length > MAX_PACKET_BYTES:
            found = (Problem("E511", "", f"{part.length} bytes", f"{part.length} byte"),)
            await self._lay_apart(delivery, into, part, found)
            return None
        async with self.opening:
            fault = await asyncio.to_thread(_contradiction, into, envelope)
        if fault is not None:
            into.unlink(missing_ok=True)
        return fault

    async def _compose(self, delivery: Delivery, into: Path) -> None:
        """Write a document that never was a packet as one; one that no packet can hold stays a folder."""
        folder = into.with_suffix("")
        await asyncio.to_thread(self._places.empty, folder)
        parts = delivery.envelope.parts
        files = [(part, folder / f"{number:03}-{_short(part.name)}") for number, part in enumerate(parts, 1)]
        for part, file in files:
            await self._client.fetch(delivery, part, file)
        length = sum(part.length for part in parts)
        if length > _MOST_PACKED_BYTES:
            problems: tuple[Problem, ...] = (Problem("E511", "/parts", f"{length} bytes", f"{length} byte"),)
        else:
            national = await self.outgoing.journal.names_of(_named(delivery.envelope))
            names = await self._names(delivery)
            async with self.opening:
                packed = await asyncio.to_thread(_packed, delivery, files, names, national)
                if isinstance(packed, bytes):
                    await asyncio.to_thread(self._places.write, into, packed)
                    return
            problems = packed
        await self._describe(folder, delivery, problems)

    async def _lay_apart(self, delivery: Delivery, packet: Path, part: Part, problems: tuple[Problem, ...]) -> None:
        """Lay a packet that is too large to be looked into apart, with a note that says so."""
        folder = packet.with_suffix("")
        await asyncio.to_thread(self._places.empty, folder)
        await self._describe(folder, delivery, problems)
        await asyncio.to_thread(self._places.move, packet, folder / f"001-{_short(part.name)}")

    async def _describe(self, folder: Path, delivery: Delivery, problems: tuple[Problem, ...]) -> None:
        """Write beside the parts of a document what it is and why they are no packet."""
        places, language = self._places, self.outgoing.language
        note = lies_apart(told(problems), language).encode()
        await asyncio.to_thread(places.write, folder / "document.jws", delivery.token)
        await asyncio.to_thread(places.write_json, folder / "envelope.json", _as_json(delivery.envelope))
        await asyncio.to_thread(places.write, folder / "reason.txt", note)

    async def _names(self, delivery: Delivery) -> Mapping[str, str]:
        """Name the agencies of a document, as the directory does."""
        examiner = await asyncio.to_thread(self.outgoing.examiners.present)
        codes = {delivery.envelope.from_, delivery.recipient, *delivery.envelope.to}
        agencies = examiner.directory.agencies
        return {code: agencies[AgencyCode(code)].name for code in codes if code in agencies}

    async def _lay_beside(self, letter: Letter) -> None:
        match letter.content:
            case Receipt() as receipt:
                await self._lay_receipt(letter, receipt)
            case Status() as status:
                await self._lay_status(letter, status)
            case Notice() as notice:
                await self._lay_notice(letter, notice)

    async def _lay_receipt(self, letter: Letter, receipt: Receipt) -> None:
        for answer in receipt.answers:
            found = await self.outgoing.journal.addressed(answer.delivery_id)
            if found is None:
                await self._lay_alone(letter)
                continue
            text = " ".join(item for item in (answer.code, answer.detail) if item)
            why = told((Problem("E808", "", text, text),)) if answer.outcome == "refused" else ()
            facts = answer.model_dump(mode="json", exclude_none=True)
            await self._note(*found, facts, why)

    async def _note(self, sent: Sent, recipient: AgencyCode, facts: Mapping[str, Any], why: Sequence[Told]) -> None:
        """Write down what became of a document for one recipient, and why it did not get there; unless more is known."""
        file = self._places.sent / f"{sent.file}.status" / f"{recipient}.json"
        async with self.noting:
            known = await asyncio.to_thread(self._places.read_json, file)
            if known is not None and not says_more(known["outcome"], known["at"], facts["outcome"], facts["at"]):
                return
            if why:
                await self.outgoing.explain(sent, why, recipient)
            content = {"document": sent.document_id, "recipient": recipient, **facts}
            await asyncio.to_thread(self._places.write_json, file, content)

    async def _lay_status(self, letter: Letter, status: Status) -> None:
        """Write a status as a packet beside the document that it is about: one of ours, or for 13 one that arrived."""
        journal, places = self.outgoing.journal, self._places
        if status.status != _ASKED_BACK:
            sent = await journal.sent(status.document)
            if sent is None:
                await self._lay_alone(letter)
            else:
                await self._lay_packet(letter, status, places.sent / f"{sent.file}.status", sent.token)
            return
        arrived = await journal.arrival(delivery_id_of(status.document, status.to))
        if arrived is None:
            await self._lay_alone(letter)
            return
        await self._lay_packet(letter, status, places.inbox / f"{arrived.delivery_id}.status", arrived.token)
        await journal.ask(arrived, status.at)

    async def _lay_packet(self, letter: Letter, status: Status, folder: Path, about: bytes) -> None:
        envelope = unproven_envelope(about)
        assert not isinstance(envelope, tuple)  # it was proven before it was written down
        examiner = await asyncio.to_thread(self.outgoing.examiners.present)
        sender = examiner.directory.agencies.get(status.from_)
        names: dict[str, str] = {status.from_: sender.name} if sender is not None else {}
        packet = write_packet(statuses.packet_of(_tidy(status), envelope, names=names))
        moment = datetime.fromtimestamp(status.at, VIETNAM).strftime("%Y%m%dT%H%M%S")
        name = f"{moment}-{status.status}-{status.from_}-{str(letter.delivery_id)[:8]}"
        if isinstance(packet, bytes):
            await asyncio.to_thread(self._places.write, folder / f"{name}.edxml", packet)
        else:  # its texts are none that the strict writer of packets lets through
            await asyncio.to_thread(self._places.write_json, folder / f"{name}.json", _as_json(status))

    async def _lay_notice(self, letter: Letter, notice: Notice) -> None:
        sent = await self.outgoing.journal.sent(notice.document) if notice.document is not None else None
        if sent is None:
            await self._lay_alone(letter)
            return
        problems = told_by_hub(notice.problems)
        if notice.recipient is None:
            await self._turned_down(sent, problems, notice.at)
        elif notice.kind == "expired":
            await self._note(sent, notice.recipient, {"outcome": "expired", "at": notice.at}, problems)
        else:
            await self.outgoing.warn(sent, problems, notice.recipient)

    async def _turned_down(self, sent: Sent, problems: Sequence[Told], at_s: int) -> None:
        """Do what the refusal of a packet calls for: try again where waiting alone was the cause, else give it back."""
        codes = {problem.code for problem in problems}
        waited = at_s - sent.drawn_at > _LONG_S
        if sent.earlier is not None and codes == {_CONFLICT}:
            log.warning("packet.known file=%s: its earlier token came through", sent.file)
            await self.outgoing.journal.return_to(sent.earlier, sent.document_id)
        elif waited and codes == {_TOO_OLD}:
            await self.outgoing.send_again(sent, doubtful=True)
        elif waited and codes == {_PART_MISSING}:
            await self.outgoing.send_again(sent, problems)
        else:
            await self.outgoing.give_back(sent, problems)

    async def _lay_alone(self, letter: Letter) -> None:
        """Keep a letter about something that never passed through this folder, for whoever looks for it."""
        kind = type(letter.content).__name__.lower()
        log.warning("letter.alone kind=%s delivery_id=%s", kind, letter.delivery_id)
        file = self._places.unpacked / f"{letter.delivery_id}.{kind}.json"
        await asyncio.to_thread(self._places.write_json, file, _as_json(letter.content))

    @property
    def _client(self) -> AgencyClient:
        return self.outgoing.client

    @property
    def _places(self) -> Places:
        return self.outgoing.places


def _arrived(delivery: Delivery, now: datetime) -> Arrived:
    envelope = delivery.envelope
    return Arrived(
        delivery.delivery_id,
        delivery.document_id,
        envelope.from_,
        delivery.recipient,
        documents.own_id(envelope),
        envelope.action,
        delivery.token,
        int(now.timestamp()),
    )


def _leave_arriving(places: Places, name: str) -> None:
    """Hand over what lies in arriving; when nothing does, that was done before."""
    packet, folder = places.arriving / f"{name}.edxml", places.arriving / name
    if packet.exists():
        places.remove(folder)
        places.move(packet, places.inbox / packet.name)
    elif folder.exists():
        places.move(folder, places.unpacked / name)


def _contradiction(file: Path, envelope: Envelope) -> Problem | None:
    """Say why a packet cannot be what its envelope says."""
    packet = read_packet(read_whole(file, MAX_PACKET_BYTES))
    if isinstance(packet, tuple):
        first = packet[0]
        return Problem(_CONTRADICTS, "", f"{first.code} {first.pointer} {first.en}", f"{first.code} {first.vi}")
    if not isinstance(packet, Packet):
        return Problem(_CONTRADICTS, "", "a status, no document", "là trạng thái, không phải văn bản")
    claims = {packet.from_.code: envelope.from_, packet.id: envelope.edxml.id if envelope.edxml is not None else None}
    for found, signed in claims.items():
        if found != signed:
            return Problem(_CONTRADICTS, "", f"{found}, signed is {signed}", f"{found}, phần đã ký ghi {signed}")
    return None


def _packed(
    delivery: Delivery,
    files: Sequence[tuple[Part, Path]],
    names: Mapping[str, str],
    national: Mapping[DocumentId, NationalId],
) -> bytes | tuple[Problem, ...]:
    """Write a document with its parts as a packet."""
    envelope = delivery.envelope
    grouped = any(":" in recipient for recipient in envelope.to)
    packet = documents.packet_of(
        envelope,
        files=[(part, read_whole(file, part.length)) for part, file in files],
        names=names,
        national=national,
        to=[delivery.recipient] if grouped else None,
    )
    return packet if isinstance(packet, tuple) else write_packet(packet)


def _named(envelope: Envelope) -> set[DocumentId]:
    return {*envelope.ref, *(each.document for each in envelope.doc.reply_to if each.document is not None)}


def _short(name: str) -> str:
    return plain_name(name, most_bytes=120)


def _tidy(status: Status) -> Status:
    """Take blanks off the ends of texts: a packet cannot hold them."""
    staff = status.staff
    if staff is not None:
        told = {name: value.strip() or None for name, value in staff if value is not None}
        staff = staff.model_copy(update=told)
    detail = (status.detail or "").strip() or None
    return status.model_copy(update={"detail": detail, "staff": staff})


def _as_json(content: Wire) -> dict[str, Any]:
    return content.model_dump(mode="json", by_alias=True, exclude_none=True)
