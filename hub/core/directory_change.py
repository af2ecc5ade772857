"""What an import would change in the directory: pure functions over files.

- `diff` compares entries by their keys: an agency or platform by code and first day, a mandate by platform, agency and
  first day, a certificate by its fingerprint. Nothing is ever deleted: an entry ends by its `valid_to`.
- `merged` applies a diff, so that a partial file can be checked together with what is held already.
- `repeats` finds what a file says twice, which a diff cannot show.

Not here: what is wrong with a directory (`directory_check`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from cryptography import x509

from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.signing import fingerprint_of

Entry = TypeVar("Entry", AgencyEntry, PlatformEntry, MandateEntry, CertificateEntry)


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be done to a directory so that it holds the entries of a file.

    Attributes:
        added: Entries that are not held yet.
        changed: Entries that are held with other values, as wanted.
        before: The same entries in the same order, as held.
        unchanged: Number of entries that are held as wanted.
        absent: Number of held entries that the file does not name; they stay as they are.
    """

    added: DirectoryFile
    changed: DirectoryFile
    before: DirectoryFile
    unchanged: int
    absent: int

    def __bool__(self) -> bool:
        return size(self.added) + size(self.changed) > 0


def size(file: DirectoryFile) -> int:
    """Count the entries of a file."""
    return len(file.agencies) + len(file.platforms) + len(file.mandates) + len(file.certificates)


def diff(held: DirectoryFile, wanted: DirectoryFile) -> Changes:
    """Say what is to be done so that a directory holds what a file wants; twice the same file is nothing to do."""
    agencies = _compare(held.agencies, wanted.agencies, _agency_key)
    platforms = _compare(held.platforms, wanted.platforms, _platform_key)
    mandates = _compare(held.mandates, wanted.mandates, _mandate_key)
    certificates = _compare(held.certificates, wanted.certificates, _certificate_key)
    parts = (agencies, platforms, mandates, certificates)
    return Changes(
        added=DirectoryFile(
            agencies=agencies.added,
            platforms=platforms.added,
            mandates=mandates.added,
            certificates=certificates.added,
        ),
        changed=DirectoryFile(
            agencies=agencies.changed,
            platforms=platforms.changed,
            mandates=mandates.changed,
            certificates=certificates.changed,
        ),
        before=DirectoryFile(
            agencies=agencies.before,
            platforms=platforms.before,
            mandates=mandates.before,
            certificates=certificates.before,
        ),
        unchanged=sum(part.unchanged for part in parts),
        absent=sum(part.absent for part in parts),
    )


def merged(held: DirectoryFile, changes: Changes) -> DirectoryFile:
    """Build the directory that there will be once the changes are applied."""
    added, changed = changes.added, changes.changed
    return DirectoryFile(
        agencies=_replace(held.agencies, changed.agencies, added.agencies, _agency_key),
        platforms=_replace(held.platforms, changed.platforms, added.platforms, _platform_key),
        mandates=_replace(held.mandates, changed.mandates, added.mandates, _mandate_key),
        certificates=_replace(held.certificates, changed.certificates, added.certificates, _certificate_key),
    )


def repeats(file: DirectoryFile) -> Iterator[tuple[str, str]]:
    """Find entries that a file names twice, with the place and the name of each; a diff would keep the last only."""
    yield from _repeats("/agencies", file.agencies, _agency_key)
    yield from _repeats("/platforms", file.platforms, _platform_key)
    yield from _repeats("/mandates", file.mandates, _mandate_key)
    yield from _repeats("/certificates", file.certificates, _certificate_key)


@dataclass(frozen=True, slots=True)
class _Part(Generic[Entry]):
    """The comparison of one kind of entries."""

    added: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    before: tuple[Entry, ...]
    unchanged: int
    absent: int


def _agency_key(entry: AgencyEntry) -> tuple[str, ...]:
    return entry.code, entry.valid_from


def _platform_key(entry: PlatformEntry) -> tuple[str, ...]:
    return entry.code, entry.valid_from


def _mandate_key(entry: MandateEntry) -> tuple[str, ...]:
    return entry.platform, entry.agency, entry.valid_from


def _certificate_key(entry: CertificateEntry) -> tuple[str, ...]:
    try:
        return (fingerprint_of(x509.load_pem_x509_certificate(entry.pem.encode())),)
    except ValueError:
        return (entry.pem,)  # `check` says that it is no certificate


def _compare(held: Iterable[Entry], wanted: Iterable[Entry], key: Callable[[Entry], tuple[str, ...]]) -> _Part[Entry]:
    old = {key(entry): entry for entry in held}
    new = {key(entry): entry for entry in wanted}
    changed = [name for name, entry in new.items() if name in old and not _alike(old[name], entry)]
    common = len(old.keys() & new.keys())
    return _Part(
        added=tuple(entry for name, entry in new.items() if name not in old),
        changed=tuple(new[name] for name in changed),
        before=tuple(old[name] for name in changed),
        unchanged=common - len(changed),
        absent=len(old) - common,
    )


def _alike(one: object, other: object) -> bool:
    if isinstance(one, CertificateEntry) and isinstance(other, CertificateEntry):
        # One certificate can be written in several ways; its key has established that both are the same.
        return (one.owner, one.revoked_at) == (other.owner, other.revoked_at)
    return one == other


def _replace(
    held: Iterable[Entry], changed: Iterable[Entry], added: Iterable[Entry], key: Callable[[Entry], tuple[str, ...]]
) -> tuple[Entry, ...]:
    return tuple({key(entry): entry for entry in chain(held, changed, added)}.values())


def _repeats(
    place: str, entries: Iterable[Entry], key: Callable[[Entry], tuple[str, ...]]
) -> Iterator[tuple[str, str]]:
    seen: set[tuple[str, ...]] = set()
    for number, entry in enumerate(entries):
        name = key(entry)
        if name in seen:
            yield f"{place}/{number}", " ".join(name)
        seen.add(name)
