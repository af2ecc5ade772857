"""Writes what was decided: documents taken over, receipts, statuses, returns, deadlines.

Every method is one transaction with a fixed number of statements, whatever the size of its batch, and one more for each
thousand new deliveries. An insert that finds its key taken returns no row, and nothing that follows from it is written:
that is all that makes repetitions harmless.

Locks are taken in one order everywhere: parts, documents, refusals, parked submissions, receipts and statuses by their
keys, then deliveries by their ids, then recipients by their codes.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, assert_never

import asyncpg

from hub.core.breaker import Breaker, Tended, after_turn, allowance, before_turn
from hub.core.delivery import Delivery, Transition
from hub.core.letter import Decision, Letter
from hub.core.part import check_parts
from hub.core.policy import Pace, Policy
from hub.core.reference import check_references
from hub.core.settlement import ReceiptSettlement, Settling, StatusSettlement, settle_released
from hub.core.submission import Submission
from hub.core.verdict import Accept, Answered, AnswerVerdict, Objection, Park, Refuse, Stated, conflict
from hub.store.entries import SLICE, Entries
from hub.store.months import make_months
from hub.store.parts import lock_parts, name_parts
from hub.store.pool import Connection, Pool
from hub.store.recipients import BREAKER_COLUMNS, breaker_of, change_recipients
from hub.store.rows import DELIVERY_COLUMNS, columns, delivery_of, lock_deliveries, to_bytes, to_datetime
from schemas.envelope import URGENCIES
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import RECEIPT_TYP, STATUS_TYP
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES, identity

MAX_KEPT_BYTES: Final = MAX_TOKEN_BYTES
"""Of a parked body; the rest is described by length and digest."""

_MONTHS_EVERY: Final = timedelta(days=1)
_MONTHS_AGAIN: Final = timedelta(minutes=10)

Actor = Literal["intake", "receipts", "returns", "reconcile"]

Decided = tuple[Refuse, Letter | None]
PutAside = tuple[Park, Letter | None]


class PostgresLedger:
    """The ledger, for all loops but dispatch.

    Args:
        pool: Where to write.
        batch_size: Most deliveries that one turn of reconciling settles.
        pace: How fast one document goes out to very many recipients.
        policy: By which rules recipients are held and senders warned.
    """

    def __init__(
        self, pool: Pool, *, batch_size: int = 250, pace: Pace | None = None, policy: Policy | None = None
    ) -> None:
        self._pool = pool
        self._policy = policy or Policy()
        self._pace = pace or Pace()
        self._batch_size = batch_size
        self._months_due_at = datetime.min.replace(tzinfo=UTC)

    async def record(self, decisions: Sequence[Decision], now: datetime) -> Sequence[Objection]:
        """Write a batch of verdicts; what is known already changes nothing.

        Returns:
            The documents that were not written: their sender used the id before for other bytes, here or earlier in
            the batch, has not sent what they refer to, or has not uploaded a part; the batch itself does not count for
            what they refer to.

        Raises:
            Unavailable: When the database does not answer; the batch may or may not be written, and comes again.
            Unstorable: When the database cannot hold a value; nothing of the batch is written.
        """
        accepts: list[Accept] = []
        refusals: list[Decided] = []
        parked: list[PutAside] = []
        for decision in decisions:
            match decision.verdict:
                case Accept() as verdict:
                    accepts.append(verdict)
                case Refuse() as verdict:
                    refusals.append((verdict, decision.notice))
                case Park() as verdict:
                    parked.append((verdict, decision.notice))
                case _:
                    assert_never(decision.verdict)
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            objections = await _accept(connection, accepts, self._pace, entries)
            await _refuse(connection, refusals, entries)
            await _park(connection, parked, "intake", entries)
            await entries.write(connection)
        return objections

    async def record_answers(self, verdicts: Sequence[AnswerVerdict], settling: Settling, now: datetime) -> None:
        """Write a batch of receipts and statuses; one that is known already changes nothing.

        Raises:
            Unavailable: When the database does not answer; the batch may or may not be written, and comes again.
            Unstorable: When the database cannot hold a value; nothing of the batch is written.
        """
        parked = [verdict for verdict in verdicts if isinstance(verdict, Park)]
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            receipts = await _add_receipts(
                connection, [item for item in verdicts if isinstance(item, Answered)], entries
            )
            statuses = await _add_statuses(connection, [item for item in verdicts if isinstance(item, Stated)], entries)
            answered_ids = [answer.delivery_id for answered in receipts for answer in answered.receipt.answers]
            stated_ids = [stated.delivery_id for stated in statuses]
            deliveries = await lock_deliveries(connection, [*answered_ids, *stated_ids])
            settlements: list[ReceiptSettlement | StatusSettlement] = []
            for answered in receipts:
                receipt_settlement = settling.receipt(answered, deliveries)
                settlements.append(receipt_settlement)
                deliveries |= _answer(answered, receipt_settlement, deliveries, entries)
            for stated in statuses:
                status_settlement = settling.status(stated, deliveries)
                settlements.append(status_settlement)
                deliveries |= _state(stated, status_settlement, entries)
            for settlement in settlements:
                if settlement.forward is not None:
                    entries.post(settlement.forward)
                if settlement.park is not None:
                    parked.append(settlement.park)
            await _park(connection, [(park, settling.notice(park)) for park in parked], "receipts", entries)
            await entries.write(connection)

    async def record_returns(
        self,
        returned: Sequence[DeliveryId],
        parked: Sequence[Park],
        settle: Callable[[Delivery], Transition | None],
        now: datetime,
    ) -> None:
        """Write what the broker put aside; a delivery that nobody knows is left out.

        Raises:
            Unavailable: When the database does not answer; the batch may or may not be written, and comes again.
            Unstorable: When the database cannot hold a value; nothing of the batch is written.
        """
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            deliveries = await lock_deliveries(connection, returned)
            for delivery_id in returned:
                delivery = deliveries.get(delivery_id)
                transition = settle(delivery) if delivery is not None else None
                if transition is not None:
                    deliveries[delivery_id] = entries.change(transition, "returns")
            await _park(connection, [(park, None) for park in parked], "returns", entries)
            await entries.write(connection)

    async def resettle(
        self, deadline: Literal["overdue", "expired"], settle: Callable[[Delivery], Transition], now: datetime
    ) -> int:
        """Settle a batch of deliveries past a deadline, oldest first; returns how many there were.

        Deliveries that another process holds are left to it, or to the next turn.

        Raises:
            Unavailable: When the database does not answer.
        """
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            query = _CLAIM_OVERDUE if deadline == "overdue" else _CLAIM_EXPIRED
            late = [delivery_of(row) for row in await connection.fetch(query, now, self._batch_size)]
            for transition in await asyncio.to_thread(lambda: [settle(delivery) for delivery in late]):  # signs notices
                entries.change(transition, "reconcile")
            await entries.write(connection)
        return len(late)

    async def warn(self, write: Callable[[Delivery], Letter], now: datetime) -> int:
        """Warn the senders of a batch of deliveries whose lifetime ends soon, each once; returns how many.

        Raises:
            Unavailable: When the database does not answer.
        """
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            ending = [delivery_of(row) for row in await connection.fetch(_CLAIM_EXPIRING, now, self._batch_size)]
            letters = await asyncio.to_thread(lambda: [write(delivery) for delivery in ending])
            for delivery, letter in zip(ending, letters, strict=True):
                entries.warned(delivery, letter)
            await entries.write(connection)
        return len(ending)

    async def tend(self, is_suspended: Callable[[AgencyCode], bool], now: datetime) -> list[Tended]:
        """See to a batch of recipients whose time has come; returns what was done, nothing when there are none.

        Recipients and deliveries that another process holds are left to it, or to the next turn: this transaction
        locks recipients first, so it must never wait for a delivery.

        Raises:
            Unavailable: When the database does not answer.
        """
        entries = Entries(now, self._policy)
        async with self._pool.transaction() as connection:
            rows = await connection.fetch(_CLAIM_RECIPIENTS, now, _RECIPIENTS_A_TURN)
            tended = [
                await self._tend(connection, breaker, is_suspended(breaker.recipient), entries)
                for breaker in map(breaker_of, rows)
            ]
            await change_recipients(connection, [item.after for item in tended])
            await entries.write(connection)
        return tended

    async def make_months(self, now: datetime) -> int:
        """Make the tables of the coming months, looked at once a day; returns how many were missing.

        Raises:
            Unavailable: When the database does not answer, or somebody reads all months just now; it is tried again
                within minutes.
        """
        if now < self._months_due_at:
            return 0
        self._months_due_at = now + _MONTHS_AGAIN
        async with self._pool.transaction() as connection:
            made = await make_months(connection, now)
        self._months_due_at = now + _MONTHS_EVERY
        return made

    async def _tend(self, connection: Connection, before: Breaker, suspended: bool, entries: Entries) -> Tended:
        policy, now = self._policy.breaker, entries.now
        breaker = before_turn(before, now, suspended=suspended)
        limit = allowance(breaker, policy)
        query = _CLAIM_HELD if breaker.phase == "draining" else _CLAIM_PROBE
        rows = await connection.fetch(query, breaker.recipient, limit) if limit else []
        for row in rows:
            entries.change(settle_released(delivery_of(row), now), "reconcile")
        left = not rows and await connection.fetchval(_HOLDS_SOME, breaker.recipient)
        released = [row["delivery_id"] for row in rows]
        breaker = after_turn(breaker, released, policy, now, left=bool(left))
        entries.recipient_news(before, breaker, "reconcile")
        return Tended(before, breaker, len(rows))


# Documents that are new. One whose identity is known, or whose sender has used its id before, finds a key taken.
# Sorted by sender and id, on which all who send the same document agree, so that no two batches wait crosswise.
_ADD_DOCUMENTS: Final = """
INSERT INTO documents (
    document_id, sender, envelope_id, via, sender_tier, action, refs, printed_number, kind, subject, issued_on,
    urgency, created_at, expires_at, recipients, directory_epoch, accepted_at
)
SELECT
    document_id, sender, envelope_id, via, sender_tier, action, string_to_array(refs, ',')::bytea[], printed_number,
    kind, subject, issued_on::date, urgency, created_at, expires_at, recipients, directory_epoch, $17
FROM unnest(
    $1::bytea[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::smallint[], $13::timestamptz[], $14::timestamptz[], $15::integer[], $16::bigint[]
) AS incoming (
    document_id, sender, envelope_id, via, sender_tier, action, refs, printed_number, kind,
    subject, issued_on, urgency, created_at, expires_at, recipients, directory_epoch
)
ORDER BY sender, envelope_id
ON CONFLICT DO NOTHING
RETURNING document_id
"""


async def _accept(connection: Connection, accepts: Sequence[Accept], pace: Pace, entries: Entries) -> list[Objection]:
    """Take documents over; returns what speaks against the others."""
    if not accepts:
        return []
    complete, objections = await _with_references_and_parts(connection, accepts)
    # The first in the batch stands for its id; the others are repetitions of it, or conflicts.
    first = {(accept.envelope.from_, accept.envelope.id): accept for accept in reversed(complete)}
    new = await _add_documents(connection, list(first.values()), entries)
    rest = []
    for accept in complete:
        if accept.document_id not in new:
            rest.append(accept)
            continue
        new.remove(accept.document_id)
        entries.seen(accept.envelope.from_)
        if len(accept.addressees) > SLICE:
            await asyncio.to_thread(entries.deliver, accept, pace)  # so that others go on meanwhile
        else:
            entries.deliver(accept, pace)
        entries.event(
            "document.accepted",
            "intake",
            object_id=accept.document_id,
            detail={
                "recipients": [addressee.code for addressee in accept.addressees],
                "directory_epoch": accept.directory_epoch,
            },
        )
    known = await _accepted(connection, [accept.document_id for accept in rest])
    for accept in rest:
        if accept.document_id in known and not accept.redelivered:
            _note_duplicate(accept.document_id, entries)
    return objections + [conflict(accept) for accept in rest if accept.document_id not in known]


# Which of these documents the hub has taken over, and from whom.
_SENDERS: Final = "SELECT document_id, sender FROM documents WHERE document_id = ANY($1::bytea[])"


async def _with_references_and_parts(
    connection: Connection, accepts: Sequence[Accept]
) -> tuple[list[Accept], list[Objection]]:
    """Part the documents whose references are known and whose parts are there from the others."""
    senders = await _senders_of_references(connection, accepts)
    held = await lock_parts(connection, accepts)
    complete, objections = [], []
    for accept in accepts:
        problems = (*check_references(accept.envelope, senders), *check_parts(accept.envelope, held))
        if problems:
            objections.append(Objection(accept, problems))
        else:
            complete.append(accept)
    return complete, objections


async def _senders_of_references(connection: Connection, accepts: Sequence[Accept]) -> dict[DocumentId, AgencyCode]:
    """Say who has sent the documents that these refer to; most refer to nothing."""
    wanted = {ref for accept in accepts for ref in accept.envelope.ref}
    if not wanted:
        return {}
    rows = await connection.fetch(_SENDERS, [to_bytes(ref) for ref in sorted(wanted)])
    return {_document_id(row): AgencyCode(row["sender"]) for row in rows}


async def _add_documents(connection: Connection, accepts: Sequence[Accept], entries: Entries) -> set[DocumentId]:
    """Write documents with the parts that they name; returns those that are new."""
    if not accepts:
        return set()
    rows = await connection.fetch(_ADD_DOCUMENTS, *columns(map(_document_row, accepts)), entries.now)
    new = {_document_id(row) for row in rows}
    await name_parts(connection, [accept for accept in accepts if accept.document_id in new])
    return new


def _document_row(accept: Accept) -> tuple[object, ...]:
    envelope, doc = accept.envelope, accept.envelope.doc
    return (
        to_bytes(accept.document_id),
        envelope.from_,
        envelope.id,
        envelope.via,
        accept.sender_tier,
        envelope.action,
        ",".join(rf"\x{ref}" for ref in envelope.ref),
        doc.printed_number,
        doc.kind,
        doc.subject,
        doc.issued_on,
        URGENCIES.index(doc.urgency),
        to_datetime(envelope.created),
        to_datetime(envelope.expires),
        len(accept.addressees),
        accept.directory_epoch,
    )


# Which of these documents the hub has taken over.
_ACCEPTED: Final = "SELECT document_id FROM documents WHERE document_id = ANY($1::bytea[])"


async def _accepted(connection: Connection, ids: Iterable[DocumentId]) -> set[DocumentId]:
    wanted = [to_bytes(document_id) for document_id in ids]
    if not wanted:
        return set()
    return {_document_id(row) for row in await connection.fetch(_ACCEPTED, wanted)}


def _document_id(row: asyncpg.Record) -> DocumentId:
    return DocumentId(row["document_id"].hex())


def _note_duplicate(document_id: DocumentId, entries: Entries) -> None:
    entries.event("document.duplicate", "intake", object_id=document_id, code="N604")


# Refusals of documents that were not refused before.
_ADD_REFUSALS: Final = """
INSERT INTO refusals (document_id, signer, envelope_id, code, problems, body, notice_id, refused_at)
SELECT document_id, signer, envelope_id, code, problems::jsonb, body, notice_id, $8
FROM unnest($1::bytea[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])
    AS incoming (document_id, signer, envelope_id, code, problems, body, notice_id)
ORDER BY document_id
ON CONFLICT DO NOTHING
RETURNING document_id
"""


async def _refuse(connection: Connection, refusals: Sequence[Decided], entries: Entries) -> None:
    """Write refusals; who sends a refused document again gets the first answer again."""
    if not refusals:
        return
    # What was taken over stays so, even if the same bytes would be refused today.
    known = await _accepted(connection, (refuse.document_id for refuse, _ in refusals))
    first = {refuse.document_id: (refuse, notice) for refuse, notice in reversed(refusals)}
    candidates = [decided for document_id, decided in first.items() if document_id not in known]
    new: set[DocumentId] = set()
    if candidates:
        rows = await connection.fetch(_ADD_REFUSALS, *columns(map(_refusal_row, candidates)), entries.now)
        new = {_document_id(row) for row in rows}
    again: dict[DocumentId, Letter | None] = {}
    for refuse, notice in refusals:
        if refuse.document_id in new:
            new.remove(refuse.document_id)
            _note_refusal(refuse, notice, entries)
        elif refuse.submission.redelivered:
            continue
        elif refuse.document_id in known:
            _note_duplicate(refuse.document_id, entries)
        else:
            again[refuse.document_id] = notice
    await _answer_again(connection, again, entries)


def _refusal_row(decided: Decided) -> tuple[object, ...]:
    refuse, notice = decided
    return (
        to_bytes(refuse.document_id),
        refuse.signer,
        refuse.envelope_id,
        refuse.problems[0].code,
        _to_json(refuse.problems),
        refuse.submission.body,
        notice and to_bytes(notice.object_id),
    )


def _note_refusal(refuse: Refuse, notice: Letter | None, entries: Entries) -> None:
    entries.event(
        "document.refused",
        "intake",
        object_id=refuse.document_id,
        code=refuse.problems[0].code,
        detail={"signer": refuse.signer, "codes": [problem.code for problem in refuse.problems]},
    )
    if notice is not None:
        entries.post(notice)


# The notices of refused documents that can still go out.
_LOCK_NOTICES: Final = f"""
SELECT document_id, {DELIVERY_COLUMNS}
FROM refusals
JOIN deliveries ON object_id = notice_id
WHERE document_id = ANY($1::bytea[]) AND deliveries.expires_at > $2
ORDER BY delivery_id
FOR UPDATE OF deliveries
"""  # noqa: S608 - a constant


async def _answer_again(connection: Connection, notices: Mapping[DocumentId, Letter | None], entries: Entries) -> None:
    """Give the first answer again; after its lifetime, when its bytes may be archived, today's."""
    if not notices:
        return
    rows = await connection.fetch(_LOCK_NOTICES, [to_bytes(document_id) for document_id in notices], entries.now)
    for row in rows:
        if row["state"] == "routed":
            transition = Transition(
                delivery_of(row), "delivery.repeated", "pending", 0, code="N604", next_attempt_at=entries.now
            )
            entries.change(transition, "intake")
    answered = {_document_id(row) for row in rows}
    for document_id, notice in notices.items():
        if document_id in answered:
            continue
        _note_duplicate(document_id, entries)
        if notice is not None:
            entries.post(notice)


# Submissions that were not parked before.
_ADD_PARKED: Final = """
INSERT INTO parked (
    parked_id, broker_user, routing_key, message_id, code, problems, body, body_length, body_sha256, claimed_id, parked_at
)
SELECT
    parked_id, broker_user, routing_key, message_id, code, problems::jsonb, body, body_length, body_sha256, claimed_id,
    $11
FROM unnest(
    $1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bigint[], $9::bytea[],
    $10::bytea[]
) AS incoming (
    parked_id, broker_user, routing_key, message_id, code, problems, body, body_length, body_sha256, claimed_id
)
ORDER BY parked_id
ON CONFLICT DO NOTHING
RETURNING parked_id
"""


async def _park(connection: Connection, parked: Sequence[PutAside], actor: Actor, entries: Entries) -> None:
    """Put submissions aside, but for what the broker repeats of documents that were answered before."""
    repeated = [_claimed(park) for park, _ in parked if park.submission.redelivered]
    answered = await _accepted(connection, repeated)
    parked = [item for item in parked if not (item[0].submission.redelivered and _claimed(item[0]) in answered)]
    if not parked:
        return
    first = {parked_id_of(park.submission): (park, notice) for park, notice in reversed(parked)}
    rows = [_parked_row(parked_id, park) for parked_id, (park, _) in first.items()]
    for row in await connection.fetch(_ADD_PARKED, *columns(rows), entries.now):
        park, notice = first[row["parked_id"]]
        entries.put_aside(row["parked_id"])
        entries.event(
            "submission.parked",
            actor,
            code=park.problems[0].code,
            detail={
                "parked": row["parked_id"].hex(),
                "user": park.submission.user,
                "codes": [problem.code for problem in park.problems],
            },
        )
        if notice is not None:
            entries.post(notice)


def _claimed(park: Park) -> DocumentId:
    return identity(park.submission.body)


def parked_id_of(submission: Submission) -> bytes:
    """Name an arrival by what it brought and how it came, so that the broker's repetition is the same one."""
    digest = hashlib.sha256()
    for item in (submission.user, submission.routing_key, submission.message_id):
        text = b"" if item is None else b"+" + item.encode(errors="surrogatepass")
        digest.update(len(text).to_bytes(4) + text)
    digest.update(submission.body)
    return digest.digest()


def _parked_row(parked_id: bytes, park: Park) -> tuple[object, ...]:
    submission = park.submission
    return (
        parked_id,
        submission.user,
        submission.routing_key,
        submission.message_id,
        park.problems[0].code,
        _to_json(park.problems),
        submission.body[:MAX_KEPT_BYTES],
        len(submission.body),
        hashlib.sha256(submission.body).digest(),
        to_bytes(identity(submission.body)),
    )


def _to_json(problems: Sequence[Problem]) -> str:
    # As text: a list within an array would be taken for a second dimension of it.
    return json.dumps([asdict(problem) for problem in problems])


# Receipts that did not come before.
_ADD_RECEIPTS: Final = """
INSERT INTO receipts (receipt_id, recipient, sender, received_at)
SELECT receipt_id, recipient, sender, $4
FROM unnest($1::bytea[], $2::text[], $3::text[]) AS incoming (receipt_id, recipient, sender)
ORDER BY receipt_id
ON CONFLICT DO NOTHING
RETURNING receipt_id
"""


async def _add_receipts(connection: Connection, answered: Sequence[Answered], entries: Entries) -> list[Answered]:
    """Write receipts; returns those that are new, in their order."""
    if not answered:
        return []
    first = {item.receipt_id: item for item in reversed(answered)}
    rows = [(to_bytes(item.receipt_id), item.receipt.from_, item.receipt.to) for item in first.values()]
    new = {row["receipt_id"].hex() for row in await connection.fetch(_ADD_RECEIPTS, *columns(rows), entries.now)}
    fresh = [item for item in reversed(first.values()) if item.receipt_id in new]
    for item in fresh:
        entries.keep(item.receipt_id, RECEIPT_TYP, item.token)
        entries.seen(item.receipt.from_)
    return fresh


def _answer(
    answered: Answered, settlement: ReceiptSettlement, deliveries: Mapping[DeliveryId, Delivery], entries: Entries
) -> dict[DeliveryId, Delivery]:
    """Note what a receipt changes, and which of its answers came too late; returns the changed deliveries."""
    receipt_id, signer = answered.receipt_id, answered.signer
    changed = {
        transition.delivery.delivery_id: entries.change(transition, signer, receipt=receipt_id)
        for transition in settlement.transitions
    }
    disputed = {problem.pointer for problem in settlement.park.problems} if settlement.park is not None else set()
    for index, answer in enumerate(answered.receipt.answers):
        if answer.delivery_id in changed or f"/answers/{index}/delivery" in disputed:
            continue
        entries.event(
            "receipt.late",
            signer,
            object_id=deliveries[answer.delivery_id].object_id,
            delivery_id=answer.delivery_id,
            detail={"receipt": receipt_id, "outcome": answer.outcome},
        )
    return changed


# Statuses that did not come before.
_ADD_STATUSES: Final = """
INSERT INTO statuses (status_id, delivery_id, agency, status, said_at, arrived_at)
SELECT status_id, delivery_id, agency, status, said_at, $6
FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[])
    AS incoming (status_id, delivery_id, agency, status, said_at)
ORDER BY status_id
ON CONFLICT DO NOTHING
RETURNING status_id
"""


async def _add_statuses(connection: Connection, stated: Sequence[Stated], entries: Entries) -> list[Stated]:
    """Write statuses; returns those that are new, in their order."""
    if not stated:
        return []
    first = {item.status_id: item for item in reversed(stated)}
    rows = [
        (to_bytes(item.status_id), item.delivery_id, item.status.from_, item.status.status, to_datetime(item.status.at))
        for item in first.values()
    ]
    new = {row["status_id"].hex() for row in await connection.fetch(_ADD_STATUSES, *columns(rows), entries.now)}
    fresh = [item for item in reversed(first.values()) if item.status_id in new]
    for item in fresh:
        entries.keep(item.status_id, STATUS_TYP, item.token)
        entries.seen(item.status.from_)
    return fresh


def _state(stated: Stated, settlement: StatusSettlement, entries: Entries) -> dict[DeliveryId, Delivery]:
    """Note what a status changes, or that it came too late; returns the changed delivery."""
    delivery, standing, status = settlement.delivery, settlement.standing, stated.status
    if delivery is None:
        return {}
    stands = standing or delivery.standing
    facts = {
        "status": stated.status_id,
        "said": status.status,
        "said_at": status.at,
        "reason": status.detail,
        "progress": stands.progress,
        "request": stands.request,
    }
    entries.event(
        "status.late" if standing is None else "status.moved",
        stated.signer,
        object_id=delivery.object_id,
        delivery_id=delivery.delivery_id,
        detail={name: value for name, value in facts.items() if value is not None},
    )
    return {} if standing is None else {delivery.delivery_id: entries.stand(delivery, standing)}


# Routed deliveries whose receipt is overdue.
_CLAIM_OVERDUE: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE receipt_due_at <= $1
ORDER BY receipt_due_at
LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

# Deliveries that are not settled at the end of their lifetime.
_CLAIM_EXPIRED: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE coalesce(warn_at, expires_at) <= $1 AND expires_at <= $1
    AND (state IN ('pending', 'held') OR receipt_due_at IS NOT NULL)
ORDER BY coalesce(warn_at, expires_at)
LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

# Deliveries whose sender is to be warned of their end.
_CLAIM_EXPIRING: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE coalesce(warn_at, expires_at) <= $1 AND warn_at <= $1 AND expires_at > $1
    AND (state IN ('pending', 'held') OR receipt_due_at IS NOT NULL)
ORDER BY coalesce(warn_at, expires_at)
LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

_RECIPIENTS_A_TURN: Final = 20

# Recipients about whom something is to be done.
_CLAIM_RECIPIENTS: Final = f"""
SELECT {BREAKER_COLUMNS}
FROM recipients
WHERE due_at <= $1 AND held_by IS NULL
ORDER BY due_at
LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

# What is held for a recipient, the most urgent first, then the longest held.
_CLAIM_HELD: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE state = 'held' AND recipient = $1
ORDER BY urgency DESC, changed_at
LIMIT $2
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

# The longest held of all urgencies, so that a probe that failed is the last to be one again.
_CLAIM_PROBE: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE delivery_id = (
    SELECT first.delivery_id
    FROM generate_series(0, {len(URGENCIES) - 1}) AS level (urgency)
    CROSS JOIN LATERAL (
        SELECT delivery_id, changed_at
        FROM deliveries
        WHERE state = 'held' AND recipient = $1 AND deliveries.urgency = level.urgency
        ORDER BY changed_at
        LIMIT 1
    ) AS first
    ORDER BY changed_at
    LIMIT $2
)
AND state = 'held'
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - a constant

_HOLDS_SOME: Final = "SELECT EXISTS (SELECT FROM deliveries WHERE state = 'held' AND recipient = $1)"
