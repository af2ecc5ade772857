"""Which months are in the ledger, which of them may leave it, and what keeps the others.

A month may leave when nothing of it can need its bytes any more: its deliveries are final and their lifetimes over, no
letter of it is open, no replay has it. Months leave in their order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from hub.store.archive_file import Table
from hub.store.pool import Connection, Pool

HindranceCode = Literal["not-over", "earlier-month", "unfinished", "alive", "dead-letters", "replays"]
"""Why a month stays: it is not over; an earlier one is still there; a delivery is not final; a lifetime is not over; a
dead letter is open; an open replay has something of it."""

MAX_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class Hindrance:
    """A reason why a month stays.

    Attributes:
        code: Which one.
        count: Of how many things.
        ids: Some of them: deliveries, dead letters, replays, months.
    """

    code: HindranceCode
    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MonthPlan:
    """A month that is in the ledger.

    Attributes:
        month: Which one, such as `2026-11`.
        since: Its first moment; absent for the first month, which reaches back to the beginning.
        until: The first moment behind it.
        bytes: What it takes on the disk.
        hindrances: Why it stays; it may leave when there are none.
    """

    month: str
    since: datetime | None
    until: datetime
    bytes: int
    hindrances: tuple[Hindrance, ...]


@dataclass(frozen=True, slots=True)
class Month:
    """A month that has tables.

    Attributes:
        month: Its first day.
        since: Its first moment; absent for the first month, which reaches back to the beginning.
        until: The first moment behind it.
        tables: Its table of each kind.
        bytes: What they take on the disk.
    """

    month: date
    since: datetime | None
    until: datetime
    tables: Mapping[Table, str]
    bytes: int

    @property
    def name(self) -> str:
        """Such as `2026-11`."""
        return f"{self.month:%Y-%m}"

    @property
    def bounds(self) -> tuple[str, datetime]:
        """The first moment and the first behind it, as statements take them."""
        return "-infinity" if self.since is None else self.since.isoformat(), self.until


async def months(pool: Pool, now: datetime, only: date | None = None) -> list[MonthPlan]:
    """List the months that are in the ledger, oldest first, with what speaks against archiving them.

    Args:
        pool: Where to look.
        now: The present.
        only: This month alone.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        found = [each for each in await months_of(connection) if only in (None, each.month)]
        return [
            MonthPlan(
                each.name,
                each.since,
                each.until,
                each.bytes,
                tuple(await hindrances_of(connection, each, now, whole=True)),
            )
            for each in found
        ]


# The months that have tables. The first begins where the last archived one ends, or at the beginning.
_MONTHS: Final = """
SELECT month, until, events_in, bytes_in,
    pg_total_relation_size(events_in::regclass) + pg_total_relation_size(bytes_in::regclass) AS bytes,
    coalesce(lag(until) OVER (ORDER BY month), (SELECT max(until) FROM archives)) AS since
FROM months
ORDER BY month
"""


async def months_of(connection: Connection) -> list[Month]:
    """List the months that have tables, oldest first."""
    return [
        Month(
            row["month"],
            row["since"],
            row["until"],
            {"signed_objects": row["bytes_in"], "ledger": row["events_in"]},
            row["bytes"],
        )
        for row in await connection.fetch(_MONTHS)
    ]


_EARLIER: Final = "SELECT 'earlier-month' AS code, to_char(month, 'YYYY-MM') AS id FROM months WHERE until < $1"

# What may still change; each part reads an index of what is unfinished, however large the ledger is.
_OPEN: Final = """
WITH unfinished AS (
    SELECT delivery_id, stored_at FROM deliveries WHERE state = 'pending'
    UNION ALL
    SELECT delivery_id, stored_at FROM deliveries WHERE state = 'held'
    UNION ALL
    SELECT delivery_id, stored_at FROM deliveries WHERE receipt_due_at IS NOT NULL
),
open AS (
    SELECT 'unfinished' AS code, delivery_id::text AS id, stored_at AS at FROM unfinished
    UNION ALL
    SELECT 'dead-letters', letter_id, coalesce(stored_at, parked_at)
    FROM dead_letters
    LEFT JOIN deliveries USING (delivery_id)
    LEFT JOIN parked USING (parked_id)
    WHERE dead_letters.state = 'open'
    UNION ALL
    SELECT 'replays', replay_id::text, stored_at FROM replay_items JOIN deliveries USING (delivery_id) WHERE outcome IS NULL
)
SELECT code, id FROM open WHERE at >= $1::text::timestamptz AND at < $2
"""

# What is given up only later: until then the broker may give it back, and it is sent again.
_ALIVE: Final = """
SELECT 'alive' AS code, delivery_id::text AS id
FROM deliveries
WHERE stored_at >= $1::text::timestamptz AND stored_at < $2 AND expires_at > $3
"""

_COUNTED: Final = """
SELECT code, count(*) AS number, (array_agg(DISTINCT id))[1:{limit}] AS ids FROM ({query}) AS found GROUP BY code ORDER BY code
"""


async def hindrances_of(connection: Connection, month: Month, now: datetime, *, whole: bool) -> list[Hindrance]:
    """Say what speaks against archiving a month; not `whole` leaves out what time alone has settled."""
    if now < month.until:
        return [Hindrance("not-over", 1, (month.name,))]
    found = await _counted(connection, _EARLIER, month.until) + await _counted(connection, _OPEN, *month.bounds)
    if whole:
        found += await _counted(connection, _ALIVE, *month.bounds, now)
    return found


async def _counted(connection: Connection, query: str, *values: object) -> list[Hindrance]:
    rows = await connection.fetch(_COUNTED.format(query=query, limit=MAX_LISTED), *values)
    return [Hindrance(row["code"], row["number"], tuple(row["ids"])) for row in rows]
