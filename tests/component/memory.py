"""Broker and ledger in memory, for the crash sweep only; the same contract tests run on them and on the real ones.

What a real broker and database keep when a process dies is kept here; what they forget is forgotten.
"""

import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hub.core.breaker import (
    SEEN,
    Breaker,
    Sign,
    Tended,
    after_each,
    after_turn,
    allowance,
    before_turn,
    news,
    sign_of,
)
from hub.core.delivery import Delivery, Due, Posting, Transition
from hub.core.grant import Granted
from hub.core.ladder import first_standing
from hub.core.letter import Decision, Letter
from hub.core.part import Kept, StoredObject, Upload, check_parts, digests_of
from hub.core.policy import Pace, Policy
from hub.core.reference import check_references
from hub.core.replay import (
    MOMENT,
    SUSPENDED,
    Outcome,
    Progress,
    Purpose,
    Release,
    ReplayPace,
    ReplayState,
    Step,
    Turn,
    fate_of,
    settle_replayed,
)
from hub.core.settlement import Handover, Settling, StatusSettlement, settle_released
from hub.core.submission import Submission
from hub.core.trouble import Gone, Unavailable
from hub.core.verdict import Accept, Answered, AnswerVerdict, Objection, Park, Refuse, Stated, conflict
from hub.reconcile import Deadline
from hub.replay import Candidate
from hub.returns import Return
from schemas.envelope import ENVELOPE_TYP, URGENCIES
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.refusal import Problem
from schemas.signing import identity


@dataclass(slots=True)
class Message:
    """A message in a queue."""

    submission: Submission
    exchange: str = ""
    times_taken: int = 0


@dataclass(slots=True)
class Batch:
    """What was taken together."""

    messages: list[Message]
    submissions: list[Submission] = field(init=False)

    def __post_init__(self) -> None:
        self.submissions = [
            submission
            for item in self.messages
            for submission in replace(item.submission, redelivered=item.times_taken > 1).untied()
        ]


@dataclass(slots=True)
class ReturnBatch:
    """The same, as the loop of returns wants it."""

    messages: list[Message]
    returns: list[Return]


@dataclass(slots=True)
class MemoryBroker:
    """Queues that survive everything, and what is taken from them and not settled."""

    queues: dict[str, deque[Message]] = field(default_factory=dict)
    bindings: dict[tuple[str, str], str] = field(default_factory=dict)
    unsettled: dict[int, tuple[str, Message]] = field(default_factory=dict)

    def declare(self, queue: str) -> None:
        self.queues.setdefault(queue, deque())

    def bind(self, exchange: str, key: str, queue: str) -> None:
        self.declare(queue)
        self.bindings[exchange, key] = queue

    def publish(self, exchange: str, submission: Submission) -> bool:
        queue = self.bindings.get((exchange, submission.routing_key))
        if queue is None:
            return False
        self.queues[queue].append(Message(submission, exchange))
        return True

    def take(self, queue: str, at_most: int) -> list[Message]:
        taken = []
        while self.queues[queue] and len(taken) < at_most:
            message = self.queues[queue].popleft()
            message.times_taken += 1
            self.unsettled[id(message)] = (queue, message)
            taken.append(message)
        return taken

    def settle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.unsettled.pop(id(message), None)

    def release(self, queue: str | None = None) -> None:
        """Give back what is not settled, to its old place; all of it when the process has died."""
        for key, (source, message) in reversed(list(self.unsettled.items())):
            if queue in (None, source):
                self.queues[source].appendleft(message)
                del self.unsettled[key]


@dataclass(slots=True)
class MemoryInbox:
    """An inbox over a queue in memory."""

    broker: MemoryBroker
    queue: str
    max_batch: int = 50

    async def take(self) -> Batch:
        messages: list[Message] = []
        room = self.max_batch
        while room > 0 and (taken := self.broker.take(self.queue, 1)):
            messages += taken
            room -= len(taken[0].submission.untied())
        return Batch(messages)

    async def acknowledge(self, batch: Batch) -> None:
        self.broker.settle(batch.messages)

    async def release(self) -> None:
        self.broker.release(self.queue)


@dataclass(slots=True)
class MemoryDeadInbox:
    """The inbox of `truc.dead`; a submission under `agency.<delivery id>` stands for a returned delivery."""

    broker: MemoryBroker
    queue: str
    delivery_id_of: Callable[[Submission], DeliveryId | None]

    async def take(self) -> ReturnBatch:
        messages = self.broker.take(self.queue, 50)
        submissions = [submission for message in messages for submission in message.submission.untied()]
        return ReturnBatch(messages, [Return(each, self.delivery_id_of(each)) for each in submissions])

    async def acknowledge(self, batch: ReturnBatch) -> None:
        self.broker.settle(batch.messages)

    async def release(self) -> None:
        self.broker.release(self.queue)


@dataclass(slots=True)
class MemoryOutbox:
    """An outbox that publishes one message after the other, so that the process can die between two."""

    broker: MemoryBroker
    between: Callable[[str], None] = lambda _: None
    fate: Callable[[Posting], Handover | None] = lambda _: None

    async def ready(self) -> None:
        return

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        handovers: list[Handover] = []
        for posting in postings:
            fate = self.fate(posting)
            taken = fate in (None, "unsure") and self.broker.publish(
                posting.exchange, Submission(body=posting.body, user="truc-hub", routing_key=posting.routing_key)
            )
            handovers.append(fate or ("routed" if taken else "unroutable"))
            self.between("outbox.publish between two messages")
        return handovers


@dataclass(slots=True)
class Row:
    """A delivery with what the ledger keeps beside it."""

    delivery: Delivery
    token: bytes
    urgency: int = 0
    code: str | None = None
    next_attempt_at: datetime | None = None
    receipt_due_at: datetime | None = None
    warn_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A ledger event."""

    event: str
    document_id: DocumentId | None = None
    delivery_id: DeliveryId | None = None
    state: str | None = None
    code: str | None = None


@dataclass(slots=True)
class MemoryParts:
    """What the database knows about parts.

    Attributes:
        kept: The finished parts by digest.
        held: Their lengths, by digest and each agency that has uploaded them.
        uploaded_at: When each was last uploaded.
        named: Documents by the digests that they name.
        documents: What the ledger has taken over.
    """

    kept: dict[str, Kept] = field(default_factory=dict)
    held: dict[tuple[str, AgencyCode], int] = field(default_factory=dict)
    uploaded_at: dict[str, datetime] = field(default_factory=dict)
    named: dict[str, set[DocumentId]] = field(default_factory=dict)
    documents: dict[DocumentId, Accept] = field(default_factory=dict)

    async def find(self, sha256: str, agency: AgencyCode, now: datetime) -> Kept | None:
        if (sha256, agency) not in self.held:
            return None
        self.uploaded_at[sha256] = max(now, self.uploaded_at[sha256])
        return self.kept[sha256]

    async def add(self, part: Kept, agency: AgencyCode, now: datetime) -> bool:
        kept = self.kept.setdefault(part.sha256, part)
        self.held[part.sha256, agency] = part.length
        self.uploaded_at[part.sha256] = max(now, self.uploaded_at.get(part.sha256, now))
        return kept.object_key == part.object_key

    async def forget(self, before: datetime) -> list[str]:
        unused = [key for key, at in self.uploaded_at.items() if at < before and not self.named.get(key)]
        self.held = {pair: length for pair, length in self.held.items() if pair[0] not in unused}
        for sha256 in unused:
            del self.uploaded_at[sha256]
        return [self.kept.pop(sha256).object_key for sha256 in unused]

    async def fetchable(self, granted: Granted) -> Kept | None:
        document_id, sha256 = granted.grant.document, granted.grant.part
        accept = self.documents.get(DocumentId(document_id or ""))
        if accept is None or accept.document_id not in self.named.get(str(sha256), ()):
            return None
        envelope = accept.envelope
        received = granted.receives and granted.agency in {each.code for each in accept.addressees}
        sent = granted.agency == envelope.from_ and granted.signer in (envelope.from_, envelope.via)
        return self.kept[str(sha256)] if received or sent else None

    async def known(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(keys) & {kept.object_key for kept in self.kept.values()}

    def name(self, accept: Accept) -> None:
        """What the ledger writes with a document."""
        self.documents[accept.document_id] = accept
        for sha256 in digests_of([accept.envelope]):
            self.named.setdefault(sha256, set()).add(accept.document_id)


@dataclass(slots=True)
class MemoryBlobs:
    """A blob store in memory; what a process was writing when it died is in `staged`."""

    clock: Callable[[], datetime]
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    staged: list[datetime] = field(default_factory=list)
    _walk: list[list[str]] = field(default_factory=list)

    async def put(self, key: str, content: bytes | bytearray) -> None:
        self.objects[key] = bytes(content), self.clock()

    async def put_stream(self, key: str, content: AsyncIterator[bytes]) -> None:
        self.staged.append(self.clock())
        try:
            data = b"".join([piece async for piece in content])
        except Exception:
            self.staged.pop()
            raise
        self.staged.pop()
        self.objects[key] = data, self.clock()

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        if key not in self.objects:
            raise Gone(key)
        for position in range(start, end, 2**16):
            yield self.objects[key][0][position : min(position + 2**16, end)]

    async def chunks(self, upload: Upload) -> list[StoredObject]:
        return [item for item in self._listed() if item.key.startswith(upload.prefix)]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    async def next_objects(self) -> list[StoredObject]:
        """Two at a time, so that even small worlds have more than one page."""
        if not self._walk:
            keys = sorted(self.objects)
            self._walk = [*(keys[first : first + 2] for first in range(0, len(keys), 2)), []]
        page = self._walk.pop(0)
        return [item for item in self._listed() if item.key in page]

    async def remove_staged(self, before: datetime) -> int:
        stays = [at for at in self.staged if at >= before]
        removed, self.staged = len(self.staged) - len(stays), stays
        return removed

    def forget_processes(self) -> None:
        """What is forgotten when a process dies: how far its walk was."""
        self._walk.clear()

    def _listed(self) -> list[StoredObject]:
        return [StoredObject(key, len(content), at) for key, (content, at) in self.objects.items()]


@dataclass(slots=True)
class MemoryLedger:
    """The ledger in memory. Each method changes everything or nothing, as one transaction would."""

    documents: dict[DocumentId, Accept] = field(default_factory=dict)
    envelope_ids: dict[tuple[str, str], DocumentId] = field(default_factory=dict)
    rows: dict[DeliveryId, Row] = field(default_factory=dict)
    receipts: dict[DocumentId, Answered] = field(default_factory=dict)
    statuses: dict[DocumentId, Stated] = field(default_factory=dict)
    refusals: dict[DocumentId, tuple[Refuse, DeliveryId | None]] = field(default_factory=dict)
    parked: dict[bytes, Park] = field(default_factory=dict)
    parked_at: dict[bytes, datetime] = field(default_factory=dict)
    parts: MemoryParts = field(default_factory=MemoryParts)
    events: list[Event] = field(default_factory=list)
    claimed: dict[DeliveryId, "MemoryClaim"] = field(default_factory=dict)
    claims_at_once: int = 0  # with something in them, at most
    breakers: dict[AgencyCode, Breaker] = field(default_factory=dict)
    unsaid: dict[AgencyCode, tuple[datetime, tuple[Sign, ...]]] = field(default_factory=dict)
    max_batch: int = 50
    max_share: int = 60
    policy: Policy = field(default_factory=Policy)
    pace: Pace = field(default_factory=Pace)
    away: int = 0
    months_until: datetime | None = None

    def _reach(self) -> None:
        """Be away for the next few calls, as a database that restarts."""
        if self.away > 0:
            self.away -= 1
            raise Unavailable("database", "restarting")

    async def record(self, decisions: Sequence[Decision], now: datetime) -> list[Objection]:
        self._reach()
        objections = []
        known = {document_id: accept.envelope.from_ for document_id, accept in self.documents.items()}
        for decision in decisions:
            match decision.verdict:
                case Accept() as accept:
                    problems = (
                        *check_references(accept.envelope, known),
                        *check_parts(accept.envelope, self.parts.held),
                    )
                    if problems:
                        objections.append(Objection(accept, problems))
                    elif not self._accept(accept, now):
                        objections.append(conflict(accept))
                case Refuse() as refuse:
                    self._refuse(refuse, decision.notice, now)
                case Park() as park:
                    self._park(park, decision.notice, now)
        return objections

    async def record_answers(self, verdicts: Sequence[AnswerVerdict], settling: Settling, now: datetime) -> None:
        self._reach()
        for verdict in verdicts:
            match verdict:
                case Park() as park:
                    self._park(park, settling.notice(park), now)
                case Answered() as answered if answered.receipt_id not in self.receipts:
                    self.receipts[answered.receipt_id] = answered
                    self.notice(answered.receipt.from_, SEEN, now=now)
                    self._answer(answered, settling, now)
                case Stated() as stated if stated.status_id not in self.statuses:
                    self.statuses[stated.status_id] = stated
                    self.notice(stated.status.from_, SEEN, now=now)
                    self._state(settling.status(stated, self._held([stated.delivery_id])), settling, now)

    async def record_returns(
        self,
        returned: Sequence[DeliveryId],
        parked: Sequence[Park],
        settle: Callable[[Delivery], Transition | None],
        now: datetime,
    ) -> None:
        self._reach()
        for delivery_id in dict.fromkeys(returned):
            row = self.rows.get(delivery_id)
            transition = settle(row.delivery) if row else None
            if transition is not None:
                self._apply([transition], now)
        for park in parked:
            self._park(park, None, now)

    async def resettle(self, deadline: Deadline, settle: Callable[[Delivery], Transition], now: datetime) -> int:
        self._reach()
        match deadline:
            case "overdue":
                late = [row for row in self.rows.values() if row.receipt_due_at and row.receipt_due_at <= now]
            case "expired":
                late = [row for row in self.rows.values() if self._may_expire(row) and row.delivery.expires_at <= now]
        self._apply([settle(row.delivery) for row in late if row.delivery.delivery_id not in self.claimed], now)
        return len(late)

    async def make_months(self, now: datetime) -> int:
        self._reach()
        missing = self.months_until is None or now > self.months_until
        self.months_until = now + timedelta(days=1)
        return int(missing)

    async def warn(self, write: Callable[[Delivery], Letter], now: datetime) -> int:
        self._reach()
        ending = [
            row
            for row in self.rows.values()
            if self._may_expire(row) and row.warn_at is not None and row.warn_at <= now < row.delivery.expires_at
        ]
        for row in ending:
            row.warn_at = None
            self.events.append(
                Event("delivery.expiring", row.delivery.object_id, row.delivery.delivery_id, code="N605")
            )
            self._post(write(row.delivery), now)
        return len(ending)

    async def tend(self, is_suspended: Callable[[AgencyCode], bool], now: datetime) -> list[Tended]:
        self._reach()
        policy = self.policy.breaker
        tended = []
        for code, before in sorted(self.breakers.items()):
            if before.due_at is None or before.due_at > now or before.held_by is not None:
                continue
            breaker = before_turn(before, now, suspended=is_suspended(code))
            held = [
                row for row in self.rows.values() if row.delivery.recipient == code and row.delivery.state == "held"
            ]
            held.sort(key=lambda row: (-row.urgency if breaker.phase == "draining" else 0, row.changed_at))
            out = [row.delivery for row in held[: allowance(breaker, policy)]]
            self._apply([settle_released(delivery, now) for delivery in out], now)
            ids = [delivery.delivery_id for delivery in out]
            self._turn_recipient(before, after_turn(breaker, ids, policy, now, left=bool(held) and not out))
            tended.append(Tended(before, self.breakers[code], len(out)))
        return tended

    def notice(self, code: AgencyCode, *signs: Sign, now: datetime) -> None:
        before = self.breakers.get(code, Breaker(code))
        unsaid_at, unsaid = self.unsaid.pop(code, (now, ()))
        if unsaid_at == now:  # of the same transaction
            signs = (*unsaid, *signs)
        is_routine = all(sign.noticed in ("seen", "answered") for sign in signs)
        lag = timedelta(seconds=self.policy.breaker.seen_lag_s)
        just_seen = before.seen_at is not None and before.seen_at >= now - lag
        if is_routine and just_seen and before.phase == "closed" and not before.failures and not before.failing_since:
            self.unsaid[code] = now, signs
            return
        for earlier, later in pairwise(after_each(before, signs, self.policy.breaker, now)):
            self._turn_recipient(earlier, later)

    def _turn_recipient(self, before: Breaker, breaker: Breaker) -> None:
        self.breakers[breaker.recipient] = breaker
        event = news(before, breaker)
        if event is not None:
            self.events.append(Event(event, code=breaker.code))

    @asynccontextmanager
    async def claim(self, now: datetime) -> Any:
        self._reach()
        due = [
            row
            for key, row in self.rows.items()
            if row.delivery.state == "pending"
            and row.next_attempt_at is not None
            and row.next_attempt_at <= now < row.delivery.expires_at
            and key not in self.claimed
        ]
        due.sort(key=lambda row: (-row.urgency, row.next_attempt_at))
        counts: Counter[AgencyCode] = Counter()
        shared = []
        for row in due:
            counts[row.delivery.recipient] += 1
            if counts[row.delivery.recipient] <= self.max_share:
                shared.append(row)
        unwell = {code: breaker for code, breaker in self.breakers.items() if not breaker.is_well}
        claim = MemoryClaim(
            self,
            [Due(row.delivery, row.token, unwell.get(row.delivery.recipient)) for row in shared[: self.max_batch]],
        )
        self.claimed |= dict.fromkeys((item.delivery.delivery_id for item in claim.due), claim)
        self.claims_at_once = max(self.claims_at_once, len({id(holder) for holder in self.claimed.values()}))
        try:
            yield claim
        finally:
            # What is left of a process that died comes here late, and another claim may have the same deliveries by then.
            self.claimed = {key: holder for key, holder in self.claimed.items() if holder is not claim}
        claim.commit()

    def _held(self, ids: Sequence[DeliveryId]) -> dict[DeliveryId, Delivery]:
        return {key: self.rows[key].delivery for key in ids if key in self.rows}

    def _answer(self, answered: Answered, settling: Settling, now: datetime) -> None:
        held = self._held([answer.delivery_id for answer in answered.receipt.answers])
        settlement = settling.receipt(answered, held)
        self._apply(settlement.transitions, now)
        changed = {transition.delivery.delivery_id for transition in settlement.transitions}
        late = [key for key in held if key not in changed and settlement.park is None]
        self.events += [Event("receipt.late", held[key].object_id, key) for key in late]
        if settlement.forward is not None:
            self._post(settlement.forward, now)
        if settlement.park is not None:
            self._park(settlement.park, settling.notice(settlement.park), now)

    def _state(self, settlement: StatusSettlement, settling: Settling, now: datetime) -> None:
        delivery, standing = settlement.delivery, settlement.standing
        if delivery is not None:
            event = "status.late" if standing is None else "status.moved"
            self.events.append(Event(event, delivery.object_id, delivery.delivery_id))
        if delivery is not None and standing is not None:
            self.rows[delivery.delivery_id].delivery = replace(delivery, standing=standing)
        if settlement.forward is not None:
            self._post(settlement.forward, now)
        if settlement.park is not None:
            self._park(settlement.park, settling.notice(settlement.park), now)

    def apply(self, transitions: Sequence[Transition], now: datetime) -> None:
        self._apply(transitions, now)

    def forget_connections(self) -> None:
        """What the database does when the hub's process dies."""
        self.claimed.clear()

    @staticmethod
    def _may_expire(row: Row) -> bool:
        return row.delivery.state in ("pending", "held") or row.receipt_due_at is not None

    def _accept(self, accept: Accept, now: datetime) -> bool:
        envelope = accept.envelope
        key = (envelope.from_, envelope.id)
        known = self.envelope_ids.get(key)
        if known is not None and known != accept.document_id:
            return False
        if accept.document_id in self.documents:
            if not accept.redelivered:
                self.events.append(Event("document.duplicate", accept.document_id, code="N604"))
            return True
        self.envelope_ids[key] = accept.document_id
        self.documents[accept.document_id] = accept
        self.notice(envelope.from_, SEEN, now=now)
        self.parts.name(accept)
        self.events.append(Event("document.accepted", accept.document_id))
        for index, addressee in enumerate(accept.addressees):
            delivery = Delivery(
                delivery_id=accept.delivery_id(addressee),
                object_id=accept.document_id,
                typ=ENVELOPE_TYP,
                sender=envelope.from_,
                recipient=addressee.code,
                state="pending",
                attempts=0,
                expires_at=datetime.fromtimestamp(envelope.expires, now.tzinfo),
                standing=first_standing(envelope.action),
            )
            urgency = URGENCIES.index(envelope.doc.urgency)
            due_at = self.pace.first_attempt_at(index, now, delivery.expires_at)
            self.rows[delivery.delivery_id] = Row(
                delivery,
                accept.token,
                urgency,
                next_attempt_at=due_at,
                warn_at=self.policy.warn_at(now, delivery.expires_at),
                changed_at=now,
            )
        return True

    def _refuse(self, refuse: Refuse, notice: Letter | None, now: datetime) -> None:
        if refuse.document_id in self.documents:
            if not refuse.submission.redelivered:
                self.events.append(Event("document.duplicate", refuse.document_id, code="N604"))
            return
        if refuse.document_id in self.refusals:
            _, earlier = self.refusals[refuse.document_id]
            if not refuse.submission.redelivered and earlier is not None:
                row = self.rows[earlier]
                if row.delivery.expires_at <= now:
                    self.events.append(Event("document.duplicate", refuse.document_id, code="N604"))
                    if notice is not None:
                        self._post(notice, now)
                elif row.delivery.state == "routed":
                    row.delivery = replace(row.delivery, state="pending")
                    row.next_attempt_at = now
                    self.events.append(Event("delivery.repeated", row.delivery.object_id, earlier, "pending"))
            return
        self.refusals[refuse.document_id] = (refuse, notice.delivery_id if notice else None)
        self.events.append(Event("document.refused", refuse.document_id, code=refuse.problems[0].code))
        if notice is not None:
            self._post(notice, now)

    def _park(self, park: Park, notice: Letter | None, now: datetime) -> None:
        submission = park.submission
        if submission.redelivered and identity(submission.body) in self.documents:
            return
        parts = (submission.user or "", submission.routing_key, submission.message_id or "")
        key = hashlib.sha256("\0".join(parts).encode() + b"\0" + submission.body).digest()
        if key in self.parked:
            return
        self.parked[key] = park
        self.parked_at[key] = now
        self.events.append(Event("submission.parked", code=park.problems[0].code))
        if notice is not None:
            self._post(notice, now)

    def _post(self, letter: Letter, now: datetime) -> None:
        if letter.delivery_id in self.rows:
            return
        delivery = Delivery(
            delivery_id=letter.delivery_id,
            object_id=letter.object_id,
            typ=letter.typ,
            sender=letter.from_,
            recipient=letter.to,
            state="pending",
            attempts=0,
            expires_at=letter.expires_at,
        )
        self.rows[letter.delivery_id] = Row(delivery, letter.token, next_attempt_at=now)

    def _apply(self, transitions: Sequence[Transition], now: datetime) -> None:
        for transition in transitions:
            row = self.rows[transition.delivery.delivery_id]
            assert row.delivery.state == transition.delivery.state, "settled by somebody else in between"
            row.delivery = replace(row.delivery, state=transition.state, attempts=transition.attempts)
            row.code = transition.code
            row.next_attempt_at = transition.next_attempt_at
            row.receipt_due_at = transition.receipt_due_at
            row.changed_at = now
            self.events.append(
                Event(
                    transition.event,
                    transition.delivery.object_id,
                    transition.delivery.delivery_id,
                    transition.state,
                    transition.code,
                )
            )
            if transition.letter is not None:
                self._post(transition.letter, now)
            sign = sign_of(transition)
            if sign is not None:
                self.notice(transition.delivery.recipient, sign, now=now)


@dataclass(slots=True)
class MemoryClaim:
    """Deliveries claimed; what is settled is written when the claim ends well."""

    ledger: MemoryLedger
    due: list[Due]
    leaves_out: bool = False
    settled: list[tuple[Sequence[Transition], datetime]] = field(default_factory=list)

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        self.settled.append((transitions, now))

    def commit(self) -> None:
        for transitions, now in self.settled:
            self.ledger.apply(transitions, now)


@dataclass(slots=True)
class MemoryItem:
    """One delivery of a replay, or one submission that was put aside."""

    delivery_id: DeliveryId | None = None
    parked_id: bytes | None = None
    released_at: datetime | None = None
    outcome: Outcome | None = None
    because: str | None = None
    next_attempt_at: datetime | None = None


@dataclass(slots=True)
class MemoryReplay:
    """One replay of dead letters, or one catch-up."""

    items: list[MemoryItem]
    pace: ReplayPace
    since: datetime
    state: ReplayState = "running"
    said: str | None = None
    purpose: Purpose = "dead-letters"
    agency: AgencyCode | None = None


@dataclass(slots=True)
class MemoryReplays:
    """Replays in memory, over the ledger in memory; only running ones."""

    ledger: MemoryLedger
    replays: dict[int, MemoryReplay] = field(default_factory=dict)

    def start(self, pace: ReplayPace, now: datetime) -> int:
        """Plan and start a replay of everything that is dead or put aside."""
        items = [MemoryItem(key) for key, row in self.ledger.rows.items() if row.delivery.state == "dead"]
        items += [MemoryItem(parked_id=key) for key in self.ledger.parked]
        self.replays[len(self.replays) + 1] = MemoryReplay(items, pace, now)
        return len(self.replays)

    def start_catch_up(self, agency: AgencyCode, pace: ReplayPace, now: datetime) -> int:
        """Begin to hand out again all that an agency has had."""
        had = [
            key
            for key, row in self.ledger.rows.items()
            if row.delivery.recipient == agency
            and (
                row.delivery.state == "received" or (row.delivery.state == "routed" and not row.delivery.wants_receipt)
            )
        ]
        items = [MemoryItem(key) for key in had]
        self.replays[len(self.replays) + 1] = MemoryReplay(items, pace, now, purpose="catch-up", agency=agency)
        return len(self.replays)

    def released(self, purpose: Purpose, now: datetime) -> list[MemoryItem]:
        """List what has been released for a purpose, has no outcome, and is to be tried now."""
        return [
            item
            for replay in self.replays.values()
            if replay.purpose == purpose
            for item in replay.items
            if item.released_at and not item.outcome and (item.next_attempt_at or now) <= now
        ]

    async def settle(self, now: datetime) -> int:
        settled = 0
        for item in self.released("dead-letters", now):
            if item.delivery_id is None:
                continue
            row = self.ledger.rows[item.delivery_id]
            if row.delivery.state in ("received", "dead", "expired"):
                item.outcome, item.because = row.delivery.state, row.code
                settled += 1
        return settled

    async def open_replays(self) -> list[int]:
        return [
            number
            for number, replay in self.replays.items()
            if replay.state == "running" or (replay.state, replay.said) == ("paused", SUSPENDED)
        ]

    async def step(
        self,
        replay_id: int,
        decide: Callable[[Progress], Step],
        rehearse: Callable[[Sequence[Candidate]], Sequence[Problem | None]],
        now: datetime,
    ) -> int:
        replay = self.replays[replay_id]
        match decide(self._progress(replay, now)):
            case Release() as release:
                return self._release(replay, release, rehearse, now)
            case Turn() as turn:
                replay.state, replay.said = turn.state, turn.why
                return 1
            case None:
                return 0

    def _progress(self, replay: MemoryReplay, now: datetime) -> Progress:
        released = sorted((item for item in replay.items if item.released_at), key=lambda item: item.released_at)
        watched = released[:20]
        rows = [self.ledger.rows[item.delivery_id] if item.delivery_id else None for item in watched]
        counted = replay.purpose == "dead-letters"
        minute_ago = now - timedelta(seconds=60)
        return Progress(
            state=replay.state,
            since=replay.since,
            pace=replay.pace,
            waiting=sum(not item.released_at and not item.outcome for item in replay.items),
            in_hand=sum(bool(item.released_at) and not item.outcome for item in replay.items),
            watched=[
                fate_of(item.outcome, row.delivery.state, row.delivery.attempts, row.code)
                if row and counted
                else fate_of(item.outcome, None, 0, None)
                for item, row in zip(watched, rows, strict=True)
            ],
            purpose=replay.purpose,
            agency=replay.agency,
            said=replay.said,
            watched_until=watched[-1].released_at if watched else None,
            released_last_minute=sum(item.released_at > minute_ago for item in released),
            released_just_now=sum(item.released_at > now - MOMENT for item in released),
        )

    def _release(
        self,
        replay: MemoryReplay,
        release: Release,
        rehearse: Callable[[Sequence[Candidate]], Sequence[Problem | None]],
        now: datetime,
    ) -> int:
        given: Counter[str] = Counter()
        for item in replay.items:
            if item.released_at and item.released_at > now - timedelta(seconds=60):
                given[self._recipient(item)] += 1
        chosen = []
        for item in (item for item in replay.items if not item.released_at and not item.outcome):
            recipient = self._recipient(item)
            if len(chosen) < release.at_most and given[recipient] < (release.per_recipient or 10**9):
                given[recipient] += 1
                chosen.append(item)
        if replay.purpose == "catch-up":
            for item in chosen:
                item.released_at = now
            return len(chosen)
        problems = rehearse([self._candidate(item) for item in chosen])
        for item, problem in zip(chosen, problems, strict=True):
            self._begin_anew(item, problem, now)
        return len(chosen)

    def _begin_anew(self, item: MemoryItem, problem: Problem | None, now: datetime) -> None:
        row = self.ledger.rows[item.delivery_id] if item.delivery_id else None
        transition = settle_replayed(row.delivery, now) if row else None
        if row is not None and transition is None:
            item.outcome, item.because = "skipped", f"is-{row.delivery.state}"
        elif problem is not None:
            item.outcome, item.because = "skipped", f"refused-today {problem.code}"
        else:
            item.released_at = now
            self.ledger.apply([transition] if transition else [], now)

    def _recipient(self, item: MemoryItem) -> str:
        return self.ledger.rows[item.delivery_id].delivery.recipient if item.delivery_id else ""

    def _candidate(self, item: MemoryItem) -> Candidate:
        if item.delivery_id is None:
            assert item.parked_id is not None
            return self.put_aside(item.parked_id)
        row = self.ledger.rows[item.delivery_id]
        return Due(row.delivery, row.token)

    def put_aside(self, parked_id: bytes) -> Submission:
        """Give a submission as it was when it was put aside."""
        submission = self.ledger.parked[parked_id].submission
        return replace(submission, redelivered=True, put_aside_at=self.ledger.parked_at[parked_id])
