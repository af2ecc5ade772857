"""What comes back: the recipient's signed receipt and statuses, and the hub's signed notice."""

from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

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
STATUS_TYP: Final = "truc.status.v1"
NOTICE_TYP: Final = "truc.notice.v1"

MAX_ANSWERS: Final = 500

Outcome = Literal["received", "failed", "refused"]
"""Handed over; could not be processed for now, send again; refused for good."""

NoticeKind = Literal["refused", "parked", "expiring", "expired"]


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


StatusCode = Literal["01", "02", "03", "04", "05", "06", "13", "15", "16"]
"""The business statuses of QCVN 102:2016/BTTTT: arrived, not accepted, accepted and registered, assigned, being processed,
finished; asked back; recall or update agreed, declined. Other codes have no known meaning and are refused by name."""


class Staff(Wire):
    """The person who set a status.

    Attributes:
        name: Full name.
        department: Where in the agency.
        email: As the agency gives it.
        mobile: As the agency gives it.
    """

    name: Annotated[str, text(200)] | None = None
    department: Annotated[str, text(300)] | None = None
    email: Annotated[str, text(200)] | None = None
    mobile: Annotated[str, text(60)] | None = None


class Status(Wire):
    """The payload of a `truc.status.v1`: what an agency does with a document, apart from having received it.

    Every status but 13 is the recipient's, for the sender of the document. 13 is the sender's, for one recipient: it
    asks for the document back; 15 and 16 answer it, and answer documents that recall, update or replace others.

    Attributes:
        v: Version of this format.
        from_: The agency whose status it is (`from` on the wire).
        via: The platform that speaks for it, or absent.
        to: The sender of the document; for 13 the recipient that is asked.
        document: Identity of the document.
        status: The code.
        at: When the agency set it, by its clock.
        detail: A reason or remark for people; 02 must give its reason (Quyết định 28/2018/QĐ-TTg, Article 9).
        staff: Who set it.
    """

    v: Version1 = 1
    from_: AgencyCodeText = Field(alias="from")
    via: PlatformCodeText | None = None
    to: AgencyCodeText
    document: DocumentIdText
    status: StatusCode
    at: Instant
    detail: Annotated[str, text(1000)] | None = None
    staff: Staff | None = None

    @model_validator(mode="after")
    def _refuses_with_a_reason(self) -> Self:
        if self.status == "02" and self.detail is None:
            raise PydanticCustomError("reason_missing", "status 02 gives its reason in `detail`")
        return self


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
            broker user that sent it. `expiring`: the lifetime of a delivery ends soon. `expired`: it has ended.
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


def read_status(payload: bytes) -> Status | tuple[Problem, ...]:
    """Read a status from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Status, payload)


def read_notice(payload: bytes) -> Notice | tuple[Problem, ...]:
    """Read a notice from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Notice, payload)
