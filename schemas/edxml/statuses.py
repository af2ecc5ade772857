"""Statuses both ways: StatusPacket → StatusDraft → Status → StatusPacket; `mapping` says what is lost on the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Final, get_args

from schemas.directory_file import VIETNAM
from schemas.edxml.documents import about_parties, own_id
from schemas.edxml.mapping import MISSING, NO_ALIASES, NO_CODE, Aliases, NationalId, Sentence, agency_of, made, wrong
from schemas.edxml.packet import Earlier, Party, StaffMember, StatusPacket, path_of
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Staff, Status, StatusCode
from schemas.refusal import Problem

_CODES: Final = frozenset(get_args(StatusCode))
_ASKED_BACK: Final = "13"
_REFUSED: Final = "02"
_EARLIEST_S: Final = 1_500_000_000
_ANSWERED: Final = path_of(StatusPacket, "answered")


@dataclass(frozen=True, slots=True)
class StatusDraft:
    """A status in the making.

    Attributes:
        from_: Whose status it is.
        to: Who is told: the sender of the document, or for 13 the recipient that is asked.
        document: What it is about, to be looked up.
        status: The code.
        at_s: When, seconds since 1970 UTC.
        detail: Reason or remark.
        staff: Who set it.
        unmapped: Places in the packet that a status has no field for.
    """

    from_: AgencyCode
    to: AgencyCode
    document: NationalId
    status: str
    at_s: int
    detail: str | None
    staff: Staff | None
    unmapped: tuple[str, ...]


def draft_of(packet: StatusPacket, *, now_s: int, aliases: Aliases = NO_ALIASES) -> StatusDraft | tuple[Problem, ...]:
    """Say what a status packet means to the axis, or everything that stands against it.

    Args:
        packet: As read.
        now_s: The present, seconds since 1970 UTC: the time of a status that says none.
        aliases: Codes that the directory knows by other names.
    """
    sender, told = agency_of(packet.from_.code, aliases), agency_of(packet.answered.code, aliases)
    document = packet.answered.document
    staff = made(Staff, _people(packet.staff), below="/staff") if packet.staff is not None else None
    problems = (*_against(packet, sender, told), *(staff if isinstance(staff, tuple) else ()))
    if problems or sender is None or told is None or document is None or isinstance(staff, tuple):
        return problems
    known_time = packet.at is not None and packet.at.timestamp() >= _EARLIEST_S
    return StatusDraft(
        from_=sender,
        to=told,
        document=NationalId(sender if packet.status == _ASKED_BACK else told, document),  # the id is its sender's
        status=packet.status,
        at_s=int(packet.at.timestamp()) if packet.at is not None and known_time else now_s,
        detail=packet.description,
        staff=staff,
        unmapped=(
            *packet.unmapped,
            *((path_of(StatusPacket, "at"),) if packet.at is not None and not known_time else ()),
            *about_parties(path_of(StatusPacket, "from_"), packet.from_),
        ),
    )


def status_of(
    draft: StatusDraft, document: DocumentId, *, via: AgencyCode | None = None
) -> Status | tuple[Problem, ...]:
    """Make the status of a draft, about the document that the caller has looked up."""
    return made(
        Status,
        {
            "v": 1,
            "from": draft.from_,
            "via": via,
            "to": draft.to,
            "document": document,
            "status": draft.status,
            "at": draft.at_s,
            "detail": draft.detail,
            "staff": draft.staff.model_dump(mode="json", exclude_none=True) if draft.staff is not None else None,
        },
    )


def packet_of(status: Status, about: Envelope, *, names: Mapping[str, str] = MappingProxyType({})) -> StatusPacket:
    """Make a status packet.

    Args:
        status: What is to be told.
        about: The document that it is about.
        names: Names of agencies by code.
    """
    staff = status.staff
    return StatusPacket(
        from_=Party(code=status.from_, name=names.get(status.from_)),
        answered=Earlier(
            code=status.to,
            number=about.doc.printed_number or None,
            issued_on=date.fromisoformat(about.doc.issued_on),
            document=own_id(about),
        ),
        staff=None
        if staff is None
        else StaffMember(department=staff.department, name=staff.name, email=staff.email, mobile=staff.mobile),
        status=status.status,
        description=status.detail,
        at=datetime.fromtimestamp(status.at, VIETNAM),
    )


def _people(staff: StaffMember) -> dict[str, str | None]:
    return {"name": staff.name, "department": staff.department, "email": staff.email, "mobile": staff.mobile}


def _against(packet: StatusPacket, sender: AgencyCode | None, told: AgencyCode | None) -> list[Problem]:
    found = []
    if sender is None:
        found.append(wrong(f"{path_of(StatusPacket, 'from_')}/OrganId", packet.from_.code, NO_CODE))
    if packet.answered.code is None:
        found.append(Problem("E512", f"{_ANSWERED}/OrganId", *MISSING))
    elif told is None:
        found.append(wrong(f"{_ANSWERED}/OrganId", packet.answered.code, NO_CODE, code="E404"))
    if packet.answered.document is None:
        found.append(Problem("E512", f"{_ANSWERED}/DocumentId", *MISSING))
    if packet.status not in _CODES:
        found.append(wrong(path_of(StatusPacket, "status"), packet.status, _NO_STATUS))
    if packet.status == _REFUSED and packet.description is None:
        found.append(Problem("E512", path_of(StatusPacket, "description"), *_NO_REASON))
    return found


_NO_STATUS: Final[Sentence] = (
    "no status; known are 01 02 03 04 05 06 13 15 16",
    "không phải mã trạng thái; chỉ có 01 02 03 04 05 06 13 15 16",
)
_NO_REASON: Final[Sentence] = ("status 02 gives its reason", "trạng thái 02 phải kèm lý do")
