"""What is wrong with a directory: findings that no single entry shows.

Periods that overlap, owners that nobody knows, circles of parents, certificates that may not sign. `check` looks at a
whole directory; what a file says twice is found by `check_repeats`, before it is merged with what is held.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

from cryptography import x509

from hub.core.certificate_chain import check_chain
from hub.core.directory_change import repeats
from schemas.addresses import Tier
from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile, MandateEntry, PlatformEntry, key_record
from schemas.identifiers import AgencyCode
from schemas.refusal import CATALOGUE, Problem
from schemas.signing import KeyRecord

Level = Literal["error", "warning"]
Dated = AgencyEntry | PlatformEntry | MandateEntry
DatedEntry = TypeVar("DatedEntry", AgencyEntry, PlatformEntry, MandateEntry)

_RANK: Final[Mapping[Tier, int]] = {"ministry-province": 0, "department-district": 1, "commune": 2}
_ENDLESS: Final = "9999-12-31"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or surprising, in a directory.

    Attributes:
        level: `error`: must not be imported; `warning`: a person should look at it.
        place: JSON pointer into the file.
        code: Key of the catalogue of refusals, for certificates; otherwise empty.
        en: What was found.
        vi: The same in Vietnamese.
    """

    level: Level
    place: str
    code: str
    en: str
    vi: str


def check_repeats(file: DirectoryFile) -> list[Finding]:
    """Find entries that a file names twice; a diff would keep the last of them and say nothing."""
    return [_error(place, f"{name} stands twice", f"{name} xuất hiện hai lần") for place, name in repeats(file)]


def check(
    file: DirectoryFile,
    *,
    now: datetime,
    anchors: Sequence[x509.Certificate] = (),
    intermediates: Sequence[x509.Certificate] = (),
) -> list[Finding]:
    """Find what is wrong with a whole directory.

    Args:
        file: The directory; a partial file is `merged` with what is held first.
        now: The present, for certificates that have expired.
        anchors: Trusted authorities; without them nobody asks where a certificate comes from.
        intermediates: Authorities that are not trusted by themselves but through an anchor.
    """
    book = _Book(file)
    return [
        *_check_periods(file),
        *_check_agencies(file, book),
        *_check_mandates(file, book),
        *_check_certificates(file, book, now),
        *(_check_chains(file, now, anchors, intermediates) if anchors else ()),
    ]


class _Book:
    """The entries of a directory by code, each code in the order of its periods."""

    def __init__(self, file: DirectoryFile) -> None:
        self.agencies = _by(file.agencies, lambda entry: entry.code)
        self.platforms = _by(file.platforms, lambda entry: entry.code)
        self.mandates = _by(file.mandates, lambda entry: (entry.platform, entry.agency))

    def agency_on(self, code: AgencyCode, day: str) -> AgencyEntry | None:
        """Look an agency up as it is on a day."""
        return next((entry for entry in self.agencies.get(code, ()) if _covers(entry, day)), None)

    def knows(self, party: AgencyCode) -> bool:
        """Tell whether an agency or platform of this code has an entry at any time."""
        return party in self.agencies or party in self.platforms


def _by(entries: Iterable[DatedEntry], key: Callable[[DatedEntry], Hashable]) -> dict[Hashable, list[DatedEntry]]:
    shelf: dict[Hashable, list[DatedEntry]] = defaultdict(list)
    for entry in entries:
        shelf[key(entry)].append(entry)
    for entries_of_one in shelf.values():
        entries_of_one.sort(key=lambda entry: entry.valid_from)
    return dict(shelf)


def _covers(entry: Dated, day: str) -> bool:
    return entry.valid_from <= day and (entry.valid_to is None or day < entry.valid_to)


def _end(entry: Dated) -> str:
    return entry.valid_to or _ENDLESS


def _outlives(entry: Dated, others: Sequence[Dated]) -> bool:
    """Tell whether part of an entry's period is covered by none of the others, which are in order."""
    covered_to = entry.valid_from
    for other in others:
        if other.valid_from <= covered_to:
            covered_to = max(covered_to, _end(other))
    return covered_to < _end(entry)


def _error(place: str, en: str, vi: str) -> Finding:
    return Finding("error", place, "", en, vi)


def _warning(place: str, en: str, vi: str) -> Finding:
    return Finding("warning", place, "", en, vi)


def _check_periods(file: DirectoryFile) -> Iterator[Finding]:
    yield from _check_periods_of("/agencies", file.agencies, lambda entry: entry.code)
    yield from _check_periods_of("/platforms", file.platforms, lambda entry: entry.code)
    yield from _check_periods_of("/mandates", file.mandates, lambda entry: f"{entry.platform} → {entry.agency}")


def _check_periods_of(
    place: str, entries: Sequence[DatedEntry], name: Callable[[DatedEntry], str]
) -> Iterator[Finding]:
    last: dict[str, str] = {}
    for number, entry in sorted(enumerate(entries), key=lambda item: item[1].valid_from):
        here, called = f"{place}/{number}", name(entry)
        if _end(entry) <= entry.valid_from:
            yield _error(
                f"{here}/valid_to",
                f"{called}: ends on {entry.valid_to}, before it begins",
                f"{called}: kết thúc ngày {entry.valid_to}, trước khi bắt đầu",
            )
        if last.get(called, "") > entry.valid_from:
            yield _error(
                f"{here}/valid_from",
                f"{called}: overlaps an earlier period",
                f"{called}: trùng với một giai đoạn trước",
            )
        last[called] = max(last.get(called, ""), _end(entry))


def _check_agencies(file: DirectoryFile, book: _Book) -> Iterator[Finding]:
    circles: set[frozenset[AgencyCode]] = set()
    for number, entry in enumerate(file.agencies):
        place = f"/agencies/{number}"
        yield from _check_parent(entry, book, place)
        yield from _check_endpoint(entry, book, place)
        yield from _check_successors(entry, book, place)
        circle = _circle_of(entry, book)
        if circle and circle not in circles:
            circles.add(circle)
            names = ", ".join(sorted(circle))
            yield _error(
                f"{place}/parent",
                f"from {entry.valid_from} these are above each other: {names}",
                f"từ ngày {entry.valid_from} các đơn vị này là cấp trên của nhau: {names}",
            )


def _check_parent(entry: AgencyEntry, book: _Book, place: str) -> Iterator[Finding]:
    if entry.parent is None:
        return
    if entry.parent not in book.agencies:
        yield _error(
            f"{place}/parent",
            f"{entry.code}: its parent {entry.parent} is unknown",
            f"{entry.code}: không có đơn vị cấp trên {entry.parent}",
        )
        return
    if entry.state != "closed" and _outlives(entry, [e for e in book.agencies[entry.parent] if e.state != "closed"]):
        yield _warning(
            f"{place}/parent",
            f"{entry.code}: its parent {entry.parent} does not exist during the whole period",
            f"{entry.code}: đơn vị cấp trên {entry.parent} không tồn tại trong cả giai đoạn",
        )
    parent = book.agency_on(entry.parent, entry.valid_from)
    if parent and _RANK.get(entry.tier, 3) < _RANK.get(parent.tier, 0):
        yield _warning(
            f"{place}/tier",
            f"{entry.code} is {entry.tier}, above its parent {parent.code}, which is {parent.tier}",
            f"{entry.code} thuộc cấp {entry.tier}, cao hơn đơn vị cấp trên {parent.code} ({parent.tier})",
        )


def _check_endpoint(entry: AgencyEntry, book: _Book, place: str) -> Iterator[Finding]:
    endpoint = entry.endpoint
    if endpoint is None or endpoint == entry.code:
        return
    place = f"{place}/endpoint"
    if not book.knows(endpoint):
        yield _error(
            place,
            f"{entry.code}: its endpoint {endpoint} is unknown",
            f"{entry.code}: không có điểm kết nối {endpoint}",
        )
        return
    if endpoint in book.agencies:
        owners: Sequence[Dated] = [owner for owner in book.agencies[endpoint] if owner.endpoint == endpoint]
    else:
        owners = book.platforms[endpoint]
        if _outlives(entry, book.mandates.get((endpoint, entry.code), [])):
            yield _warning(
                place,
                f"{entry.code}: {endpoint} receives for it without a mandate during the whole period",
                f"{entry.code}: {endpoint} nhận thay mà không được ủy quyền trong cả giai đoạn",
            )
    if _outlives(entry, owners):
        yield _error(
            place,
            f"{entry.code}: its endpoint {endpoint} is not connected during the whole period",
            f"{entry.code}: điểm kết nối {endpoint} không hoạt động trong cả giai đoạn",
        )


def _check_successors(entry: AgencyEntry, book: _Book, place: str) -> Iterator[Finding]:
    place = f"{place}/successors"
    if entry.state == "closed" and not entry.successors:
        yield _warning(place, f"{entry.code} is closed without a successor", f"{entry.code} đã đóng, không có kế thừa")
    for number, successor in enumerate(entry.successors):
        if successor not in book.agencies or successor == entry.code:
            yield _error(
                f"{place}/{number}",
                f"{entry.code}: its successor {successor} is unknown",
                f"{entry.code}: không có đơn vị kế thừa {successor}",
            )


def _circle_of(entry: AgencyEntry, book: _Book) -> frozenset[AgencyCode]:
    """Walk up on the first day of the entry: every circle begins on the first day of one of its members."""
    seen = {entry.code}
    above = book.agency_on(entry.parent, entry.valid_from) if entry.parent else None
    while above and above.code not in seen:
        seen.add(above.code)
        above = book.agency_on(above.parent, entry.valid_from) if above.parent else None
    return frozenset(seen) if above and above.code == entry.code else frozenset()


def _check_mandates(file: DirectoryFile, book: _Book) -> Iterator[Finding]:
    for number, entry in enumerate(file.mandates):
        if entry.platform not in book.platforms:
            yield _error(
                f"/mandates/{number}/platform",
                f"the platform {entry.platform} is unknown",
                f"không có nền tảng {entry.platform}",
            )
        if entry.agency not in book.agencies:
            yield _error(
                f"/mandates/{number}/agency",
                f"{entry.platform}: the agency {entry.agency} is unknown",
                f"{entry.platform}: không có đơn vị {entry.agency}",
            )


def _check_certificates(file: DirectoryFile, book: _Book, now: datetime) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, entry in enumerate(file.certificates):
        place = f"/certificates/{number}"
        if entry.owner != "hub" and not book.knows(entry.owner):
            yield _error(
                f"{place}/owner",
                f"the owner {entry.owner} is unknown",
                f"không có chủ chứng thư {entry.owner}",
            )
        record = key_record(entry)
        if isinstance(record, Problem):
            yield _from_problem(record, entry, place)
            continue
        if record.fingerprint in seen:
            yield _error(f"{place}/pem", "the same certificate stands twice", "cùng một chứng thư xuất hiện hai lần")
        seen.add(record.fingerprint)
        if record.not_after_s < now.timestamp():
            yield _warning(
                f"{place}/pem",
                f"{entry.owner}: the certificate has expired",
                f"{entry.owner}: chứng thư đã hết hạn",
            )


def _check_chains(
    file: DirectoryFile,
    now: datetime,
    anchors: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
) -> Iterator[Finding]:
    for number, entry in enumerate(file.certificates):
        record = key_record(entry)
        if isinstance(record, Problem):
            continue  # said by `_check_certificates`
        certificate = x509.load_pem_x509_certificate(entry.pem.encode())
        problem = check_chain(certificate, anchors, _moment_of_validity(record, now), intermediates=intermediates)
        if problem:
            yield _from_problem(problem, entry, f"/certificates/{number}")


def _moment_of_validity(record: KeyRecord, now: datetime) -> datetime:
    """Choose when to ask for the chain: an expired certificate stays, because it proves what it has signed."""
    return datetime.fromtimestamp(min(max(now.timestamp(), record.not_before_s), record.not_after_s), UTC)


def _from_problem(problem: Problem, entry: CertificateEntry, place: str) -> Finding:
    meaning = CATALOGUE[problem.code]
    return Finding(
        "error",
        place + problem.pointer,
        problem.code,
        f"{entry.owner}: {problem.en or meaning.en}",
        f"{entry.owner}: {problem.vi or meaning.vi}",
    )
