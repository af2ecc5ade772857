"""Telling the other side what the office does with a document."""

import json
from typing import Any, Final

from fastapi import APIRouter, Request

from adapters.gateway.asking import ERRORS, OfficeOf, body_of
from adapters.gateway.entrance import read_body
from adapters.gateway.forms import SentStatusView, StatusDraft
from adapters.gateway.office import Office
from adapters.gateway.problems import Refusal
from schemas.receipt import Status, read_status
from schemas.refusal import Problem
from schemas.wire import read_payload

router = APIRouter(tags=["statuses"])

_MAX_STATUS_BYTES: Final = 16 * 1024


@router.post(
    "/v1/statuses",
    status_code=202,
    responses=ERRORS,
    response_model_exclude_none=True,
    openapi_extra=body_of({"application/json": StatusDraft}),
)
async def send_status(request: Request, office: OfficeOf) -> SentStatusView:
    """Send a business status; the answer says that the broker of the axis has it.

    Nothing is kept here: without such an answer send it again. To set the same status twice is harmless.
    """
    draft = read_payload(StatusDraft, await read_body(request, ("application/json",), _MAX_STATUS_BYTES))
    if not isinstance(draft, StatusDraft):
        raise Refusal(422, *draft)
    status = _status(office, draft)
    await office.client.status(
        document=status.document,
        to=status.to,
        status=status.status,
        from_=status.from_,
        detail=status.detail,
        staff=status.staff,
    )
    return SentStatusView(document=status.document, to=status.to, from_=status.from_, status=status.status)


def _status(office: Office, draft: StatusDraft) -> Status:
    """Check a draft as the axis would."""
    sender = draft.from_ or office.code
    members: dict[str, Any] = json.loads(draft.to_json())
    members |= {"v": 1, "from": sender, "at": int(office.clock().timestamp())}
    if sender != office.code:
        if not office.is_platform:
            raise Refusal(422, Problem("E401", "/from", f"{office.code} signs", f"{office.code} ký"))
        members["via"] = office.code
    status = read_status(json.dumps(members, ensure_ascii=False).encode())
    if not isinstance(status, Status):
        raise Refusal(422, *status)
    return status
