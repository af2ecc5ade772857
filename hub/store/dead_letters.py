"""What needs a person: dead deliveries and parked submissions together, and what people do about them.

A group is a code at an agency, such as `E807@H26`; whose turn it is follows from the code. What a person does is an
event of the ledger with who, when and why, in the same transaction. Nothing is deleted: a dismissed letter is restored.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from hub.core.diagnosis import TraceEvent
from hub.core.selection import Kind, LetterState, Selection, side_of
from hub.store.entries import Entries
from hub.store.pool import Connection, Pool
from hub.store.rows import bytes_of
from hub.store.trace import event_of
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.refusal import Actor

DISMISS_BATCH: Final = 5000
"""Most letters of one transaction, so that nobody waits long for one."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that could not be delivered, or a submission that was put aside.

    Attributes:
        kind: Which of both.
        id: Id of the delivery, or of the parked submission.
        code: Why, from the catalogue.
        side: Whose turn it is.
        reason: What the other side said, or what was found; empty when the code says it all.
        agency: The recipient, or the broker user that sent it.
        sender: Who the delivery is from; absent for a submission, of which nobody is proven to be the sender.
        tier: The recipient's at acceptance.
        document_id: Identity of the document, proven for a delivery, claimed for a submission.
        attempts: Attempts to deliver it.
        since: When it died or was put aside.
        times: How often it has died.
        state: `open`, `dismissed`, or `closed` when it needs nobody any more.
        assignee: Who looks after it, or after its group.
    """

    kind: Kind
    id: str
    code: str
    side: Actor
    reason: str
    agency: AgencyCode | None
    sender: AgencyCode | None
    tier: str | None
    document_id: DocumentId
    attempts: int
    since: datetime
    times: int
    state: str
    assignee: str | None


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters with one code at one agency.

    Attributes:
        name: What notes and assignments call it.
        kind: Deliveries or submissions.
        code: Why.
        side: Whose turn it is.
        agency: The recipient, or the broker user.
        count: How many.
        first_seen: Since when there are any.
        last_seen: When the last one came.
        assignee: Who looks after them.
        notes: How many notes there are.
    """

    name: str
    kind: Kind
    code: str
    side: Actor
    agency: AgencyCode | None
    count: int
    first_seen: datetime
    last_seen: datetime
    assignee: str | None
    notes: int


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody wrote."""

    at: datetime
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class Try:
    """One replay that had a letter in its list."""

    replay_id: int
    released_at: datetime | None
    outcome: str | None
    because: str | None


@dataclass(frozen=True, slots=True)
class OpenedLetter:
    """A dead letter with its bytes and its history.

    Attributes:
        letter: What the list shows.
        body: The bytes, for a parked submission at most 256 KiB of them.
        body_length: How many there were.
        archived: The file that has the bytes and the events of its month, when they are archived.
        events: What happened, oldest first.
        notes: What people wrote about it or its group, oldest first.
        replays: The replays it was an item of, oldest first.
    """

    letter: DeadLetter
    body: bytes
    body_length: int
    archived: str | None
    events: tuple[TraceEvent, ...]
    notes: tuple[Note, ...]
    replays: tuple[Try, ...]


def condition(selection: Selection, first: int) -> tuple[str, list[Any]]:
    """Write a selection as a condition on `dead_letters AS letter`, with its arguments.

    Only what is asked for stands in it, so that the planner sees which index serves.

    Args:
        selection: What is asked for.
        first: Number of the first parameter.
    """
    asked: list[tuple[str, Any]] = [("letter.state = ${}", selection.standing)]
    if selection.ids:
        asked.append(("letter.letter_id = ANY(${}::text[])", list(selection.ids)))
    if selection.codes is not None:
        asked.append(("letter.code = ANY(${}::text[])", selection.codes))
    if selection.document is not None:
        asked.append(("letter.document_id = decode(${}, 'hex')", selection.document))
    exact = {"agency": selection.agency, "sender": selection.sender, "tier": selection.tier, "kind": selection.kind}
    asked += [(f"letter.{column} = ${{}}", value) for column, value in exact.items() if value is not None]
    if selection.since is not None:
        asked.append(("letter.since >= ${}", selection.since))
    if selection.until is not None:
        asked.append(("letter.since < ${}", selection.until))
    terms = [term.format(number) for number, (term, _) in enumerate(asked, first)]
    return " AND ".join(terms), [value for _, value in asked]


# What was said when a delivery died stands in its last event, of the moment since when the letter is open.
_LETTER: Final = """
SELECT letter.*, coalesce(attempts, 0) AS attempts,
    coalesce(own.assignee, whole.assignee) AS assignee,
    CASE WHEN letter.kind = 'submission' THEN problems -> 0 ->> 'en' ELSE (
        SELECT detail ->> 'reason'
        FROM ledger
        WHERE ledger.document_id = letter.document_id AND ledger.delivery_id = letter.delivery_id
            AND ledger.state = 'dead' AND ledger.at = letter.since
        ORDER BY event_id DESC
        LIMIT 1
    ) END AS reason
FROM ({chosen}) AS letter
LEFT JOIN deliveries USING (delivery_id)
LEFT JOIN parked USING (parked_id)
LEFT JOIN dead_assignees AS own ON own.about = letter.letter_id
LEFT JOIN dead_assignees AS whole ON whole.about = letter.code || '@' || letter.agency
ORDER BY letter.since DESC, letter.letter_id DESC
"""


async def list_dead(
    pool: Pool, selection: Selection, limit: int = 100, *, before: tuple[datetime, str] | None = None
) -> list[DeadLetter]:
    """List dead letters, the newest first.

    Args:
        pool: Where to look.
        selection: Which ones.
        limit: Most letters to return.
        before: Only those behind this one, given by `since` and `id`: the next page.

    Raises:
        Unavailable: When the database does not answer.
    """
    where, values = condition(selection, 4)
    chosen = f"""
        SELECT * FROM dead_letters AS letter
        WHERE {where} AND ($2::timestamptz IS NULL OR (since, letter_id) < ($2, $3))
        ORDER BY since DESC, letter_id DESC LIMIT $1
    """  # noqa: S608 - of constants
    since, letter_id = before or (None, None)
    async with pool.reading() as connection:
        rows = await connection.fetch(_LETTER.format(chosen=chosen), limit, since, letter_id, *values)
        return [_letter_of(row) for row in rows]


_MARKS: Final = """
LEFT JOIN dead_assignees ON about = code || '@' || agency
LEFT JOIN LATERAL (
    SELECT count(*) AS notes FROM dead_notes WHERE dead_notes.about = code || '@' || agency
) AS noted ON true
ORDER BY number DESC, code, agency
"""

# Groups of which all letters count, as they are counted all along.
_WHOLE_GROUPS: Final = f"""
SELECT kind, code, agency, number, first_seen, last_seen, assignee, notes
FROM (
    SELECT *, CASE WHEN $2::text = 'open' THEN open ELSE dismissed END AS number
    FROM dead_groups
    WHERE ($3::text[] IS NULL OR code = ANY($3)) AND ($4::text IS NULL OR agency = $4)
        AND ($5::text IS NULL OR kind = $5) AND CASE WHEN $2::text = 'open' THEN open ELSE dismissed END > 0
    ORDER BY number DESC, code, agency
    LIMIT $1
) AS known
{_MARKS}
"""  # noqa: S608 - constants only

_SOME_OF_GROUPS: Final = f"""
SELECT kind, code, agency, number, first_seen, last_seen, assignee, notes
FROM (
    SELECT kind, code, agency, count(*) AS number, min(since) AS first_seen, max(since) AS last_seen
    FROM dead_letters AS letter
    WHERE {{where}}
    GROUP BY kind, code, agency
    ORDER BY number DESC, code, agency
    LIMIT $1
) AS found
{_MARKS}
"""  # noqa: S608 - constants only


async def group_dead(pool: Pool, selection: Selection, limit: int = 100) -> list[DeadGroup]:
    """Group dead letters by code and agency, the largest group first.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        if selection.is_of_whole_groups:
            rows = await connection.fetch(
                _WHOLE_GROUPS, limit, selection.standing, selection.codes, selection.agency, selection.kind
            )
        else:
            where, values = condition(selection, 2)
            rows = await connection.fetch(_SOME_OF_GROUPS.format(where=where), limit, *values)
    return [_group_of(row) for row in rows]


async def count_dead(pool: Pool, selection: Selection) -> int:
    """Count dead letters.

    Raises:
        Unavailable: When the database does not answer.
    """
    where, values = condition(selection, 1)
    async with pool.reading() as connection:
        count: int = await connection.fetchval(
            f"SELECT count(*) FROM dead_letters AS letter WHERE {where}",  # noqa: S608 - of constants
            *values,
        )
    return count


_ONE: Final = "SELECT * FROM dead_letters WHERE letter_id = $1"
_BYTES: Final = f"""
SELECT coalesce(token, body, '') AS body, coalesce(length(token), body_length, 0) AS body_length,
    (SELECT file FROM archives WHERE until > stored_at ORDER BY until LIMIT 1) AS archived
FROM dead_letters AS letter
LEFT JOIN deliveries AS delivery USING (delivery_id)
LEFT JOIN LATERAL ({bytes_of("delivery")}) AS kept ON true
LEFT JOIN parked USING (parked_id)
WHERE letter_id = $1
"""  # noqa: S608 - constants only

# What happened to a delivery, and what people did about a letter.
_EVENTS: Final = """
SELECT at, event, actor, code, state, detail
FROM ledger
WHERE document_id = $1 AND (delivery_id = $2 OR detail ->> 'letter' = $3)
ORDER BY event_id
"""
_ARRIVAL: Final = """
SELECT at, event, actor, code, state, detail
FROM ledger
WHERE event = 'submission.parked' AND at = $1 AND detail ->> 'parked' = $2
ORDER BY event_id
"""
_NOTES: Final = "SELECT at, actor, text FROM dead_notes WHERE about = ANY($1::text[]) ORDER BY note_id"
_TRIES: Final = """
SELECT replay_id, released_at, outcome, because FROM replay_items WHERE letter_id = $1 ORDER BY replay_id
"""


async def show(pool: Pool, letter_id: str) -> OpenedLetter | None:
    """Open one dead letter, also one that is closed; `None` when there is none of this id.

    Raises:
        Unavailable: When the database does not answer.
    """
    name = letter_id.lower()
    async with pool.reading() as connection:
        row = await connection.fetchrow(_LETTER.format(chosen=_ONE), name)
        if row is None:
            return None
        kept = await connection.fetchrow(_BYTES, name)
        assert kept is not None
        events = await connection.fetch(_EVENTS, row["document_id"], row["delivery_id"], name)
        if row["kind"] == "submission":
            events = [*await connection.fetch(_ARRIVAL, row["since"], name), *events]
        notes = await connection.fetch(_NOTES, [name, f"{row['code']}@{row['agency']}"])
        tries = await connection.fetch(_TRIES, name)
    return OpenedLetter(
        letter=_letter_of(row),
        body=kept["body"],
        body_length=kept["body_length"],
        archived=kept["archived"],
        events=tuple(map(event_of, events)),
        notes=tuple(Note(**note) for note in notes),
        replays=tuple(Try(**item) for item in tries),
    )


_ADD_NOTE: Final = "INSERT INTO dead_notes (about, at, actor, text) VALUES ($1, $2, $3, $4)"
_ASSIGN: Final = """
INSERT INTO dead_assignees (about, assignee, actor, at) VALUES ($1, $2, $3, $4)
ON CONFLICT (about) DO UPDATE SET assignee = EXCLUDED.assignee, actor = EXCLUDED.actor, at = EXCLUDED.at
"""


async def note(pool: Pool, about: str, text: str, *, actor: str, now: datetime) -> bool:
    """Write a note about a letter or a group; says whether there is one of this name.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        subject = await _subject(connection, about)
        if subject is None:
            return False
        await connection.execute(_ADD_NOTE, subject.name, now, actor, text)
        entries = Entries(now)
        subject.tell(entries, "dead.noted", actor, text=text)
        await entries.write(connection)
        return True


async def assign(pool: Pool, about: str, assignee: str, *, actor: str, now: datetime) -> bool:
    """Say who looks after a letter or a group; says whether there is one of this name.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.transaction() as connection:
        subject = await _subject(connection, about)
        if subject is None:
            return False
        await connection.execute(_ASSIGN, subject.name, assignee, actor, now)
        entries = Entries(now)
        subject.tell(entries, "dead.assigned", actor, assignee=assignee)
        await entries.write(connection)
        return True


@dataclass(frozen=True, slots=True)
class _Subject:
    """A letter or a group, as notes name it; a letter with the document and the delivery that it is about."""

    name: str
    document_id: DocumentId | None = None
    delivery_id: DeliveryId | None = None

    def tell(self, entries: Entries, event: str, actor: str, **facts: str) -> None:
        entries.event(
            event,
            actor,
            object_id=self.document_id,
            delivery_id=self.delivery_id,
            detail={"letter": self.name} | facts,
        )


_GROUP_EXISTS: Final = "SELECT EXISTS (SELECT FROM dead_groups WHERE code || '@' || agency = $1)"


async def _subject(connection: Connection, about: str) -> _Subject | None:
    if "@" in about:
        return _Subject(about) if await connection.fetchval(_GROUP_EXISTS, about) else None
    row = await connection.fetchrow(_ONE, about.lower())
    if row is None:
        return None
    return _Subject(row["letter_id"], DocumentId(row["document_id"].hex()), row["delivery_id"])


async def dismiss(pool: Pool, selection: Selection, reason: str, *, actor: str, now: datetime) -> int:
    """Close letters without sending them again; returns how many.

    Only letters that were there before `now` are taken, so that none is closed that nobody has seen. A part of them at
    a time, each with its events: what a broken connection leaves is done by asking again.

    Raises:
        Unavailable: When the database does not answer.
    """
    return await _move(pool, replace(selection, standing="open"), "dismissed", reason, actor=actor, now=now)


async def restore(pool: Pool, selection: Selection, reason: str, *, actor: str, now: datetime) -> int:
    """Put dismissed letters back onto the list; returns how many.

    Raises:
        Unavailable: When the database does not answer.
    """
    return await _move(pool, replace(selection, standing="dismissed"), "open", reason, actor=actor, now=now)


# Locked in the order of their ids, as whoever closes them does.
_LOCK_SOME: Final = """
SELECT letter_id, delivery_id, document_id
FROM dead_letters AS letter
WHERE {where}
ORDER BY letter_id
LIMIT $1
FOR UPDATE
"""
_MOVE: Final = "UPDATE dead_letters SET state = $2 WHERE letter_id = ANY($1::text[])"


async def _move(pool: Pool, selection: Selection, to: LetterState, reason: str, *, actor: str, now: datetime) -> int:
    until = min(now, selection.until) if selection.until else now
    where, values = condition(replace(selection, until=until), 2)
    moved = 0
    while True:
        async with pool.transaction() as connection:
            rows = await connection.fetch(_LOCK_SOME.format(where=where), DISMISS_BATCH, *values)
            if not rows:
                return moved
            entries = Entries(now)
            for row in rows:
                letter = _Subject(row["letter_id"], DocumentId(row["document_id"].hex()), row["delivery_id"])
                letter.tell(entries, "dead.dismissed" if to == "dismissed" else "dead.restored", actor, reason=reason)
            await connection.execute(_MOVE, [row["letter_id"] for row in rows], to)
            await entries.write(connection)
        moved += len(rows)


def _letter_of(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        kind=row["kind"],
        id=row["letter_id"],
        code=row["code"],
        side=side_of(row["code"]),
        reason=row["reason"] or "",
        agency=AgencyCode(row["agency"]) if row["agency"] else None,
        sender=AgencyCode(row["sender"]) if row["sender"] else None,
        tier=row["tier"],
        document_id=DocumentId(row["document_id"].hex()),
        attempts=row["attempts"],
        since=row["since"],
        times=row["times"],
        state=row["state"],
        assignee=row["assignee"],
    )


def _group_of(row: asyncpg.Record) -> DeadGroup:
    return DeadGroup(
        name=f"{row['code']}@{row['agency']}",
        kind=row["kind"],
        code=row["code"],
        side=side_of(row["code"]),
        agency=AgencyCode(row["agency"]) if row["agency"] else None,
        count=row["number"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        assignee=row["assignee"],
        notes=row["notes"],
    )
