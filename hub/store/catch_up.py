"""What agencies catch up on, as claims for dispatch: handed out again, while the ledger says of them what it said.

A received delivery stays received; that it is handed out again is an event beside its state. The recipient's second
receipt finds it received and changes nothing.

What the agency's queue does not take is tried again a minute later, until it has waited for a day. Its lifetime may be
over long ago, so it bounds nothing here.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hub.core.delivery import Due, Transition
from hub.store.entries import DELIVERY_COLUMNS, Entries, bytes_of, delivery_of
from hub.store.errors import translated
from hub.store.pool import Connection, Pool
from schemas.identifiers import DeliveryId

_AGAIN: Final = timedelta(minutes=1)
_PATIENCE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CatchUpClaim:
    """Items that nobody else takes while the claim is open."""

    due: Sequence[Due]
    _replays: dict[DeliveryId, int]
    _connection: Connection

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write which the broker has taken; the others are tried again, or given up.

        Raises:
            Unavailable: When the database does not answer.
        """
        if not transitions:
            return
        entries = Entries(now)
        taken = [transition.delivery for transition in transitions if transition.state == "routed"]
        for delivery in taken:
            entries.event(
                "delivery.handed-out-again",
                "replay",
                object_id=delivery.object_id,
                delivery_id=delivery.delivery_id,
                detail={"replay": self._replays[delivery.delivery_id]},
            )
        rows = [(str(item.delivery.delivery_id), item.state == "routed", item.code) for item in transitions]
        with translated():
            await self._connection.execute(
                _SETTLE, *map(list, zip(*rows, strict=True)), now, now + _AGAIN, now - _PATIENCE
            )
            await entries.write(self._connection)


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
            replays = {row["delivery_id"]: row["replay_id"] for row in rows}
            yield CatchUpClaim([Due(delivery_of(row), row["token"]) for row in rows], replays, connection)


_CLAIM: Final = """
SELECT item.replay_id, token, {columns}
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

_SETTLE: Final = """
UPDATE replay_items AS item
SET outcome = CASE WHEN taken THEN 'handed-out' WHEN released_at <= $6 THEN 'expired' END,
    because = CASE WHEN NOT taken AND released_at <= $6 THEN tried.code END,
    ended_at = CASE WHEN taken OR released_at <= $6 THEN $4::timestamptz END,
    next_attempt_at = CASE WHEN NOT taken AND released_at > $6 THEN $5::timestamptz END
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS tried (letter_id, taken, code)
WHERE item.letter_id = tried.letter_id AND item.outcome IS NULL AND released_at IS NOT NULL
"""
