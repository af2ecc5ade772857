"""Writes a packet, strictly: the order of the standard, UTF-8 without a byte order mark, no signature.

What a lenient reader takes is not written: codes of no known form, a DocumentId that contradicts the rest, a number
that is none, a document replaced twice, attachments that are not a ZIP of one entry. Such a packet is refused, with all
its problems, by the same codes as at reading.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from lxml import etree

from schemas.edxml.attachments import is_one_entry_zip
from schemas.edxml.binding import write
from schemas.edxml.names import check_names
from schemas.edxml.packet import ENCODED, NAMESPACE, XLINK, Business, Packet, StatusPacket, path_of, spoken_id
from schemas.edxml.parsing import MAX_PACKET_BYTES
from schemas.edxml.reader import read_packet
from schemas.identifiers import is_agency_code
from schemas.refusal import Problem

_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_NUMBER: Final = re.compile(r"[0-9]{1,11}[A-Za-zĐđ]?")
_SPOKEN: Final = re.compile(r"[^,]+,[0-9]{4}/[0-9]{2}/[0-9]{2},[^,]+")


def write_packet(packet: Packet | StatusPacket) -> bytes | tuple[Problem, ...]:
    """Write a packet; what is written, `read_packet` reads as an equal packet, but for `unmapped`.

    Returns:
        The bytes; or every reason why this packet is not written.
    """
    problems = tuple(_lax(packet))
    if problems:
        return problems
    prefixes = {None: NAMESPACE, "xlink": XLINK} if _has_links(packet) else {None: NAMESPACE}
    root = etree.Element(f"{{{NAMESPACE}}}edXML", nsmap=prefixes)
    try:
        write(packet, root)
    except ValueError:  # lxml refuses what XML cannot hold
        return (Problem("E512", "", *_NOT_IN_XML),)
    etree.indent(root)
    data = _DECLARATION + etree.tostring(root, encoding="UTF-8", xml_declaration=False) + b"\n"
    if len(data) > MAX_PACKET_BYTES:
        found, most = len(data), MAX_PACKET_BYTES
        return (Problem("E511", "", f"{found} bytes, at most {most}", f"{found} byte, nhiều nhất {most}"),)
    again = read_packet(data)
    if isinstance(again, tuple):
        return again
    return data if again == dataclasses.replace(packet, unmapped=()) else (Problem("E512", "", *_NOT_CLEAN),)


def _has_links(packet: Packet | StatusPacket) -> bool:
    return isinstance(packet, Packet) and any(entry.href is not None for entry in packet.manifest)


def _lax(packet: Packet | StatusPacket) -> Iterator[Problem]:
    """Find what only a reader accepts."""
    record = type(packet)
    if not is_agency_code(packet.from_.code):
        yield _wrong(f"{path_of(record, 'from_')}/OrganId", packet.from_.code, *_NO_CODE)
    if isinstance(packet, Packet):
        yield from _lax_document(packet)
    elif packet.answered.code is None or not is_agency_code(packet.answered.code):
        yield _wrong(f"{path_of(record, 'answered')}/OrganId", packet.answered.code or "—", *_NO_CODE)


def _lax_document(packet: Packet) -> Iterator[Problem]:
    codes = Counter(party.code for party in packet.to)
    for number, party in enumerate(packet.to, 1):
        place = f"{path_of(Packet, 'to')}[{number}]/OrganId"
        if not is_agency_code(party.code):
            yield _wrong(place, party.code, *_NO_CODE)
        elif codes[party.code] > 1:
            yield Problem("E406", place, f"{party.code} is named twice", f"{party.code} ghi hai lần")
    if _NUMBER.fullmatch(packet.number) is None:
        yield _wrong(path_of(Packet, "number"), packet.number, *_NO_NUMBER)
    made = spoken_id(packet.from_.code, packet.issued_on, f"{packet.number}/{packet.notation}")
    if _SPOKEN.fullmatch(packet.id) and packet.id != made:
        yield _wrong(path_of(Packet, "id"), packet.id, f"contradicts {made}", f"không khớp với {made}")
    replaced = Counter(each.document for each in packet.business.replaced) if packet.business else Counter()
    if max(replaced.values(), default=0) > 1:
        place = path_of(Packet, "business") + path_of(Business, "replaced")
        yield Problem("E512", place, "a document is replaced twice", "một văn bản được thay thế hai lần")
    places = [f"/edXML/{ENCODED}/Attachment[{number + 1}]" for number in range(len(packet.attachments))]
    for place, attachment in zip(places, packet.attachments, strict=True):
        if not is_one_entry_zip(attachment.content):
            yield Problem(
                "E512",
                f"{place}/ContentTransferEncoded",
                "not a ZIP of one entry",
                "không phải tệp ZIP chứa đúng một tệp",
            )
    yield from check_names(
        (f"{place}/AttachmentName", attachment.name or "")
        for place, attachment in zip(places, packet.attachments, strict=True)
    )


def _wrong(place: str, found: str, english: str, vietnamese: str) -> Problem:
    return Problem("E512", place, f"{found[:100]}: {english}", f"{found[:100]}: {vietnamese}")


_NO_CODE: Final = ("no identifier code", "không đúng dạng mã định danh")
_NO_NUMBER: Final = ("no number of a document", "không phải số văn bản")
_NOT_IN_XML: Final = ("a text holds characters that XML cannot hold", "có chữ chứa ký tự mà XML không ghi được")
_NOT_CLEAN: Final = (
    "a text is empty, says `null` or begins or ends with white space, and would be read otherwise",
    "có chữ rỗng, là “null” hoặc có khoảng trắng ở hai đầu nên đọc lại sẽ khác",
)
