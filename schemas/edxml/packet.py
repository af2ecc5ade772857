"""What a packet says: frozen records, their fields in the order of the standard, each with the path of its element.

`binding` reads and writes by these paths, so this file is the one description of the format. A field without a default
must be there. Marks of the standard's own spelling (`Bussiness`, `TyperNotation`) stay in the paths and nowhere else.

Texts are kept as they are but for white space at both ends; small codes stay texts, because packets hold others than
the standard lists. Only days and moments are read: a time of a packet has no zone and is meant in Vietnam.
"""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

NAMESPACE: Final = "http://www.mic.gov.vn/TBT/QCVN_102_2016"
NAMESPACE_2014: Final = "http://www.e-doc.vn/Schema/"
XLINK: Final = "http://www.w3.org/1999/xlink"
XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"

ENVELOPE: Final = "edXMLEnvelope"
HEADER: Final = f"{ENVELOPE}/edXMLHeader"
MESSAGE: Final = f"{HEADER}/MessageHeader"
TRACE: Final = f"{HEADER}/TraceHeaderList"
MANIFEST: Final = f"{ENVELOPE}/edXMLBody/edXMLManifest"
ENCODED: Final = "AttachmentEncoded"

SIGNATURES: Final = frozenset({"Signature", "DigitalSignature"})
"""Names under which producers leave a signature or its remains; `signature` judges it, the records do not hold it."""


def _at(path: str, *, lenient: bool = False, **options: Any) -> Any:
    """Bind a field to the element at a path; `lenient`: a value that cannot be read is left out, not refused."""
    return field(metadata={"path": path, "lenient": lenient}, **options)


def _text(path: str) -> Any:
    return _at(path, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A sending or receiving agency, as the packet has it."""

    code: str = _at("OrganId")
    name: str | None = _text("OrganName")
    in_charge: str | None = _text("OrganizationInCharge")
    address: str | None = _text("OrganAdd")
    email: str | None = _text("Email")
    telephone: str | None = _text("Telephone")
    fax: str | None = _text("Fax")
    website: str | None = _text("Website")


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A document that is answered: `ResponseFor`."""

    code: str | None = _text("OrganId")
    number: str | None = _text("Code")
    issued_on: date | None = _at("PromulgationDate", lenient=True, default=None)
    document: str | None = _text("DocumentId")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffMember:
    """The person who handled it."""

    department: str | None = _text("Department")
    name: str | None = _text("Staff")
    email: str | None = _text("Email")
    mobile: str | None = _text("Mobile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Who is to carry it out: only in the packets of some software."""

    code: str | None = _text("OrganId")
    name: str | None = _text("OrganName")
    department: str | None = _text("DepartmentId")
    department_name: str | None = _text("DepartmentName")
    role: str | None = _text("ExecuteRole")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A station that the packet has passed."""

    code: str | None = _text("OrganId")
    at: datetime | None = _at("Timestamp", lenient=True, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverChange:
    """A receiver that an update takes away (0) or adds (1)."""

    code: str | None = _text("OrganId")
    change: str | None = _text("ReceiverType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A document that is replaced, and which receivers are to drop it."""

    document: str | None = _text("DocumentId")
    codes: tuple[str, ...] = _at("OrganIdList/OrganId", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """What the document does to earlier ones; `kind` is 0 new, 1 revoke, 2 update, 3 replace."""

    document: str | None = _text("DocumentId")
    kind: str | None = _text("BussinessDocType")
    reason: str | None = _text("BussinessDocReason")
    paper: str | None = _text("Paper")
    facts_changed: str | None = _text("BussinessDocumentInfo/DocumentInfo")
    receivers_changed: str | None = _text("BussinessDocumentInfo/DocumentReceiver")
    receivers: tuple[ReceiverChange, ...] = _at("BussinessDocumentInfo/ReceiverList/Receiver", default=())
    replaced: tuple[Replaced, ...] = _at("ReplacementInfoList/ReplacementInfo", default=())
    staff: StaffMember | None = _text("StaffInfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """An attachment as the manifest lists it."""

    content_id: str | None = _text("ContentId")
    media_type: str | None = _text("ContentType")
    description: str | None = _text("Description")
    name: str | None = _text("AttachmentName")
    href: str | None = _text("@xlink:href")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attachment with its bytes, as they were in base64: a ZIP of one entry, or the file itself."""

    content_id: str | None = _text("ContentId")
    name: str | None = _text("AttachmentName")
    description: str | None = _text("Description")
    media_type: str | None = _text("ContentType")
    content: bytes = _at("ContentTransferEncoded")
    field_name: str | None = _text("FieldName")
    mime_type: str | None = _text("MimeType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A document.

    Attributes:
        unmapped: Places of elements and attributes that the standard does not name or that could not be read.
    """

    from_: Party = _at(f"{MESSAGE}/From")
    to: tuple[Party, ...] = _at(f"{MESSAGE}/To")
    number: str = _at(f"{MESSAGE}/Code/CodeNumber")
    notation: str = _at(f"{MESSAGE}/Code/CodeNotation")
    place: str | None = _text(f"{MESSAGE}/PromulgationInfo/Place")
    issued_on: date = _at(f"{MESSAGE}/PromulgationInfo/PromulgationDate")
    kind_table: str | None = _text(f"{MESSAGE}/DocumentType/Type")
    kind_row: str | None = _text(f"{MESSAGE}/DocumentType/TypeDetail")
    kinds: tuple[str, ...] = _at(f"{MESSAGE}/DocumentType/TypeName", default=())
    subject: str = _at(f"{MESSAGE}/Subject")
    summary: str | None = _text(f"{MESSAGE}/Content")
    competence: str | None = _text(f"{MESSAGE}/SignerInfo/Competence")
    position: str | None = _text(f"{MESSAGE}/SignerInfo/Position")
    signer: str | None = _text(f"{MESSAGE}/SignerInfo/FullName")
    due_on: date | None = _at(f"{MESSAGE}/DueDate", default=None)
    places: tuple[str, ...] = _at(f"{MESSAGE}/ToPlaces/Place", default=())
    priority: str | None = _text(f"{MESSAGE}/OtherInfo/Priority")
    sphere: str | None = _text(f"{MESSAGE}/OtherInfo/SphereOfPromulgation")
    drafter: str | None = _text(f"{MESSAGE}/OtherInfo/TyperNotation")
    copies: str | None = _text(f"{MESSAGE}/OtherInfo/PromulgationAmount")
    pages: str | None = _text(f"{MESSAGE}/OtherInfo/PageAmount")
    direction: str | None = _text(f"{MESSAGE}/OtherInfo/Direction")
    appendixes: tuple[str, ...] = _at(f"{MESSAGE}/OtherInfo/Appendixes/Appendix", default=())
    answers: tuple[Earlier, ...] = _at(f"{MESSAGE}/ResponseFor", default=())
    steering: str | None = _text(f"{MESSAGE}/SteeringType")
    id: str = _at(f"{MESSAGE}/DocumentId")
    tasks: tuple[str, ...] = _at(f"{MESSAGE}/ResponseForTask/TaskCode", default=())
    application: str | None = _text(f"{MESSAGE}/ApplicationType")
    feedback: str | None = _text(f"{MESSAGE}/Feedback")
    executor: Executor | None = _text(f"{MESSAGE}/Agency")
    trace_id: str | None = _text(f"{TRACE}/@id")
    trace_version: str | None = _text(f"{TRACE}/@version")
    trace_must_understand: str | None = _text(f"{TRACE}/@mustUnderstand")
    trace_actor: str | None = _text(f"{TRACE}/@actor")
    traces: tuple[Trace, ...] = _at(f"{TRACE}/TraceHeader", default=())
    business: Business | None = _text(f"{TRACE}/Bussiness")
    manifest_version: str | None = _text(f"{MANIFEST}/@version")
    manifest: tuple[ManifestEntry, ...] = _at(f"{MANIFEST}/Reference", default=())
    attachments: tuple[Attachment, ...] = _at(f"{ENCODED}/Attachment", default=())
    unmapped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPacket:
    """A business status of a document.

    Attributes:
        answered: The document, and the agency that is told: its sender, or for 13 the receiver that is asked.
        unmapped: As in `Packet`.
    """

    from_: Party = _at(f"{MESSAGE}/From")
    answered: Earlier = _at(f"{MESSAGE}/ResponseFor")
    staff: StaffMember | None = _text(f"{MESSAGE}/StaffInfo")
    status: str = _at(f"{MESSAGE}/StatusCode")
    description: str | None = _text(f"{MESSAGE}/Description")
    at: datetime | None = _at(f"{MESSAGE}/Timestamp", lenient=True, default=None)
    unmapped: tuple[str, ...] = ()


_SPOKEN_ID: Final = re.compile(r"([^,]+),([0-9]{4}/[0-9]{2}/[0-9]{2}),([^,]+)")


def spoken_id(code: str, issued_on: date, printed_number: str) -> str:
    """Make a DocumentId in the way of the standard: `000.00.00.G22,2015/09/30,7816/VPCP-TTĐT`."""
    return f"{code},{issued_on:%Y/%m/%d},{printed_number}"


def number_in(document: str) -> str | None:
    """Give the printed number that a DocumentId shows; for display only, since an id is opaque."""
    found = _SPOKEN_ID.fullmatch(document)
    return found[3].strip() if found else None


def path_of(record: type[Any], field_name: str) -> str:
    """Say where a field of a record stands in a packet, beginning with a slash."""
    path: str = record.__dataclass_fields__[field_name].metadata["path"]
    return f"/edXML/{path}" if record in (Packet, StatusPacket) else f"/{path}"
