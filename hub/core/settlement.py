"""What becomes of a delivery after an attempt, an answer, a status, a deadline: pure functions to a `Transition`.

Whether an attempt counts: one that ended without a word from the broker says nothing about the recipient, so it is
repeated soon and costs no attempt. A probe asks about the recipient, not about the document, so it costs none either.
All others wait longer each time, up to a bound, and never beyond the lifetime that the sender chose. How often depends
on the class of the failure (`hub.core.failure`): permanent, not at all; passing, within the lifetime; unknown, up to a
number of attempts. The attempts stand in the ledger, so no restart resets them.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from hub.core.delivery import Delivery, Transition
from hub.core.failure import FailureClass, class_of
from hub.core.ladder import ASKS_BACK, Standing, climb
from hub.core.letter import LETTER_LIFETIME, Letter, notice_of, write_notice
from hub.core.policy import Policy
from hub.core.verdict import Answered, Park, Stated
from schemas.addresses import submit_key
from schemas.directory_file import VIETNAM
from schemas.identifiers import DeliveryId
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, Answer
from schemas.refusal import Problem
from schemas.signing import Signer

Handover = Literal["routed", "unroutable", "not-taken", "unsure", "broker-refused"]
"""What the broker said about one publish."""

_HANDOVER_CODES: Final[Mapping[Handover, str]] = {
    "unroutable": "E801",
    "not-taken": "E802",
    "unsure": "E803",
    "broker-refused": "E806",
}


@dataclass(frozen=True, slots=True)
class ReceiptSettlement:
    """What a receipt changes.

    Attributes:
        transitions: Changes of the deliveries that it answers.
        forward: The receipt on its way to the sender of the documents.
        park: The receipt put aside, because it answers what it may not.
    """

    transitions: tuple[Transition, ...]
    forward: Letter | None
    park: Park | None


@dataclass(frozen=True, slots=True)
class StatusSettlement:
    """What a status changes.

    Attributes:
        delivery: The delivery that it is about, as it was before; absent when there is none.
        standing: Where that stands from now on; absent when the status comes too late or again.
        forward: The status on its way to the other side.
        park: The status put aside, because its agency has nothing to do with such a delivery.
    """

    delivery: Delivery | None = None
    standing: Standing | None = None
    forward: Letter | None = None
    park: Park | None = None


@dataclass(frozen=True, slots=True)
class Settling:
    """How the receipts and statuses of one batch are settled: at one moment, by the same rules, in the hub's name."""

    policy: Policy
    signer: Signer
    now: datetime

    def receipt(self, answered: Answered, deliveries: Mapping[DeliveryId, Delivery]) -> ReceiptSettlement:
        """Settle the deliveries that a receipt answers."""
        return settle_receipt(answered, deliveries, self.policy, self.now)

    def status(self, stated: Stated, deliveries: Mapping[DeliveryId, Delivery]) -> StatusSettlement:
        """Settle the delivery that a status is about."""
        return settle_status(stated, deliveries.get(stated.delivery_id), self.now)

    def notice(self, park: Park) -> Letter | None:
        """Tell who sent a status that it was put aside: a person set it. Receipts are made by machines."""
        submission = park.submission
        if submission.user is None or submission.routing_key != submit_key("status", submission.user):
            return None
        return notice_of(park, self.signer, self.now)


def settle_attempt(
    delivery: Delivery, handover: Handover, policy: Policy, now: datetime, *, probe: bool = False
) -> Transition:
    """Settle an attempt to hand a delivery to the broker."""
    if handover == "routed":
        due = now + _receipt_deadline(delivery, policy) if delivery.wants_receipt else None
        attempts, detail = (delivery.attempts, "probe") if probe else (delivery.attempts + 1, None)
        return Transition(delivery, "delivery.routed", "routed", attempts, receipt_due_at=due, detail=detail)
    code = _HANDOVER_CODES[handover]
    if handover == "unsure":
        soon = now + timedelta(seconds=policy.retry_delay_s)
        return Transition(delivery, "delivery.unsure", "pending", delivery.attempts, code=code, next_attempt_at=soon)
    # What never reached the recipient is not given up before its lifetime ends: such an attempt is never the last.
    most = policy.retry(code, delivery.recipient).max_attempts or policy.max_attempts
    attempts = min(delivery.attempts + (not probe), max(most - 1, delivery.attempts))
    at = retry_at(delivery, max(attempts, 1), code, policy, now)
    return Transition(delivery, f"delivery.{handover}", "pending", attempts, code=code, next_attempt_at=at)


def settle_held(delivery: Delivery, code: str) -> Transition:
    """Hold a delivery that was due, because of its recipient."""
    return Transition(delivery, "delivery.held", "held", delivery.attempts, code=code)


def settle_released(delivery: Delivery, now: datetime) -> Transition:
    """Let a held delivery go out."""
    return Transition(delivery, "delivery.released", "pending", delivery.attempts, next_attempt_at=now)


def settle_overdue(delivery: Delivery, policy: Policy, now: datetime) -> Transition:
    """Settle a routed delivery whose receipt did not come in time."""
    return _again_or_dead(delivery, "delivery.overdue", "E804", policy, now)


def settle_returned(delivery: Delivery, policy: Policy, now: datetime, *, how: str | None = None) -> Transition | None:
    """Settle a delivery that the recipient's software gave back to the broker; `None` when it is settled already.

    Args:
        delivery: The delivery.
        policy: By which rules.
        now: When.
        how: What the broker says about it, for people.
    """
    if delivery.state != "routed":
        return None
    return _again_or_dead(delivery, "delivery.returned", "E805", policy, now, detail=how)


def settle_expired(delivery: Delivery, signer: Signer, now: datetime) -> Transition:
    """Settle a delivery whose lifetime is over; the sender of a document is told."""
    letter = None
    if delivery.wants_receipt:
        letter = write_notice(
            delivery.sender,
            "expired",
            (Problem("E809", "", delivery.recipient, delivery.recipient),),
            signer,
            now,
            document_id=delivery.object_id,
            recipient=delivery.recipient,
        )
    return Transition(delivery, "delivery.expired", "expired", delivery.attempts, code="E809", letter=letter)


def warn_of_end(delivery: Delivery, signer: Signer, now: datetime) -> Letter:
    """Warn the sender of a document that the lifetime of a delivery ends."""
    until = delivery.expires_at.astimezone(VIETNAM)
    return write_notice(
        delivery.sender,
        "expiring",
        (
            Problem(
                "N605",
                "",
                f"{delivery.recipient}, until {until:%H:%M %d/%m/%Y}",
                f"{delivery.recipient}, đến {until:%H:%M %d/%m/%Y}",
            ),
        ),
        signer,
        now,
        document_id=delivery.object_id,
        recipient=delivery.recipient,
    )


def settle_receipt(
    answered: Answered, deliveries: Mapping[DeliveryId, Delivery], policy: Policy, now: datetime
) -> ReceiptSettlement:
    """Settle the deliveries that a receipt answers.

    An answer about a delivery that does not exist, is another agency's, or is of another sender than the receipt
    names, changes nothing and parks the receipt; the other answers in it count all the same.
    """
    transitions = []
    problems = []
    seen: set[DeliveryId] = set()
    for index, answer in enumerate(answered.receipt.answers):
        delivery = deliveries.get(answer.delivery_id)
        if delivery is None or not _may_answer(answered, delivery) or delivery.delivery_id in seen:
            problems.append(Problem("E409", f"/answers/{index}/delivery", answer.delivery, answer.delivery))
            continue
        seen.add(delivery.delivery_id)
        transition = _settle_answer(delivery, answer, policy, now)
        if transition is not None:
            transitions.append(transition)
    sender = answered.receipt.to
    forward = None
    if sender is not None and not problems:
        forward = Letter(
            answered.receipt_id, RECEIPT_TYP, answered.token, answered.receipt.from_, sender, now + LETTER_LIFETIME
        )
    park = Park(answered.submission, tuple(problems), answered.signer) if problems else None
    return ReceiptSettlement(tuple(transitions), forward, park)


def settle_status(stated: Stated, delivery: Delivery | None, now: datetime) -> StatusSettlement:
    """Settle a status: of the recipient, or for 13 of the sender, of a document that one has sent to the other.

    It may come before the receipt of the document, and never changes the state of the delivery itself.
    """
    status = stated.status
    if delivery is None or not _may_state(stated, delivery):
        problem = Problem("E411", "/document", status.document, status.document)
        return StatusSettlement(park=Park(stated.submission, (problem,), stated.signer))
    standing = climb(delivery.standing, status.status)
    if standing is None:
        return StatusSettlement(delivery)
    forward = Letter(stated.status_id, STATUS_TYP, stated.token, status.from_, status.to, now + LETTER_LIFETIME)
    return StatusSettlement(delivery, standing, forward)


def retry_at(delivery: Delivery, attempts: int, code: str, policy: Policy, now: datetime) -> datetime:
    """Say when to try again: doubling waits with jitter, at most at the end of the lifetime.

    The jitter of up to a quarter is drawn from the delivery id, so a thousand deliveries that failed together do not
    come back together, and a decision can be repeated with the same result.
    """
    rule = policy.retry(code, delivery.recipient)
    assert rule.retry_delay_s is not None
    assert rule.max_retry_delay_s is not None
    wait_s = min(rule.retry_delay_s * 2.0 ** min(attempts - 1, 40), rule.max_retry_delay_s)
    seed = zlib.crc32(delivery.delivery_id.bytes + attempts.to_bytes(4))
    jitter = 1 - 0.25 * seed / 0xFFFFFFFF
    return min(now + timedelta(seconds=wait_s * jitter), max(delivery.expires_at, now))


def _receipt_deadline(delivery: Delivery, policy: Policy) -> timedelta:
    first_s = policy.receipt_deadline_s_of(delivery.recipient)
    wait_s = first_s * 2.0 ** min(delivery.attempts, 40)
    return timedelta(seconds=min(wait_s, max(policy.max_receipt_deadline_s, first_s)))


def _may_answer(answered: Answered, delivery: Delivery) -> bool:
    receipt = answered.receipt
    return (
        delivery.wants_receipt
        and delivery.recipient == receipt.from_
        and (receipt.to is None or receipt.to == delivery.sender)
    )


def _may_state(stated: Stated, delivery: Delivery) -> bool:
    status = stated.status
    sender, recipient = (status.from_, status.to) if status.status == ASKS_BACK else (status.to, status.from_)
    return delivery.wants_receipt and (delivery.sender, delivery.recipient) == (sender, recipient)


def _settle_answer(delivery: Delivery, answer: Answer, policy: Policy, now: datetime) -> Transition | None:
    """Settle one answer; `None` when a final state stands already (late, repeated or contradicting answers)."""
    if delivery.state in ("received", "expired"):
        return None
    said = " ".join(item for item in (answer.code, answer.detail) if item) or None
    match answer.outcome:
        case "received":
            return Transition(delivery, "delivery.received", "received", delivery.attempts)
        case "refused" if delivery.state == "dead":
            return None
        case "refused":
            return Transition(delivery, "delivery.refused", "dead", delivery.attempts, code="E808", detail=said)
        case "failed" if delivery.state not in ("routed", "pending"):
            return None
        case "failed":
            cause = class_of(answer.code or "E807")
            return _again_or_dead(delivery, "delivery.failed", "E807", policy, now, cause=cause, detail=said)
        case _:
            assert_never(answer.outcome)


def _again_or_dead(
    delivery: Delivery,
    event: str,
    code: str,
    policy: Policy,
    now: datetime,
    *,
    cause: FailureClass | None = None,
    detail: str | None = None,
) -> Transition:
    """Try again later, or give up: at once, or after the last attempt; routing has counted the attempt.

    Args:
        delivery: The delivery.
        event: What has happened.
        code: Why it failed.
        policy: By which rules.
        now: When.
        cause: Class of the failure, where the recipient says more than the code.
        detail: What it says.
    """
    cause = cause or class_of(code)
    if cause == "permanent":
        return Transition(delivery, event, "dead", delivery.attempts, code="E808", detail=detail)
    rule = policy.retry(code, delivery.recipient)
    most = rule.max_attempts or (policy.max_attempts if cause == "unknown" else None)
    if most is not None and delivery.attempts >= most:
        return Transition(delivery, event, "dead", delivery.attempts, code=code, detail=detail)
    at = retry_at(delivery, max(delivery.attempts, 1), code, policy, now)
    return Transition(delivery, event, "pending", delivery.attempts, code=code, next_attempt_at=at, detail=detail)
