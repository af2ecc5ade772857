"""Reads a packet: lenient about what producers really write, strict about what two readers could understand differently.

Taken: any order and prefix of elements, CRLF, a byte order mark, unknown elements (named in `unmapped`), empty
elements, the text `null`, `dd/MM/yyyy`, parties without a name, stations without a code, dates that do not exist inside
identifiers (an identifier is opaque), codes of no known form, a DocumentId that contradicts the rest. The format of
2014 is read as far as it is known: a SOAP envelope with a MessageHeader and a Manifest, attachments outside the file.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Final

from schemas.edxml.binding import Findings, read
from schemas.edxml.packet import (
    ENCODED,
    MANIFEST,
    MESSAGE,
    NAMESPACE,
    Attachment,
    ManifestEntry,
    Packet,
    StatusPacket,
    spoken_id,
)
from schemas.edxml.parsing import Tree, parse
from schemas.refusal import Problem
from schemas.wire import MAX_PROBLEMS

_CID: Final = "cid:"
_PLACES_OF_2014: Final = (
    ("/edXML/edXMLEnvelope/edXMLHeader", "/Envelope/Header"),
    ("/edXML/edXMLEnvelope/edXMLBody/edXMLManifest", "/Envelope/Body/Manifest"),
)


def read_packet(data: bytes) -> Packet | StatusPacket | tuple[Problem, ...]:
    """Read a packet, or say everything that is wrong with it; total: never raises, whatever the bytes.

    Returns:
        A document or a status; or its problems: E510 and E511 for the XML, else E512 for each field and E513 for each
        attachment without its counterpart, at most `MAX_PROBLEMS`.
    """
    tree = parse(data)
    return read_tree(tree) if isinstance(tree, Tree) else tree


def read_tree(tree: Tree) -> Packet | StatusPacket | tuple[Problem, ...]:
    """Read a packet that is parsed already."""
    findings = Findings(problems=list(tree.problems))
    record: type[Packet | StatusPacket] = StatusPacket if _is_status(tree) else Packet
    if tree.old and record is Packet:
        _add_id(tree)
    packet = read(record, tree.root, "/edXML", findings)
    if packet is None and not findings.problems:
        findings.wrong("/edXML", "the packet is empty", "gói tin trống")
    if isinstance(packet, Packet):
        findings.problems += _unpaired(packet, old=tree.old)
        if tree.old:  # attachments are MIME parts beside the file
            findings.unmapped += [f"/edXML/{MANIFEST}/Reference[{n + 1}]" for n in range(len(packet.manifest))]
    if tree.old:
        _place_in_2014(findings)
    if packet is None or findings.problems:
        return tuple(findings.problems[:MAX_PROBLEMS])
    return dataclasses.replace(packet, unmapped=tuple(findings.unmapped))


def bare_id(content_id: str | None) -> str:
    """Give a ContentId without its scheme: some software writes `cid:` on one side only."""
    return (content_id or "").removeprefix(_CID)


def _is_status(tree: Tree) -> bool:
    message = f"{{{NAMESPACE}}}" + MESSAGE.replace("/", f"/{{{NAMESPACE}}}")
    return tree.root.find(f"{message}/{{{NAMESPACE}}}StatusCode") is not None


def _add_id(tree: Tree) -> None:
    """Give a document of 2014, which knows no DocumentId, the one that the standard makes of what it says."""
    message = tree.root.find(f"{{{NAMESPACE}}}" + MESSAGE.replace("/", f"/{{{NAMESPACE}}}"))
    if message is None or message.find(f"{{{NAMESPACE}}}DocumentId") is not None:
        return
    element = message.makeelement(f"{{{NAMESPACE}}}DocumentId")
    message.append(element)
    element.text = "-"
    seen = read(Packet, tree.root, "", Findings())
    if seen is not None:
        element.text = spoken_id(seen.from_.code, seen.issued_on, f"{seen.number}/{seen.notation}")


def _unpaired(packet: Packet, *, old: bool) -> list[Problem]:
    """Find attachments that the manifest does not list, entries without an attachment, and identifiers used twice."""
    entries, attachments = f"/edXML/{MANIFEST}/Reference", f"/edXML/{ENCODED}/Attachment"
    problems = [*_ids(packet.manifest, entries), *_ids(packet.attachments, attachments)]
    listed = {bare_id(entry.content_id) for entry in packet.manifest}
    present = {bare_id(attachment.content_id) for attachment in packet.attachments}
    if not old:
        problems += [
            _mispaired(
                f"{entries}[{number}]",
                entry,
                "listed, but not in the packet",
                "có trong danh mục tệp nhưng không kèm tệp",
            )
            for number, entry in enumerate(packet.manifest, 1)
            if bare_id(entry.content_id) not in present
        ]
    problems += [
        _mispaired(
            f"{attachments}[{number}]",
            attachment,
            "in the packet, but not listed",
            "có kèm tệp nhưng không có trong danh mục tệp",
        )
        for number, attachment in enumerate(packet.attachments, 1)
        if bare_id(attachment.content_id) not in listed
    ]
    return problems


def _ids(items: Iterable[ManifestEntry | Attachment], place: str) -> list[Problem]:
    counts: Counter[str] = Counter()
    problems = []
    for number, item in enumerate(items, 1):
        name = bare_id(item.content_id)
        counts[name] += 1
        if counts[name] > 1:
            problems.append(_mispaired(f"{place}[{number}]", item, "this ContentId stands twice", "trùng ContentId"))
    return problems


def _mispaired(place: str, item: ManifestEntry | Attachment, english: str, vietnamese: str) -> Problem:
    name = item.name or item.content_id or "?"
    return Problem("E513", place, f"{name[:200]}: {english}", f"{name[:200]}: {vietnamese}")


def _place_in_2014(findings: Findings) -> None:
    for today, then in _PLACES_OF_2014:
        findings.unmapped = [place.replace(today, then) for place in findings.unmapped]
        findings.problems = [
            dataclasses.replace(problem, pointer=problem.pointer.replace(today, then)) for problem in findings.problems
        ]
