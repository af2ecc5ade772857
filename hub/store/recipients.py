"""Keeps how it stands with each recipient.

The row of a recipient is locked after all deliveries of a transaction, several in the order of their codes, and it is
the last thing that a transaction waits for; so no two ever wait for each other. Most transactions need none: what comes
from recipients that are well is read without a lock, and written when what was written last lags behind by
`BreakerPolicy.seen_lag_s`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Final

import asyncpg

from hub.core.breaker import Breaker, Sign, after_each
from hub.core.policy import BreakerPolicy
from hub.store.pool import Connection
from schemas.identifiers import AgencyCode

BREAKER_COLUMNS: Final = (
    "recipient, phase, failures, code, failing_since, seen_at, opened_at, probe, probes, released, settled, due_at, "
    "suspended, held_by, held_reason, held_at"
)

_COLUMNS: Final = BREAKER_COLUMNS.split(", ")
_ROUTINE: Final = ("seen", "answered")
_VALUES: Final = attrgetter(*_COLUMNS)  # `astuple` copies each value, at fifty times the cost


def breaker_of(row: asyncpg.Record) -> Breaker:
    """Read the `BREAKER_COLUMNS` of a row."""
    return Breaker(*(row[name] for name in _COLUMNS))


# Those of $1 of whom a sign of life is news: nobody has seen them since $2, or they are not well. The array comes out of a
# query of its own, as otherwise the planner counts it, believes that each call deserves a plan of its own, and makes one
# every time.
CONCERNED: Final = """
ARRAY(
    SELECT sign.recipient
    FROM unnest((SELECT $1::text[])) AS sign (recipient)
    WHERE NOT EXISTS (
        SELECT FROM recipients
        WHERE recipients.recipient = sign.recipient AND seen_at >= $2
            AND phase = 'closed' AND failures = 0 AND failing_since IS NULL
    )
)
"""

_ADD: Final = """
INSERT INTO recipients (recipient)
SELECT sign.recipient
FROM unnest((SELECT $1::text[])) AS sign (recipient)
WHERE NOT EXISTS (SELECT FROM recipients WHERE recipients.recipient = sign.recipient)
ORDER BY sign.recipient
ON CONFLICT DO NOTHING
"""

_LOCK: Final = f"""
SELECT {BREAKER_COLUMNS}
FROM recipients
WHERE recipient = ANY($1::text[])
ORDER BY recipient
FOR UPDATE
"""  # noqa: S608 - a constant

# Locks them all, in order. Of those that are well and only gave a sign of life ($2) nothing but its time changes, so that is
# written at once; the others are returned. In a large country nearly every agency of a batch is news for a minute.
_LOCK_AND_SEE: Final = f"""
WITH locked AS (
    SELECT {BREAKER_COLUMNS}
    FROM recipients
    WHERE recipient = ANY($1::text[])
    ORDER BY recipient
    FOR UPDATE
), well AS (
    UPDATE recipients
    SET seen_at = $3
    FROM locked
    WHERE recipients.recipient = locked.recipient AND locked.recipient = ANY($2::text[])
        AND locked.phase = 'closed' AND locked.failing_since IS NULL
    RETURNING recipients.recipient
)
SELECT {BREAKER_COLUMNS}
FROM locked
WHERE recipient NOT IN (SELECT recipient FROM well)
ORDER BY recipient
"""  # noqa: S608 - a constant

_CHANGE: Final = f"""
UPDATE recipients
SET ({", ".join(_COLUMNS[1:])}) = ROW (
    {", ".join("change." + name for name in _COLUMNS[1:])}
)
FROM unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
    $8::uuid[], $9::integer[], $10::integer[], $11::integer[], $12::timestamptz[], $13::boolean[], $14::text[],
    $15::text[], $16::timestamptz[]
) AS change ({BREAKER_COLUMNS})
WHERE recipients.recipient = change.recipient
"""  # noqa: S608 - constants only

_SUFFERS: Final = "(phase <> 'closed' OR failures > 0 OR suspended OR held_by IS NOT NULL)"

# Recipients that are not well, of these.
_UNWELL: Final = f"""
SELECT {BREAKER_COLUMNS}
FROM recipients
WHERE recipient = ANY($1::text[]) AND {_SUFFERS}
"""  # noqa: S608 - constants only


async def unwell(connection: Connection, recipients: Collection[AgencyCode]) -> Mapping[AgencyCode, Breaker]:
    """Say how it stands with those of some recipients that are not well."""
    if not recipients:
        return {}
    rows = await connection.fetch(_UNWELL, list(recipients))
    return {AgencyCode(row["recipient"]): breaker_of(row) for row in rows}


def is_unwell(row: str) -> str:
    """Write the condition that the recipient of a row is not well, by a look by its code.

    It holds by the snapshot of its statement; what changes meanwhile is for the next one.
    """
    return f"EXISTS (SELECT FROM recipients WHERE recipients.recipient = {row}.recipient AND {_SUFFERS} OFFSET 0)"


async def lock_recipients(connection: Connection, recipients: Iterable[AgencyCode]) -> list[Breaker]:
    """Lock recipients until the end of the transaction; one that was not known is from now on."""
    codes = sorted(set(recipients))
    await connection.execute(_ADD, codes)
    return [breaker_of(row) for row in await connection.fetch(_LOCK, codes)]


async def change_recipients(connection: Connection, breakers: Sequence[Breaker]) -> None:
    """Write how it stands with locked recipients."""
    if breakers:
        await connection.execute(_CHANGE, *map(list, zip(*map(_VALUES, breakers), strict=True)))


def parted(signs: Mapping[AgencyCode, Sequence[Sign]]) -> tuple[set[AgencyCode], list[AgencyCode]]:
    """Part the agencies whose signs are always written from those that only gave a sign of life, which is rarely news."""
    telling = {code for code, seen in signs.items() if any(sign.noticed not in _ROUTINE for sign in seen)}
    return telling, [code for code in signs if code not in telling]


async def note_signs(
    connection: Connection,
    signs: Mapping[AgencyCode, Sequence[Sign]],
    codes: Collection[AgencyCode],
    policy: BreakerPolicy,
    now: datetime,
) -> list[tuple[Breaker, Breaker]]:
    """Write the signs of some agencies; returns how it stood before and after each thing that may be news.

    One that fails and is well again within a batch was down, and people are told both.

    Args:
        connection: Of the transaction.
        signs: What was noticed.
        codes: Whose signs to write: those that tell more than that they live, and those that are `CONCERNED`.
        policy: By which rules.
        now: When.
    """
    telling, _ = parted(signs)
    ordered = sorted(codes)
    await connection.execute(_ADD, ordered)
    rows = await connection.fetch(_LOCK_AND_SEE, ordered, [code for code in ordered if code not in telling], now)
    before = [breaker_of(row) for row in rows]
    changes = [after_each(breaker, signs[breaker.recipient], policy, now) for breaker in before]
    await change_recipients(connection, [steps[-1] for steps in changes])
    return [step for steps in changes for step in pairwise(steps)]
