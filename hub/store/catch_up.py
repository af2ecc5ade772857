"""What agencies catch up on, as claims for dispatch: handed out again, while the ledger says of them what it said.

A received delivery stays received; that it is handed out again is an event beside its state. The recipient's second
receipt finds it received and changes nothing.

What the agency's queue does not take is tried again a minute later, until it has waited for a day. Its lifetime may be
over long ago, so it bounds nothing here. What waits because the directory suspends the agency is asked about every
minute as well, and never given up.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from hub.core.delivery import Due, Transition
from hub.core.replay import Outcome
from hub.store.entries import Entries
from hub.store.errors import translated
from hub.store.pool import Connection, Pool
from hub.store.rows import DELIVERY_COLUMNS, bytes_of, delivery_of
from schemas.identifiers import DeliveryId

_AGAIN: Final = timedelta(minutes=1)
_PATIENCE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CatchUpClaim:
    """Items that nobody else takes while the claim is open."""

    due: Sequence[Due]
    _items: Mapping[DeliveryId, asyncpg.Record]
    _connection: Connection

    @property
    def leaves_out(self) -> bool:
        """Nothing: what is not claimed is not locked."""
        return False

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write which the broker has taken; the others are tried again, or given up.

        Raises:
            Unavailable: When the database does not answer.
        """
        if not transitions:
            return
        entries = Entries(now)
        rows = []
        for transition in transitions:
            delivery = transition.delivery
            item = self._items[delivery.delivery_id]
            outcome = _outcome_of(transition, item["released_at"], now)
            rows.append((item["letter_id"], outcome, transition.code, transition.state == "held"))
            if outcome == "handed-out":
                entries.event(
                    "delivery.handed-out-again",
                    "replay",
                    object_id=delivery.object_id,
                    delivery_id=delivery.delivery_id,
                    detail={"replay": item["replay_id"]},
                )
        with translated():
            await self._connection.execute(_SETTLE, *map(list, zip(*rows, strict=True)), now, now + _AGAIN)
            await entries.write(self._connection)


def _outcome_of(transition: Transition, released_at: datetime, now: datetime) -> Outcome | None:
    """Say what has become of an item; `None` while it is tried again."""
    if transition.state == "routed":
        return "handed-out"
    return "expired" if transition.state != "held" and released_at <= now - _PATIENCE else None


class CatchUps:
    """The released items of catch-ups, as far as dispatch needs them.

    Args:
        pool: Where they are.
        max_batch: Most items of one claim.
    """

    def __init__(self, pool: Pool, *, max_batch: int) -> None:
        self._pool = pool
        self._max_batch = max_batch

    @asynccontextmanager
    async def claim(self, now: datetime) -> AsyncIterator[CatchUpClaim]:
        """Claim what has been released longest ago; does not wait.

        Raises:
            Unavailable: When the database does not answer. What was claimed is free again.
        """
        async with self._pool.around() as connection:
            with translated():
                rows = await connection.fetch(_CLAIM, now, self._max_batch)
            items = {row["delivery_id"]: row for row in rows}
            yield CatchUpClaim([Due(delivery_of(row), row["token"]) for row in rows], items, connection)


_CLAIM: Final = """
SELECT item.replay_id, letter_id, released_at, token, {columns}
FROM replay_items AS item
JOIN replays USING (replay_id)
JOIN deliveries AS delivery USING (delivery_id)
CROSS JOIN LATERAL ({bytes}) AS kept
WHERE outcome IS NULL AND released_at IS NOT NULL AND purpose = 'catch-up'
    AND (item.next_attempt_at IS NULL OR item.next_attempt_at <= $1)
ORDER BY released_at, position
LIMIT $2
FOR UPDATE OF item SKIP LOCKED
""".format(columns=", ".join(f"delivery.{name}" for name in DELIVERY_COLUMNS.split(", ")), bytes=bytes_of("delivery"))

# What is held because its agency is suspended has its whole day again when that is over.
_SETTLE: Final = """
UPDATE replay_items AS item
SET outcome = tried.outcome,
    because = CASE tried.outcome WHEN 'expired' THEN tried.code END,
    ended_at = CASE WHEN tried.outcome IS NOT NULL THEN $5::timestamptz END,
    next_attempt_at = CASE WHEN tried.outcome IS NULL THEN $6::timestamptz END,
    released_at = CASE WHEN is_held THEN $5::timestamptz ELSE released_at END
FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[]) AS tried (letter_id, outcome, code, is_held)
WHERE item.letter_id = tried.letter_id AND item.outcome IS NULL AND released_at IS NOT NULL
"""
