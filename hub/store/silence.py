"""Knows since when an agency is silent."""

from datetime import datetime
from typing import Final

from hub.store.pool import Pool
from schemas.identifiers import AgencyCode

# The later of: when the oldest document that waits was accepted, and when anything signed by the agency came last, which may
# lag behind by a minute. Nothing where no document waits: whom nobody writes to is not silent.
_SILENT_SINCE: Final = """
SELECT greatest(waiting, (SELECT seen_at FROM recipients WHERE recipient = $1))
FROM (
    SELECT min(created_at) AS waiting FROM deliveries
    WHERE recipient = $1 AND typ = 'truc.document.v1' AND state IN ('pending', 'routed', 'held')
) AS oldest
WHERE waiting IS NOT NULL
"""


class PostgresSilence:
    """What the ledger's tables say about it.

    Args:
        pool: Where to read.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def since(self, agency: AgencyCode) -> datetime | None:
        """Say since when documents wait for an agency while nothing was heard of it; `None` while none wait.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            since: datetime | None = await connection.fetchval(_SILENT_SINCE, agency)
        return since
