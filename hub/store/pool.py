"""Connections to PostgreSQL, and whether it is the database that the hub needs.

Every connection takes on the role `truc_hub`, which can neither rewrite nor delete what was accepted, commits to disk
before it answers, and is ended by the server when its transaction is left open. Nothing here sets the state of a
session afterwards, so a connection goes back to the pool without the usual round trip of resets.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from hub.core.trouble import Unavailable
from hub.store.errors import translated
from hub.store.migrations.revisions import head_revision

if TYPE_CHECKING:  # generic in the stubs only
    from asyncpg.pool import PoolConnectionProxy

    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | PoolConnectionProxy[asyncpg.Record]
    Connections = asyncpg.Pool[asyncpg.Record]
else:
    OwnConnection = Connection = asyncpg.Connection
    Connections = asyncpg.Pool

Connect = Callable[..., Awaitable[OwnConnection]]

ROLE: Final = "truc_hub"

_SESSION: Final = {
    "role": ROLE,
    "synchronous_commit": "on",
    # Longer than the broker may take to confirm (10 s) while a claim is open, short enough to free a lost claim.
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    # The server notices within half a minute that a hub's machine is gone, and frees what it had claimed.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


class _PlainConnection(asyncpg.Connection):
    """A connection whose session never changes, so that nothing has to be reset."""

    def get_reset_query(self) -> str:
        return ""


class Pool:
    """The hub's connections to one database; heals by itself when the database comes back."""

    def __init__(self, connections: Connections, connect: Connect, acquire_timeout_s: float) -> None:
        self._connections = connections
        self._connect = connect
        self._acquire_timeout_s = acquire_timeout_s
        self._listening: set[OwnConnection] = set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction; it commits at the end, and rolls back on any exception.

        Raises:
            Unavailable: When the database does not answer; whether a commit took place is then unknown.
            Unstorable: When it refuses a value.
        """
        with translated():
            async with (
                self._connections.acquire(timeout=self._acquire_timeout_s) as connection,
                connection.transaction(),
            ):
                yield connection

    @asynccontextmanager
    async def around(self) -> AsyncIterator[Connection]:
        """Open a transaction around the work of somebody else, whose exceptions roll it back and pass as they are.

        Raises:
            Unavailable: When the database does not answer at the beginning or the end.
        """
        with translated():
            connection = await self._connections.acquire(timeout=self._acquire_timeout_s)
        try:
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            try:
                yield connection
            except BaseException:
                with suppress(Unavailable), translated():  # a lost connection has rolled back already
                    await transaction.rollback()
                raise
            with translated():
                await transaction.commit()
        finally:
            with suppress(Unavailable), translated():
                await self._connections.release(connection)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Open a transaction that sees one moment of the database and can write nothing.

        Raises:
            Unavailable: When the database does not answer.
        """
        with translated():
            async with (
                self._connections.acquire(timeout=self._acquire_timeout_s) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield connection

    async def listen(self, channel: str, heard: Callable[[], None]) -> OwnConnection:
        """Call `heard` for every notification on a channel; listens until the connection is lost, or the pool closes.

        Returns:
            The connection, which is not one of the pool.

        Raises:
            Unavailable: When the database does not answer.
        """
        with translated():
            connection = await self._connect()
            self._listening = {each for each in self._listening if not each.is_closed()} | {connection}
            await connection.add_listener(channel, lambda *_notification: heard())
            return connection

    async def close(self) -> None:
        """Close every connection; those that do not come back in time are cut."""
        try:
            for connection in self._listening:
                await connection.close(timeout=self._acquire_timeout_s)
            await asyncio.wait_for(self._connections.close(), self._acquire_timeout_s)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            for connection in self._listening:
                connection.terminate()
            self._connections.terminate()


@asynccontextmanager
async def open_pool(
    url: str,
    *,
    application_name: str = "truc",
    max_size: int = 10,
    acquire_timeout_s: float = 10.0,
    command_timeout_s: float = 30.0,
    by_key: bool = False,
) -> AsyncIterator[Pool]:
    """Hold connections to a database; none is made before it is needed.

    Args:
        url: `postgresql://…`, of a login that is the owner of the database or a member of `truc_hub`.
        application_name: What the database's own lists show.
        max_size: Most connections at once.
        acquire_timeout_s: How long to wait for a free connection, and for a new one to be made.
        command_timeout_s: How long one statement may take.
        by_key: Whether to read through a table only where there is no other way, as for the loops, which look nearly
            everything up by key. What is planned while a table is new and small would read all of it otherwise, and the plan
            is kept for minutes, while it grows.
    """
    session = _SESSION | {"application_name": application_name} | ({"enable_seqscan": "off"} if by_key else {})

    async def connect(*_dsn: Any, **options: Any) -> OwnConnection:
        try:
            return await asyncpg.connect(
                url,
                timeout=acquire_timeout_s,
                command_timeout=command_timeout_s,
                server_settings=session,
                **options,
            )
        except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as error:
            # A refused role is no fault of any value that is to be stored.
            raise Unavailable(
                "database", f"cannot become {ROLE} ({error}): run `truc db upgrade`, or grant {ROLE} to the login"
            ) from error

    connections = asyncpg.create_pool(
        min_size=0, max_size=max_size, connect=connect, init=_teach_json, connection_class=_PlainConnection
    )
    pool = Pool(await connections, connect, acquire_timeout_s)
    try:
        yield pool
    finally:
        await pool.close()


# Which revision the tables are at; no row when the database is empty.
_REVISION: Final = "SELECT version_num FROM alembic_version"
_HAS_REVISION: Final = "SELECT to_regclass('alembic_version') IS NOT NULL"

# What the current role could do to the ledger, as a whole or by month, that it must not be able to do.
_FORBIDDEN: Final = """
SELECT privilege
FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
WHERE EXISTS (SELECT FROM pg_partition_tree('ledger') WHERE has_table_privilege(relid, privilege))
"""


# Whether this is a standby, or a primary that was told to take no changes; our own transaction is one by itself.
_READ_ONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"


async def ready(pool: Pool) -> None:
    """Check that the database answers, takes changes, has the tables of this version, and protects the ledger.

    Raises:
        Unavailable: When one of these does not hold; the message says what to do.
    """
    async with pool.reading() as connection:
        revision = await connection.fetchval(_REVISION) if await connection.fetchval(_HAS_REVISION) else None
        if revision != head_revision():
            raise Unavailable(
                "database",
                f"the tables are at revision {revision or 'none'}, this hub needs {head_revision()}:"
                " run `truc db upgrade`, or install the version of the hub that fits",
            )
        if await connection.fetchval(_READ_ONLY):
            raise Unavailable("database", "it takes no changes: a standby, or set to read only")
        forbidden = [row["privilege"] for row in await connection.fetch(_FORBIDDEN)]
        if forbidden:
            role = await connection.fetchval("SELECT current_user")
            raise Unavailable(
                "database",
                f"the role {role} may {' and '.join(forbidden)} the ledger: revoke these privileges from {ROLE}",
            )


async def _teach_json(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
