"""Lets a person hold a recipient and let it go, and says how it stands with recipients."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hub.core.breaker import Breaker, hold, release
from hub.store.entries import Entries
from hub.store.pool import Pool
from hub.store.recipients import BREAKER_COLUMNS, breaker_of, change_recipients, lock_recipients
from schemas.identifiers import AgencyCode


@dataclass(frozen=True, slots=True)
class Unwell:
    """A recipient that is not well, and how many of its deliveries are held."""

    breaker: Breaker
    held: int


async def hold_recipient(pool: Pool, recipient: AgencyCode, actor: str, reason: str, now: datetime) -> bool:
    """Hold everything for a recipient from now on; returns whether nobody did before.

    Raises:
        Unavailable: When the database does not answer.
    """
    entries = Entries(now)
    async with pool.transaction() as connection:
        (before,) = await lock_recipients(connection, [recipient])
        if before.held_by is not None:
            return False
        await change_recipients(connection, [hold(before, actor, reason, now)])
        entries.event("recipient.held", actor, code="E813", detail={"recipient": recipient, "reason": reason})
        await entries.write(connection)
    return True


async def release_recipient(pool: Pool, recipient: AgencyCode, actor: str, reason: str, now: datetime) -> bool:
    """Let everything held for a recipient go, a few at a time; returns whether anything was held back.

    Raises:
        Unavailable: When the database does not answer.
    """
    entries = Entries(now)
    async with pool.transaction() as connection:
        (before,) = await lock_recipients(connection, [recipient])
        if before.held_by is None and before.phase in ("closed", "draining"):
            return False
        await change_recipients(connection, [release(before, now)])
        entries.event("recipient.released", actor, detail={"recipient": recipient, "reason": reason})
        await entries.write(connection)
    return True


# Recipients that are not well, those held for the longest first, with the number of their deliveries that are held.
_UNWELL: Final = f"""
SELECT {BREAKER_COLUMNS},
    (SELECT count(*) FROM deliveries WHERE state = 'held' AND deliveries.recipient = recipients.recipient) AS held
FROM recipients
WHERE (phase <> 'closed' OR failures > 0 OR suspended OR held_by IS NOT NULL) AND ($1::text IS NULL OR recipient = $1)
ORDER BY coalesce(held_at, opened_at, failing_since), recipient
LIMIT $2
"""  # noqa: S608 - a constant


async def list_unwell(pool: Pool, *, recipient: AgencyCode | None = None, limit: int = 100) -> list[Unwell]:
    """List the recipients that are held, or fail; the longest first.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        return [Unwell(breaker_of(row), row["held"]) for row in await connection.fetch(_UNWELL, recipient, limit)]
