"""Keeps the directory: dated entries in tables, and the snapshot that the loops decide by.

An import never deletes. Each one that changes something has a number, the epoch, by which every process notices it;
every entry has the epoch that has written it last, so what a process reads and builds then is the change and not the
country.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final, NoReturn

import asyncpg
import structlog
from cryptography import x509

from hub.core.directory_change import Changes, size
from hub.core.trouble import Stale, Trouble, Unavailable
from hub.store.entries import Entries
from hub.store.pool import Connection, Pool
from hub.store.rows import columns
from schemas.checks.directory import Directory, changed, snapshot
from schemas.directory_file import (
    VIETNAM,
    AgencyEntry,
    CertificateEntry,
    DirectoryFile,
    MandateEntry,
    PlatformEntry,
)
from schemas.signing import fingerprint_of

_PIECE: Final = 5000
"""Agencies that are made entries at once."""

_log: Final = structlog.get_logger(__name__)


class DirectoryStore:
    """The directory's tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def epoch(self) -> int:
        """Number of the last import; 0 when there was none.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            return await _epoch(connection)

    async def read(self) -> tuple[int, DirectoryFile]:
        """Read all entries, and the epoch that they belong to.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            epoch = await _epoch(connection)
            agencies, platforms, mandates, certificates = [await connection.fetch(*query) for query in _EVERYTHING]
        return epoch, await asyncio.to_thread(_file, agencies, platforms, mandates, certificates)

    async def snapshot(self, now: datetime, held: Directory | None = None) -> Directory:
        """Build the snapshot of a moment: of one that is held and what has changed since, or else of everything.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            epoch = await _epoch(connection)
            if held is not None and await connection.fetchval(_HAS_EPOCH, held.epoch):
                built, queries = held, _changes(held.epoch, _day(held.as_of), _day(now))
            else:  # also when the database was restored from a copy that is older than what is held
                built, queries = snapshot(DirectoryFile(), epoch=epoch, as_of=now), _EVERYTHING

            def grown(before: Directory, *rows: Iterable[asyncpg.Record]) -> Directory:
                return changed(before, _file(*rows), epoch=epoch, as_of=now)

            agencies, *others = queries
            rows = [await connection.fetch(*query) for query in others]
            built = await asyncio.to_thread(grown, built, (), *rows)
            async for piece in _pieces(connection, *agencies):
                built = await asyncio.to_thread(grown, built, piece)
            return built

    async def apply(
        self, changes: Changes, *, actor: str, source: str, now: datetime, expected_epoch: int | None = None
    ) -> int:
        """Enter changes in one transaction; returns the epoch that they make, or the present one without changes.

        Args:
            changes: What to do.
            actor: Who does it.
            source: Where the entries come from, such as a file name.
            now: The present.
            expected_epoch: The epoch that the changes were computed against.

        Raises:
            Trouble: When somebody else has changed the directory since `expected_epoch`.
            Unavailable: When the database does not answer.
        """
        async with self._pool.transaction() as connection:
            await connection.execute(_LOCK)
            epoch = await _epoch(connection)
            if expected_epoch is not None and epoch != expected_epoch:
                raise Trouble(
                    f"the directory has changed meanwhile (epoch {epoch}, not {expected_epoch}): compare again"
                )
            if not changes:
                return epoch
            summary = {
                "added": _counts(changes.added),
                "changed": _counts(changes.changed),
                "before": changes.before.model_dump(mode="json", by_alias=True, exclude_none=True),
            }
            made: int = await connection.fetchval(_ADD_EPOCH, now, actor, source, summary)
            for file in (changes.added, changes.changed):
                await _enter(connection, file, made)
            entries = Entries(now)
            detail = {"epoch": made, "source": source, "added": size(changes.added), "changed": size(changes.changed)}
            entries.event("directory.imported", actor, detail=detail)
            await entries.write(connection)
            return made


class SnapshotKeeper:
    """Keeps a snapshot of today's directory fresh; what the loops call their directories.

    It is fresh as long as the database confirms its epoch. When that has changed, or with the day in Vietnam, on which
    entries begin and end, the next one takes its place.

    Args:
        store: Where the entries are.
        max_age_s: How long a snapshot may be used that the database has not confirmed.
        refresh_s: Pause between two confirmations.
        clock: Tells the time.
    """

    def __init__(
        self,
        store: DirectoryStore,
        *,
        max_age_s: float,
        refresh_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._max_age_s = max_age_s
        self._refresh_s = refresh_s
        self._clock = clock
        self._snapshot: Directory | None = None
        self._confirmed_at_s = 0.0

    def current(self) -> Directory:
        """Give the snapshot.

        Raises:
            Stale: When there is none yet, or the database has not confirmed it for longer than allowed.
        """
        if self._snapshot is None:
            raise Stale("not read yet")
        age_s = time.monotonic() - self._confirmed_at_s
        if age_s > self._max_age_s:
            raise Stale(f"not confirmed for {age_s:.0f} s, allowed are {self._max_age_s:.0f} s")
        return self._snapshot

    async def refresh(self) -> None:
        """Confirm the snapshot, or build the next one.

        Raises:
            Unavailable: When the database does not answer.
        """
        began_s, now = time.monotonic(), self._clock()
        held = self._snapshot
        if held is None or _day(held.as_of) != _day(now) or held.epoch != await self._store.epoch():
            with _made_to_last():
                self._snapshot = await self._store.snapshot(now, held)
            _log.info("directory.read", epoch=self._snapshot.epoch, agencies=len(self._snapshot.agencies))
        self._confirmed_at_s = began_s

    async def run(self) -> NoReturn:
        """Refresh for ever; while the database is away, or holds what cannot be read, the snapshot only grows older."""
        while True:
            try:
                await self.refresh()
            except Unavailable as trouble:
                _log.warning("directory.not_confirmed", reason=str(trouble))
            except Exception:  # noqa: BLE001 - what a newer version has entered ages like what nobody confirms
                _log.exception("directory.unreadable")
            await asyncio.sleep(self._refresh_s)


@contextmanager
def _made_to_last() -> Iterator[None]:
    """Make what a collection of garbage need not look at, now or later: a country is hundreds of thousands of objects."""
    gc.disable()
    try:
        yield
        gc.collect()  # what is garbage already would stay for ever
        gc.freeze()
    finally:
        gc.enable()


# The last import.
_EPOCH: Final = "SELECT coalesce(max(epoch), 0) FROM directory_epochs"


async def _epoch(connection: Connection) -> int:
    epoch: int = await connection.fetchval(_EPOCH)
    return epoch


# Whether there was such an import.
_HAS_EPOCH: Final = "SELECT EXISTS (SELECT FROM directory_epochs WHERE epoch = $1)"

# Entries of a kind, all or some; of those that bear the same name the later one last.
_AGENCIES: Final = """
SELECT code, name, tier, parent, endpoint, state, successors, valid_from, valid_to
FROM directory_agencies
WHERE {which}
ORDER BY code, valid_from
"""
_PLATFORMS: Final = """
SELECT code, name, valid_from, valid_to
FROM directory_platforms
WHERE {which}
ORDER BY code, valid_from
"""
_MANDATES: Final = """
SELECT platform, agency, actions, valid_from, valid_to
FROM directory_mandates
WHERE {which}
ORDER BY platform, agency, valid_from
"""
_CERTIFICATES: Final = """
SELECT owner, pem, extract(epoch FROM revoked_at)::bigint AS revoked_at
FROM directory_certificates
WHERE {which}
ORDER BY owner, fingerprint
"""

# Written since an epoch; or beginning or ending after one day, but not after another.
_WRITTEN: Final = "epoch > $1"
_CHANGED: Final = f"{_WRITTEN} OR (valid_from > $2 AND valid_from <= $3) OR (valid_to > $2 AND valid_to <= $3)"

# All entries of which one has changed: found first, and then looked up, whatever the planner thinks of their number.
_CHANGED_AGENCIES: Final = f"code = ANY (ARRAY(SELECT code FROM directory_agencies WHERE {_CHANGED}))"  # noqa: S608 - constants only
_CHANGED_PLATFORMS: Final = f"code = ANY (ARRAY(SELECT code FROM directory_platforms WHERE {_CHANGED}))"  # noqa: S608 - constants only
_CHANGED_MANDATES: Final = f"""
(platform, agency) IN (SELECT platform, agency FROM directory_mandates WHERE {_CHANGED})
"""  # noqa: S608 - constants only

# Statements with their arguments, for agencies, platforms, mandates and certificates.
_EVERYTHING: Final = [(select.format(which="true"),) for select in (_AGENCIES, _PLATFORMS, _MANDATES, _CERTIFICATES)]


def _changes(epoch: int, day: date, today: date) -> list[tuple[Any, ...]]:
    """Ask for what has changed since an epoch and a day; all entries of an agency, platform or mandate with one of them."""
    since = epoch, min(day, today), max(day, today)  # a clock may be set back
    return [
        (_AGENCIES.format(which=_CHANGED_AGENCIES), *since),
        (_PLATFORMS.format(which=_CHANGED_PLATFORMS), *since),
        (_MANDATES.format(which=_CHANGED_MANDATES), *since),
        (_CERTIFICATES.format(which=_WRITTEN), epoch),
    ]


async def _pieces(connection: Connection, statement: str, *arguments: Any) -> AsyncIterator[list[asyncpg.Record]]:
    """Fetch agencies piece by piece, so that a whole country never lies in memory twice; what bears one code together."""
    cursor = await connection.cursor(statement, *arguments)
    piece = await cursor.fetch(_PIECE)
    while piece:
        while (row := await cursor.fetchrow()) and row["code"] == piece[-1]["code"]:
            piece.append(row)
        yield piece
        piece = [row, *await cursor.fetch(_PIECE)] if row else []


def _file(
    agencies: Iterable[asyncpg.Record] = (),
    platforms: Iterable[asyncpg.Record] = (),
    mandates: Iterable[asyncpg.Record] = (),
    certificates: Iterable[asyncpg.Record] = (),
) -> DirectoryFile:
    return DirectoryFile(
        agencies=tuple(AgencyEntry.model_validate({**row, "successors": tuple(row["successors"])}) for row in agencies),
        platforms=tuple(PlatformEntry.model_validate(dict(row)) for row in platforms),
        mandates=tuple(MandateEntry.model_validate({**row, "actions": tuple(row["actions"])}) for row in mandates),
        certificates=tuple(CertificateEntry.model_validate(dict(row)) for row in certificates),
    )


# One import at a time, until the end of the transaction.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('truc directory'))"

# A new epoch.
_ADD_EPOCH: Final = """
INSERT INTO directory_epochs (imported_at, actor, source, summary) VALUES ($1, $2, $3, $4) RETURNING epoch
"""

_ENTER_AGENCIES: Final = """
INSERT INTO directory_agencies (code, name, tier, parent, endpoint, state, successors, valid_from, valid_to, epoch)
SELECT
    code, name, tier, parent, endpoint, state, string_to_array(successors, ','), valid_from::date, valid_to::date, $10
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]
) AS incoming (code, name, tier, parent, endpoint, state, successors, valid_from, valid_to)
ON CONFLICT (code, valid_from) DO UPDATE SET
    name = excluded.name, tier = excluded.tier, parent = excluded.parent, endpoint = excluded.endpoint,
    state = excluded.state, successors = excluded.successors, valid_to = excluded.valid_to, epoch = excluded.epoch
"""
_ENTER_PLATFORMS: Final = """
INSERT INTO directory_platforms (code, name, valid_from, valid_to, epoch)
SELECT code, name, valid_from::date, valid_to::date, $5
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS incoming (code, name, valid_from, valid_to)
ON CONFLICT (code, valid_from) DO UPDATE SET
    name = excluded.name, valid_to = excluded.valid_to, epoch = excluded.epoch
"""
_ENTER_MANDATES: Final = """
INSERT INTO directory_mandates (platform, agency, actions, valid_from, valid_to, epoch)
SELECT platform, agency, string_to_array(actions, ','), valid_from::date, valid_to::date, $6
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS incoming (platform, agency, actions, valid_from, valid_to)
ON CONFLICT (platform, agency, valid_from) DO UPDATE SET
    actions = excluded.actions, valid_to = excluded.valid_to, epoch = excluded.epoch
"""
_ENTER_CERTIFICATES: Final = """
INSERT INTO directory_certificates (fingerprint, owner, pem, revoked_at, epoch)
SELECT fingerprint, owner, pem, to_timestamp(revoked_at), $5
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS incoming (fingerprint, owner, pem, revoked_at)
ON CONFLICT (fingerprint) DO UPDATE SET
    owner = excluded.owner, revoked_at = excluded.revoked_at, epoch = excluded.epoch
"""


async def _enter(connection: Connection, file: DirectoryFile, epoch: int) -> None:
    """Write entries, over those with the same key."""
    tables = (
        (
            _ENTER_AGENCIES,
            [
                (
                    a.code,
                    a.name,
                    a.tier,
                    a.parent,
                    a.endpoint,
                    a.state,
                    ",".join(a.successors),
                    a.valid_from,
                    a.valid_to,
                )
                for a in file.agencies
            ],
        ),
        (_ENTER_PLATFORMS, [(p.code, p.name, p.valid_from, p.valid_to) for p in file.platforms]),
        (
            _ENTER_MANDATES,
            [(m.platform, m.agency, ",".join(m.actions), m.valid_from, m.valid_to) for m in file.mandates],
        ),
        (_ENTER_CERTIFICATES, [(_fingerprint(c), c.owner, c.pem, c.revoked_at) for c in file.certificates]),
    )
    for statement, rows in tables:
        if rows:
            await connection.execute(statement, *columns(rows), epoch)


def _fingerprint(entry: CertificateEntry) -> str:
    return fingerprint_of(x509.load_pem_x509_certificate(entry.pem.encode()))


def _counts(file: DirectoryFile) -> dict[str, int]:
    return {
        "agencies": len(file.agencies),
        "platforms": len(file.platforms),
        "mandates": len(file.mandates),
        "certificates": len(file.certificates),
    }


def _day(moment: datetime) -> date:
    return moment.astimezone(VIETNAM).date()
