"""What a packet means to the axis, and what of it an envelope or a status has no place for.

A packet names earlier documents by the sender's own DocumentId; an envelope and a status name them by the identity of
the signed envelope. Only who keeps the memory of both can tell one from the other, so the way in has two steps: a draft
with `NationalId`s, and then, with what the caller has looked up, the envelope or status.

```
Packet ── documents.draft_of ──► Draft ── envelope_of(documents) ──► Envelope ── packet_of(national) ──► Packet
StatusPacket ── statuses.draft_of ──► StatusDraft ── status_of(document) ──► Status ── packet_of(about) ──► StatusPacket
```

What an envelope has no place for (`Draft.unmapped` names it where it has a value): names and addresses of the parties,
Place, Type and TypeDetail, further TypeNames, Content, ToPlaces, OtherInfo but for Priority, SteeringType,
ResponseForTask, ApplicationType, Feedback, Agency, all TraceHeaders, reason, paper, staff and receiver lists of
Bussiness, descriptions of attachments. None of it decides about transport, and the recipient's software reads it in the
packet itself, which travels unchanged as a part; the axis would only keep a second copy that nobody signs for.

The other way an envelope loses `id`, `via`, `expires`, the digests of parts and `edxml.level`, which the format does
not know; `created` becomes a TraceHeader; groups must be expanded; a subject becomes one line. A document without number
or notation is not written, since the format wants both. A status loses `via`.

A Timestamp earlier than the axis could have existed, as test packets have it, is not taken for `Status.at`: then the
moment of the conversion is, and `unmapped` names the Timestamp.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from schemas.edxml.packet import Packet, StatusPacket, path_of
from schemas.identifiers import AgencyCode, is_agency_code
from schemas.refusal import Problem
from schemas.wire import Wire, read_payload

Level = Literal["A2", "A1", "A0"]

Aliases = Mapping[str, AgencyCode]
"""Codes of packets that are not those of the directory, each with the agency that it means."""

NO_ALIASES: Final[Aliases] = MappingProxyType({})

Sentence = tuple[str, str]
"""What is wrong, in English and Vietnamese."""

MISSING: Final[Sentence] = ("missing or empty", "thiếu hoặc để trống")
NO_CODE: Final[Sentence] = (
    "no identifier code of a known form, and no alias in the directory",
    "không đúng dạng mã định danh và không có trong bảng mã thay thế",
)

Model = TypeVar("Model", bound=Wire)


@dataclass(frozen=True, slots=True)
class NationalId:
    """A document as packets name it: whose it is, and that agency's own DocumentId."""

    agency: str
    document: str


def wrong(place: str, found: str, sentence: Sentence, *, code: str = "E512") -> Problem:
    """Say that what stands at a place is wrong."""
    shown = found if found.isprintable() else ascii(found)[1:-1]
    return Problem(code, place, f"{shown[:200]}: {sentence[0]}", f"{shown[:200]}: {sentence[1]}")


def agency_of(text: str | None, aliases: Aliases) -> AgencyCode | None:
    """Give the agency that a code of a packet means; nothing where the code has no form that the directory knows."""
    if text is None:
        return None
    return aliases.get(text) or (AgencyCode(text) if is_agency_code(text) else None)


def made(model: type[Model], values: Mapping[str, Any], *, below: str = "") -> Model | tuple[Problem, ...]:
    """Make a payload as the hub will read it; what does not fit is told by its place in the packet.

    Args:
        model: What to make.
        values: Its members as in JSON; those that are `None` are left out.
        below: Where the model stands in an envelope.
    """
    given = {name: value for name, value in values.items() if value is not None}
    payload = read_payload(model, json.dumps(given, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if not isinstance(payload, tuple):
        return payload
    return tuple(
        Problem("E512", place_in_packet(below + problem.pointer), problem.en, problem.vi) for problem in payload
    )


def place_in_packet(pointer: str) -> str:
    """Say where in a packet stands what a pointer into its envelope or status means; other pointers stay as they are."""
    recipient = _RECIPIENT.fullmatch(pointer)
    if recipient is not None:
        return f"{path_of(Packet, 'to')}[{int(recipient[1]) + 1}]/OrganId"
    for known, place in _PLACES.items():
        if pointer == known or pointer.startswith(f"{known}/"):
            return place
    return pointer


_RECIPIENT: Final = re.compile("/to/([0-9]{1,4})")
_PLACES: Final = {
    "/from": f"{path_of(Packet, 'from_')}/OrganId",
    "/doc/number": path_of(Packet, "number"),
    "/doc/notation": path_of(Packet, "notation"),
    "/doc/kind": path_of(Packet, "kinds"),
    "/doc/subject": path_of(Packet, "subject"),
    "/doc/signer/name": path_of(Packet, "signer"),
    "/doc/signer/position": path_of(Packet, "position"),
    "/doc/signer/competence": path_of(Packet, "competence"),
    "/doc/reply_to": path_of(Packet, "answers"),
    "/to": path_of(Packet, "to"),
    "/edxml/id": path_of(Packet, "id"),
    "/ref": path_of(Packet, "business"),
    "/parts": path_of(Packet, "attachments"),
    "/detail": path_of(StatusPacket, "description"),
    "/staff": path_of(StatusPacket, "staff"),
}
