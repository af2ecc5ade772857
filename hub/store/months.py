"""The months by which events and signed bytes are kept apart; their tables are made ahead.

Where a month is missing nothing is refused: what belongs to it lies in a table of its own until it is made.
"""

from datetime import datetime, timedelta
from typing import Final

from hub.store.pool import Connection

_AHEAD: Final = timedelta(days=93)

# With the rights of the tables' owner, which the hub has not: it can make months and nothing else.
_MAKE_MONTHS: Final = "SELECT make_months($1)"


async def make_months(connection: Connection, now: datetime) -> int:
    """Make the tables of this month and the next three, as far as they are missing; returns how many were."""
    made: int = await connection.fetchval(_MAKE_MONTHS, now + _AHEAD)
    return made
