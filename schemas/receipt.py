"""What comes back: the recipient's signed receipt, and the hub's signed notice."""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from schemas.identifiers import (
    AgencyCodeText,
    DeliveryId,
    DocumentIdText,
    PartyCodeText,
    PlatformCodeText,
    UuidText,
)
from schemas.refusal import Problem
from schemas.wire import Instant, Version1, Wire, read_payload, text

RECEIPT_TYP: Final = "truc.receipt.v1"
NOTICE_TYP: Final = "truc.notice.v1"

MAX_ANSWERS: Final = 500

Outcome = Literal["received", "failed", "refused"]
"""Handed over; could not be processed for now, send again; refused for good."""

NoticeKind = Literal["refused", "parked", "expired"]


class Answer(Wire):
    """What became of one delivery.

    Attributes:
        delivery: Id of the delivery, a function of document and recipient.
        outcome: Whether it was handed over.
        at: When, by the recipient's clock: the moment of receipt in the sense of Law 20/2023/QH15, Article 16.
        code: The recipient's own or our code, for `failed` and `refused`.
        detail: A sentence for people.
    """

    delivery: UuidText
    outcome: Outcome
    at: Instant
    code: Annotated[str, text(40)] | None = None
    detail: Annotated[str, text(500)] | None = None

    @property
    def delivery_id(self) -> DeliveryId:
        """The id as the ledger keeps it."""
        return DeliveryId(UUID(self.delivery))


class Receipt(Wire):
    """The payload of a `truc.receipt.v1`: one recipient's answers about documents of one sender.

    One sender only, so that the very bytes that the recipient signed can go on to that sender without telling it
    anything about the mail of others.

    Attributes:
        v: Version of this format.
        from_: The recipient that answers (`from` on the wire).
        via: The platform that speaks for it, or absent.
        to: The sender of the documents; absent when the recipient cannot know it (the envelope did not verify).
        answers: At most one for each delivery.
    """

    v: Version1 = 1
    from_: AgencyCodeText = Field(alias="from")
    via: PlatformCodeText | None = None
    to: AgencyCodeText | None = None
    answers: Annotated[tuple[Answer, ...], Field(min_length=1, max_length=MAX_ANSWERS)]


class NoticeProblem(Wire):
    """One problem as a notice tells it: code, place, and both languages.

    Attributes:
        code: Key of the published catalogue.
        pointer: JSON pointer into the payload, `/header/…` into the JWS header, or empty for the whole.
        en: What it means, what was found and what to do, in English.
        vi: The same in Vietnamese.
    """

    code: Annotated[str, text(10)]
    pointer: Annotated[str, text(400, min_length=0)] = ""
    en: Annotated[str, text(1000)]
    vi: Annotated[str, text(1000)]


class Notice(Wire):
    """The payload of a `truc.notice.v1`: what the hub tells an agency.

    Attributes:
        v: Version of this format.
        from_: Always `hub`.
        to: The agency or platform that is told.
        kind: `refused`: checked and turned down. `parked`: put aside before the signer was proven; told to the
            broker user that sent it. `expired`: the lifetime of a delivery ended.
        document: Identity of the document, where there is one.
        recipient: The recipient of the delivery that is meant, where it is about one.
        at: When the hub decided.
        problems: All of them at once.
    """

    v: Version1 = 1
    from_: Literal["hub"] = Field(default="hub", alias="from")
    to: PartyCodeText
    kind: NoticeKind
    document: DocumentIdText | None = None
    recipient: AgencyCodeText | None = None
    at: Instant
    problems: Annotated[tuple[NoticeProblem, ...], Field(min_length=1, max_length=200)]


def read_receipt(payload: bytes) -> Receipt | tuple[Problem, ...]:
    """Read a receipt from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Receipt, payload)


def read_notice(payload: bytes) -> Notice | tuple[Problem, ...]:
    """Read a notice from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Notice, payload)
