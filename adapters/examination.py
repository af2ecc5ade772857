"""What the axis would say about a file, found out offline by the axis' own checks.

A packet is converted as an adapter would convert it, and the envelope held against the directory; a signed token is
proven first. Not here: what only the hub knows: whether an id was used before, whether an earlier document went over
the axis, whether the parts are in its store.

Who sends packets asks the same here beforehand (`adapters.folder`).
"""

import base64
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509

from adapters.errors import Unusable
from adapters.trust import read_directory_file
from schemas.addresses import submit_key
from schemas.checks.directory import Directory, snapshot
from schemas.checks.examine import examine
from schemas.directory_file import VIETNAM, DirectoryFile
from schemas.edxml import documents, statuses
from schemas.edxml.attachments import files
from schemas.edxml.mapping import place_in_packet
from schemas.edxml.names import display_name, unsafe
from schemas.edxml.packet import Packet, StatusPacket
from schemas.edxml.parsing import MAX_PACKET_BYTES
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import Assurance, assess
from schemas.envelope import ENVELOPE_TYP, Envelope, Part, read_envelope
from schemas.identifiers import HUB, AgencyCode, DocumentId, identity_of
from schemas.receipt import (
    NOTICE_TYP,
    RECEIPT_TYP,
    STATUS_TYP,
    Notice,
    Receipt,
    Status,
    read_notice,
    read_receipt,
    read_status,
)
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES, Verified, verify
from schemas.strict_json import NotStrictError, loads

MAX_RECIPIENTS: Final = 20_000
"""The hub's limit as it is delivered."""

Kind = Literal["document packet", "status packet", "packet", "document", "receipt", "status", "notice", "envelope"]


@dataclass(frozen=True, slots=True)
class Examiner:
    """What files are held against.

    Attributes:
        directory: Who is who now.
        certificates: Those in force, by owner.
        party: Who would sign and send; by default the sender that the file names.
        now: The present.
    """

    directory: Directory
    certificates: Mapping[str, Sequence[x509.Certificate]]
    party: AgencyCode | None
    now: datetime

    @property
    def now_s(self) -> int:
        """The present in seconds since 1970 UTC."""
        return int(self.now.timestamp())


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about one file.

    Attributes:
        kind: What it is.
        problems: Why the axis would refuse it; none when it would accept it.
        assurance: What stands behind a packet.
        unmapped: What of a packet goes on in its own bytes only.
        unchecked: Earlier documents that only the hub knows.
    """

    kind: Kind
    problems: tuple[Problem, ...] = ()
    assurance: Assurance | None = None
    unmapped: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def examiner_of(directory_file: Path, *, party: str | None, now: datetime) -> Examiner:
    """Read the directory file; raises `Unusable` A103."""
    try:
        file = read_directory_file(directory_file)
    except OSError as error:
        found = error.strerror or "cannot be read"
        raise Unusable(found, "không đọc được tệp", place=str(directory_file), code="A103") from error
    code = AgencyCode(party) if party is not None else None
    return Examiner(snapshot(file, epoch=0, as_of=now), certificates_of(file, now), code, now)


def certificates_of(file: DirectoryFile, now: datetime) -> Mapping[str, Sequence[x509.Certificate]]:
    """Give the certificates that are not revoked, by owner; one that cannot be read proves nothing."""
    found: dict[str, list[x509.Certificate]] = defaultdict(list)
    for entry in file.certificates:
        if entry.revoked_at is not None and entry.revoked_at <= now.timestamp():
            continue
        try:
            found[entry.owner].append(x509.load_pem_x509_certificate(entry.pem.encode()))
        except ValueError:
            continue
    return found


def read_limited(path: Path) -> bytes:
    """Read a file, but no more of it than shows that it is too large; raises `OSError`."""
    with path.open("rb") as file:
        return file.read(MAX_PACKET_BYTES + 1)


def examine_file(data: bytes, examiner: Examiner, *, name: str = "packet.edxml") -> Findings:
    """Say what the axis would say about the bytes of a file; its name decides only where the bytes leave it open."""
    begin = data[:64].lstrip()
    if begin.startswith(b"{"):
        return _envelope(data, examiner)
    if name.endswith(".jws") or (begin.startswith(b"eyJ") and len(data) <= 2 * MAX_TOKEN_BYTES):
        return _token(data.strip(), examiner)
    return _packet(data, examiner, name)


def packet_part(data: bytes, name: str) -> Part:
    """Describe a packet as a part, under the name of its file where that is one."""
    shown = display_name(Path(name).name)
    digest = identity_of(data)  # SHA-256 in hexadecimal, as parts are named
    return Part(
        name=shown if unsafe(shown) is None else "goi-tin.edxml",
        media_type="application/xml",
        sha256=digest,
        length=len(data),
    )


def half_signed(assurance: Assurance) -> tuple[Problem, ...]:
    """Say so when the sender's own valid signature covers only some of the packet, such as its header.

    The axis would take it at the level of no signature. But whoever sends it vouches for the rest, which somebody may
    have put beside what was signed. A signature that nobody here can verify is no reason: agencies sign with keys
    that the directory does not know, and stations on the way break signatures by what they add.
    """
    reason = assurance.reason
    return (reason,) if reason is not None and (assurance.level, reason.code) == ("A1", "E303") else ()


def unproven_envelope(token: bytes) -> Envelope | tuple[Problem, ...]:
    """Read the envelope in a token without asking who signed it: to show what a document is called, not to believe it."""
    payload = _segment(token, 1)
    return (Problem("E102"),) if payload is None else read_envelope(payload)


def _segment(token: bytes, number: int) -> bytes | None:
    segments = token.split(b".")
    if len(segments) != 3:
        return None
    try:
        return base64.b64decode(segments[number] + b"=" * (-len(segments[number]) % 4), b"-_", validate=True)
    except ValueError:
        return None


def _typ_of(token: bytes) -> object:
    """Say what a token claims to be, proven or not."""
    try:
        header = loads(_segment(token, 0) or b"")
    except NotStrictError:
        return None
    return header.get("typ") if isinstance(header, dict) else None


def _packet(data: bytes, examiner: Examiner, name: str) -> Findings:
    packet = read_packet(data)
    if isinstance(packet, tuple):
        return Findings("packet", packet)
    assurance = assess(data, packet, examiner.certificates, now=examiner.now)
    if isinstance(packet, StatusPacket):
        findings = _status_packet(packet, examiner)
    else:
        findings = _document_packet(packet, data, examiner, name, assurance)
    return replace(findings, assurance=assurance, problems=(*findings.problems, *half_signed(assurance)))


def _document_packet(packet: Packet, data: bytes, examiner: Examiner, name: str, assurance: Assurance) -> Findings:
    draft = documents.draft_of(packet, today=examiner.now.astimezone(VIETNAM).date())
    attached, problems = files(packet)
    if isinstance(draft, tuple) or problems:
        return Findings("document packet", (*(draft if isinstance(draft, tuple) else ()), *problems))
    envelope = documents.envelope_of(
        draft,
        documents={each: _stand_in(each.document) for each in draft.named},
        packet=packet_part(data, name),
        attachments=[file.part for file in attached],
        level=assurance.level,
        now_s=examiner.now_s,
        via=platform_of(draft.from_, examiner),
    )
    if isinstance(envelope, tuple):
        return Findings("document packet", envelope)
    found = examined(envelope, examiner, signer=examiner.party or draft.from_, signed_at_s=examiner.now_s)
    placed = tuple(replace(problem, pointer=place_in_packet(problem.pointer)) for problem in found)
    return Findings(
        "document packet", placed, unmapped=draft.unmapped, unchecked=tuple(each.document for each in draft.ref)
    )


def _status_packet(packet: StatusPacket, examiner: Examiner) -> Findings:
    draft = statuses.draft_of(packet, now_s=examiner.now_s)
    if isinstance(draft, tuple):
        return Findings("status packet", draft)
    made = statuses.status_of(draft, _stand_in(draft.document.document), via=platform_of(draft.from_, examiner))
    found = made if isinstance(made, tuple) else parties(made, examiner.party or made.via or made.from_, examiner)
    placed = tuple(replace(problem, pointer=place_in_packet(problem.pointer)) for problem in found)
    return Findings("status packet", placed, unmapped=draft.unmapped, unchecked=(draft.document.document,))


def _envelope(data: bytes, examiner: Examiner) -> Findings:
    envelope = read_envelope(data)
    if isinstance(envelope, tuple):
        return Findings("envelope", envelope)
    signer = examiner.party or envelope.via or envelope.from_
    return Findings("envelope", examined(envelope, examiner, signer=signer, signed_at_s=examiner.now_s))


def _token(token: bytes, examiner: Examiner) -> Findings:
    match _typ_of(token):
        case "truc.receipt.v1":
            return Findings("receipt", _letter(token, RECEIPT_TYP, read_receipt, examiner))
        case "truc.status.v1":
            return Findings("status", _letter(token, STATUS_TYP, read_status, examiner))
        case "truc.notice.v1":
            return Findings("notice", _letter(token, NOTICE_TYP, read_notice, examiner))
        case _:
            return Findings("document", _document(token, examiner))


def _document(token: bytes, examiner: Examiner) -> tuple[Problem, ...]:
    proven = verify(token, typ=ENVELOPE_TYP, keys=examiner.directory.keys, now_s=examiner.now_s)
    if isinstance(proven, Problem):
        return (proven,)
    envelope = read_envelope(proven.payload)
    if isinstance(envelope, tuple):
        return envelope
    return examined(envelope, examiner, signer=proven.key.owner, signed_at_s=proven.signed_at_s)


def _letter(
    token: bytes,
    typ: str,
    read: Callable[[bytes], Receipt | Status | Notice | tuple[Problem, ...]],
    examiner: Examiner,
) -> tuple[Problem, ...]:
    proven = verify(token, typ=typ, keys=examiner.directory.keys, now_s=examiner.now_s)
    if not isinstance(proven, Verified):
        return (proven,)
    letter = read(proven.payload)
    if isinstance(letter, tuple):
        return letter
    if isinstance(letter, Status):
        return parties(letter, proven.key.owner, examiner)
    claimed = HUB if isinstance(letter, Notice) else letter.from_
    allowed = {claimed} if isinstance(letter, Notice) else {letter.from_, letter.via}
    return () if proven.key.owner in allowed else (_mismatch(claimed, proven.key.owner),)


def parties(status: Status, signer: AgencyCode, examiner: Examiner) -> tuple[Problem, ...]:
    """Check who speaks in a status, and whether the other side is known."""
    found = []
    if signer not in (status.from_, status.via):
        found.append(_mismatch(status.from_, signer))
    if status.to not in examiner.directory.agencies:
        found.append(Problem("E404", "/to", status.to, status.to))
    return tuple(found)


def _mismatch(claimed: str, signer: str) -> Problem:
    return Problem("E401", "/from", f"{claimed} is claimed, {signer} signed", f"ghi {claimed}, nhưng {signer} ký")


def examined(envelope: Envelope, examiner: Examiner, *, signer: AgencyCode, signed_at_s: int) -> tuple[Problem, ...]:
    """Hold an envelope against the directory, as if its signer sent it over its own connection now."""
    user = examiner.party or signer
    _, problems = examine(
        envelope,
        signer=signer,
        signed_at_s=signed_at_s,
        user=user,
        routing_key=submit_key("document", user),
        directory=examiner.directory,
        max_recipients=MAX_RECIPIENTS,
        now=examiner.now,
    )
    return problems


def platform_of(sender: AgencyCode, examiner: Examiner) -> AgencyCode | None:
    """Name the platform that would speak for the sender, where it is not the sender itself that connects."""
    party = examiner.party
    return party if party is not None and party != sender and party in examiner.directory.platforms else None


def _stand_in(document: str) -> DocumentId:
    """Name an earlier document that only the hub could look up."""
    return identity_of(document.encode())
