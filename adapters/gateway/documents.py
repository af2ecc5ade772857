"""Handing documents in, and asking what became of them."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Request

from adapters.gateway.asking import ERRORS, OfficeOf, body_of
from adapters.gateway.entrance import check_body, media_type_of, read_body
from adapters.gateway.forms import DocumentDraft, SubmissionView, submission_view
from adapters.gateway.office import Office
from adapters.gateway.packets import EDXML, envelope_of_packet
from adapters.gateway.problems import Refusal
from adapters.mailbox import Claim, Drawn
from schemas.edxml.documents import own_id
from schemas.edxml.parsing import MAX_PACKET_BYTES
from schemas.envelope import Envelope, new_envelope_id, read_envelope
from schemas.identifiers import DOCUMENT_ID_PATTERN, DocumentId
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES, identity
from schemas.wire import read_payload

router = APIRouter(tags=["documents"])

_JSON: Final = "application/json"
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="What you call this document; repeat it with the same request when in doubt.",
    ),
]
_ITS_STATE: Final = {
    "operationId": "get_document",
    "parameters": {"document": "$response.body#/document"},
    "description": "What became of it.",
}
DocumentPath = Annotated[str, Path(pattern=DOCUMENT_ID_PATTERN, description="Identity of the document.")]


@router.post(
    "/v1/documents",
    status_code=202,
    responses={**ERRORS, 202: {"links": {"state": _ITS_STATE}}},
    response_model_exclude_none=True,
    openapi_extra=body_of(
        {_JSON: DocumentDraft, EDXML: {"type": "string", "description": "A national packet, QCVN 102:2016."}}
    ),
)
async def submit_document(request: Request, office: OfficeOf, key: IdempotencyKey) -> SubmissionView:
    """Hand a document in: it is checked, signed, written down, and sent until the axis has it.

    The answer says that it is safe here and will be sent. The same key with the same request gives the same document,
    however often; with another request it is refused.
    """
    check_body(request, (_JSON, EDXML), MAX_PACKET_BYTES)
    if media_type_of(request) == EDXML:
        async with office.packets:
            data = await read_body(request, (EDXML,), MAX_PACKET_BYTES)
            return await _hand_in(office, key, data, lambda: envelope_of_packet(office, data))
    draft = read_payload(DocumentDraft, await read_body(request, (_JSON,), MAX_TOKEN_BYTES))
    if not isinstance(draft, DocumentDraft):
        raise Refusal(422, *draft)
    return await _hand_in(office, key, draft.to_json(), lambda: _envelope(office, draft))


@router.get("/v1/documents/{document}", responses=ERRORS, response_model_exclude_none=True)
async def get_document(office: OfficeOf, document: DocumentPath) -> SubmissionView:
    """Say what became of a document that was handed in."""
    return await _show(office, DocumentId(document))


async def _hand_in(office: Office, key: str, request: bytes, make: Callable[[], Awaitable[Envelope]]) -> SubmissionView:
    """Find what stands under a key, or make it; refuse another request under the same key."""
    asked = await asyncio.to_thread(lambda: hashlib.sha256(request).hexdigest())
    claim = await office.mailbox.claim(key)
    if claim is None:
        claim = await _draw(office, await make(), key, asked)
    if claim.request != asked:
        raise Refusal(409, Problem("A207", "/header/idempotency-key", claim.document_id, claim.document_id))
    return await _show(office, claim.document_id)


async def _draw(office: Office, envelope: Envelope, key: str, asked: str) -> Claim:
    """Sign a document and write it down under its key; gives what stands there then.

    The token is on disk before anything is sent: after a crash the same bytes are sent, which are the same document.
    """
    addressees = await asyncio.to_thread(office.examine, envelope)
    try:
        token = await office.client.sign(envelope)
    except ValueError as error:
        raise Refusal(413, Problem("E101", "", str(error), str(error))) from error
    drawn = Drawn(
        document_id=identity(token),
        key=key,
        request=asked,
        sender=envelope.from_,
        national=own_id(envelope),
        recipients=tuple(each.code for each in addressees),
        grouped=any(":" in recipient for recipient in envelope.to),
        token=token,
    )
    claim = await office.mailbox.submit(drawn, office.clock(), max_waiting=office.max_waiting)
    if claim is None:
        raise Refusal(503, Problem("A210"), headers={"Retry-After": "60"})
    office.drawn.ring()
    return claim


async def _envelope(office: Office, draft: DocumentDraft) -> Envelope:
    sender = draft.from_ or office.code
    now_s = int(office.clock().timestamp())
    members: dict[str, Any] = json.loads(draft.to_json())
    lifetime_s = members.pop("lifetime_s")
    members |= {"v": 1, "id": new_envelope_id(), "from": sender, "created": now_s, "expires": now_s + lifetime_s}
    if sender != office.code and office.is_platform:
        members["via"] = office.code
    envelope = read_envelope(json.dumps(members, ensure_ascii=False).encode())
    if not isinstance(envelope, Envelope):
        raise Refusal(422, *envelope)
    return envelope


async def _show(office: Office, document_id: DocumentId) -> SubmissionView:
    submission = await office.mailbox.submission(document_id)
    if submission is None:
        raise Refusal(404, Problem("A202", "/path/document"))
    return submission_view(submission)
