"""Figures for a period, recomputed from the ledger's tables each time they are asked for.

A tier is the one that an agency had when the document was accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hub.core.delivery import State
from hub.store.pool import Pool


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was exchanged in a period.

    Attributes:
        sent: Documents accepted, by the sender's tier.
        delivered: Their deliveries, by the recipient's tier and the state in which they are now.
        refused: Documents refused, by the first code.
        parked: Submissions put aside, by the first code.
    """

    sent: Mapping[str, int]
    delivered: Mapping[tuple[str, State], int]
    refused: Mapping[str, int]
    parked: Mapping[str, int]

    def received(self, tier: str) -> int:
        """Count the deliveries that agencies of a tier have signed for."""
        return self.delivered.get((tier, "received"), 0)


_SENT: Final = """
SELECT sender_tier AS name, count(*) AS number
FROM documents
WHERE accepted_at >= $1 AND accepted_at < $2
GROUP BY sender_tier
"""
_DELIVERED: Final = """
SELECT recipient_tier, state, count(*) AS number
FROM documents
JOIN deliveries ON object_id = document_id
WHERE accepted_at >= $1 AND accepted_at < $2
GROUP BY recipient_tier, state
"""
_REFUSED: Final = """
SELECT code AS name, count(*) AS number
FROM refusals
WHERE refused_at >= $1 AND refused_at < $2
GROUP BY code
"""
_PARKED: Final = """
SELECT code AS name, count(*) AS number
FROM parked
WHERE parked_at >= $1 AND parked_at < $2
GROUP BY code
"""


async def exchange(pool: Pool, begin: datetime, end: datetime) -> Exchange:
    """Count what was accepted, delivered and refused from `begin` until before `end`.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        sent, refused, parked = [
            {row["name"]: row["number"] for row in await connection.fetch(query, begin, end)}
            for query in (_SENT, _REFUSED, _PARKED)
        ]
        rows = await connection.fetch(_DELIVERED, begin, end)
    return Exchange(
        sent=sent,
        delivered={(row["recipient_tier"], row["state"]): row["number"] for row in rows},
        refused=refused,
        parked=parked,
    )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Deliveries that are not settled, letters included.

    Attributes:
        pending: Those that wait to be handed over, or for their next attempt.
        routed: Those in the recipient's hands, without a receipt so far.
        overdue: Those of them whose time for a receipt is over.
        held: Those that wait for their recipient.
        dead: Those that need a person; not what a person has dismissed.
    """

    pending: int
    routed: int
    overdue: int
    held: int
    dead: int


# Counted at each scrape. Partial indexes answer, which hold nothing but what is unfinished: it ends with its lifetime, so
# there is never more than the traffic of some days. Dead letters stay for ever; they were counted as they changed.
_UNFINISHED: Final = """
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'pending') AS pending,
    (SELECT count(*) FROM deliveries WHERE receipt_due_at IS NOT NULL) AS routed,
    (SELECT count(*) FROM deliveries WHERE receipt_due_at <= $1) AS overdue,
    (SELECT count(*) FROM deliveries WHERE state = 'held') AS held,
    (SELECT coalesce(sum(open), 0)::bigint FROM dead_groups WHERE kind = 'delivery') AS dead
"""


async def unfinished(pool: Pool, now: datetime) -> Unfinished:
    """Count what is unfinished: takes as long as that is much, and groups of dead letters are many.

    Args:
        pool: Where to read, `by_key`: before the first ANALYZE, as after a restore, the planner takes most deliveries to
            await a receipt, and would read all.
        now: The moment from which a receipt is overdue.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        row = await connection.fetchrow(_UNFINISHED, now)
    assert row is not None
    return Unfinished(**row)
