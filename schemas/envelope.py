"""Envelope v1: the signed description of one document.

An envelope says from whom, to whom, what it is, and which parts belong to it by digest. It never carries the parts
themselves. Its bytes are signed once by the sender and never re-encoded (`schemas/signing.py`).

Not here: whether the sender may speak for `from`, whether the recipients exist (`hub/core`), and the mapping from and
to the national packet format edXML (`schemas/edxml`).
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from schemas.identifiers import (
    AgencyCodeText,
    DocumentId,
    DocumentIdText,
    EnvelopeIdText,
    PlatformCodeText,
    RecipientText,
)
from schemas.refusal import Problem
from schemas.wire import Day, Digest, Instant, Version1, Wire, read_payload, text

ENVELOPE_TYP: Final = "truc.document.v1"

MAX_LIFETIME_S: Final = 30 * 24 * 3600
MAX_NAMED_RECIPIENTS: Final = 1000
MAX_PARTS: Final = 200
MAX_PART_BYTES: Final = 2**40

Action = Literal["new", "update", "replace", "revoke"]
"""What the document does to an earlier one of the same sender (QCVN 102:2016, BussinessDocType 0, 2, 3, 1)."""

Urgency = Literal["normal", "urgent", "very-urgent", "express", "express-timed"]
"""Thường, khẩn, thượng khẩn, hỏa tốc, hỏa tốc hẹn giờ (QCVN 102:2016, Priority 0 to 4)."""

REF_COUNTS: Final[Mapping[Action, range]] = {
    "new": range(1),
    "update": range(1, 2),
    "revoke": range(1, 2),
    "replace": range(1, 101),
}
"""How many earlier documents each action names."""

URGENCIES: Final[tuple[Urgency, ...]] = ("normal", "urgent", "very-urgent", "express", "express-timed")


_NOT_IN_NAMES: Final = r"/\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff"
FILE_NAME_PATTERN: Final = rf"^\.*[^.{_NOT_IN_NAMES}][^{_NOT_IN_NAMES}]*$"
"""A name, never a path: no slashes, not `.` or `..`, no controls, nothing that turns the direction of writing."""


class Signer(Wire):
    """The person who signed the document, as printed on it.

    Attributes:
        name: Full name.
        position: Office held, such as `Bộ trưởng`.
        competence: In whose place, such as `TL.` or `KT.`.
    """

    name: Annotated[str, text(200)]
    position: Annotated[str, text(200)] | None = None
    competence: Annotated[str, text(100)] | None = None


class Reference(Wire):
    """An earlier document that this one answers; by its identity, or by agency, number and day as printed.

    Attributes:
        document: Its identity, for one that came over the axis.
        from_: The agency that promulgated it (`from` on the wire).
        number: Number and notation as printed, such as `7816/VPCP-TTĐT`.
        issued_on: Day of promulgation.
    """

    document: DocumentIdText | None = None
    from_: AgencyCodeText | None = Field(default=None, alias="from")
    number: Annotated[str, text(100)] | None = None
    issued_on: Day | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.document is None and self.number is None:
            raise PydanticCustomError("reference_empty", "a reference names a document or a number")
        return self


class DocumentFacts(Wire):
    """What a document office writes into its register about a document.

    Attributes:
        number: Number in the register of the year, such as `7816`; absent for documents without one.
        notation: Notation behind the number, such as `VPCP-TTĐT`.
        kind: Kind of document by name, such as `Công văn` (Nghị định 30/2020/NĐ-CP, Article 7).
        subject: Trích yếu: what it is about.
        issued_on: Day of promulgation.
        urgency: How fast it must travel and be processed.
        signer: Who signed it; absent where the national packet that it came as does not say.
        due_on: Day by which an answer is asked for.
        reply_to: Documents that it answers.
    """

    number: Annotated[str, text(30)] | None = None
    notation: Annotated[str, text(60)] | None = None
    kind: Annotated[str, text(100)]
    subject: Annotated[str, text(2000)]
    issued_on: Day
    urgency: Urgency = "normal"
    signer: Signer | None = None
    due_on: Day | None = None
    reply_to: Annotated[tuple[Reference, ...], Field(max_length=100)] = ()

    @property
    def printed_number(self) -> str:
        """Number and notation as they stand on the document, such as `7816/VPCP-TTĐT`; empty without either."""
        return "/".join(item for item in (self.number, self.notation) if item)


class Part(Wire):
    """One attachment or body, kept in the blob store and named here by digest.

    Attributes:
        name: File name shown to people; never a path.
        media_type: Such as `application/pdf`.
        sha256: Digest of the bytes.
        length: Number of bytes.
    """

    name: Annotated[str, StringConstraints(strict=True, max_length=255, pattern=FILE_NAME_PATTERN)]
    media_type: Annotated[str, text(127)]
    sha256: Digest
    length: Annotated[int, Field(strict=True, ge=0, le=MAX_PART_BYTES)]


AssuranceLevel = Literal["A2", "A1", "A0"]


class EdxmlOrigin(Wire):
    """The national packet (QCVN 102:2016/BTTTT) that the document came as.

    Attributes:
        id: The packet's own DocumentId, opaque text that is unique for one sender; statuses name it.
        part: Which part holds the bytes of the packet, unchanged.
        level: What stands behind it. `A2`: the agency's own XML signature covers all of it. `A1`: whoever signs the
            envelope vouches for it. `A0`: an import from an archive, or a signature that proves nothing any more.
    """

    id: Annotated[str, text(300)]
    part: Digest
    level: AssuranceLevel


class Envelope(Wire):
    """The payload of a `truc.document.v1`.

    Attributes:
        v: Version of this format.
        id: UUIDv7 (RFC 9562) from the sender; the same id with other bytes is a conflict.
        from_: The sending agency (`from` on the wire).
        via: The platform that speaks for it, or absent.
        to: Agency codes, or groups that the hub expands: `tier:…`, `children:CODE`, `descendants:CODE`.
        action: What it does to the documents in `ref`.
        ref: Earlier documents of the same sender: none for `new`, one for `update` and `revoke`, at least one for
            `replace`.
        doc: The entry in the register.
        created: When the envelope was made, seconds since 1970 UTC.
        expires: When delivery is to be given up, at most 30 days after `created`.
        parts: What belongs to it.
        edxml: The national packet that it came as; absent for a document that never was one.
    """

    v: Version1 = 1
    id: EnvelopeIdText
    from_: AgencyCodeText = Field(alias="from")
    via: PlatformCodeText | None = None
    to: Annotated[tuple[RecipientText, ...], Field(min_length=1, max_length=MAX_NAMED_RECIPIENTS)]
    action: Action = "new"
    ref: Annotated[tuple[DocumentIdText, ...], Field(max_length=100, validate_default=True)] = ()
    doc: DocumentFacts
    created: Instant
    expires: Instant
    parts: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS)] = ()
    edxml: EdxmlOrigin | None = None

    @field_validator("ref")
    @classmethod
    def _fits_action(cls, ref: tuple[DocumentId, ...], info: ValidationInfo) -> tuple[DocumentId, ...]:
        action = info.data.get("action")
        if action is not None and len(ref) not in REF_COUNTS[action]:
            raise PydanticCustomError(
                "ref_count", "`ref` names no document for new, one for update and revoke, one or more for replace"
            )
        return ref

    @field_validator("edxml")
    @classmethod
    def _has_its_packet(cls, edxml: EdxmlOrigin | None, info: ValidationInfo) -> EdxmlOrigin | None:
        parts = info.data.get("parts")
        if edxml is not None and parts is not None and edxml.part not in {part.sha256 for part in parts}:
            raise PydanticCustomError("edxml_part", "`edxml.part` is none of the parts")
        return edxml


def read_envelope(payload: bytes) -> Envelope | tuple[Problem, ...]:
    """Read an envelope from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Envelope, payload)


def new_envelope(
    *,
    from_: str,
    to: Sequence[str],
    doc: DocumentFacts,
    now_s: int,
    lifetime_s: int = 7 * 24 * 3600,
    via: str | None = None,
    action: Action = "new",
    ref: Sequence[str] = (),
    parts: Sequence[Part] = (),
    edxml: EdxmlOrigin | None = None,
) -> Envelope:
    """Make an envelope with a fresh id; raises `pydantic.ValidationError` when a value does not fit."""
    return Envelope.model_validate(
        {
            "id": new_envelope_id(),
            "from": from_,
            "via": via,
            "to": tuple(to),
            "action": action,
            "ref": tuple(ref),
            "doc": doc,
            "created": now_s,
            "expires": now_s + lifetime_s,
            "parts": tuple(parts),
            "edxml": edxml,
        }
    )


def new_envelope_id() -> str:
    """Draw a UUIDv7: 48 bits of milliseconds, the rest random (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    bits = (
        (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    )
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
