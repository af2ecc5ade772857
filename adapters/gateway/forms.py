"""What is written into and read out of requests and answers; times are seconds since 1970 UTC.

What comes in is as strict as what is signed (`schemas.wire`): no member that is not named here, nothing converted.
"""

import json
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from adapters.mailbox import Kept, Kind, RecipientOutcome, Submission, SubmissionState
from schemas.addresses import Tier
from schemas.checks.directory import Agency
from schemas.directory_file import State
from schemas.envelope import (
    MAX_LIFETIME_S,
    MAX_NAMED_RECIPIENTS,
    MAX_PARTS,
    Action,
    DocumentFacts,
    Envelope,
    Part,
    Urgency,
)
from schemas.identifiers import AgencyCodeText, DocumentIdText, RecipientText
from schemas.receipt import NoticeProblem, Outcome, Staff, StatusCode
from schemas.wire import Wire, text

MAX_DELIVERIES: Final = 500
MAX_LETTERS: Final = 100
MAX_AGENCIES: Final = 100
MAX_WAIT_S: Final = 60
_MAX_SEQ: Final = 2**53 - 1


def _with_example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class DocumentDraft(Wire):
    """A document to be sent; the gateway adds id and times, signs it and sends it.

    Attributes:
        from_: The agency that sends (`from` on the wire); by default the one that the gateway connects.
        to: Agency codes, or groups: `tier:…`, `children:CODE`, `descendants:CODE`.
        action: What it does to the documents in `ref`.
        ref: Earlier documents of the same sender: none for `new`, one for `update` and `revoke`, at least one for
            `replace`.
        doc: The entry in the register.
        parts: Files that were handed in before, as `PUT /v1/parts/…` answered.
        lifetime_s: When delivery is to be given up.
    """

    model_config = _with_example(
        {
            "to": ["H17.01"],
            "doc": {
                "number": "12",
                "notation": "TB-VP",
                "kind": "Thông báo",
                "subject": "Về việc thử nghiệm kết nối",
                "issued_on": "2026-11-20",
                "signer": {"name": "Nguyễn Văn An", "position": "Chánh Văn phòng"},
            },
        }
    )

    from_: AgencyCodeText | None = Field(default=None, alias="from")
    to: Annotated[tuple[RecipientText, ...], Field(min_length=1, max_length=MAX_NAMED_RECIPIENTS)]
    action: Action = "new"
    ref: Annotated[tuple[DocumentIdText, ...], Field(max_length=100)] = ()
    doc: DocumentFacts
    parts: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS)] = ()
    lifetime_s: Annotated[int, Field(strict=True, ge=60, le=MAX_LIFETIME_S)] = 7 * 24 * 3600


class ReceiptDraft(Wire):
    """The answer to a delivery.

    Attributes:
        outcome: `received`: the platform has it. `failed`: not for now; the axis sends it again and it is listed
            again. `refused`: for good.
        code: For `failed` and `refused`: a code of the platform.
        detail: Why, a sentence for people; `failed` and `refused` must give it, and the sender reads it.
    """

    model_config = _with_example({"outcome": "received"})

    outcome: Outcome
    code: Annotated[str, text(40)] | None = None
    detail: Annotated[str, text(500)] | None = None


class StatusDraft(Wire):
    """A business status to be sent.

    Attributes:
        document: Identity of the document.
        to: Its sender; for 13 the recipient that is asked.
        status: The code.
        from_: The agency whose status it is (`from` on the wire); by default the one that the gateway connects.
        detail: A reason or remark for people; 02 must give its reason.
        staff: Who set it.
    """

    model_config = _with_example(
        {"document": "0123456789abcdef" * 4, "to": "H26.01", "status": "02", "detail": "Không thuộc thẩm quyền"}
    )

    document: DocumentIdText
    to: AgencyCodeText
    status: StatusCode
    from_: AgencyCodeText | None = Field(default=None, alias="from")
    detail: Annotated[str, text(1000)] | None = None
    staff: Staff | None = None


class _Query(BaseModel):
    """Parameters of an address: a misspelt one is refused, since leaving it out would mean something else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeliveryQuery(_Query):
    """Which deliveries to list."""

    after: Annotated[int, Field(ge=0, le=_MAX_SEQ, description="List what has a greater number.")] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_DELIVERIES, description="How many at most.")] = 100
    wait_s: Annotated[int, Field(ge=0, le=MAX_WAIT_S, description="Where there are none: how long to wait.")] = 0
    recipient: Annotated[AgencyCodeText | None, Field(description="Of this agency only.")] = None
    unanswered: Annotated[bool, Field(description="Only what was not answered.")] = False


class LetterQuery(_Query):
    """Which letters to list."""

    after: Annotated[int, Field(ge=0, le=_MAX_SEQ, description="List what has a greater number.")] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LETTERS, description="How many at most.")] = MAX_LETTERS
    wait_s: Annotated[int, Field(ge=0, le=MAX_WAIT_S, description="Where there are none: how long to wait.")] = 0


class AgencyQuery(_Query):
    """Which agencies to find."""

    q: Annotated[
        str, Field(min_length=1, max_length=200, description="Words of the name with or without signs, or a code.")
    ]
    tier: Annotated[Tier | None, Field(description="Of this tier only.")] = None
    limit: Annotated[int, Field(ge=1, le=MAX_AGENCIES, description="How many at most.")] = 20


class PartQuery(_Query):
    """How a part is called."""

    name: Annotated[str, Field(min_length=1, max_length=255, description="File name shown to people; never a path.")]
    from_: Annotated[
        AgencyCodeText | None,
        Field(alias="from", description="The agency that will send it; by default the one that connects."),
    ] = None


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class StatusView(_View):
    """A business status that a recipient has set."""

    status: str
    at: int
    detail: str | None = None


class SentStatusView(_View):
    """A business status that the axis has."""

    document: str
    to: str
    from_: str = Field(alias="from")
    status: StatusCode


class RecipientView(_View):
    """One recipient of a document, and what is known of it.

    `outcome` is absent while nothing is known. `failed` means for now: the axis goes on trying.
    """

    code: str
    delivery: str
    outcome: RecipientOutcome | None = None
    at: int | None = None
    reason: str | None = None
    detail: str | None = None
    statuses: tuple[StatusView, ...] = ()


class SubmissionView(_View):
    """A document that was handed in, and what is known of it.

    `waiting`: the gateway has it and will send it. `submitted`: the broker of the axis has it. `accepted`: a recipient
    or the axis has spoken of it. `refused`: the axis turned it down, `problems` say why. `parked`: the axis put it
    aside for a person.
    """

    document: str
    key: str
    from_: str = Field(alias="from")
    state: SubmissionState
    created_at: int
    confirmed_at: int | None = None
    problems: tuple[NoticeProblem, ...] = ()
    recipients: tuple[RecipientView, ...] = ()


class AnswerView(_View):
    """The answer to a delivery; `sent` says whether the axis has the receipt."""

    outcome: Outcome
    at: int
    code: str | None = None
    detail: str | None = None
    sent: bool


class DeliveryView(_View):
    """A document that has arrived for one of our agencies.

    `seq` is its number, `delivery` never changes. `answer` is absent while the delivery was not answered.
    """

    seq: int
    delivery: str
    document: str
    recipient: str
    from_: str = Field(alias="from")
    arrived_at: int
    number: str
    kind: str
    subject: str
    issued_on: str
    urgency: Urgency
    action: Action
    expires: int
    parts: int
    answer: AnswerView | None = None


class DeliveryList(_View):
    """Deliveries by number; `next` is what to ask for as `after`."""

    items: tuple[DeliveryView, ...]
    next: int


class OpenDelivery(DeliveryView):
    """A delivery with what was signed; signature and signer were proven when it arrived."""

    envelope: Envelope


class LetterView(_View):
    """A receipt, status or notice that has arrived; `content` is what was signed."""

    seq: int
    delivery: str
    kind: Kind
    recipient: str
    from_: str = Field(alias="from")
    document: str | None = None
    arrived_at: int
    content: dict[str, Any]


class LetterList(_View):
    """Letters by number; `next` is what to ask for as `after`."""

    items: tuple[LetterView, ...]
    next: int


class AgencyView(_View):
    """An agency of the directory; `connected` says whether its mail has a queue."""

    code: str
    name: str
    tier: Tier
    parent: str | None = None
    state: State
    connected: bool
    successors: tuple[str, ...] = ()


class CapabilitiesView(_View):
    """What an agency can take, as the axis says now; `silent_since` is absent while no document waits for it."""

    code: str
    name: str
    tier: Tier
    state: State
    connected: bool
    successors: tuple[str, ...] = ()
    formats: tuple[str, ...]
    max_envelope_bytes: int
    max_parts: int
    max_part_bytes: int
    silent_since: int | None = None


class AgencyList(_View):
    """Agencies that were found, the best first."""

    items: tuple[AgencyView, ...]


def submission_view(submission: Submission) -> SubmissionView:
    """Show a submission."""
    return SubmissionView(
        document=submission.document_id,
        key=submission.key,
        from_=submission.sender,
        state=submission.state,
        created_at=submission.created_at,
        confirmed_at=submission.confirmed_at,
        problems=tuple(NoticeProblem.model_validate(each) for each in json.loads(submission.problems)),
        recipients=tuple(
            RecipientView(
                code=each.recipient,
                delivery=str(each.delivery_id),
                outcome=each.outcome,
                at=each.at,
                reason=each.code,
                detail=each.detail,
                statuses=tuple(
                    StatusView(status=status.status, at=status.at, detail=status.detail) for status in each.statuses
                ),
            )
            for each in submission.recipients
        ),
    )


def delivery_view(kept: Kept) -> DeliveryView:
    """Show a delivery as a list does."""
    return DeliveryView.model_validate(_delivery_members(kept))


def open_delivery(kept: Kept, envelope: Envelope) -> OpenDelivery:
    """Show a delivery with its envelope."""
    return OpenDelivery.model_validate({**_delivery_members(kept), "envelope": envelope})


def answer_view(kept: Kept) -> AnswerView | None:
    """Show the answer to a delivery."""
    given = kept.answer
    if given is None:
        return None
    return AnswerView(outcome=given.outcome, at=given.at, code=given.code, detail=given.detail, sent=kept.told)


def letter_view(kept: Kept) -> LetterView:
    """Show a letter."""
    return LetterView(
        seq=kept.seq,
        delivery=str(kept.delivery_id),
        kind=kept.kind,
        recipient=kept.recipient,
        from_=kept.sender,
        document=kept.document_id,
        arrived_at=kept.arrived_at,
        content=json.loads(kept.summary),
    )


def agency_view(agency: Agency) -> AgencyView:
    """Show an agency."""
    return AgencyView(
        code=agency.code,
        name=agency.name,
        tier=agency.tier,
        parent=agency.parent,
        state=agency.state,
        connected=agency.endpoint is not None,
        successors=agency.successors,
    )


def _delivery_members(kept: Kept) -> dict[str, Any]:
    return {
        "seq": kept.seq,
        "delivery": str(kept.delivery_id),
        "document": kept.document_id,
        "recipient": kept.recipient,
        "from": kept.sender,
        "arrived_at": kept.arrived_at,
        "answer": answer_view(kept),
        **json.loads(kept.summary),
    }
