"""National packets (edXML, QCVN 102:2016/BTTTT): in as they are, out as they came or written anew.

A packet travels unchanged as a part of its document, and its files as parts beside it. What packets call an earlier
document is found among those that were handed in here.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi import Path as InPath

from adapters.examination import packet_part
from adapters.gateway.asking import ERRORS, OfficeOf
from adapters.gateway.office import Office
from adapters.gateway.parts import spooled
from adapters.gateway.problems import Refusal
from adapters.mailbox import Kept
from schemas.directory_file import VIETNAM
from schemas.edxml import documents
from schemas.edxml.attachments import PackedFile, files
from schemas.edxml.mapping import Level, NationalId, place_in_packet
from schemas.edxml.packet import Packet
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import assess
from schemas.edxml.writer import write_packet
from schemas.envelope import Envelope, Part
from schemas.identifiers import UUID_PATTERN, DeliveryId, DocumentId
from schemas.refusal import Problem
from schemas.signing import payload_of

router = APIRouter(tags=["packets"])

EDXML: Final = "application/edxml+xml"
MAX_WRITTEN_BYTES: Final = 32 * 1024 * 1024
"""Largest sum of files for which a packet is written: all of it is in memory."""

_XML: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {EDXML: {"schema": {"type": "string"}}}, "description": "The packet."}
}


@dataclass(frozen=True, slots=True)
class OpenedPacket:
    """A packet that can be sent.

    Attributes:
        draft: What it means.
        packet: Itself, as a part.
        attached: Its files.
        level: What stands behind it.
    """

    draft: documents.Draft
    packet: Part
    attached: tuple[PackedFile, ...]
    level: Level


async def envelope_of_packet(office: Office, data: bytes) -> Envelope:
    """Make an envelope of a packet, and bring its parts to the hub.

    Raises:
        Refusal: When something is wrong with it.
        PartError: When a part does not get to the hub.
    """
    opened = await asyncio.to_thread(_open, office, data)
    draft = opened.draft
    via = office.code if draft.from_ != office.code and office.is_platform else None
    known = {each: found for each in draft.named if (found := await office.mailbox.named(each.agency, each.document))}
    envelope = documents.envelope_of(
        draft,
        documents=known,
        packet=opened.packet,
        attachments=[each.part for each in opened.attached],
        level=opened.level,
        now_s=int(office.clock().timestamp()),
        via=via,
    )
    if not isinstance(envelope, Envelope):
        raise Refusal(422, *envelope)
    await asyncio.to_thread(office.examine, envelope, place_in_packet)  # before anything is brought anywhere
    await office.client.upload(data, name=opened.packet.name, media_type=opened.packet.media_type, from_=draft.from_)
    for file in opened.attached:
        async with spooled(office) as unpacked:
            await asyncio.to_thread(_unpack, file, unpacked)
            await office.client.upload(
                unpacked, name=file.part.name, media_type=file.part.media_type, from_=draft.from_
            )
    return envelope


@router.get("/v1/deliveries/{delivery}/packet", responses={**ERRORS, **_XML}, response_class=Response)
async def get_packet(
    office: OfficeOf, delivery: Annotated[str, InPath(pattern=UUID_PATTERN, description="Id of the delivery.")]
) -> Response:
    """Read a delivery as a national packet: its own, byte for byte, or one that is written from its envelope."""
    delivery_id = DeliveryId(UUID(delivery))
    kept, token = await office.mailbox.find(delivery_id), await office.mailbox.token(delivery_id)
    if kept is None or token is None or kept.kind != "document":
        raise Refusal(404, Problem("A202", "/path/delivery"))
    envelope = Envelope.model_validate_json(payload_of(token))
    async with office.packets:
        if envelope.edxml is not None:
            packet = next(part for part in envelope.parts if part.sha256 == envelope.edxml.part)
            data = await _bytes_of(office, kept, envelope, token, packet)
        else:
            data = await _write(office, kept, envelope, token)
    return Response(data, media_type=EDXML)


def _open(office: Office, data: bytes) -> OpenedPacket:
    packet = read_packet(data)
    if isinstance(packet, tuple):
        raise Refusal(422, *packet)
    if not isinstance(packet, Packet):
        raise Refusal(
            422, Problem("E512", "/edXML", "a status, not a document", "gói tin trạng thái, không phải văn bản")
        )
    now = office.clock()
    draft = documents.draft_of(packet, today=now.astimezone(VIETNAM).date())
    attached, problems = files(packet)
    if isinstance(draft, tuple) or problems:
        raise Refusal(422, *(draft if isinstance(draft, tuple) else ()), *problems)
    level = assess(data, packet, office.index.today().certificates, now=now).level
    return OpenedPacket(draft, packet_part(data, "goi-tin.edxml"), attached, level)


def _unpack(file: PackedFile, into: Any) -> None:
    with into.open("wb") as sink:
        for chunk in file.chunks():
            sink.write(chunk)


async def _bytes_of(office: Office, kept: Kept, envelope: Envelope, token: bytes, part: Part) -> bytes:
    if part.length > MAX_WRITTEN_BYTES * 2:
        raise Refusal(413, Problem("E511", "", f"{part.length} bytes", f"{part.length} byte"))
    async with spooled(office) as file:
        await office.client.fetch(office.delivery_of(kept, envelope, token), part, file)
        return await asyncio.to_thread(file.read_bytes)


async def _write(office: Office, kept: Kept, envelope: Envelope, token: bytes) -> bytes:
    """Write a packet for a document that never was one."""
    total = sum(part.length for part in envelope.parts)
    if total > MAX_WRITTEN_BYTES:
        raise Refusal(413, Problem("E511", "/parts", f"{total} bytes in all", f"tổng cộng {total} byte"))
    held = [(part, await _bytes_of(office, kept, envelope, token, part)) for part in envelope.parts]
    index = await asyncio.to_thread(office.index.today)
    names: dict[str, str] = {
        code: agency.name
        for code in (envelope.from_, kept.recipient)
        if (agency := index.directory.agencies.get(code)) is not None
    }
    national: dict[DocumentId, NationalId] = {}
    named = {*envelope.ref, *(each.document for each in envelope.doc.reply_to if each.document is not None)}
    for document_id in named:
        found = await office.mailbox.national(document_id)
        if found is not None:
            national[document_id] = NationalId(*found)
    packet = documents.packet_of(envelope, files=held, names=names, national=national, to=(kept.recipient,))
    written = packet if isinstance(packet, tuple) else await asyncio.to_thread(write_packet, packet)
    if isinstance(written, tuple):
        raise Refusal(422, *written)
    return written
