"""Replays as the hub's loop turns them: releases what may go out, writes what became of it.

Each method is one transaction. Locks are taken in one order: the replay, its deliveries by their ids, their letters by
their ids. Two processes never turn the same replay at once: whoever comes second leaves it to the first.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from hub.core.delivery import Delivery, Due
from hub.core.replay import (
    MINUTE,
    MOMENT,
    SUSPENDED,
    WATCHED,
    Progress,
    Release,
    ReplayPace,
    Step,
    Turn,
    fate_of,
    settle_replayed,
)
from hub.core.submission import Submission
from hub.store.entries import Entries
from hub.store.pool import Connection, Pool
from hub.store.rows import DELIVERY_COLUMNS, bytes_of, delivery_of, lock_deliveries
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

Candidate = Due | Submission
Rehearse = Callable[[Sequence[Candidate]], Sequence[Problem | None]]

SETTLE_BATCH: Final = 2000
"""Most outcomes that one turn writes."""


class PostgresReplays:
    """The replays, for the loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def settle(self, now: datetime) -> int:
        """Write the outcome of released items whose delivery has ended; returns how many there were.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.transaction() as connection:
            return len(await connection.fetch(_SETTLE, now, SETTLE_BATCH))

    async def open_replays(self) -> Sequence[int]:
        """List the replays that may have something to do by themselves.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            return [row["replay_id"] for row in await connection.fetch(_OPEN, SUSPENDED)]

    async def step(self, replay_id: int, decide: Callable[[Progress], Step], rehearse: Rehearse, now: datetime) -> int:
        """Do what `decide` says about one replay; returns how many of its items changed.

        Args:
            replay_id: Which one; left alone while another process has it in hand.
            decide: Says what comes next.
            rehearse: Says of each candidate why it would fail today; called off the event loop.
            now: The present.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.transaction() as connection:
            replay = await connection.fetchrow(_LOCK_REPLAY, replay_id)
            if replay is None:
                return 0
            match decide(await _progress_of(connection, replay, now)):
                case Release() as release:
                    return await _release(connection, replay, release, rehearse, now)
                case Turn() as turn:
                    return await turn_over(connection, replay_id, turn, "replay", now)
                case None:
                    return 0


# Items whose delivery has come to an end since they were released. What nobody answers ends when the broker has it.
_SETTLE: Final = """
WITH ended AS (
    SELECT replay_id, letter_id, delivery.state, delivery.code
    FROM replay_items AS item
    JOIN replays USING (replay_id)
    JOIN deliveries AS delivery USING (delivery_id)
    WHERE item.outcome IS NULL AND released_at IS NOT NULL AND purpose = 'dead-letters'
        AND (delivery.state IN ('received', 'dead', 'expired')
            OR (delivery.state = 'routed' AND delivery.typ <> 'truc.document.v1'))
    ORDER BY replay_id, letter_id
    LIMIT $2
    FOR UPDATE OF item SKIP LOCKED
)
UPDATE replay_items AS item
SET outcome = CASE ended.state WHEN 'routed' THEN 'handed-out' ELSE ended.state END, because = ended.code, ended_at = $1
FROM ended
WHERE item.replay_id = ended.replay_id AND item.letter_id = ended.letter_id
RETURNING item.letter_id
"""

_OPEN: Final = """
SELECT replay_id FROM replays WHERE state IN ('planned', 'awaiting-second', 'running')
UNION ALL
SELECT replay_id FROM replays WHERE purpose = 'catch-up' AND state = 'paused' AND said = $1
ORDER BY replay_id
"""
_LOCK_REPLAY: Final = "SELECT * FROM replays WHERE replay_id = $1 FOR UPDATE SKIP LOCKED"

_COUNTS: Final = """
SELECT count(*) FILTER (WHERE released_at IS NULL) AS waiting, count(*) FILTER (WHERE released_at IS NOT NULL) AS in_hand
FROM replay_items
WHERE replay_id = $1 AND outcome IS NULL
"""
_RELEASED: Final = """
SELECT count(*) AS last_minute, count(*) FILTER (WHERE released_at > $3) AS just_now
FROM replay_items
WHERE replay_id = $1 AND released_at > $2
"""
_WATCHED: Final = """
SELECT released_at, outcome, state, attempts, delivery.code
FROM replay_items
LEFT JOIN deliveries AS delivery USING (delivery_id)
WHERE replay_id = $1 AND released_at >= $2
ORDER BY released_at, position
LIMIT $3
"""


async def _progress_of(connection: Connection, replay: asyncpg.Record, now: datetime) -> Progress:
    replay_id = replay["replay_id"]
    begun = replay["watched_from"]
    if begun is None:  # what has not begun has nothing to be counted
        return Progress(replay["state"], replay["changed_at"], None, 0, 0)
    counts = await connection.fetchrow(_COUNTS, replay_id)
    assert counts is not None
    released = await connection.fetchrow(_RELEASED, replay_id, now - MINUTE, now - MOMENT)
    assert released is not None
    watched = await connection.fetch(_WATCHED, replay_id, begun, WATCHED)
    # Of a catch-up nothing but the handing out is awaited: the states of its deliveries are those of long ago. What the
    # queue does not take is tried again, so it counts as if it had just been released: no more follows.
    counted = replay["purpose"] == "dead-letters"
    not_taken = 0 if counted else counts["in_hand"]
    return Progress(
        state=replay["state"],
        since=replay["changed_at"],
        pace=ReplayPace(replay["mode"], replay["per_minute"], replay["per_recipient"]),
        waiting=counts["waiting"],
        in_hand=counts["in_hand"],
        watched=[
            fate_of(row["outcome"], row["state"] if counted else None, row["attempts"] or 0, row["code"])
            for row in watched
        ],
        watched_until=watched[-1]["released_at"] if watched else None,
        released_last_minute=max(released["last_minute"], not_taken),
        released_just_now=released["just_now"],
        purpose=replay["purpose"],
        agency=None if counted else AgencyCode(replay["selection"]["agency"]),
        said=replay["said"],
    )


_TURN: Final = """
UPDATE replays SET state = $2, said = $3, changed_by = $4, changed_at = $5 WHERE replay_id = $1
"""
_CANCEL_WAITING: Final = """
UPDATE replay_items SET outcome = 'cancelled', ended_at = $2
WHERE replay_id = $1 AND outcome IS NULL AND released_at IS NULL
"""
_OUTCOMES: Final = """
SELECT coalesce(outcome, 'in-hand') AS outcome, count(*) AS number FROM replay_items WHERE replay_id = $1 GROUP BY 1
"""


async def turn_over(connection: Connection, replay_id: int, turn: Turn, actor: str, now: datetime) -> int:
    """Take a locked replay over to another state, on the record."""
    await connection.execute(_TURN, replay_id, turn.state, turn.why, actor, now)
    if turn.state == "cancelled":
        await connection.execute(_CANCEL_WAITING, replay_id, now)
    outcomes = {row["outcome"]: row["number"] for row in await connection.fetch(_OUTCOMES, replay_id)}
    entries = Entries(now)
    detail = {"replay": replay_id, "why": turn.why, "outcomes": outcomes}
    entries.event(f"replay.{turn.state}", actor, detail=detail)
    await entries.write(connection)
    return 1


# The next items, and what has been released for their recipients within the minute. Only a window of the line is looked
# at: in it stand first the recipients that have been given least.
_NEXT: Final = """
SELECT letter_id, delivery_id, parked_id
FROM (
    SELECT *, row_number() OVER (PARTITION BY agency ORDER BY position) AS turn
    FROM (
        SELECT * FROM replay_items
        WHERE replay_id = $1 AND outcome IS NULL AND released_at IS NULL
        ORDER BY position
        LIMIT 5000
    ) AS line
) AS numbered
LEFT JOIN (
    SELECT agency, count(*) AS given FROM replay_items WHERE replay_id = $1 AND released_at > $4 GROUP BY agency
) AS within_a_minute USING (agency)
WHERE $3::integer IS NULL OR turn + coalesce(given, 0) <= $3
ORDER BY position
LIMIT $2
"""

_SKIP: Final = """
UPDATE replay_items SET outcome = 'skipped', because = skipped.because, ended_at = $4
FROM unnest($2::text[], $3::text[]) AS skipped (letter_id, because)
WHERE replay_id = $1 AND replay_items.letter_id = skipped.letter_id
"""
_MARK_RELEASED: Final = """
UPDATE replay_items SET released_at = $3 WHERE replay_id = $1 AND letter_id = ANY($2::text[])
"""
_LOCK_LETTERS: Final = """
SELECT letter_id, state FROM dead_letters WHERE letter_id = ANY($1::text[]) ORDER BY letter_id FOR UPDATE
"""


async def _release(
    connection: Connection, replay: asyncpg.Record, release: Release, rehearse: Rehearse, now: datetime
) -> int:
    replay_id = replay["replay_id"]
    rows = await connection.fetch(_NEXT, replay_id, release.at_most, release.per_recipient, now - MINUTE)
    if not rows:
        return 0
    going = [row["letter_id"] for row in rows]
    if replay["purpose"] == "dead-letters":
        staying = await _begin_anew(connection, replay, rows, rehearse, now)
        going = [name for name in going if name not in staying]
        if staying:
            await connection.execute(_SKIP, replay_id, list(staying), list(staying.values()), now)
    await connection.execute(_MARK_RELEASED, replay_id, going, now)
    return len(rows)


async def _begin_anew(
    connection: Connection, replay: asyncpg.Record, rows: Sequence[asyncpg.Record], rehearse: Rehearse, now: datetime
) -> dict[str, str]:
    """Look again at each item, as hours may lie between plan and release, and begin anew with what may go.

    Returns:
        Why the others stay.
    """
    ids = [row["letter_id"] for row in rows]
    deliveries = await lock_deliveries(connection, [row["delivery_id"] for row in rows if row["delivery_id"]])
    letters = {row["letter_id"]: row["state"] for row in await connection.fetch(_LOCK_LETTERS, ids)}
    staying = {}
    for row in rows:
        delivery = deliveries.get(row["delivery_id"])
        if delivery is not None and delivery.state != "dead":
            staying[row["letter_id"]] = f"is-{delivery.state}"
        elif letters[row["letter_id"]] != "open":
            staying[row["letter_id"]] = f"letter-{letters[row['letter_id']]}"
    staying |= await why_not(connection, [name for name in ids if name not in staying], now)
    staying |= await rehearsed(connection, [name for name in ids if name not in staying], rehearse)
    going = [deliveries[row["delivery_id"]] for row in rows if row["delivery_id"] and row["letter_id"] not in staying]
    await _replay_deliveries(connection, replay, going, now)
    return staying


async def _replay_deliveries(
    connection: Connection, replay: asyncpg.Record, going: Sequence[Delivery], now: datetime
) -> None:
    facts: dict[str, Any] = {"replay": replay["replay_id"], "by": replay["started_by"], "why": replay["reason"]}
    entries = Entries(now)
    for delivery in going:
        transition = settle_replayed(delivery, now)
        assert transition is not None, "it is locked, and dead"
        entries.change(transition, "replay", **facts)
    await entries.write(connection)


async def rehearsed(connection: Connection, ids: Sequence[str], rehearse: Rehearse) -> dict[str, str]:
    """Say of letters why they would fail today; those that would not are left out."""
    rows = await connection.fetch(_CANDIDATES, ids)
    candidates = [
        Due(delivery_of(row), row["token"]) if row["kind"] == "delivery" else submission_of(row) for row in rows
    ]
    problems = await asyncio.to_thread(rehearse, candidates)
    return {
        row["letter_id"]: f"refused-today {problem.code}"
        for row, problem in zip(rows, problems, strict=True)
        if problem is not None
    }


# Why items must not be sent, as far as the ledger knows: archived, taken back or replaced by a later document of the
# sender, taken over since, or their lifetime over: the sender has signed it, and recipients refuse what is older.
_WHY_NOT: Final = """
SELECT letter_id,
    CASE
        WHEN delivery.stored_at < (SELECT until FROM archived) THEN 'archived'
        WHEN delivery.expires_at <= $2 THEN 'lifetime-over'
        WHEN later.action = 'revoke' THEN 'recalled'
        WHEN later.action = 'replace' THEN 'replaced'
        WHEN letter.code = 'E409' THEN 'refused-today E409'
        WHEN body_length > length(body) THEN 'not-kept-whole'
        WHEN EXISTS (
            SELECT FROM documents WHERE letter.kind = 'submission' AND documents.document_id = letter.document_id
            UNION ALL
            SELECT FROM receipts WHERE letter.kind = 'submission' AND receipts.receipt_id = letter.document_id
            UNION ALL
            SELECT FROM statuses WHERE letter.kind = 'submission' AND statuses.status_id = letter.document_id
        ) THEN 'taken-over-since'
    END AS because
FROM dead_letters AS letter
LEFT JOIN deliveries AS delivery USING (delivery_id)
LEFT JOIN parked USING (parked_id)
LEFT JOIN documents AS document ON letter.kind = 'delivery' AND document.document_id = letter.document_id
LEFT JOIN LATERAL (
    SELECT action FROM documents AS taking_back
    WHERE taking_back.refs @> ARRAY[document.document_id] AND taking_back.action IN ('revoke', 'replace')
        AND taking_back.sender = document.sender
    ORDER BY taking_back.accepted_at DESC
    LIMIT 1
) AS later ON true
WHERE letter_id = ANY($1::text[])
"""


async def why_not(connection: Connection, ids: Sequence[str], now: datetime) -> dict[str, str]:
    """Say of letters why they must not be sent again; those that may are left out."""
    rows = await connection.fetch(_WHY_NOT, ids, now)
    return {row["letter_id"]: row["because"] for row in rows if row["because"] is not None}


_CANDIDATES: Final = """
SELECT letter_id, kind, token, body, broker_user, routing_key, message_id, parked_at, {columns}
FROM dead_letters AS letter
LEFT JOIN deliveries AS delivery USING (delivery_id)
LEFT JOIN LATERAL ({bytes}) AS kept ON true
LEFT JOIN parked USING (parked_id)
WHERE letter_id = ANY($1::text[])
ORDER BY letter_id
""".format(columns=", ".join(f"delivery.{name}" for name in DELIVERY_COLUMNS.split(", ")), bytes=bytes_of("delivery"))


def submission_of(row: asyncpg.Record) -> Submission:
    """Read a submission that was put aside, to be decided again."""
    return Submission(
        body=row["body"],
        user=row["broker_user"],
        routing_key=row["routing_key"],
        message_id=row["message_id"],
        redelivered=True,
        put_aside_at=row["parked_at"],
    )
