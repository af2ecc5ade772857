"""Claims pending deliveries for handing over.

A claim is an open transaction that holds the rows: no other process takes them, and when this one dies the server lets
them go. Waiting for work holds nothing. What rings the bell is only a hint; the clock finds what the bell has missed.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hub.core.delivery import Due, Transition
from hub.store.entries import DELIVERY_COLUMNS, PENDING_CHANNEL, Entries, delivery_of
from hub.store.errors import translated
from hub.store.pool import Connection, OwnConnection, Pool
from schemas.envelope import URGENCIES

# The most urgent deliveries that are due, the longest waiting first. One look into the index for each urgency: what is
# to be tried again later is never read. The rows are locked one by one, and no more than are taken.
_CLAIM: Final = f"""
WITH claimed AS MATERIALIZED (
    SELECT due.*
    FROM generate_series({len(URGENCIES) - 1}, 0, -1) AS level (urgency)
    CROSS JOIN LATERAL (
        SELECT {DELIVERY_COLUMNS}
        FROM deliveries
        WHERE state = 'pending' AND urgency = level.urgency AND next_attempt_at <= $1 AND expires_at > $1
        ORDER BY next_attempt_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT $2
)
SELECT claimed.*, token
FROM claimed
JOIN signed_objects USING (object_id)
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class PostgresClaim:
    """Deliveries that nobody else takes while the claim is open."""

    due: Sequence[Due]
    _connection: Connection | None

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write what became of them; it stands when the claim closes without an exception.

        Raises:
            Unavailable: When the database does not answer.
        """
        assert self._connection is not None
        entries = Entries(now)
        for transition in transitions:
            entries.change(transition, "dispatch")
        with translated():
            await entries.write(self._connection)


class PostgresDeliveries:
    """The ledger, as far as dispatch needs it.

    Args:
        pool: Where to claim.
        max_batch: Most deliveries of one claim.
        wait_s: How long an empty claim waits for something to do.
    """

    def __init__(self, pool: Pool, *, max_batch: int = 250, wait_s: float = 1.0) -> None:
        self._pool = pool
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._bell = _Bell(pool)

    @asynccontextmanager
    async def claim(self, now: datetime) -> AsyncIterator[PostgresClaim]:
        """Claim the most urgent deliveries that are due; waits for a moment when there are none.

        Raises:
            Unavailable: When the database does not answer. What was claimed is free again.
        """
        self._bell.silence()
        async with self._pool.around() as connection:
            with translated():
                rows = await connection.fetch(_CLAIM, now, self._max_batch)
            if rows:
                yield PostgresClaim([Due(delivery_of(row), row["token"]) for row in rows], connection)
                return
        await self._bell.wait(self._wait_s)
        yield PostgresClaim((), None)


class _Bell:
    """Rings when somebody has written pending deliveries; listens on a connection of its own."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._rung = asyncio.Event()
        self._connection: OwnConnection | None = None

    def silence(self) -> None:
        """Forget what rang before."""
        self._rung.clear()

    async def wait(self, timeout_s: float) -> None:
        """Return when it rings, at the latest after the timeout."""
        if self._connection is None or self._connection.is_closed():
            # Who rang before anybody listened is found by the next claim, so that one follows at once.
            self._connection = await self._pool.listen(PENDING_CHANNEL, self._rung.set)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), timeout_s)
