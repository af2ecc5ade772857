"""Identifiers of agencies, platforms, documents and deliveries.

A code is opaque text that is compared byte for byte: nothing here normalises, so `H０1` with a fullwidth zero is not
`H01`. Aliases and successors are entries of the directory, never rules on the text.

Source of the forms: QCVN 102:2016/BTTTT (`000.00.00.H26`), Quyết định 20/2020/QĐ-TTg (`H26.01`), and the
registration numbers of enterprises (`0100109106`, branch `0100109106-001`).
"""

import hashlib
import re
from typing import Annotated, Final, NewType
from uuid import UUID

from pydantic import StringConstraints

AgencyCode = NewType("AgencyCode", str)
"""Identifier code of an agency, or of a platform where either may stand; at most 35 ASCII characters."""

DocumentId = NewType("DocumentId", str)
"""Identity of a signed object: SHA-256 of its signing input, 64 lower-case hexadecimal digits."""

DeliveryId = NewType("DeliveryId", UUID)
"""Identity of one document for one recipient; a function of both, so every duplicate carries the same."""

HUB: Final = AgencyCode("hub")
"""What the hub calls itself in `from`; obeys no form of an agency code, so no agency can bear it."""

MAX_CODE_LENGTH: Final = 35

_FORM_2016 = r"[0-9]{3}\.[0-9]{2}\.[0-9]{2}\.[A-Z][0-9]{2}"
_FORM_2020 = r"[A-Z][0-9]{2}(?:\.[A-Z0-9]+)*"
_ENTERPRISE = r"[0-9]{10}(?:-?[0-9]{3})?"
_PLATFORM = r"lgsp-[a-z0-9]+(?:-[a-z0-9]+)*"

AGENCY_CODE_PATTERN: Final = rf"^(?:{_FORM_2016}|{_FORM_2020}|{_ENTERPRISE})$"
PLATFORM_CODE_PATTERN: Final = rf"^{_PLATFORM}$"
PARTY_CODE_PATTERN: Final = rf"^(?:{_FORM_2016}|{_FORM_2020}|{_ENTERPRISE}|{_PLATFORM})$"
TIERS: Final = ("ministry-province", "department-district", "commune", "associate")
RECIPIENT_PATTERN: Final = (
    rf"^(?:{_FORM_2016}|{_FORM_2020}|{_ENTERPRISE}"
    rf"|tier:(?:{'|'.join(TIERS)})"
    rf"|(?:children|descendants):(?:{_FORM_2016}|{_FORM_2020}|{_ENTERPRISE}))$"
)
DOCUMENT_ID_PATTERN: Final = r"^[0-9a-f]{64}$"
UUID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
ENVELOPE_ID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

AgencyCodeText = Annotated[
    AgencyCode, StringConstraints(strict=True, pattern=AGENCY_CODE_PATTERN, max_length=MAX_CODE_LENGTH)
]
PlatformCodeText = Annotated[
    AgencyCode, StringConstraints(strict=True, pattern=PLATFORM_CODE_PATTERN, max_length=MAX_CODE_LENGTH)
]
PartyCodeText = Annotated[
    AgencyCode, StringConstraints(strict=True, pattern=PARTY_CODE_PATTERN, max_length=MAX_CODE_LENGTH)
]
RecipientText = Annotated[str, StringConstraints(strict=True, pattern=RECIPIENT_PATTERN, max_length=60)]
DocumentIdText = Annotated[DocumentId, StringConstraints(strict=True, pattern=DOCUMENT_ID_PATTERN)]
EnvelopeIdText = Annotated[str, StringConstraints(strict=True, pattern=ENVELOPE_ID_PATTERN)]
UuidText = Annotated[str, StringConstraints(strict=True, pattern=UUID_PATTERN)]

_AGENCY_CODE = re.compile(AGENCY_CODE_PATTERN[1:-1])
_PLATFORM_CODE = re.compile(PLATFORM_CODE_PATTERN[1:-1])


def is_agency_code(text: str) -> bool:
    """Tell whether the text has one of the three national forms; says nothing about the directory."""
    return len(text) <= MAX_CODE_LENGTH and _AGENCY_CODE.fullmatch(text) is not None


def is_platform_code(text: str) -> bool:
    """Tell whether the text has the form of a platform's code, such as `lgsp-h26`."""
    return len(text) <= MAX_CODE_LENGTH and _PLATFORM_CODE.fullmatch(text) is not None


def identity_of(signing_input: bytes) -> DocumentId:
    """Name a signed object by the SHA-256 of its signing input.

    The signature stays out: both algorithms are randomised, and an ECDSA signature has a second valid form, so a
    hash of the whole token would make an honest retry look like another document.
    """
    return DocumentId(hashlib.sha256(signing_input).hexdigest())


def delivery_id_of(document_id: DocumentId, recipient: AgencyCode) -> DeliveryId:
    """Name the delivery of a signed object to a recipient: a version 8 UUID (RFC 9562) made of a SHA-256.

    Hub and recipient compute the same id from what each already knows, so nothing has to carry it.
    """
    digest = hashlib.sha256(b"\0".join((b"truc/1 delivery", document_id.encode(), recipient.encode()))).digest()
    bits = int.from_bytes(digest[:16])
    bits = bits & ~(0xF << 76) | (0x8 << 76)
    bits = bits & ~(0x3 << 62) | (0x2 << 62)
    return DeliveryId(UUID(int=bits))
