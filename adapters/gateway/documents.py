"""Handing documents in, and asking what became of them."""

import asyncio
import hashlib
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Request

from adapters.gateway.asking import ERRORS, OfficeOf, body_of
from adapters.gateway.entrance import read_body
from adapters.gateway.forms import DocumentDraft, SubmissionView, submission_view
from adapters.gateway.office import Office
from adapters.gateway.problems import Refusal
from adapters.mailbox import Claim, Drawn
from schemas.addresses import submit_key
from schemas.checks.address import Addressee
from schemas.checks.examine import examine
from schemas.envelope import Envelope, new_envelope_id, read_envelope
from schemas.identifiers import DOCUMENT_ID_PATTERN, DocumentId
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES, identity
from schemas.wire import read_payload

router = APIRouter(tags=["documents"])

_JSON: Final = "application/json"
_UNBOUNDED: Final = 2**31
"""The bound on recipients is the hub's to know."""

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
    openapi_extra=body_of({_JSON: DocumentDraft}),
)
async def submit_document(request: Request, office: OfficeOf, key: IdempotencyKey) -> SubmissionView:
    """Hand a document in: it is checked, signed, written down, and sent until the axis has it.

    The answer says that it is safe here and will be sent. The same key with the same request gives the same document,
    however often; with another request it is refused.
    """
    draft = read_payload(DocumentDraft, await read_body(request, (_JSON,), MAX_TOKEN_BYTES))
    if not isinstance(draft, DocumentDraft):
        raise Refusal(422, *draft)
    asked = hashlib.sha256(draft.to_json()).hexdigest()
    claim = await office.mailbox.claim(key) or await _draw(office, draft, key, asked)
    if claim.request != asked:
        raise Refusal(409, Problem("A207", "/header/idempotency-key", claim.document_id, claim.document_id))
    return await _show(office, claim.document_id)


@router.get("/v1/documents/{document}", responses=ERRORS, response_model_exclude_none=True)
async def get_document(office: OfficeOf, document: DocumentPath) -> SubmissionView:
    """Say what became of a document that was handed in."""
    return await _show(office, DocumentId(document))


async def _draw(office: Office, draft: DocumentDraft, key: str, asked: str) -> Claim:
    """Make a document of a draft and write it down under its key; gives what stands there then.

    The token is on disk before anything is sent: after a crash the same bytes are sent, which are the same document.
    """
    envelope = _envelope(office, draft)
    addressees = await asyncio.to_thread(_examine, office, envelope)
    try:
        token = await office.client.sign(envelope)
    except ValueError as error:
        raise Refusal(413, Problem("E101", "", str(error), str(error))) from error
    drawn = Drawn(
        document_id=identity(token),
        key=key,
        request=asked,
        sender=envelope.from_,
        recipients=tuple(each.code for each in addressees),
        grouped=any(":" in recipient for recipient in envelope.to),
        token=token,
    )
    claim = await office.mailbox.submit(drawn, office.clock(), max_waiting=office.max_waiting)
    if claim is None:
        raise Refusal(503, Problem("A210"), headers={"Retry-After": "60"})
    office.drawn.ring()
    return claim


def _envelope(office: Office, draft: DocumentDraft) -> Envelope:
    sender = draft.from_ or office.code
    now_s = int(office.clock().timestamp())
    members: dict[str, Any] = json.loads(draft.to_json())
    lifetime_s = draft.lifetime_s
    members.pop("lifetime_s")
    members |= {"v": 1, "id": new_envelope_id(), "from": sender, "created": now_s, "expires": now_s + lifetime_s}
    if sender != office.code and office.is_platform:
        members["via"] = office.code
    envelope = read_envelope(json.dumps(members, ensure_ascii=False).encode())
    if not isinstance(envelope, Envelope):
        raise Refusal(422, *envelope)
    return envelope


def _examine(office: Office, envelope: Envelope) -> tuple[Addressee, ...]:
    """Ask the checks of the hub beforehand, as far as the directory here can answer them."""
    addressees, problems = examine(
        envelope,
        signer=office.code,
        signed_at_s=envelope.created,
        user=office.code,
        routing_key=submit_key("document", office.code),
        directory=office.index.today().directory,
        max_recipients=_UNBOUNDED,
        now=office.clock(),
    )
    if problems:
        raise Refusal(422, *problems)
    return addressees


async def _show(office: Office, document_id: DocumentId) -> SubmissionView:
    submission = await office.mailbox.submission(document_id)
    if submission is None:
        raise Refusal(404, Problem("A202", "/path/document"))
    return submission_view(submission)
