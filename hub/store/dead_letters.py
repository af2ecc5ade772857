"""Lists what needs a person: dead deliveries and parked submissions together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from hub.core.diagnosis import TraceEvent
from hub.store.pool import Pool
from hub.store.trace import event_of
from schemas.identifiers import AgencyCode, DocumentId

Kind = Literal["delivery", "submission"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that could not be delivered, or a submission that was put aside.

    Attributes:
        kind: Which of both.
        id: Id of the delivery, or of the parked submission.
        code: Why, from the catalogue.
        reason: What the other side said, or what was found; empty when the code says it all.
        agency: The recipient, or the broker user that sent it.
        sender: Who the delivery is from; absent for a submission, of which nobody is proven to be the sender.
        document_id: Identity of the document, proven for a delivery, claimed for a submission.
        attempts: Attempts to deliver it.
        since: When it died or was put aside.
    """

    kind: Kind
    id: str
    code: str
    reason: str
    agency: AgencyCode | None
    sender: AgencyCode | None
    document_id: DocumentId
    attempts: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OpenedLetter:
    """A dead letter with its bytes and its history.

    Attributes:
        letter: What the list shows.
        body: The bytes, for a parked submission at most 256 KiB of them.
        body_length: How many there were.
        events: What happened, oldest first.
    """

    letter: DeadLetter
    body: bytes
    body_length: int
    events: tuple[TraceEvent, ...]


# What was said when a delivery died stands in its last event.
_DEAD_DELIVERIES: Final = """
SELECT 'delivery' AS kind, delivery_id::text AS id, code, recipient AS agency, sender, object_id AS document_id,
    attempts, changed_at AS since,
    coalesce((
        SELECT detail ->> 'reason'
        FROM ledger
        WHERE document_id = object_id AND ledger.delivery_id = deliveries.delivery_id AND ledger.state = 'dead'
        ORDER BY event_id DESC
        LIMIT 1
    ), '') AS reason
FROM deliveries
WHERE state = 'dead'
"""
_PARKED: Final = """
SELECT 'submission' AS kind, encode(parked_id, 'hex') AS id, code, broker_user AS agency, NULL AS sender,
    claimed_id AS document_id, 0 AS attempts, parked_at AS since, problems -> 0 ->> 'en' AS reason
FROM parked
"""

# Both together, the newest first; what is older than the last page begins before a moment.
_LIST: Final = f"""
SELECT * FROM (
    ({_DEAD_DELIVERIES} AND ($2::text IS NULL OR recipient = $2) AND ($3::timestamptz IS NULL OR changed_at < $3)
     ORDER BY changed_at DESC LIMIT $1)
    UNION ALL
    ({_PARKED} WHERE ($2::text IS NULL OR broker_user = $2) AND ($3::timestamptz IS NULL OR parked_at < $3)
     ORDER BY parked_at DESC LIMIT $1)
) AS letters
ORDER BY since DESC, id
LIMIT $1
"""  # noqa: S608 - constants only


async def list_dead(
    pool: Pool, limit: int = 100, *, agency: AgencyCode | None = None, before: datetime | None = None
) -> list[DeadLetter]:
    """List dead letters, the newest first.

    Args:
        pool: Where to look.
        limit: Most letters to return.
        agency: Only those for this recipient, or from this broker user.
        before: Only those that are older.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        return [_letter_of(row) for row in await connection.fetch(_LIST, limit, agency, before)]


_ONE_DELIVERY: Final = f"""
SELECT letter.*, token AS body, length(token) AS body_length
FROM ({_DEAD_DELIVERIES} AND delivery_id = $1) AS letter
JOIN signed_objects ON object_id = document_id
"""  # noqa: S608 - constants only
_EVENTS_OF_DELIVERY: Final = """
SELECT at, event, actor, code, state, detail
FROM ledger
WHERE document_id = $1 AND delivery_id = $2
ORDER BY event_id
"""
_ONE_PARKED: Final = f"""
SELECT letter.*, body, body_length
FROM ({_PARKED} WHERE parked_id = $1) AS letter
JOIN parked ON parked_id = $1
"""  # noqa: S608 - constants only
_EVENTS_OF_PARKED: Final = """
SELECT at, event, actor, code, state, detail
FROM ledger
WHERE event = 'submission.parked' AND at = $1 AND detail ->> 'parked' = $2
ORDER BY event_id
"""


async def show(pool: Pool, letter_id: str) -> OpenedLetter | None:
    """Open one dead letter; `None` when there is none of this id.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        events: Sequence[asyncpg.Record]
        if delivery_id := _uuid(letter_id):
            row = await connection.fetchrow(_ONE_DELIVERY, delivery_id)
            if row is None:
                return None
            events = await connection.fetch(_EVENTS_OF_DELIVERY, row["document_id"], delivery_id)
        else:
            row = await connection.fetchrow(_ONE_PARKED, _digest(letter_id))
            if row is None:
                return None
            events = await connection.fetch(_EVENTS_OF_PARKED, row["since"], letter_id.lower())
    return OpenedLetter(_letter_of(row), row["body"], row["body_length"], tuple(map(event_of, events)))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if "-" in text else None
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _letter_of(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        kind=row["kind"],
        id=row["id"],
        code=row["code"] or "",
        reason=row["reason"] or "",
        agency=AgencyCode(row["agency"]) if row["agency"] else None,
        sender=AgencyCode(row["sender"]) if row["sender"] else None,
        document_id=DocumentId(row["document_id"].hex()),
        attempts=row["attempts"],
        since=row["since"],
    )
