"""What people order about replays: plan, start, confirm, pause, resume, cancel, redirect, catch up; and look at them.

An order is one transaction: it changes the replay and writes who, when and why into the ledger. Carrying it out is the
business of the hub's loop, not of the person's terminal.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from hub.core.delivery import Delivery
from hub.core.replay import Mode, Purpose, ReplayPace, ReplayState, Turn, settle_redirected
from hub.core.selection import Selection
from hub.core.trouble import Conflict
from hub.store.dead_letters import condition
from hub.store.entries import Entries
from hub.store.pool import Connection, Pool
from hub.store.replay import Rehearse, rehearsed, turn_over, why_not
from hub.store.rows import DELIVERY_COLUMNS, delivery_of, lock_deliveries
from schemas.addresses import Tier
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, delivery_id_of

MAX_ITEMS: Final = 100_000
"""Most items of one replay; who wants more narrows the selection, for example by time."""

_PAGE: Final = 500

MAX_LISTED: Final = 50
"""Recipients that a view names; all are counted."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a replay.

    Attributes:
        agency: Its code.
        count: Items for it that are not excluded.
        last_heard: When it last sent a receipt.
        silent: Whether nothing was heard of it since the last of these items died: it may be down still.
    """

    agency: AgencyCode
    count: int
    last_heard: datetime | None
    silent: bool


@dataclass(frozen=True, slots=True)
class ReplayView:
    """A replay as people look at it.

    Attributes:
        replay_id: Its number.
        purpose: Dead letters, or the catch-up of one agency.
        state: Where it stands.
        said: Why it stands there.
        selection: What was asked for.
        size: Items that are to be sent.
        excluded: Items that were left out when it was planned.
        needs_second: Whether a second person confirms.
        mode, per_minute, per_recipient: How fast it goes; absent until it is started.
        reason: Why it was started.
        planned_by, planned_at, started_by, confirmed_by: Who, when.
        changed_by, changed_at: Who changed it last, when.
        outcomes: Items by what became of them; `waiting` and `in-hand` have no outcome yet.
        reasons: Items that were left out, by why.
        by_code: Items that are not excluded, by code.
        recipients: Recipients with the most items.
        recipient_count: How many recipients there are.
        oldest, newest: Between when its items died.
    """

    replay_id: int
    purpose: Purpose
    state: ReplayState
    said: str | None
    selection: dict[str, Any]
    size: int
    excluded: int
    needs_second: bool
    mode: Mode | None
    per_minute: int | None
    per_recipient: int | None
    reason: str | None
    planned_by: str
    planned_at: datetime
    started_by: str | None
    confirmed_by: str | None
    changed_by: str
    changed_at: datetime
    outcomes: dict[str, int]
    reasons: dict[str, int]
    by_code: dict[str, int]
    recipients: tuple[Recipient, ...]
    recipient_count: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a replay, and what became of it."""

    letter_id: str
    agency: AgencyCode
    code: str
    released_at: datetime | None
    outcome: str | None
    because: str | None
    ended_at: datetime | None


_ADD_REPLAY: Final = """
INSERT INTO replays (
    purpose, state, selection, size, excluded, needs_second, planned_by, planned_at, changed_by, changed_at
)
VALUES ('dead-letters', 'planned', $1, 0, 0, false, $2, $3, $2, $3)
RETURNING replay_id
"""

# The selection, frozen. Each recipient's first item comes before anybody's second. What another open replay has is
# written down as left out; of two plans at once, the second waits here for the first.
_FREEZE: Final = """
WITH chosen AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY agency ORDER BY since, letter_id) AS turn
    FROM (SELECT * FROM dead_letters AS letter WHERE {where} LIMIT $3) AS letter
),
numbered AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY turn, agency, letter_id) AS position FROM chosen
),
taken AS (
    INSERT INTO replay_items (replay_id, letter_id, kind, delivery_id, parked_id, agency, code, since, position)
    SELECT $1, letter_id, kind, delivery_id, parked_id, agency, code, since, position FROM numbered ORDER BY letter_id
    ON CONFLICT (letter_id) WHERE outcome IS NULL DO NOTHING
    RETURNING letter_id
)
INSERT INTO replay_items (
    replay_id, letter_id, kind, delivery_id, parked_id, agency, code, since, position, outcome, because, ended_at
)
SELECT $1, letter_id, kind, delivery_id, parked_id, agency, code, since, position, 'excluded', 'in-another-replay', $2
FROM numbered
WHERE letter_id NOT IN (SELECT letter_id FROM taken)
"""
_ITEMS_BEHIND: Final = """
SELECT letter_id, position FROM replay_items
WHERE replay_id = $1 AND outcome IS NULL AND position > $2
ORDER BY position LIMIT $3
"""
_EXCLUDE: Final = """
UPDATE replay_items SET outcome = 'excluded', because = excluded.because, ended_at = $4
FROM unnest($2::text[], $3::text[]) AS excluded (letter_id, because)
WHERE replay_id = $1 AND replay_items.letter_id = excluded.letter_id
"""
_SIZES: Final = """
SELECT count(*) FILTER (WHERE outcome IS NULL) AS size, count(*) FILTER (WHERE outcome IS NOT NULL) AS excluded,
    coalesce(array_agg(DISTINCT agency) FILTER (WHERE outcome IS NULL AND kind = 'delivery'), '{}') AS recipients
FROM replay_items
WHERE replay_id = $1
"""
_SET_SIZES: Final = "UPDATE replays SET size = $2, excluded = $3, needs_second = $4 WHERE replay_id = $1"


async def plan(
    pool: Pool,
    selection: Selection,
    *,
    rehearse: Rehearse,
    needs_second: Callable[[Collection[AgencyCode], int], bool],
    actor: str,
    now: datetime,
) -> int:
    """Freeze a selection and leave out what must not be sent; returns the number of the replay.

    Args:
        pool: Where to write.
        selection: Which dead letters; only those that were there before `now`.
        rehearse: Says of each why it would fail today; called off the event loop.
        needs_second: Tells from recipients and size whether a second person must confirm.
        actor: Who plans.
        now: The present.

    Raises:
        Conflict: When there are more than `MAX_ITEMS`.
        Unavailable: When the database does not answer; nothing is planned then.
    """
    frozen = replace(selection, until=min(now, selection.until) if selection.until else now)
    where, values = condition(frozen, 4)
    async with pool.transaction() as connection:
        replay_id: int = await connection.fetchval(_ADD_REPLAY, frozen.facts(), actor, now)
        await connection.execute(_FREEZE.format(where=where), replay_id, now, MAX_ITEMS + 1, *values, timeout=300)
        await _exclude(connection, replay_id, rehearse, now)
        sizes = await connection.fetchrow(_SIZES, replay_id)
        assert sizes is not None
        if sizes["size"] + sizes["excluded"] > MAX_ITEMS:
            raise Conflict(
                f"more than {MAX_ITEMS} dead letters are selected: narrow the selection, by time for example"
            )
        if not sizes["size"] + sizes["excluded"]:
            raise Conflict("no dead letter is selected")
        recipients = [AgencyCode(code) for code in sizes["recipients"]]
        second = needs_second(recipients, sizes["size"])
        await connection.execute(_SET_SIZES, replay_id, sizes["size"], sizes["excluded"], second)
        entries = Entries(now)
        facts = {"size": sizes["size"], "excluded": sizes["excluded"], "needs_second": second}
        detail = {"replay": replay_id, "selection": frozen.facts()} | facts
        entries.event("replay.planned", actor, detail=detail)
        await entries.write(connection)
    return replay_id


async def _exclude(connection: Connection, replay_id: int, rehearse: Rehearse, now: datetime) -> None:
    """Go through the items, a page at a time, so that no great many signed objects are in memory together."""
    last = 0
    while rows := await connection.fetch(_ITEMS_BEHIND, replay_id, last, _PAGE):
        last = rows[-1]["position"]
        ids = [row["letter_id"] for row in rows]
        staying = await why_not(connection, ids, now)
        staying |= await rehearsed(connection, [name for name in ids if name not in staying], rehearse)
        if staying:
            await connection.execute(_EXCLUDE, replay_id, list(staying), list(staying.values()), now)


_LOCK: Final = "SELECT * FROM replays WHERE replay_id = $1 FOR UPDATE"
_START: Final = """
UPDATE replays
SET state = $2, mode = $3, per_minute = $4, per_recipient = $5, reason = coalesce(reason, $6),
    started_by = coalesce(started_by, $7), watched_from = CASE WHEN $2 = 'running' THEN $8::timestamptz END,
    said = NULL, changed_by = $7, changed_at = $8
WHERE replay_id = $1
"""


async def start(pool: Pool, replay_id: int, pace: ReplayPace, reason: str, *, actor: str, now: datetime) -> ReplayState:
    """Start a replay, or go on with it at another pace; returns its state then.

    Raises:
        Conflict: When there is no such replay, or it has ended.
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        replay = await _locked(connection, replay_id, ("planned", "awaiting-second", "running", "paused", "stopped"))
        waits = replay["needs_second"] and replay["confirmed_by"] is None
        state: ReplayState = "awaiting-second" if waits else "running"
        await connection.execute(
            _START, replay_id, state, pace.mode, pace.per_minute, pace.per_recipient, reason, actor, now
        )
        facts = {"mode": pace.mode, "per_minute": pace.per_minute, "per_recipient": pace.per_recipient}
        await _tell(connection, f"replay.{state}", replay_id, actor, now, reason=reason, **facts)
        return state


_CONFIRM: Final = """
UPDATE replays
SET state = 'running', confirmed_by = $2, watched_from = $3, said = NULL, changed_by = $2, changed_at = $3
WHERE replay_id = $1
"""


async def confirm(pool: Pool, replay_id: int, *, actor: str, now: datetime) -> None:
    """Let a replay run that waits for a second person.

    Raises:
        Conflict: When it does not wait, or the same person planned or started it.
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        replay = await _locked(connection, replay_id, ("awaiting-second",))
        if actor in (replay["planned_by"], replay["started_by"]):
            raise Conflict(f"replay {replay_id} was planned or started by {actor}: somebody else confirms it")
        await connection.execute(_CONFIRM, replay_id, actor, now)
        await _tell(connection, "replay.confirmed", replay_id, actor, now)


async def pause(pool: Pool, replay_id: int, *, actor: str, now: datetime) -> None:
    """Release nothing more until it is resumed.

    Raises:
        Conflict: When it does not run.
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        await _locked(connection, replay_id, ("running",))
        await turn_over(connection, replay_id, Turn("paused", "by-a-person"), actor, now)


_RESUME: Final = """
UPDATE replays SET state = 'running', watched_from = $3, said = NULL, changed_by = $2, changed_at = $3
WHERE replay_id = $1
"""


async def resume(pool: Pool, replay_id: int, *, actor: str, now: datetime) -> None:
    """Go on with a replay that was paused or has stopped; the next twenty are watched anew.

    Raises:
        Conflict: When it is neither.
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        await _locked(connection, replay_id, ("paused", "stopped"))
        await connection.execute(_RESUME, replay_id, actor, now)
        await _tell(connection, "replay.resumed", replay_id, actor, now)


async def cancel(pool: Pool, replay_id: int, *, actor: str, now: datetime) -> None:
    """End a replay: what was released goes on, what was not stays a dead letter.

    Raises:
        Conflict: When it has ended.
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        open_states: tuple[ReplayState, ...] = ("planned", "awaiting-second", "running", "paused", "stopped")
        await _locked(connection, replay_id, open_states)
        await turn_over(connection, replay_id, Turn("cancelled", "by-a-person"), actor, now)


async def _locked(connection: Connection, replay_id: int, states: Sequence[ReplayState]) -> asyncpg.Record:
    replay = await connection.fetchrow(_LOCK, replay_id)
    if replay is None:
        raise Conflict(f"there is no replay {replay_id}")
    if replay["state"] not in states:
        raise Conflict(f"replay {replay_id} is {replay['state']}; this needs {' or '.join(states)}")
    return replay


async def _tell(
    connection: Connection,
    event: str,
    replay_id: int,
    actor: str,
    now: datetime,
    **facts: Any,
) -> None:
    entries = Entries(now)
    entries.event(event, actor, detail={"replay": replay_id} | facts)
    await entries.write(connection)


_REPLAY: Final = "SELECT * FROM replays WHERE replay_id = $1"
_REPLAYS: Final = "SELECT replay_id FROM replays ORDER BY replay_id DESC LIMIT $1"
_BY_OUTCOME: Final = """
SELECT CASE WHEN outcome IS NOT NULL THEN outcome WHEN released_at IS NULL THEN 'waiting' ELSE 'in-hand' END AS name,
    count(*) AS number
FROM replay_items WHERE replay_id = $1 GROUP BY 1 ORDER BY 1
"""
_BY_REASON: Final = """
SELECT because AS name, count(*) AS number
FROM replay_items WHERE replay_id = $1 AND outcome IN ('excluded', 'skipped') GROUP BY 1 ORDER BY 2 DESC, 1
"""
_BY_CODE: Final = """
SELECT code AS name, count(*) AS number
FROM replay_items WHERE replay_id = $1 AND outcome IS DISTINCT FROM 'excluded' GROUP BY 1 ORDER BY 2 DESC, 1
"""
_BY_RECIPIENT: Final = """
SELECT agency, number, newest, last_heard, count(*) OVER () AS recipients
FROM (
    SELECT agency, count(*) AS number, max(since) AS newest
    FROM replay_items WHERE replay_id = $1 AND outcome IS DISTINCT FROM 'excluded' GROUP BY agency
) AS item
LEFT JOIN LATERAL (
    SELECT max(received_at) AS last_heard FROM receipts WHERE recipient = agency
) AS receipt ON true
ORDER BY number DESC, agency
LIMIT $2
"""
_AGES: Final = """
SELECT min(since) AS oldest, max(since) AS newest
FROM replay_items WHERE replay_id = $1 AND outcome IS DISTINCT FROM 'excluded'
"""


async def view(pool: Pool, replay_id: int) -> ReplayView | None:
    """Look at a replay; `None` when there is none of this number.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        row = await connection.fetchrow(_REPLAY, replay_id)
        if row is None:
            return None
        outcomes, reasons, codes = [
            {line["name"]: line["number"] for line in await connection.fetch(query, replay_id)}
            for query in (_BY_OUTCOME, _BY_REASON, _BY_CODE)
        ]
        recipients = await connection.fetch(_BY_RECIPIENT, replay_id, MAX_LISTED)
        ages = await connection.fetchrow(_AGES, replay_id)
    assert ages is not None
    known = {name: row[name] for name in ReplayView.__dataclass_fields__ if name in row.keys()}  # noqa: SIM118
    return ReplayView(
        **known,
        outcomes=outcomes,
        reasons=reasons,
        by_code=codes,
        recipients=tuple(map(_recipient_of, recipients)),
        recipient_count=recipients[0]["recipients"] if recipients else 0,
        oldest=ages["oldest"],
        newest=ages["newest"],
    )


def _recipient_of(row: asyncpg.Record) -> Recipient:
    heard = row["last_heard"]
    return Recipient(AgencyCode(row["agency"]), row["number"], heard, heard is None or heard < row["newest"])


async def latest(pool: Pool, limit: int = 20) -> list[ReplayView]:
    """Look at the newest replays.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        numbers = [row["replay_id"] for row in await connection.fetch(_REPLAYS, limit)]
    views = [await view(pool, number) for number in numbers]
    return [each for each in views if each is not None]


_ITEMS: Final = """
SELECT letter_id, agency, code, released_at, outcome, because, ended_at
FROM replay_items
WHERE replay_id = $1 AND ($2::text[] IS NULL OR outcome = ANY($2))
ORDER BY position
LIMIT $3
"""

FAILED: Final = ("dead", "expired", "refused", "parked", "skipped")
"""Outcomes of what was to be sent and did not arrive."""


async def items(
    pool: Pool, replay_id: int, *, outcomes: Sequence[str] | None = None, limit: int = MAX_ITEMS
) -> list[Item]:
    """List the items of a replay.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        rows = await connection.fetch(_ITEMS, replay_id, outcomes, limit)
    return [Item(**row) for row in rows]


_ADD_CATCH_UP: Final = """
INSERT INTO replays (
    purpose, state, selection, size, excluded, needs_second, planned_by, planned_at, changed_by, changed_at,
    mode, per_minute, per_recipient, reason, started_by, watched_from
)
VALUES ('catch-up', 'running', $1, 0, 0, false, $2, $3, $2, $3, 'rate', $4, $4, $5, $2, $3)
RETURNING replay_id
"""

# Everything that the agency has had: what it has signed for, and letters that ended in its queue. What is archived is
# written down as left out; that is read here, so no month leaves before this is committed and seen.
_FREEZE_CATCH_UP: Final = f"""
WITH numbered AS MATERIALIZED (
    SELECT delivery_id, changed_at, row_number() OVER (ORDER BY changed_at, delivery_id) AS position,
        stored_at < (SELECT until FROM archived) AS is_archived
    FROM deliveries
    WHERE recipient = $3 AND changed_at >= $4
        AND (state = 'received' OR (state = 'routed' AND typ <> '{ENVELOPE_TYP}'))
    LIMIT $5
),
taken AS (
    INSERT INTO replay_items (replay_id, letter_id, kind, delivery_id, agency, code, since, position)
    SELECT $1, delivery_id::text, 'delivery', delivery_id, $3, '', changed_at, position
    FROM numbered WHERE NOT is_archived ORDER BY delivery_id::text
    ON CONFLICT (letter_id) WHERE outcome IS NULL DO NOTHING
    RETURNING delivery_id
)
INSERT INTO replay_items (
    replay_id, letter_id, kind, delivery_id, agency, code, since, position, outcome, because, ended_at
)
SELECT $1, delivery_id::text, 'delivery', delivery_id, $3, '', changed_at, position, 'excluded',
    CASE WHEN is_archived THEN 'archived' ELSE 'in-another-replay' END, $2
FROM numbered
WHERE delivery_id NOT IN (SELECT delivery_id FROM taken)
"""  # noqa: S608 - constants only


async def catch_up(
    pool: Pool, agency: AgencyCode, since: datetime, *, per_minute: int, reason: str, actor: str, now: datetime
) -> int:
    """Begin to hand out again all that an agency has had since a moment; returns the number of the replay.

    The ledger goes on saying of each delivery what it says: it was received. That it is handed out again is an event
    beside that, and no change of its state.

    Raises:
        Conflict: When there are more than `MAX_ITEMS`.
        Unavailable: When the database does not answer; nothing is begun then.
    """
    async with pool.transaction() as connection:
        return await begin_catch_up(
            connection, agency, since, per_minute=per_minute, reason=reason, actor=actor, now=now
        )


async def begin_catch_up(
    connection: Connection,
    agency: AgencyCode,
    since: datetime,
    *,
    per_minute: int,
    reason: str,
    actor: str,
    now: datetime,
) -> int:
    """Do the same within a transaction, which must not be committed after a `Conflict`."""
    selection = {"agency": agency, "since": since.isoformat()}
    replay_id: int = await connection.fetchval(_ADD_CATCH_UP, selection, actor, now, per_minute, reason)
    await connection.execute(_FREEZE_CATCH_UP, replay_id, now, agency, since, MAX_ITEMS + 1, timeout=300)
    sizes = await connection.fetchrow(_SIZES, replay_id)
    assert sizes is not None
    if sizes["size"] + sizes["excluded"] > MAX_ITEMS:
        raise Conflict(f"{agency} has had more than {MAX_ITEMS} deliveries since then: choose a later moment")
    await connection.execute(_SET_SIZES, replay_id, sizes["size"], sizes["excluded"], False)
    facts = {"selection": selection, "size": sizes["size"], "reason": reason}
    await _tell(connection, "replay.catch-up", replay_id, actor, now, **facts)
    return replay_id


@dataclass(frozen=True, slots=True)
class Redirected:
    """A delivery whose document goes to a successor instead.

    Attributes:
        delivery_id: The delivery that was closed.
        recipient: Whom it was for.
        successor: Who gets the document now.
        new_delivery_id: The delivery to the successor.
        was_owed: Whether the successor was a recipient of the document anyway, so that nothing more is owed to it.
    """

    delivery_id: DeliveryId
    recipient: AgencyCode
    successor: AgencyCode
    new_delivery_id: DeliveryId
    was_owed: bool


# One at a time: two agencies may have been merged into one, and both been recipients of the same document.
_ONE_REDIRECT_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtext('truc redirect'))"
_FACTS: Final = """
SELECT delivery_id, urgency, request, stored_at, stored_at < (SELECT until FROM archived) AS is_archived
FROM deliveries
WHERE delivery_id = ANY($1::uuid[])
"""
_KNOWN: Final = "SELECT delivery_id FROM deliveries WHERE delivery_id = ANY($1::uuid[])"


async def redirect(
    pool: Pool,
    heirs: Sequence[tuple[DeliveryId, AgencyCode, Tier]],
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> list[Redirected]:
    """Close deliveries to agencies that were merged away, and owe their documents to the successors instead.

    Args:
        pool: Where to write.
        heirs: Each delivery with the successor and its tier today.
        reason: Why.
        actor: Who does it.
        now: The present.

    Raises:
        Conflict: When a delivery does not exist, is no document's, is archived, is settled, or its lifetime is over;
            nothing is changed then.
        Unavailable: When the database does not answer.
    """
    redirected = []
    entries = Entries(now)
    async with pool.transaction() as connection:
        await connection.execute(_ONE_REDIRECT_AT_A_TIME)
        deliveries = await lock_deliveries(connection, [delivery_id for delivery_id, _, _ in heirs])
        ids = list(deliveries)
        kept = {row["delivery_id"]: row for row in await connection.fetch(_FACTS, ids)}
        wanted = [delivery_id_of(deliveries[key].object_id, heir) for key, heir, _ in heirs if key in deliveries]
        owed = {row["delivery_id"] for row in await connection.fetch(_KNOWN, wanted)}
        for delivery_id, heir, tier in heirs:
            old = deliveries.get(delivery_id)
            if old is not None and kept[delivery_id]["is_archived"]:
                raise Conflict(f"archived: the bytes of {delivery_id} are in a file, see `truc trace {delivery_id}`")
            new = _delivery_to(heir, _to_be_redirected(old, delivery_id, now))
            assert old is not None
            transition = settle_redirected(old)
            assert transition is not None
            entries.change(transition, actor, to=heir, delivery=str(new.delivery_id), why=reason)
            redirected.append(Redirected(delivery_id, old.recipient, heir, new.delivery_id, new.delivery_id in owed))
            if new.delivery_id not in owed:
                owed.add(new.delivery_id)
                facts = {name: kept[delivery_id][name] for name in ("urgency", "request", "stored_at")}
                entries.owe(new, tier=tier, **facts)
                detail = {
                    "recipients": [heir],
                    "instead_of": str(delivery_id),
                    "recipient": old.recipient,
                    "why": reason,
                }
                entries.event("document.redirected", actor, object_id=old.object_id, detail=detail)
        await entries.write(connection)
    return redirected


def _to_be_redirected(delivery: Delivery | None, delivery_id: DeliveryId, now: datetime) -> Delivery:
    if delivery is None or delivery.typ != ENVELOPE_TYP:
        raise Conflict(f"{delivery_id} is no delivery of a document")
    if settle_redirected(delivery) is None:
        raise Conflict(f"{delivery_id} is {delivery.state}: nothing is to be redirected")
    if delivery.expires_at <= now:
        raise Conflict(f"the lifetime of {delivery_id} is over: the sender sends the document anew")
    return delivery


def _delivery_to(heir: AgencyCode, old: Delivery) -> Delivery:
    new_id = delivery_id_of(old.object_id, heir)
    return replace(old, delivery_id=new_id, recipient=heir, state="pending", attempts=0)


_DELIVERIES: Final = f"SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE delivery_id = ANY($1::uuid[])"  # noqa: S608
_UNDELIVERED: Final = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries
WHERE recipient = $1 AND typ = '{ENVELOPE_TYP}'
    AND (state IN ('pending', 'held', 'routed') OR (state = 'dead' AND code IS DISTINCT FROM 'E810'))
ORDER BY created_at
LIMIT $2
"""  # noqa: S608 - constants only


async def deliveries(pool: Pool, ids: Sequence[DeliveryId]) -> list[Delivery]:
    """Read deliveries; those that do not exist are left out.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        return [delivery_of(row) for row in await connection.fetch(_DELIVERIES, ids)]


async def undelivered_to(pool: Pool, agency: AgencyCode, limit: int = 1000) -> list[Delivery]:
    """List the deliveries of documents that an agency has not settled, oldest first.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        return [delivery_of(row) for row in await connection.fetch(_UNDELIVERED, agency, limit)]
