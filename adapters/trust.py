"""The agency's own view of the directory: whom it believes, without asking the hub.

A recipient repeats what the hub has checked, because between the two lie queues that others can write to:

1. the signature, against a certificate of the directory file (`schemas.signing.verify`);
2. the payload, strictly;
3. the signer of a document is the agency in `from`, or the platform in `via` with that agency's mandate; of a receipt or
   status the agency, or the platform at whose endpoint its mail arrives; a notice is the hub's own.

Age is not checked: the hub did so at acceptance, and mail may wait long in a queue. A certificate or mandate must have
been in force when it was used to sign. Not here: whether a delivery was seen before (`adapters.inbox_guard`).
"""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from adapters.errors import Unusable
from schemas.directory_file import (
    AgencyEntry,
    CertificateEntry,
    DirectoryFile,
    MandateEntry,
    PlatformEntry,
    in_force,
    key_record,
)
from schemas.envelope import ENVELOPE_TYP, Action, Envelope, read_envelope
from schemas.identifiers import HUB, AgencyCode
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
from schemas.signing import KeyRecord, Verified, verify

log = logging.getLogger(__name__)

Problems = tuple[Problem, ...]
Content = Envelope | Receipt | Status | Notice

LETTER_TYPS: Final = (RECEIPT_TYP, STATUS_TYP, NOTICE_TYP)
"""What arrives beside documents."""


@dataclass(frozen=True, slots=True)
class View:
    """One reading of the directory file.

    Attributes:
        file: What was read.
        keys: Certificates by fingerprint.
        agencies: Entries by code, of all periods.
        platforms: The same for platforms.
        mandates: Entries by platform and agency, of all periods.
    """

    file: DirectoryFile
    keys: Mapping[str, KeyRecord]
    agencies: Mapping[AgencyCode, tuple[AgencyEntry, ...]]
    platforms: Mapping[AgencyCode, tuple[PlatformEntry, ...]]
    mandates: Mapping[tuple[AgencyCode, AgencyCode], tuple[MandateEntry, ...]]

    def agency(self, code: str, now: datetime) -> AgencyEntry | None:
        """Give the entry of an agency that is in force at a moment."""
        return next((entry for entry in self.agencies.get(AgencyCode(code), ()) if in_force(entry, now)), None)

    def allows(self, platform: AgencyCode, agency: AgencyCode, action: Action, now: datetime) -> bool:
        """Tell whether a mandate in force, of a platform in force, lets it do this for the agency."""
        return self.is_platform(platform, now) and any(
            action in mandate.actions and in_force(mandate, now)
            for mandate in self.mandates.get((platform, agency), ())
        )

    def is_platform(self, code: str, now: datetime) -> bool:
        """Tell whether a platform of this code is in force at a moment."""
        return any(in_force(entry, now) for entry in self.platforms.get(AgencyCode(code), ()))

    @property
    def owned_by_hub(self) -> list[KeyRecord]:
        """The certificates of the hub."""
        return [key for key in self.keys.values() if key.owner == HUB]

    def covers(self, recipient: AgencyCode, envelope: Envelope, now: datetime) -> bool:
        """Tell whether an envelope is for this recipient, by name, as a member of a group, or as the heir of one."""
        return self._is_named(recipient, envelope, now) or any(
            self._is_named(code, envelope, now) for code in self._merged_into(recipient)
        )

    def verify_document(self, token: bytes, now: datetime) -> tuple[Verified, Envelope] | Problems:
        """Prove a document and that its signer may speak for its sender; or say what is wrong with it."""
        verified = _prove(token, ENVELOPE_TYP, self, now)
        return _read_document(verified, self, now) if isinstance(verified, Verified) else verified

    def verify_letter(self, token: bytes, now: datetime) -> tuple[Verified, Receipt | Status | Notice] | Problems:
        """Prove a receipt, a status or a notice; or say what is wrong with it."""
        verified = _prove(token, LETTER_TYPS, self, now)
        return _read_letter(verified, self, now) if isinstance(verified, Verified) else verified

    def verify(self, token: bytes, now: datetime) -> tuple[Verified, Content] | Problems:
        """Prove whatever an agency can receive, in one pass; or say what is wrong with it."""
        verified = _prove(token, (ENVELOPE_TYP, *LETTER_TYPS), self, now)
        if not isinstance(verified, Verified):
            return verified
        read = _read_document if verified.typ == ENVELOPE_TYP else _read_letter
        return read(verified, self, now)

    def _merged_into(self, recipient: AgencyCode) -> set[AgencyCode]:
        """Find the agencies that were closed in favour of this one, over all mergers."""
        found: set[AgencyCode] = set()
        heirs = {recipient}
        while heirs:
            merged = {
                code
                for code, entries in self.agencies.items()
                if any(entry.state == "closed" and heirs & set(entry.successors) for entry in entries)
            }
            heirs = merged - found
            found |= merged
        return found

    def _is_named(self, recipient: AgencyCode, envelope: Envelope, now: datetime) -> bool:
        return recipient in envelope.to or any(
            self._is_member(recipient, group, moment)
            for group in envelope.to
            if ":" in group
            for moment in (datetime.fromtimestamp(envelope.created, UTC), now)
        )

    def _is_member(self, recipient: AgencyCode, group: str, now: datetime) -> bool:
        entry = self.agency(recipient, now)
        kind, _, name = group.partition(":")
        if entry is None or kind == "tier":
            return entry is not None and entry.tier == name
        seen = {recipient}
        while entry is not None and entry.parent is not None and entry.parent not in seen:
            if entry.parent == name:
                return True
            if kind == "children":
                return False
            seen.add(entry.parent)
            entry = self.agency(entry.parent, now)
        return False


class Trust:
    """The directory file, read again whenever it changes; may be shared by clients and threads.

    Args:
        directory_file: JSON of a `schemas.directory_file.DirectoryFile`. Replace it by renaming.
    """

    def __init__(self, directory_file: Path) -> None:
        self._file = directory_file
        self._lock = threading.Lock()
        self._read_at: tuple[int, int, int] | None = None
        self._view: View | None = None

    def view(self) -> View:
        """Give the newest reading; a changed file that cannot be read leaves the last good one in force.

        Raises:
            Unusable: A103 when the file could never be read.
        """
        with self._lock:
            try:
                version = self._version()
                if version != self._read_at or self._view is None:
                    self._view = read_directory(self._file)
                    self._read_at = version
            except (OSError, Unusable) as error:
                if self._view is None:
                    raise self._unreadable(error) from error
                log.warning("directory.unreadable, the last good one stays in force: %s", error)
            return self._view

    async def newest_view(self) -> View:
        """As `view`; a large file that has changed is read off the event loop."""
        with suppress(OSError):
            if self._view is not None and self._version() == self._read_at:
                return self._view
        return await asyncio.to_thread(self.view)

    def _version(self) -> tuple[int, int, int]:
        stat = self._file.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _unreadable(self, error: OSError | Unusable) -> Unusable:
        if isinstance(error, Unusable):
            return error
        return Unusable(error.strerror or "cannot be read", "không đọc được tệp", place=str(self._file), code="A103")


def read_directory_file(file: Path) -> DirectoryFile:
    """Read a directory file as it stands.

    Raises:
        Unusable: A103 when it is not a directory file.
        OSError: When the file cannot be read.
    """
    try:
        return DirectoryFile.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        found = f"{'/'.join(map(str, first['loc']))}: {first['msg']}"
        raise Unusable(found, found, place=str(file), code="A103") from error


def read_directory(file: Path) -> View:
    """Read a directory file; certificates that may not sign are left out, as the hub leaves them out.

    Raises:
        Unusable: A103 when it is not a directory file.
        OSError: When the file cannot be read.
    """
    directory = read_directory_file(file)
    agencies: dict[AgencyCode, list[AgencyEntry]] = defaultdict(list)
    for agency in directory.agencies:
        agencies[agency.code].append(agency)
    platforms: dict[AgencyCode, list[PlatformEntry]] = defaultdict(list)
    for platform in directory.platforms:
        platforms[platform.code].append(platform)
    mandates: dict[tuple[AgencyCode, AgencyCode], list[MandateEntry]] = defaultdict(list)
    for mandate in directory.mandates:
        mandates[mandate.platform, mandate.agency].append(mandate)
    keys = (_key(entry, file) for entry in directory.certificates)
    return View(
        file=directory,
        keys={key.fingerprint: key for key in keys if key is not None},
        agencies={code: tuple(entries) for code, entries in agencies.items()},
        platforms={code: tuple(entries) for code, entries in platforms.items()},
        mandates={pair: tuple(entries) for pair, entries in mandates.items()},
    )


def _key(entry: CertificateEntry, file: Path) -> KeyRecord | None:
    record = key_record(entry)
    if isinstance(record, Problem):
        log.warning("directory.certificate_left_out in %s: owner=%s code=%s", file, entry.owner, record.code)
        return None
    return record


def _prove(token: bytes, typ: str | tuple[str, ...], view: View, now: datetime) -> Verified | Problems:
    verified = verify(token, typ=typ, keys=view.keys, now_s=int(now.timestamp()), max_age_s=None)
    return (verified,) if isinstance(verified, Problem) else verified


def _read_document(verified: Verified, view: View, now: datetime) -> tuple[Verified, Envelope] | Problems:
    envelope = read_envelope(verified.payload)
    if not isinstance(envelope, Envelope):
        return envelope
    problems = _check_signer(
        verified,
        envelope.from_,
        envelope.via,
        lambda platform, moment: view.allows(platform, envelope.from_, envelope.action, moment),
        now,
    )
    return problems or (verified, envelope)


def _read_letter(
    verified: Verified, view: View, now: datetime
) -> tuple[Verified, Receipt | Status | Notice] | Problems:
    if verified.typ != NOTICE_TYP:
        return _check_answer(verified, view, now)
    if verified.key.owner != HUB:
        return (Problem("E401", "/from", f"{verified.key.owner} signed", f"{verified.key.owner} ký"),)
    notice = read_notice(verified.payload)
    return (verified, notice) if isinstance(notice, Notice) else notice


def _check_signer(
    verified: Verified,
    from_: AgencyCode,
    via: AgencyCode | None,
    may_speak: Callable[[AgencyCode, datetime], bool],
    now: datetime,
) -> Problems:
    """Check that the signer is the one it claims to be or speaks for.

    A right that holds when the object was signed or holds now will do: it can be entered shortly after the signature,
    and end while the mail waits in the queue.
    """
    signer = verified.key.owner
    if signer not in (from_, via):
        return (Problem("E401", "/from", f"{from_} is claimed, {signer} signed", f"ghi {from_}, nhưng {signer} ký"),)
    if via is not None and not any(
        may_speak(via, moment) for moment in (datetime.fromtimestamp(verified.signed_at_s, UTC), now)
    ):
        return (Problem("E402", "/via"),)
    return ()


def _check_answer(verified: Verified, view: View, now: datetime) -> tuple[Verified, Receipt | Status] | Problems:
    is_receipt = verified.typ == RECEIPT_TYP
    answer = read_receipt(verified.payload) if is_receipt else read_status(verified.payload)
    if isinstance(answer, tuple):
        return answer

    def receives_for(platform: AgencyCode, moment: datetime) -> bool:
        agency = view.agency(answer.from_, moment)
        return agency is not None and agency.endpoint == platform

    return _check_signer(verified, answer.from_, answer.via, receives_for, now) or (verified, answer)
