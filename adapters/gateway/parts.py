"""Handing in files that belong to documents, and fetching those that came with deliveries.

The bytes go through a file in the spool folder, whatever their size: they are whole and right before anybody gets them,
and an upload to the hub, or a download from it, goes on after an interruption. What a process that died leaves in the
folder is cleared away at the next start.
"""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.background import BackgroundTask

from adapters.errors import FileUnusable
from adapters.gateway.asking import ERRORS, OfficeOf, body_of
from adapters.gateway.entrance import check_body, media_type_of, too_large
from adapters.gateway.forms import PartQuery
from adapters.gateway.office import Office
from adapters.gateway.problems import Refusal
from schemas.envelope import Envelope, Part
from schemas.identifiers import UUID_PATTERN, DeliveryId
from schemas.refusal import Problem
from schemas.signing import payload_of

router = APIRouter(tags=["parts"])

_BUFFER_BYTES: Final = 1024 * 1024
_BYTES: Final = {"type": "string", "format": "binary"}
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}")

DigestPath = Annotated[str, InPath(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bytes.")]
DeliveryPath = Annotated[str, InPath(pattern=UUID_PATTERN, description="Id of the delivery.")]
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {"schema": _BYTES}}, "description": "The bytes, whole and right."}
}


@router.put(
    "/v1/parts/{sha256}",
    responses=ERRORS,
    response_model_exclude_none=True,
    openapi_extra=body_of({"application/octet-stream": _BYTES, "*/*": _BYTES}),
)
async def put_part(
    request: Request, office: OfficeOf, sha256: DigestPath, query: Annotated[PartQuery, Query()]
) -> Part:
    """Hand a file in, before the document that it belongs to; put the answer among the `parts` of that document.

    The type of the body is the media type that recipients see. To hand the same file in again changes nothing.
    """
    media_type = media_type_of(request) or "application/octet-stream"
    check_body(request, (), office.max_part_bytes)
    try:
        Part(name=query.name, media_type=media_type, sha256=sha256, length=0)
    except ValidationError as error:
        raise Refusal(422, *(_problem(each) for each in error.errors(include_input=False))) from error
    async with spooled(office) as file:
        found = await _spool(request, file, office.max_part_bytes)
        if found != sha256:
            raise Refusal(422, Problem("E504", "/path/sha256", f"it is {found}", f"mã băm thực tế {found}"))
        return await office.client.upload(file, name=query.name, media_type=media_type, from_=query.from_)


@router.get("/v1/deliveries/{delivery}/parts/{sha256}", responses={**ERRORS, **_FILE}, response_class=FileResponse)
async def get_part(office: OfficeOf, delivery: DeliveryPath, sha256: DigestPath) -> FileResponse:
    """Fetch a file that came with a delivery; it is fetched from the axis as a whole before the first byte comes."""
    delivery_id = DeliveryId(UUID(delivery))
    kept, token = await office.mailbox.find(delivery_id), await office.mailbox.token(delivery_id)
    if kept is None or token is None or kept.kind != "document":
        raise Refusal(404, Problem("A202", "/path/delivery"))
    envelope = Envelope.model_validate_json(payload_of(token))
    part = next((part for part in envelope.parts if part.sha256 == sha256), None)
    if part is None:
        raise Refusal(404, Problem("A202", "/path/sha256"))
    file = new_file(office)
    try:
        await office.client.fetch(office.delivery_of(kept, envelope, token), part, file)
    except BaseException:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        raise
    return FileResponse(
        file,
        media_type=_safe_media_type(part.media_type),
        filename=part.name,
        headers={"X-Content-Type-Options": "nosniff", "Repr-Digest": _digest_field(sha256)},
        background=BackgroundTask(file.unlink, missing_ok=True),
    )


@asynccontextmanager
async def spooled(office: Office) -> AsyncIterator[Path]:
    """Give a file that is gone afterwards."""
    file = new_file(office)
    try:
        yield file
    finally:
        await asyncio.to_thread(file.unlink, missing_ok=True)


def new_file(office: Office) -> Path:
    """Name a file in the spool folder that nobody else has."""
    return office.spool / secrets.token_hex(16)


async def _spool(request: Request, file: Path, max_bytes: int) -> str:
    """Write a body to a file as it comes; gives its digest."""
    digest = hashlib.sha256()
    length = 0
    buffer = bytearray()

    def flush() -> None:
        digest.update(buffer)
        sink.write(buffer)
        buffer.clear()

    try:
        sink = await asyncio.to_thread(file.open, "wb")
        with sink:
            async for chunk in request.stream():
                length += len(chunk)
                if length > max_bytes:
                    raise too_large(max_bytes)
                buffer += chunk
                if len(buffer) >= _BUFFER_BYTES:
                    await asyncio.to_thread(flush)
            await asyncio.to_thread(flush)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileUnusable(reason, f"không ghi được tệp: {reason}", place=str(file.parent)) from error
    return digest.hexdigest()


def _problem(item: Any) -> Problem:
    place = "/query/name" if item["loc"][0] == "name" else "/header/content-type"
    return Problem("A206", place, item["msg"][:200])


def _safe_media_type(media_type: str) -> str:
    """Give the type that the sender claims, unless it is none: it goes into a header."""
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream"


def _digest_field(sha256: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
