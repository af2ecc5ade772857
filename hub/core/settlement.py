"""What becomes of a delivery after an attempt, an answer, a deadline: pure functions to a `Transition`.

Whether an attempt counts: one that ended without a word from the broker says nothing about the recipient, so it is
repeated soon and costs no attempt. All others wait longer each time, up to a bound, and never beyond the lifetime
that the sender chose.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from hub.core.delivery import Delivery, Transition
from hub.core.letter import LETTER_LIFETIME, Letter, write_notice
from hub.core.policy import Policy
from hub.core.verdict import Answered, Park
from schemas.identifiers import DeliveryId
from schemas.receipt import RECEIPT_TYP, Answer
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


def settle_attempt(delivery: Delivery, handover: Handover, policy: Policy, now: datetime) -> Transition:
    """Settle an attempt to hand a delivery to the broker."""
    if handover == "routed":
        due = now + _receipt_deadline(delivery, policy) if delivery.wants_receipt else None
        return Transition(delivery, "delivery.routed", "routed", delivery.attempts + 1, receipt_due_at=due)
    code = _HANDOVER_CODES[handover]
    if handover == "unsure":
        soon = now + timedelta(seconds=policy.retry_delay_s)
        return Transition(delivery, "delivery.unsure", "pending", delivery.attempts, code=code, next_attempt_at=soon)
    # What never reached the recipient is not given up before its lifetime ends: such an attempt is never the last.
    attempts = min(delivery.attempts + 1, max(policy.max_attempts - 1, delivery.attempts))
    at = retry_at(delivery, max(attempts, 1), policy, now)
    return Transition(delivery, f"delivery.{handover}", "pending", attempts, code=code, next_attempt_at=at)


def settle_overdue(delivery: Delivery, policy: Policy, now: datetime) -> Transition:
    """Settle a routed delivery whose receipt did not come in time."""
    return _again_or_dead(delivery, "delivery.overdue", "E804", policy, now)


def settle_returned(delivery: Delivery, policy: Policy, now: datetime) -> Transition | None:
    """Settle a delivery that the recipient's software gave back to the broker; `None` when it is settled already."""
    if delivery.state != "routed":
        return None
    return _again_or_dead(delivery, "delivery.returned", "E805", policy, now)


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


def retry_at(delivery: Delivery, attempts: int, policy: Policy, now: datetime) -> datetime:
    """Say when to try again: doubling waits with jitter, at most at the end of the lifetime.

    The jitter of up to a quarter is drawn from the delivery id, so a thousand deliveries that failed together do not
    come back together, and a decision can be repeated with the same result.
    """
    wait_s = min(policy.retry_delay_s * 2.0 ** min(attempts - 1, 40), policy.max_retry_delay_s)
    seed = zlib.crc32(delivery.delivery_id.bytes + attempts.to_bytes(4))
    jitter = 1 - 0.25 * seed / 0xFFFFFFFF
    return min(now + timedelta(seconds=wait_s * jitter), max(delivery.expires_at, now))


def _receipt_deadline(delivery: Delivery, policy: Policy) -> timedelta:
    wait_s = policy.receipt_deadline_s * 2.0 ** min(delivery.attempts, 40)
    return timedelta(seconds=min(wait_s, max(policy.max_receipt_deadline_s, policy.receipt_deadline_s)))


def _may_answer(answered: Answered, delivery: Delivery) -> bool:
    receipt = answered.receipt
    return (
        delivery.wants_receipt
        and delivery.recipient == receipt.from_
        and (receipt.to is None or receipt.to == delivery.sender)
    )


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
        case "failed":
            if delivery.state not in ("routed", "pending"):
                return None
            return _again_or_dead(delivery, "delivery.failed", "E807", policy, now, detail=said)
        case _:
            assert_never(answer.outcome)


def _again_or_dead(
    delivery: Delivery,
    event: str,
    code: str,
    policy: Policy,
    now: datetime,
    *,
    detail: str | None = None,
) -> Transition:
    """Try again later, or give up after the last attempt; routing has counted the attempt."""
    if delivery.attempts >= policy.max_attempts:
        return Transition(delivery, event, "dead", delivery.attempts, code=code, detail=detail)
    at = retry_at(delivery, max(delivery.attempts, 1), policy, now)
    return Transition(delivery, event, "pending", delivery.attempts, code=code, next_attempt_at=at, detail=detail)
