"""Moves the bytes and the events of an old month out of the ledger, into a file. Who sent what to whom stays.

| effect                             | if the process dies after it                                                   |
|------------------------------------|--------------------------------------------------------------------------------|
| the file is written, synced, named | written again: no manifest says what is in it                                  |
| it is read back                    | the same                                                                       |
| the manifest is written            | the next run reads the file back once more, and goes on with it                |
| one transaction: the month is      | –  the next run says that it is done                                           |
| dropped, entered, told of          |                                                                                |

Months leave in their order, so one moment says of everything whether it is still there; when one may, is said in
`archive_plan`. Until when months have left, whoever makes work out of old deliveries reads in the same transaction (`archived`,
which this locks), so nothing of a month is taken up while it leaves.

The export is many short statements, as one long one would keep the database from clearing up behind the hub. That no row
has come since is seen before the month is dropped; none can have been changed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg

from hub.core.trouble import Conflict, Unavailable
from hub.store.archive_file import (
    ArchiveWriter,
    Content,
    Finding,
    Manifest,
    Table,
    check,
    file_of,
    manifest_of,
    read_manifest,
    write_manifest,
)
from hub.store.archive_plan import Hindrance, Month, hindrances_of, months_of
from hub.store.errors import translated
from hub.store.migrations.revisions import head_revision
from hub.store.pool import Connection, OwnConnection, Pool
from schemas.envelope import ENVELOPE_TYP

Stage = Literal["exporting", "checking", "dropping"]

_TIMEOUT_S: Final = 10.0
_BLOCKS: Final = 2048
"""Of a table, read with one statement: 16 MiB without the tokens, which lie elsewhere."""
_LOCK_WAITS_S: Final = (1, 2, 4, 8, 15, 15, 15, 15, 15, 15)


@dataclass(frozen=True, slots=True)
class Archive:
    """A month that has moved out.

    Attributes:
        month: Which one, such as `2026-11`.
        file: Where its file was written.
        sha256: The digest of that.
        manifest: What was in it.
        archived_at, actor, reason: When, by whom and why.
    """

    month: str
    file: str
    sha256: str
    manifest: Manifest
    archived_at: datetime
    actor: str
    reason: str


class Hindered(Conflict):
    """A month may not leave the ledger yet.

    Attributes:
        hindrances: Why.
    """

    def __init__(self, month: str, hindrances: Sequence[Hindrance]) -> None:
        reasons = ", ".join(f"{item.code} ({item.count}: {', '.join(item.ids)})" for item in hindrances)
        super().__init__(f"{month} stays: {reasons}")
        self.hindrances = tuple(hindrances)


class Damaged(Conflict):
    """A file is not what its manifest says.

    Attributes:
        findings: What is wrong.
    """

    def __init__(self, path: Path, findings: Sequence[Finding]) -> None:
        found = ", ".join(f"{item.fault} ({item.about})" for item in findings)
        super().__init__(
            f"{path} is not what its manifest says: {found}. Nothing was dropped: remove both and run again"
        )
        self.findings = tuple(findings)


async def archives(pool: Pool) -> list[Archive]:
    """List the months that have moved out, oldest first.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        return [_archive_of(row) for row in await connection.fetch(_ARCHIVES)]


async def archive(
    owner_url: str,
    month: date,
    folder: Path,
    *,
    reason: str,
    actor: str,
    now: datetime,
    tell: Callable[[Stage], None] = lambda _: None,
) -> Archive:
    """Move a month out of the ledger into a file; goes on where an earlier run was interrupted.

    Args:
        owner_url: Of the login that owns the tables: the hub itself may drop nothing.
        month: Its first day.
        folder: Where the file and its manifest go.
        reason: Why.
        actor: Who does it.
        now: The present.
        tell: Told what is done next.

    Raises:
        Hindered: When the month may not leave.
        Damaged: When the file of an earlier run is not what its manifest says.
        Conflict: When there is no such month, another run goes on, or rows have come since the export.
        Unavailable: When the database does not answer, or does not let go of the month for minutes.
        Trouble: When the file cannot be written.
    """
    async with _owner(owner_url) as connection:
        if not await connection.fetchval(_ONE_AT_A_TIME):
            raise Conflict("another archiving goes on")
        if (done := await _done(connection, month)) is not None:
            return done
        going = next((each for each in await months_of(connection) if each.month == month), None)
        if going is None:
            raise Conflict(f"there is no month {month:%Y-%m} in the ledger")
        if hindrances := await hindrances_of(connection, going, now, whole=True):
            raise Hindered(going.name, hindrances)
        manifest = read_manifest(file_of(folder, month))
        if manifest is None:
            tell("exporting")
            manifest = await _export(connection, going, folder, reason=reason, actor=actor, now=now)
        tell("checking")
        await _check(folder, manifest, month)
        if not manifest_of(file_of(folder, month)).exists():
            write_manifest(folder, manifest)
        tell("dropping")
        await _drop(connection, going, folder, manifest, reason=reason, actor=actor, now=now)
        entered = await _done(connection, month)
        assert entered is not None
        return entered


@asynccontextmanager
async def _owner(url: str) -> AsyncIterator[OwnConnection]:
    with translated():
        connection = await asyncpg.connect(
            url, timeout=_TIMEOUT_S, server_settings={"application_name": "truc archive"}
        )
        try:
            # Rows are written as the manifest says, whatever the database or the login prefer.
            await connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET bytea_output = 'hex'")
            yield connection
        finally:
            await connection.close(timeout=_TIMEOUT_S)


_ONE_AT_A_TIME: Final = "SELECT pg_try_advisory_lock(hashtext('truc archive'))"

_ARCHIVES: Final = """
SELECT to_char(month, 'YYYY-MM') AS month, file, sha256, manifest::text, archived_at, actor, reason
FROM archives ORDER BY archives.month
"""


def _archive_of(row: asyncpg.Record) -> Archive:
    return Archive(**{**row, "manifest": Manifest.model_validate_json(row["manifest"])})


async def _done(connection: Connection, month: date) -> Archive | None:
    name = f"{month:%Y-%m}"
    return next((_archive_of(row) for row in await connection.fetch(_ARCHIVES) if row["month"] == name), None)


# The rows of some blocks of a month's table; nothing moves them, as nothing is ever changed or deleted there. Identities
# are hexadecimal digits, and tokens the characters that they are.
_ROWS: Final[Mapping[Table, str]] = {
    "signed_objects": """
        SELECT encode(object_id, 'hex'), stored_at, typ, encode(token, 'escape') FROM {name}
        WHERE ctid >= '({begin},0)' AND ctid < '({end},0)'
    """,
    "ledger": """
        SELECT event_id, at, event, actor, encode(document_id, 'hex'), delivery_id, code, state, detail FROM {name}
        WHERE ctid >= '({begin},0)' AND ctid < '({end},0)'
    """,
}
_BLOCK_COUNT: Final = "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint"


async def _export(
    connection: OwnConnection, month: Month, folder: Path, *, reason: str, actor: str, now: datetime
) -> Manifest:
    """Write the file; the manifest is returned, not written: nobody has read the file back yet."""
    writer = ArchiveWriter(folder, month.month)
    try:
        # So that nobody rewrites the tables meanwhile. It holds no snapshot between two statements.
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(month.tables.values())} IN ACCESS SHARE MODE")
            tables = {table: await _copy(connection, table, month, writer) for table in month.tables}
        size, sha256 = await asyncio.to_thread(writer.finish)
    except BaseException:
        writer.abandon()
        raise
    return Manifest(
        month=month.name,
        since=month.since,
        until=month.until,
        file=writer.path.name,
        bytes=size,
        sha256=sha256,
        tables=tables,
        **await _figures(connection, month),
        revision=head_revision(),
        written_at=now,
        actor=actor,
        reason=reason,
    )


async def _copy(connection: OwnConnection, table: Table, month: Month, writer: ArchiveWriter) -> Content:
    name = month.tables[table]
    blocks = await connection.fetchval(_BLOCK_COUNT, name)
    writer.begin(table)

    async def keep(rows: bytes) -> None:
        await asyncio.to_thread(writer.write, rows)

    for begin in range(0, blocks, _BLOCKS):
        query = _ROWS[table].format(name=name, begin=begin, end=begin + _BLOCKS)
        await connection.copy_from_query(query, output=keep)
    return writer.end()


# What was in a month, for its manifest.
_EVENT_RANGE: Final = "SELECT min(event_id) AS first_event, max(event_id) AS last_event FROM {events}"
_OWED: Final = """
SELECT count(*)
FROM {events}
CROSS JOIN LATERAL jsonb_array_elements_text(detail -> 'recipients')
WHERE event IN ('document.accepted', 'document.redirected')
"""
_BY_EVENT: Final = "SELECT event, count(*) AS number FROM {events} GROUP BY event ORDER BY event"
_BY_SENDER: Final = """
SELECT sender_tier AS tier, count(*) AS number
FROM documents
WHERE accepted_at >= $1::text::timestamptz AND accepted_at < $2
GROUP BY sender_tier
ORDER BY sender_tier
"""
_BY_RECIPIENT: Final = """
SELECT typ, coalesce(recipient_tier, '') AS tier, state, count(*) AS number
FROM deliveries
WHERE stored_at >= $1::text::timestamptz AND stored_at < $2
GROUP BY typ, recipient_tier, state
ORDER BY typ, recipient_tier, state
"""


async def _figures(connection: Connection, month: Month) -> dict[str, Any]:
    events = month.tables["ledger"]
    first_and_last = await connection.fetchrow(_EVENT_RANGE.format(events=events))
    assert first_and_last is not None
    by_sender = {row["tier"]: row["number"] for row in await connection.fetch(_BY_SENDER, *month.bounds)}
    by_tier: dict[str, dict[str, int]] = {}
    letters: dict[str, int] = {}
    for row in await connection.fetch(_BY_RECIPIENT, *month.bounds):
        counts = by_tier.setdefault(row["tier"], {}) if row["typ"] == ENVELOPE_TYP else letters
        counts[row["state"]] = counts.get(row["state"], 0) + row["number"]
    return {
        **first_and_last,
        "documents": sum(by_sender.values()),
        "owed": await connection.fetchval(_OWED.format(events=events)),
        "deliveries": sum(sum(counts.values()) for counts in by_tier.values()),
        "documents_by_tier": by_sender,
        "deliveries_by_tier": by_tier,
        "letters_by_state": letters,
        "events": {row["event"]: row["number"] for row in await connection.fetch(_BY_EVENT.format(events=events))},
    }


async def _check(folder: Path, manifest: Manifest, month: date) -> None:
    path = file_of(folder, month)
    findings = await asyncio.to_thread(check, folder, manifest)
    if manifest.month != f"{month:%Y-%m}" or manifest.file != path.name:
        findings.append(Finding("manifest", f"it is about {manifest.month}"))
    if findings:
        raise Damaged(path, findings)


_COUNT: Final = (
    "SELECT (SELECT count(*) FROM {signed_objects}) AS signed_objects, (SELECT count(*) FROM {ledger}) AS ledger"
)
_ENTER: Final = """
INSERT INTO archives (month, until, file, sha256, manifest, archived_at, actor, reason)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8)
"""
_TELL: Final = "INSERT INTO ledger (at, event, actor, detail) VALUES ($1, 'month.archived', $2, $3::text::jsonb)"


async def _drop(
    connection: Connection, month: Month, folder: Path, manifest: Manifest, *, reason: str, actor: str, now: datetime
) -> None:
    """Drop a month that is in a file, and enter it into the archives; all or nothing."""
    file = str(file_of(folder, month.month).resolve())
    tables = ", ".join(month.tables.values())
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {tables} IN SHARE MODE")  # nobody adds to it; everybody reads on
        await _compare(connection, month, manifest)
        await _seize(connection, tables)
        if hindrances := await hindrances_of(connection, month, now, whole=False):
            raise Hindered(month.name, hindrances)
        await connection.execute(f"DROP TABLE {tables}")
        rows = {table: content.rows for table, content in manifest.tables.items()}
        told = {"month": month.name, "file": file, "sha256": manifest.sha256, "rows": rows, "why": reason}
        entry = (month.month, month.until, file, manifest.sha256, manifest.model_dump_json(), now, actor, reason)
        await connection.execute(_ENTER, *entry)
        await connection.execute(_TELL, now, actor, json.dumps(told))


async def _compare(connection: Connection, month: Month, manifest: Manifest) -> None:
    events, signed_objects = month.tables["ledger"], month.tables["signed_objects"]
    counts = await connection.fetchrow(_COUNT.format(ledger=events, signed_objects=signed_objects))
    assert counts is not None
    for table, content in manifest.tables.items():
        if counts[table] != content.rows:
            raise Conflict(
                f"{month.tables[table]} has {counts[table]} rows, the file {content.rows}: remove it and run again"
            )


async def _seize(connection: Connection, tables: str) -> None:
    """Have the month and what it is a part of for this transaction alone; nobody is kept waiting for long meanwhile."""
    query = f"LOCK TABLE archives, ONLY ledger, ONLY signed_objects, ledger_default, signed_objects_default, {tables}"
    for wait_s in (*_LOCK_WAITS_S, None):
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '500ms'")
                await connection.execute(query)  # ACCESS EXCLUSIVE
        except asyncpg.LockNotAvailableError as error:
            if wait_s is None:
                raise Unavailable(
                    "database", "somebody reads all months, as an audit does; the file is kept: run again later"
                ) from error
            await asyncio.sleep(wait_s)
        else:
            return
