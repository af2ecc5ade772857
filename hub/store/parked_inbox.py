"""Submissions that were put aside and are replayed, as the inbox of the loop that decides about them again.

| effect                             | if the process dies after it                                              |
|------------------------------------|---------------------------------------------------------------------------|
| `take`                             | taken again: an item without outcome                                      |
| the loop records                   | recorded again; what is known already changes nothing                     |
| `acknowledge`                      | –  (one transaction: outcomes, letters closed, events)                    |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from hub.core.submission import Submission
from hub.store.entries import Entries, close_letters
from hub.store.pool import Pool
from hub.store.replay import submission_of
from schemas.identifiers import DocumentId

Lane = Literal["document", "answer"]


@dataclass(frozen=True, slots=True)
class ParkedBatch:
    """Submissions that were released together.

    Attributes:
        submissions: The arrivals, as they were.
        items: Replay and letter of each, in the same order.
    """

    submissions: Sequence[Submission]
    items: Sequence[tuple[int, str]]


class ParkedInbox:
    """One lane of the submissions that replays have released.

    Args:
        pool: Where they are.
        lane: Receipts and statuses, or everything else.
        max_batch: Most submissions taken at once.
        clock: Tells the time.
    """

    def __init__(self, pool: Pool, lane: Lane, *, max_batch: int, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._lane = lane
        self._max_batch = max_batch
        self._clock = clock

    async def take(self) -> ParkedBatch:
        """Take what has been released and has no outcome; does not wait.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            rows = await connection.fetch(_TAKE, self._lane == "answer", self._max_batch)
        return ParkedBatch([submission_of(row) for row in rows], [(row["replay_id"], row["letter_id"]) for row in rows])

    async def acknowledge(self, batch: object) -> None:
        """Write what became of a batch of this inbox, on the record.

        Raises:
            Unavailable: When the database does not answer.
        """
        assert isinstance(batch, ParkedBatch)
        now = self._clock()
        entries = Entries(now)
        async with self._pool.transaction() as connection:
            replays, letters = (list(column) for column in zip(*batch.items, strict=True))
            rows = await connection.fetch(_SETTLE, replays, letters, now)
            for row in rows:
                entries.event(
                    "submission.replayed",
                    "replay",
                    object_id=DocumentId(row["document_id"].hex()),
                    detail={"letter": row["letter_id"], "replay": row["replay_id"], "outcome": row["outcome"]},
                )
            answered = sorted(row["letter_id"] for row in rows if row["outcome"] != "parked")
            if answered:
                await close_letters(connection, answered)
            await entries.write(connection)

    async def release(self) -> None:
        """Give nothing back: what was taken was only read."""


_TAKE: Final = """
SELECT replay_id, letter_id, body, broker_user, routing_key, message_id, parked_at
FROM replay_items
JOIN parked USING (parked_id)
WHERE outcome IS NULL AND released_at IS NOT NULL AND kind = 'submission' AND (routing_key LIKE 'receipt%' OR routing_key LIKE 'status%') = $1
ORDER BY released_at, position
LIMIT $2
"""

# What the loop has made of each: a document or receipt that is known now, a refusal, or parked as before.
_SETTLE: Final = """
UPDATE replay_items AS item
SET ended_at = $3, outcome = CASE
    WHEN EXISTS (SELECT FROM documents WHERE documents.document_id = letter.document_id)
        OR EXISTS (SELECT FROM receipts WHERE receipt_id = letter.document_id)
        OR EXISTS (SELECT FROM statuses WHERE status_id = letter.document_id) THEN 'accepted'
    WHEN EXISTS (SELECT FROM refusals WHERE refusals.document_id = letter.document_id) THEN 'refused'
    ELSE 'parked' END
FROM dead_letters AS letter, unnest($1::bigint[], $2::text[]) AS taken (replay_id, letter_id)
WHERE item.replay_id = taken.replay_id AND item.letter_id = taken.letter_id AND item.outcome IS NULL
    AND letter.letter_id = item.letter_id
RETURNING item.replay_id, item.letter_id, item.outcome, letter.document_id
"""
