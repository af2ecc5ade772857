"""Claims pending deliveries for handing over.

A claim is an open transaction that holds the rows: no other process takes them, and when this one dies the server lets
them go. Waiting for work holds nothing. What rings the bell is only a hint; the clock finds what the bell has missed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from hub.core.breaker import Breaker
from hub.core.delivery import Due, Transition
from hub.core.policy import Policy
from hub.store.entries import PENDING_CHANNEL, Entries
from hub.store.errors import translated
from hub.store.pool import Connection, OwnConnection, Pool
from hub.store.recipients import is_unwell, unwell
from hub.store.rows import DELIVERY_COLUMNS, bytes_of, delivery_of
from schemas.envelope import URGENCIES
from schemas.identifiers import AgencyCode

# The most urgent deliveries that are due, the longest waiting first. One look into the index for each urgency: what is
# to be tried again later is never read. The rows are locked one by one, and no more than are taken.
_CLAIM: Final = f"""
WITH claimed AS MATERIALIZED (
    SELECT due.*
    FROM generate_series({len(URGENCIES) - 1}, 0, -1) AS level (urgency)
    CROSS JOIN LATERAL (
        SELECT {DELIVERY_COLUMNS}, stored_at
        FROM deliveries
        WHERE state = 'pending' AND urgency = level.urgency AND next_attempt_at <= $1 AND expires_at > $1
        ORDER BY next_attempt_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT $2
)
SELECT claimed.*, token, {is_unwell("claimed")} AS is_unwell
FROM claimed
CROSS JOIN LATERAL ({bytes_of("claimed")}) AS kept
"""  # noqa: S608 - constants only

# The same without some recipients, and at most a share for each of the others: one recipient after the other, in turn
# from claim to claim, at one urgency after the other. A recipient with very much costs one look into the index, and no
# more are looked at than it takes to fill the claim. The recipient is written as a range, because then only the index by
# recipient has the order: where one has very much, the planner expects that of each, and would read through all of it.
_CLAIM_IN_TURN: Final = f"""
WITH claimed AS MATERIALIZED (
    SELECT due.*
    FROM generate_series({len(URGENCIES) - 1}, 0, -1) AS level (urgency)
    CROSS JOIN LATERAL (
        SELECT turn.recipient
        FROM (VALUES (level.urgency, $3::text, NULL::text), (level.urgency, '', $3)) AS half (urgency, above, last)
        CROSS JOIN LATERAL (
            WITH RECURSIVE turn (recipient) AS (
                (
                    SELECT recipient
                    FROM deliveries
                    WHERE state = 'pending' AND urgency = half.urgency AND recipient > half.above
                    ORDER BY recipient
                    LIMIT 1
                )
                UNION ALL
                SELECT (
                    SELECT deliveries.recipient
                    FROM deliveries
                    WHERE state = 'pending' AND urgency = half.urgency AND deliveries.recipient > turn.recipient
                    ORDER BY deliveries.recipient
                    LIMIT 1
                )
                FROM turn
                WHERE turn.recipient <= coalesce(half.last, turn.recipient)
            )
            SELECT recipient FROM turn WHERE recipient <= coalesce(half.last, recipient) AND recipient <> ALL($4::text[])
        ) AS turn
        OFFSET 0
    ) AS turn
    CROSS JOIN LATERAL (
        SELECT {DELIVERY_COLUMNS}, stored_at
        FROM deliveries
        WHERE state = 'pending' AND urgency = level.urgency
            AND deliveries.recipient >= turn.recipient
            AND (deliveries.recipient, next_attempt_at) <= (turn.recipient, $1) AND expires_at > $1
        ORDER BY deliveries.recipient, next_attempt_at
        LIMIT $5
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT $2
)
SELECT claimed.*, token, {is_unwell("claimed")} AS is_unwell
FROM claimed
CROSS JOIN LATERAL ({bytes_of("claimed")}) AS kept
"""  # noqa: S608 - constants only


_REST_S: Final = 0.2


def _counts(rows: Sequence[asyncpg.Record]) -> Counter[str]:
    return Counter(row["recipient"] for row in rows)


@dataclass(frozen=True, slots=True)
class PostgresClaim:
    """Deliveries that nobody else takes while the claim is open."""

    due: Sequence[Due]
    leaves_out: bool
    _connection: Connection | None
    _policy: Policy

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write what became of them; it stands when the claim closes without an exception.

        Raises:
            Unavailable: When the database does not answer.
        """
        assert self._connection is not None
        entries = Entries(now, self._policy)
        for transition in transitions:
            entries.change(transition, "dispatch")
        with translated():
            await entries.write(self._connection)


class PostgresDeliveries:
    """The ledger, as far as dispatch needs it.

    Args:
        pool: Where to claim.
        max_batch: Most deliveries of one claim.
        max_share: Most deliveries of one recipient in a claim, so that one with very many never fills it.
        wait_s: How long an empty claim waits for something to do.
        policy: By which rules recipients are held.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        max_batch: int = 250,
        max_share: int = 60,
        wait_s: float = 1.0,
        policy: Policy | None = None,
    ) -> None:
        self._pool = pool
        self._max_batch = max_batch
        self._max_share = max_share
        self._policy = policy or Policy()
        self._crowded = False
        self._last_in_turn = ""
        self._resting_until: dict[str, float] = {}
        self._wait_s = wait_s
        self._bell = _Bell(pool)

    @asynccontextmanager
    async def claim(self, now: datetime) -> AsyncIterator[PostgresClaim]:
        """Claim the most urgent deliveries that are due, but few of one recipient; waits a moment when there are none.

        Raises:
            Unavailable: When the database does not answer. What was claimed is free again.
        """
        self._bell.silence()
        async with self._pool.around() as connection:
            with translated():
                rows, leaves_out = await self._claim(connection, now)
                breakers = await unwell(connection, {row["recipient"] for row in rows if row["is_unwell"]})
            if rows:
                due = [Due(delivery_of(row), row["token"], breakers.get(row["recipient"])) for row in rows]
                self._let_rest(breakers)
                yield PostgresClaim(due, leaves_out, connection, self._policy)
                return
        await self._bell.wait(self._wait_s)
        yield PostgresClaim((), leaves_out=False, _connection=None, _policy=self._policy)

    async def _claim(self, connection: Connection, now: datetime) -> tuple[list[asyncpg.Record], bool]:
        """Claim the longest waiting; where few recipients have filled the claim, others take their place.

        What is left out stays locked until the claim ends; another process takes what comes behind it. Tells whether
        there is any.

        As long as one has more than its share, claims go from recipient to recipient at once: what stands in front of
        everybody is not read and locked again and again, to be left out.
        """
        resting = self._resting()
        if self._crowded:
            rows = await self._claim_in_turn(connection, now, self._max_batch, resting)
            self._crowded = max(_counts(rows).values(), default=0) >= self._max_share
            return rows, False
        found = await connection.fetch(_CLAIM, now, self._max_batch)
        counts: Counter[str] = Counter()
        taken = []
        for row in found:
            counts[row["recipient"]] += 1
            if counts[row["recipient"]] <= self._max_share and row["recipient"] not in resting:
                taken.append(row)
        room = self._max_batch - len(taken)
        self._crowded = len(found) == self._max_batch and room > 0
        if not self._crowded:
            return taken, len(taken) < len(found)
        full = {*resting, *(recipient for recipient, count in counts.items() if count >= self._max_share)}
        known = {row["delivery_id"] for row in taken}
        others = await self._claim_in_turn(connection, now, room, full)
        return [*taken, *(row for row in others if row["delivery_id"] not in known)], True

    async def _claim_in_turn(
        self, connection: Connection, now: datetime, room: int, without: Collection[str]
    ) -> list[asyncpg.Record]:
        rows = await connection.fetch(_CLAIM_IN_TURN, now, room, self._last_in_turn, list(without), self._max_share)
        if rows:
            self._last_in_turn = rows[-1]["recipient"]
        return rows

    def _resting(self) -> set[str]:
        now = time.monotonic()
        self._resting_until = {code: until for code, until in self._resting_until.items() if until > now}
        return set(self._resting_until)

    def _let_rest(self, breakers: Mapping[AgencyCode, Breaker]) -> None:
        """Leave recipients that are held or drained out of the next claims: their backlog must not occupy dispatch."""
        until = time.monotonic() + _REST_S
        self._resting_until |= {code: until for code, breaker in breakers.items() if breaker.is_held_back}


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
