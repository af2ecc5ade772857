"""Figures for a period, recomputed from the ledger's tables each time they are asked for.

A tier is the one that an agency had when the document was accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hub.core.delivery import STATES, State
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


# What is still to be done; the partial indexes answer, so it stays cheap however long the ledger grows.
_UNFINISHED: Final = """
SELECT 'pending' AS state, count(*) AS number FROM deliveries WHERE state = 'pending'
UNION ALL
SELECT 'routed', count(*) FROM deliveries WHERE receipt_due_at IS NOT NULL
UNION ALL
SELECT 'held', count(*) FROM deliveries WHERE state = 'held'
UNION ALL
SELECT 'dead', count(*) FROM deliveries WHERE state = 'dead'
"""


async def deliveries_by_state(pool: Pool) -> dict[State, int]:
    """Count the deliveries that are not settled: pending, routed and awaiting a receipt, held, dead.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        numbers = {row["state"]: row["number"] for row in await connection.fetch(_UNFINISHED)}
    return {state: numbers[state] for state in STATES if state in numbers}
