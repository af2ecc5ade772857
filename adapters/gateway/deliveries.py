"""Listing, reading and answering what has arrived."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from adapters.gateway.asking import ERRORS, OfficeOf, body_of
from adapters.gateway.entrance import read_body
from adapters.gateway.forms import (
    AnswerView,
    DeliveryList,
    DeliveryQuery,
    LetterList,
    LetterQuery,
    OpenDelivery,
    ReceiptDraft,
    answer_view,
    delivery_view,
    letter_view,
    open_delivery,
)
from adapters.gateway.office import Office
from adapters.gateway.problems import Refusal
from adapters.mailbox import LETTERS, Kept
from schemas.envelope import Envelope
from schemas.identifiers import UUID_PATTERN, DeliveryId
from schemas.receipt import Answer
from schemas.refusal import Problem
from schemas.signing import payload_of
from schemas.wire import read_payload

router = APIRouter(tags=["deliveries"])

_JOSE: Final = "application/jose"
_MAX_RECEIPT_BYTES: Final = 16 * 1024

DeliveryPath = Annotated[str, Path(pattern=UUID_PATTERN, description="Id of the delivery.")]
_SIGNED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {_JOSE: {"schema": {"type": "string"}}}, "description": "Compact JWS, as it was signed."}
}


@router.get("/v1/deliveries", responses=ERRORS, response_model_exclude_none=True)
async def list_deliveries(office: OfficeOf, query: Annotated[DeliveryQuery, Query()]) -> DeliveryList:
    """List documents that have arrived, by number; ask again with `after` set to `next`.

    The numbers appear in their order: whoever asks like this misses nothing and gets nothing twice, however many ask.
    A delivery that was answered with `failed` comes again under a new number. With `wait_s` the answer waits for an
    arrival where there is none.
    """
    kept = await office.arrivals(
        ("document",),
        after=query.after,
        limit=query.limit,
        wait_s=query.wait_s,
        recipient=query.recipient,
        unanswered=query.unanswered,
    )
    return DeliveryList(items=tuple(map(delivery_view, kept)), next=kept[-1].seq if kept else query.after)


@router.get("/v1/deliveries/{delivery}", responses=ERRORS, response_model_exclude_none=True)
async def get_delivery(office: OfficeOf, delivery: DeliveryPath) -> OpenDelivery:
    """Read a delivery with its envelope; that answers nothing."""
    kept, token = await _find(office, delivery, letters=False)
    return open_delivery(kept, Envelope.model_validate_json(payload_of(token)))


@router.get("/v1/deliveries/{delivery}/token", responses={**ERRORS, **_SIGNED}, response_class=Response)
async def get_delivery_token(office: OfficeOf, delivery: DeliveryPath) -> Response:
    """Read the bytes that the sender signed; they are the evidence."""
    _, token = await _find(office, delivery, letters=False)
    return Response(token, media_type=_JOSE)


@router.post(
    "/v1/deliveries/{delivery}/receipt", responses=ERRORS, openapi_extra=body_of({"application/json": ReceiptDraft})
)
async def answer_delivery(request: Request, office: OfficeOf, delivery: DeliveryPath) -> AnswerView:
    """Answer a delivery: the answer is written down, and the signed receipt is sent until the axis has it.

    Answer `received` only when the document is safe in your own system. The same answer again changes nothing; another
    answer is refused.
    """
    draft = read_payload(ReceiptDraft, await read_body(request, ("application/json",), _MAX_RECEIPT_BYTES))
    if not isinstance(draft, ReceiptDraft):
        raise Refusal(422, *draft)
    if draft.outcome != "received" and draft.detail is None:
        raise Refusal(422, Problem("E502", "/detail", "the reason is missing", "thiếu lý do"))
    at = int(office.clock().timestamp())
    answer = Answer(delivery=delivery, outcome=draft.outcome, at=at, code=draft.code, detail=draft.detail)
    kept = await office.mailbox.answer(DeliveryId(UUID(delivery)), answer)
    if kept is None or (given := kept.answer) is None:  # a letter has no answer
        raise Refusal(404, Problem("A202", "/path/delivery"))
    if (given.outcome, given.code, given.detail) != (draft.outcome, draft.code, draft.detail):
        raise Refusal(409, Problem("A208", "/outcome", given.outcome, given.outcome))
    office.answered.ring()
    view = answer_view(kept)
    assert view is not None
    return view


@router.get("/v1/letters", responses=ERRORS, response_model_exclude_none=True, tags=["letters"])
async def list_letters(office: OfficeOf, query: Annotated[LetterQuery, Query()]) -> LetterList:
    """List receipts, statuses and notices that have arrived, by number, as `GET /v1/deliveries` does."""
    kept = await office.arrivals(LETTERS, after=query.after, limit=query.limit, wait_s=query.wait_s)
    return LetterList(items=tuple(map(letter_view, kept)), next=kept[-1].seq if kept else query.after)


@router.get("/v1/letters/{delivery}/token", responses={**ERRORS, **_SIGNED}, response_class=Response, tags=["letters"])
async def get_letter_token(office: OfficeOf, delivery: DeliveryPath) -> Response:
    """Read the bytes of a letter as they were signed; they are the evidence."""
    _, token = await _find(office, delivery, letters=True)
    return Response(token, media_type=_JOSE)


async def _find(office: Office, delivery: str, *, letters: bool) -> tuple[Kept, bytes]:
    delivery_id = DeliveryId(UUID(delivery))
    kept, token = await office.mailbox.find(delivery_id), await office.mailbox.token(delivery_id)
    if kept is None or token is None or (kept.kind == "document") is letters:
        raise Refusal(404, Problem("A202", "/path/delivery"))
    return kept, token
