"""Verdicts, receipts and letters for tests of what comes after the checks; signed for real, decided by nobody."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hub.core.delivery import Delivery
from hub.core.grant import Granted
from hub.core.letter import Decision, notice_of
from hub.core.part import Kept
from hub.core.policy import Policy
from hub.core.settlement import Settling
from hub.core.submission import Submission
from hub.core.verdict import Accept, Addressee, Answered, Park, Refuse, Stated, Verdict
from schemas.addresses import Tier
from schemas.envelope import ENVELOPE_TYP, Action, DocumentFacts, Envelope, Part, Signer, new_envelope
from schemas.grant import Act, Grant
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of, identity_of
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, Answer, Outcome, Receipt, Status, StatusCode
from schemas.refusal import Problem
from schemas.signing import identity, sign
from tests.keys import agency_keys

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SENDER = AgencyCode("G22")
RECIPIENTS = (AgencyCode("H26"), AgencyCode("H26.01"), AgencyCode("H26.02.003"))
POLICY = Policy()

_TIERS: Mapping[str, Tier] = {"H26": "ministry-province", "H26.01": "department-district", "H26.02.003": "commune"}


def part(content: bytes = b"%PDF-1.7", name: str = "van-ban.pdf") -> Part:
    """Describe a part with this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Part(name=name, media_type="application/pdf", sha256=sha256, length=len(content))


def kept(content: bytes = b"%PDF-1.7", object_key: str = "parts/first") -> Kept:
    """Say where a part with this content is kept."""
    return Kept(hashlib.sha256(content).hexdigest(), len(content), object_key)


def granted(
    act: Act = "fetch",
    *,
    agency: str = RECIPIENTS[0],
    via: str | None = None,
    receives: bool = True,
    part: str | None = None,
    document: DocumentId | None = None,
) -> Granted:
    """Make a proven grant."""
    grant = Grant(from_=agency, via=via, act=act, part=part, document=document, until=int(NOW.timestamp()) + 60)
    return Granted(grant, AgencyCode(via or agency), receives)


def envelope(
    *,
    from_: str = SENDER,
    to: Sequence[str] = RECIPIENTS,
    now: datetime = NOW,
    action: Action = "new",
    ref: Sequence[str] = (),
    via: str | None = None,
    parts: Sequence[Part] = (),
    **facts: Any,
) -> Envelope:
    """Make an envelope with a fresh id; `facts` go into its document."""
    doc = {
        "number": "7816",
        "notation": "VPCP-TTĐT",
        "kind": "Công văn",
        "subject": "Về việc kết nối trục",
        "issued_on": "2026-11-23",
        "signer": Signer(name="Nguyễn Văn A"),
    }
    return new_envelope(
        from_=from_,
        to=to,
        doc=DocumentFacts(**(doc | facts)),
        now_s=int(now.timestamp()),
        via=via,
        action=action,
        ref=ref,
        parts=parts,
    )


def accept(
    content: Envelope | None = None, *, redelivered: bool = False, epoch: int = 1, signed: bool = True
) -> Accept:
    """Accept an envelope.

    Args:
        content: The envelope; by default a fresh one.
        redelivered: Whether the broker repeats it.
        epoch: The directory it was decided by.
        signed: `False` for a token with the shape and size of a real one, made much faster.
    """
    content = content or envelope()
    token = _token(content.to_json(), ENVELOPE_TYP, content.from_, content.created, signed=signed)
    return Accept(
        document_id=identity(token),
        token=token,
        envelope=content,
        sender_tier="ministry-province",
        addressees=tuple(Addressee(AgencyCode(code), _TIERS.get(code, "commune")) for code in content.to),
        directory_epoch=epoch,
        redelivered=redelivered,
    )


def broadcast(recipients: int, **facts: Any) -> Accept:
    """Accept a document to a group of very many members."""
    taken = accept(envelope(to=["tier:commune"], **facts), signed=False)
    members = (Addressee(AgencyCode(f"H26.{number:06}"), "commune") for number in range(recipients))
    return replace(taken, addressees=tuple(members))


def delivery(number: int, recipient: AgencyCode, *, typ: str = ENVELOPE_TYP, attempts: int = 0) -> Delivery:
    """Make a pending delivery of an object that is only a number."""
    object_id = DocumentId(f"{number:064x}")
    return Delivery(
        delivery_id=delivery_id_of(object_id, recipient),
        object_id=object_id,
        typ=typ,
        sender=AgencyCode("H30"),
        recipient=recipient,
        state="pending",
        attempts=attempts,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def refuse(body: bytes = b"a.b.c", *, signer: str = SENDER, code: str = "E404", redelivered: bool = False) -> Refuse:
    """Refuse a submission whose signer is proven."""
    submission = Submission(body=body, user=signer, routing_key=f"document.{signer}", redelivered=redelivered)
    return Refuse(identity(body), submission, AgencyCode(signer), None, (Problem(code, "/to/0", "H99", "H99"),))


def park(
    body: bytes = b"not a token",
    *,
    code: str = "E102",
    tell: str | None = None,
    message_id: str | None = None,
    redelivered: bool = False,
) -> Park:
    """Park a submission that nobody is proven to have made."""
    submission = Submission(
        body=body, user=SENDER, routing_key=f"document.{SENDER}", message_id=message_id, redelivered=redelivered
    )
    return Park(submission, (Problem(code),), AgencyCode(tell) if tell else None)


def decided(verdict: Verdict, now: datetime = NOW) -> Decision:
    """Add the notice that a verdict calls for."""
    notice = None if isinstance(verdict, Accept) else notice_of(verdict, agency_keys("hub").signer, now)
    return Decision(verdict, notice)


def receipt(
    *deliveries: DeliveryId,
    from_: str = RECIPIENTS[0],
    to: str | None = SENDER,
    outcome: Outcome = "received",
    now: datetime = NOW,
    signed: bool = True,
    **said: Any,
) -> Answered:
    """Answer deliveries; `said` goes into each answer."""
    answers = tuple(
        Answer(delivery=str(delivery), outcome=outcome, at=int(now.timestamp()), **said) for delivery in deliveries
    )
    content = Receipt.model_validate({"from": from_, "to": to, "answers": answers})
    token = _token(content.to_json(), RECEIPT_TYP, from_, int(now.timestamp()), signed=signed)
    submission = Submission(body=token, user=from_, routing_key=f"receipt.{from_}")
    return Answered(identity(token), token, content, AgencyCode(from_), submission)


def status(
    document_id: DocumentId,
    code: StatusCode,
    *,
    from_: str = RECIPIENTS[0],
    to: str = SENDER,
    now: datetime = NOW,
    signed: bool = True,
    detail: str | None = "Không thuộc thẩm quyền",
) -> Stated:
    """State what an agency does with a document; by default its first recipient."""
    content = Status(from_=from_, to=to, document=document_id, status=code, at=int(now.timestamp()), detail=detail)
    token = _token(content.to_json(), STATUS_TYP, from_, int(now.timestamp()), signed=signed)
    submission = Submission(body=token, user=from_, routing_key=f"status.{from_}")
    return Stated(identity(token), token, content, AgencyCode(from_), submission)


settle = Settling(POLICY, agency_keys("hub").signer, NOW)
"""Settles receipts and statuses as the hub does, at `NOW`."""


@functools.cache
def _signature() -> bytes:
    return b"A" * 86


def _token(payload: bytes, typ: str, owner: str, now_s: int, *, signed: bool) -> bytes:
    if signed:
        return sign(payload, typ=typ, signer=agency_keys(owner).signer, now_s=now_s)
    unsigned = f"{identity_of(typ.encode())}.".encode() + payload.hex().encode()
    return unsigned + b"." + _signature()
