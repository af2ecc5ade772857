"""Applies the revisions with Alembic over asyncpg."""

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from hub.core.trouble import Trouble, Unavailable
from hub.store.errors import translated
from hub.store.migrations.revisions import VERSIONS, SchemaStatus, file_of, known_revisions, sha256_of

_TIMEOUT_S: Final = 10.0
_LOCK: Final = 0x74727563  # "truc", one lock for all replicas

# Digests of the files as they were applied.
_MAKE_DIGESTS: Final = """
CREATE TABLE IF NOT EXISTS applied_revisions (
    revision   text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_HAS_DIGESTS: Final = "SELECT to_regclass('applied_revisions') IS NOT NULL"
_DIGESTS: Final = "SELECT revision, sha256 FROM applied_revisions ORDER BY applied_at, revision"
_ADD_DIGEST: Final = "INSERT INTO applied_revisions (revision, sha256) VALUES (:revision, :sha256)"


async def upgrade(owner_url: str) -> list[str]:
    """Apply what is missing, all or nothing; returns the revisions that were applied.

    Args:
        owner_url: Of a login that owns the database and may create the role `truc_hub`, unless that exists.

    Raises:
        Trouble: When the database does not answer, an applied file was changed, or the tables are of a newer version.
    """
    async with _transaction(owner_url) as connection:
        return await connection.run_sync(_upgrade)


async def status(owner_url: str) -> SchemaStatus:
    """Say which revisions are applied and which are missing; changes nothing.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with _transaction(owner_url) as connection:
        return await connection.run_sync(_status)


def run_file(revision: str, connection: Connection) -> None:
    """Run the SQL file of a revision; for the modules in `versions/`."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    # Only the driver itself takes several statements at once.
    driver.run_async(lambda raw: raw.execute(file_of(revision).read_text()))


@asynccontextmanager
async def _transaction(owner_url: str) -> AsyncIterator[AsyncConnection]:
    """Open a transaction as the owner."""

    async def connect() -> Any:
        return await asyncpg.connect(owner_url, timeout=_TIMEOUT_S)

    # The URL is read by asyncpg as everywhere else, not by SQLAlchemy.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        with translated():
            async with engine.begin() as connection:
                yield connection
    except DBAPIError as error:
        raise Unavailable("database", f"{error.orig}") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> list[str]:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    connection.execute(text(_MAKE_DIGESTS))
    before = _status(connection)
    if before.changed or before.unknown:
        raise Trouble(
            f"changed after they were applied: {', '.join(before.changed) or 'none'};"
            f" unknown to this version: {', '.join(before.unknown) or 'none'}"
        )
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda current, _context: _scripts()._upgrade_revs("head", current)},  # noqa: SLF001 - as alembic.command does
    )
    # Handed down, because Alembic's own `op` is one for the whole process: two upgrades at once would swap connections.
    context.run_migrations(connection=connection)
    for revision in before.pending:
        connection.execute(text(_ADD_DIGEST), {"revision": revision, "sha256": sha256_of(revision)})
    return list(before.pending)


def _status(connection: Connection) -> SchemaStatus:
    known = known_revisions()
    rows: Sequence[Any] = ()
    if connection.execute(text(_HAS_DIGESTS)).scalar():
        rows = connection.execute(text(_DIGESTS)).all()
    applied = {row.revision: row.sha256 for row in rows}
    return SchemaStatus(
        applied=tuple(applied),
        pending=tuple(revision for revision in known if revision not in applied),
        changed=tuple(
            revision for revision in known if revision in applied and applied[revision] != sha256_of(revision)
        ),
        unknown=tuple(revision for revision in applied if revision not in known),
    )


@functools.cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(VERSIONS.parent, version_locations=[VERSIONS])
