"""What the methods of the store write alike: events, letters, pending deliveries, and changes of deliveries.

A method collects its `Entries` while it decides, and writes them at the end of its transaction: what is usual in one
statement, whatever the size of the batch, and one more for each further thousand deliveries. What is rare (dead letters,
warnings, statuses, recipients of whom there is news) has statements of its own.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

from hub.core.breaker import SEEN, Breaker, Sign, news, sign_of
from hub.core.delivery import Delivery, Transition
from hub.core.ladder import Standing, first_standing
from hub.core.letter import Letter
from hub.core.policy import Pace, Policy
from hub.core.selection import side_of
from hub.core.verdict import Accept
from hub.store.pool import Connection
from hub.store.recipients import CONCERNED, note_signs, parted
from hub.store.rows import columns, to_bytes, to_datetime
from hub.store.together import Together
from schemas.envelope import ENVELOPE_TYP, URGENCIES
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId

PENDING_CHANNEL: Final = "truc_pending"

SLICE: Final = 1_000
"""Deliveries that one statement adds. To prepare them for it stops everything else in the process for some 20 ms."""


_ONE_BY_ONE: Final = timedelta(milliseconds=10)
"""Before now is the first letter of a batch due, each further one a microsecond after it, so that they go out in this
order: what was said one after the other and came together must not overtake itself."""


class _Owed(NamedTuple):
    """A pending delivery as `_ADD_DELIVERIES` takes it."""

    delivery_id: DeliveryId
    object_id: bytes
    typ: str
    sender: AgencyCode
    recipient: AgencyCode
    recipient_tier: str | None
    urgency: int
    expires_at: datetime
    next_attempt_at: datetime
    request: str | None = None
    warn_at: datetime | None = None
    stored_at: datetime | None = None
    """When its object was stored; absent when that is now."""


@dataclass(slots=True)
class Entries:
    """What one transaction is going to write at one moment.

    Attributes:
        now: The moment.
        policy: By which rules.
    """

    now: datetime
    policy: Policy = field(default_factory=Policy)
    _objects: dict[DocumentId, tuple[bytes, str, bytes]] = field(default_factory=dict)
    _letters: dict[DocumentId, tuple[bytes, str, bytes]] = field(default_factory=dict)
    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _deliveries: list[_Owed] = field(default_factory=list)
    _changes: dict[DeliveryId, tuple[str, Transition]] = field(default_factory=dict)
    _parked: list[bytes] = field(default_factory=list)
    _standings: dict[DeliveryId, Standing] = field(default_factory=dict)
    _warned: list[DeliveryId] = field(default_factory=list)
    _signs: dict[AgencyCode, list[Sign]] = field(default_factory=lambda: defaultdict(list))

    def event(
        self,
        event: str,
        actor: str,
        *,
        object_id: DocumentId | None = None,
        delivery_id: DeliveryId | None = None,
        code: str | None = None,
        state: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Note an event for the ledger."""
        self._events.append((event, actor, object_id and to_bytes(object_id), delivery_id, code, state, detail or None))

    def put_aside(self, parked_id: bytes) -> None:
        """Note a submission that was put aside: a dead letter."""
        self._parked.append(parked_id)

    def keep(self, object_id: DocumentId, typ: str, token: bytes) -> None:
        """Note signed bytes that are new, as a document, receipt or status is that was just written with its key."""
        self._objects[object_id] = to_bytes(object_id), typ, token

    def post(self, letter: Letter) -> None:
        """Note a letter and its pending delivery; its bytes are kept when that is new."""
        if letter.object_id not in self._objects:
            self._letters[letter.object_id] = to_bytes(letter.object_id), letter.typ, letter.token
        self._deliveries.append(
            _Owed(
                letter.delivery_id,
                to_bytes(letter.object_id),
                letter.typ,
                letter.from_,
                letter.to,
                None,
                0,
                letter.expires_at,
                self.now - _ONE_BY_ONE + len(self._deliveries) * timedelta.resolution,
            )
        )

    def deliver(self, accept: Accept, pace: Pace) -> None:
        """Note a document and one pending delivery for each addressee; very many go out at a pace."""
        self.keep(accept.document_id, ENVELOPE_TYP, accept.token)
        object_id, envelope = to_bytes(accept.document_id), accept.envelope
        urgency = URGENCIES.index(envelope.doc.urgency)
        expires_at = to_datetime(envelope.expires)
        request = first_standing(envelope.action).request
        warn_at = self.policy.warn_at(self.now, expires_at)
        self._deliveries.extend(
            _Owed(
                accept.delivery_id(addressee),
                object_id,
                ENVELOPE_TYP,
                envelope.from_,
                addressee.code,
                addressee.tier,
                urgency,
                expires_at,
                pace.first_attempt_at(index, self.now, expires_at),
                request,
                warn_at,
            )
            for index, addressee in enumerate(accept.addressees)
        )

    def owe(
        self, delivery: Delivery, *, tier: str | None, urgency: int, request: str | None, stored_at: datetime
    ) -> None:
        """Note one more pending delivery of a document that was stored at an earlier moment."""
        self._deliveries.append(
            _Owed(
                delivery.delivery_id,
                to_bytes(delivery.object_id),
                delivery.typ,
                delivery.sender,
                delivery.recipient,
                tier,
                urgency,
                delivery.expires_at,
                self.now,
                request,
                self.policy.warn_at(self.now, delivery.expires_at),
                stored_at,
            )
        )

    def change(self, transition: Transition, actor: str, **facts: Any) -> Delivery:
        """Note a change of a locked delivery; returns the delivery as it is then.

        Args:
            transition: The change; one delivery may be changed several times.
            actor: Who caused it.
            facts: Further facts for people, kept with the event.
        """
        before = transition.delivery
        read_as, _ = self._changes.get(before.delivery_id, (before.state, transition))
        self._changes[before.delivery_id] = read_as, transition
        if transition.detail is not None:
            facts["reason"] = transition.detail
        if transition.letter is not None:
            facts["notice"] = transition.letter.object_id
        sign = sign_of(transition)
        if sign is not None:
            self._signs[before.recipient].append(sign)
        self.event(
            transition.event,
            actor,
            object_id=before.object_id,
            delivery_id=before.delivery_id,
            code=transition.code,
            state=transition.state,
            detail=facts,
        )
        if transition.letter is not None:
            self.post(transition.letter)
        return replace(before, state=transition.state, attempts=transition.attempts)

    def stand(self, delivery: Delivery, standing: Standing) -> Delivery:
        """Note where the recipient's office stands with a locked delivery; returns the delivery as it is then."""
        self._standings[delivery.delivery_id] = standing
        return replace(delivery, standing=standing)

    def seen(self, agency: AgencyCode) -> None:
        """Note that something signed by an agency has come."""
        self._signs[agency].append(SEEN)

    def warned(self, delivery: Delivery, letter: Letter) -> None:
        """Note that the sender of a locked delivery is warned of its end."""
        self._warned.append(delivery.delivery_id)
        self.event(
            "delivery.expiring",
            "reconcile",
            object_id=delivery.object_id,
            delivery_id=delivery.delivery_id,
            code="N605",
            detail={"notice": letter.object_id},
        )
        self.post(letter)

    def recipient_news(self, before: Breaker, breaker: Breaker, actor: str) -> None:
        """Note a change of a recipient that people ask about."""
        event = news(before, breaker)
        if event is None:
            return
        facts = {
            "recipient": breaker.recipient,
            "failures": breaker.failures or None,
            "silent_since": breaker.silent_since and breaker.silent_since.isoformat(),
            "probe": breaker.probe and str(breaker.probe),
        }
        detail = {name: value for name, value in facts.items() if value is not None}
        self.event(event, actor, code=breaker.code, detail=detail)

    async def write(self, connection: Connection) -> None:
        """Write everything that was noted."""
        await self._write_dead_letters(connection)
        if self._warned:
            await connection.execute(_MARK_WARNED, self._warned)
        if self._standings:
            rows = ((key, item.progress, item.request) for key, item in self._standings.items())
            await connection.execute(_CHANGE_STANDINGS, *columns(rows), self.now)
        # In the order in which each statement has them as well, so that no two transactions wait crosswise.
        owed = sorted(self._deliveries, key=attrgetter("object_id"))
        last = max(0, len(owed) - 1) // SLICE * SLICE
        for first in range(0, last, SLICE):
            await connection.execute(_ADD_DELIVERIES, *columns(owed[first : first + SLICE]), self.now)
        codes = await self._write_usual(connection, owed[last:])
        if codes:  # locks recipients, so nothing that may wait comes after it
            steps = await note_signs(connection, self._signs, codes, self.policy.breaker, self.now)
            await self._write_news(connection, steps)

    async def _write_usual(self, connection: Connection, owed: Sequence[_Owed]) -> Collection[AgencyCode]:
        """Write what most transactions have something of; returns the agencies whose signs are to be written."""
        together = Together()
        if self._changes:
            together.add("changed", _CHANGE_DELIVERIES, *columns(self._changed_rows()), self.now)
            together.answer("changed", "(SELECT count(*) FROM changed)")
        if owed:
            together.add("owed", f"{_ADD_DELIVERIES} RETURNING object_id", *columns(owed), self.now)
        if self._objects:
            together.add("objects", _ADD_OBJECTS, *columns(self._objects.values()), self.now)
        if self._letters:
            together.add("letters", _ADD_LETTERS, *columns(self._letters.values()), self.now)
        if self._events:
            together.add("events", _ADD_EVENTS, *columns(self._events), self.now)
        if self._deliveries or any(transition.next_attempt_at == self.now for _, transition in self._changes.values()):
            together.answer("rung", _RING, PENDING_CHANNEL)
        telling, alive = parted(self._signs)
        if alive:
            together.answer("concerned", CONCERNED, alive, self.now - timedelta(seconds=self.policy.breaker.seen_lag_s))
        said = await together.run(connection)
        if self._changes and said["changed"] != len(self._changes):
            raise AssertionError(f"{said['changed']} of {len(self._changes)} deliveries changed: one was not locked")
        return telling.union(said["concerned"]) if alive else telling

    async def _write_news(self, connection: Connection, steps: Iterable[tuple[Breaker, Breaker]]) -> None:
        self._events.clear()  # they are written
        for before, breaker in steps:
            self.recipient_news(before, breaker, "breaker")
        if self._events:
            await connection.execute(_ADD_EVENTS, *columns(self._events), self.now)

    def _changed_rows(self) -> Iterable[tuple[Any, ...]]:
        for delivery_id, (read_as, transition) in self._changes.items():
            yield (
                delivery_id,
                read_as,
                transition.state,
                transition.attempts,
                transition.code,
                transition.next_attempt_at,
                transition.receipt_due_at,
            )

    async def _write_dead_letters(self, connection: Connection) -> None:
        """Open a letter for what dies, close that of what is dead no longer or needs nobody."""
        opened, closed = [], []
        for delivery_id, (read_as, transition) in self._changes.items():
            if transition.state == "dead" and side_of(transition.code or "") != "nobody":
                opened.append((delivery_id, transition.code or ""))
            elif read_as == "dead":
                closed.append(str(delivery_id))
        if opened:
            await connection.execute(_OPEN_LETTERS, *columns(opened), self.now)
        if closed:
            await close_letters(connection, closed)
        if self._parked:
            await connection.execute(_OPEN_LETTERS_OF_PARKED, self._parked)


_MARK_WARNED: Final = "UPDATE deliveries SET warn_at = NULL WHERE delivery_id = ANY($1::uuid[])"

# Signed bytes, once for each identity: that they are new, the keys of documents, receipts and statuses have said.
_ADD_OBJECTS: Final = """
INSERT INTO signed_objects (object_id, typ, token, stored_at)
SELECT object_id, typ, token, $4
FROM unnest($1::bytea[], $2::text[], $3::bytea[]) AS incoming (object_id, typ, token)
ON CONFLICT DO NOTHING
"""

# The same for letters of the hub, of which their own delivery says that they are new: two of the same second about the
# same document are the same letter. That delivery is one of `owed`, beside this, or of a thousand before. A look by its
# object for each: joined, a new ledger would be searched by moment. The arrays as with changes.
_ADD_LETTERS: Final = """
INSERT INTO signed_objects (object_id, typ, token, stored_at)
SELECT object_id, typ, token, $4
FROM unnest((SELECT $1::bytea[]), (SELECT $2::text[]), (SELECT $3::bytea[])) AS incoming (object_id, typ, token)
WHERE object_id IN (SELECT object_id FROM owed) OR EXISTS (
    SELECT FROM deliveries WHERE deliveries.object_id = incoming.object_id AND deliveries.stored_at = $4 OFFSET 0
)
ON CONFLICT DO NOTHING
"""

# What is owed to recipients from now on, in the order of their objects, so that no two transactions wait crosswise.
_ADD_DELIVERIES: Final = """
INSERT INTO deliveries (
    delivery_id, object_id, typ, sender, recipient, recipient_tier, urgency, expires_at, next_attempt_at, request,
    warn_at, stored_at, state, created_at, changed_at
)
SELECT
    delivery_id, object_id, typ, sender, recipient, recipient_tier, urgency, expires_at, next_attempt_at, request,
    warn_at, coalesce(stored_at, $13), 'pending', $13, $13
FROM unnest(
    $1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::timestamptz[],
    $9::timestamptz[], $10::text[], $11::timestamptz[], $12::timestamptz[]
) AS incoming (
    delivery_id, object_id, typ, sender, recipient, recipient_tier, urgency, expires_at, next_attempt_at, request,
    warn_at, stored_at
)
ORDER BY object_id
ON CONFLICT DO NOTHING
"""

# Changes of deliveries that this transaction has locked; the state that was read guards against any other. The arrays come
# out of queries of their own, as with `recipients.CONCERNED`: with few of them each call would be planned anew.
_CHANGE_DELIVERIES: Final = """
UPDATE deliveries AS delivery
SET state = change.state, attempts = change.attempts, code = change.code, changed_at = $8,
    next_attempt_at = change.next_attempt_at, receipt_due_at = change.receipt_due_at
FROM unnest(
    (SELECT $1::uuid[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::integer[]), (SELECT $5::text[]), (SELECT $6::timestamptz[]), (SELECT $7::timestamptz[])
) AS change (delivery_id, read_as, state, attempts, code, next_attempt_at, receipt_due_at)
WHERE delivery.delivery_id = change.delivery_id AND delivery.state = change.read_as
RETURNING delivery.delivery_id
"""

# Deliveries that die in this transaction; the letter of an earlier death is opened again.
_OPEN_LETTERS: Final = """
INSERT INTO dead_letters AS known (letter_id, kind, delivery_id, code, agency, sender, tier, document_id, since)
SELECT delivery_id::text, 'delivery', delivery_id, died.code, recipient, sender, recipient_tier, object_id, $3
FROM unnest($1::uuid[], $2::text[]) AS died (delivery_id, code)
JOIN deliveries USING (delivery_id)
ORDER BY delivery_id::text
ON CONFLICT (letter_id) DO UPDATE SET state = 'open', code = EXCLUDED.code, since = EXCLUDED.since, times = known.times + 1
"""
_OPEN_LETTERS_OF_PARKED: Final = """
INSERT INTO dead_letters (letter_id, kind, parked_id, code, agency, document_id, since)
SELECT encode(parked_id, 'hex'), 'submission', parked_id, code, coalesce(broker_user, ''), claimed_id, parked_at
FROM parked
WHERE parked_id = ANY($1::bytea[])
ORDER BY parked_id
"""

# Letters about deliveries that this transaction has locked, or about submissions.
_CLOSE_LETTERS: Final = """
WITH locked AS (
    SELECT letter_id FROM dead_letters WHERE letter_id = ANY($1::text[]) AND state <> 'closed'
    ORDER BY letter_id FOR UPDATE
)
UPDATE dead_letters SET state = 'closed' FROM locked WHERE dead_letters.letter_id = locked.letter_id
"""


async def close_letters(connection: Connection, ids: Sequence[str]) -> None:
    """Take letters off the list of what needs a person."""
    await connection.execute(_CLOSE_LETTERS, ids)


# Where the recipients' offices stand; the rows are locked, and no other statement changes these columns.
_CHANGE_STANDINGS: Final = """
UPDATE deliveries AS delivery
SET progress = change.progress, request = change.request, standing_since = $4
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS change (delivery_id, progress, request)
WHERE delivery.delivery_id = change.delivery_id
"""

# Who, when, what, why.
_ADD_EVENTS: Final = """
INSERT INTO ledger (event, actor, document_id, delivery_id, code, state, detail, at)
SELECT event, actor, document_id, delivery_id, code, state, detail, $8
FROM unnest(
    $1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::text[], $6::text[], $7::jsonb[]
) AS incoming (event, actor, document_id, delivery_id, code, state, detail)
"""

# Tells the dispatchers that there is something to do; sent with the commit, once for each transaction.
_RING: Final = "pg_notify($1, '')"
