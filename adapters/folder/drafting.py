"""From the bytes of a packet to what can be signed, or everything that stands against it; nothing is sent here.

The examination is that of `truc-agency verify`. It takes place off the event loop.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from adapters.errors import FileUnusable
from adapters.examination import (
    Examiner,
    examined,
    half_signed,
    packet_part,
    parties,
    platform_of,
)
from adapters.folder.journal import Key
from adapters.folder.places import Taken, digest_of, read_whole
from adapters.gateway.index import DirectoryIndex
from adapters.trust import Trust
from schemas.directory_file import VIETNAM
from schemas.edxml import documents, statuses
from schemas.edxml.attachments import PackedFile, files
from schemas.edxml.documents import Draft
from schemas.edxml.mapping import Level, NationalId, Sentence, place_in_packet, wrong
from schemas.edxml.packet import Packet, StatusPacket, path_of
from schemas.edxml.parsing import MAX_PACKET_BYTES
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import assess
from schemas.edxml.statuses import StatusDraft
from schemas.envelope import Envelope, Part
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Status
from schemas.refusal import Problem


@dataclass(frozen=True, slots=True)
class DocumentWork:
    """A document packet that is in order as far as it can be told from itself.

    Attributes:
        taken: The file.
        key: What makes it the same as another.
        data: Its bytes.
        draft: What it means.
        packet: Itself, as a part.
        files: Its attachments.
        level: What stands behind it.
    """

    taken: Taken
    key: Key
    data: bytes = field(repr=False)
    draft: Draft
    packet: Part
    files: Sequence[PackedFile] = field(repr=False)
    level: Level


@dataclass(frozen=True, slots=True)
class StatusWork:
    """The same for a status packet."""

    taken: Taken
    key: Key
    draft: StatusDraft


@dataclass(frozen=True, slots=True)
class Faulty:
    """A file that is not sent.

    Attributes:
        taken: The file.
        digest: SHA-256 of its bytes; of its name where nobody may read them.
        problems: Why.
    """

    taken: Taken
    digest: str
    problems: tuple[Problem, ...]


Work = DocumentWork | StatusWork | Faulty


class Examiners:
    """Gives the examiner of the present; the directory is read again when its file changes. May be shared by threads.

    Args:
        trust: The directory file.
        party: Who signs and sends.
        clock: The present, aware.
    """

    def __init__(self, trust: Trust, party: AgencyCode, clock: Callable[[], datetime]) -> None:
        self._index = DirectoryIndex(trust, clock)
        self._party = party
        self._clock = clock

    def present(self) -> Examiner:
        """Give the examiner; takes a moment when the directory must be read.

        Raises:
            Unusable: A103 when the directory file could never be read.
        """
        index = self._index.today()
        return Examiner(index.directory, index.certificates, self._party, self._clock())


def read_taken(taken: Taken, examiner: Examiner) -> Work:
    """Read a file that was taken, and examine it as far as it can be told from itself.

    Raises:
        FileUnusable: When it cannot be read for now.
    """
    try:
        data = read_whole(taken.path, MAX_PACKET_BYTES)
    except FileUnusable as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        name_digest = hashlib.sha256(taken.name.encode()).hexdigest()
        return Faulty(taken, name_digest, (Problem("A120", "", error.en, error.vi),))
    whole = len(data) <= MAX_PACKET_BYTES
    digest = hashlib.sha256(data).hexdigest() if whole else digest_of(taken.path)
    packet = read_packet(data)
    if isinstance(packet, tuple):
        return Faulty(taken, digest, packet)
    if isinstance(packet, StatusPacket):
        return _status_work(taken, digest, data, packet, examiner)
    return _document_work(taken, digest, data, packet, examiner)


def envelope_for(
    work: DocumentWork, identities: Mapping[NationalId, DocumentId], examiner: Examiner
) -> Envelope | tuple[Problem, ...]:
    """Make the envelope of a document, as the axis will take it; or say what stands against it, by its place."""
    envelope = documents.envelope_of(
        work.draft,
        documents=identities,
        packet=work.packet,
        attachments=[file.part for file in work.files],
        level=work.level,
        now_s=examiner.now_s,
        via=platform_of(work.draft.from_, examiner),
    )
    if isinstance(envelope, tuple):
        return envelope
    signer = examiner.party or work.draft.from_
    return _placed(examined(envelope, examiner, signer=signer, signed_at_s=examiner.now_s)) or envelope


def status_for(work: StatusWork, about: DocumentId | None, examiner: Examiner) -> Status | tuple[Problem, ...]:
    """Make the status, as the axis will take it; or say what stands against it, by its place."""
    if about is None:
        return (wrong(_ANSWERED_DOCUMENT, work.draft.document.document, _UNKNOWN),)
    status = statuses.status_of(work.draft, about, via=platform_of(work.draft.from_, examiner))
    if isinstance(status, tuple):
        return status
    return _placed(parties(status, examiner.party or status.from_, examiner)) or status


def _document_work(taken: Taken, digest: str, data: bytes, packet: Packet, examiner: Examiner) -> Work:
    draft = documents.draft_of(packet, today=examiner.now.astimezone(VIETNAM).date())
    attached, problems = files(packet)
    assurance = assess(data, packet, examiner.certificates, now=examiner.now)
    problems = (*(draft if isinstance(draft, tuple) else ()), *problems, *half_signed(assurance))
    if isinstance(draft, tuple) or problems:
        return Faulty(taken, digest, problems)
    key = Key(draft.from_, draft.id, draft.action, digest)
    return DocumentWork(taken, key, data, draft, packet_part(data, taken.name), attached, assurance.level)


def _status_work(taken: Taken, digest: str, data: bytes, packet: StatusPacket, examiner: Examiner) -> Work:
    # A status that says no time was set when its file was written: the same whenever it is read.
    draft = statuses.draft_of(packet, now_s=taken.mtime_s)
    assurance = assess(data, packet, examiner.certificates, now=examiner.now)
    problems = (*(draft if isinstance(draft, tuple) else ()), *half_signed(assurance))
    if isinstance(draft, tuple) or problems:
        return Faulty(taken, digest, problems)
    return StatusWork(taken, Key(draft.from_, draft.document.document, "status", digest), draft)


def _placed(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(replace(problem, pointer=place_in_packet(problem.pointer)) for problem in problems)


_ANSWERED_DOCUMENT: Final = f"{path_of(StatusPacket, 'answered')}/DocumentId"
_UNKNOWN: Final[Sentence] = (
    "no document of this name has passed through this folder between the two agencies",
    "chưa có văn bản nào mang mã này qua thư mục này giữa hai đơn vị",
)
