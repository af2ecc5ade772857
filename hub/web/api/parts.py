"""`/v1/parts/{sha256}`: parts go up in one request or several, and come down, whole or a range.

The upload follows the IETF draft on resumable uploads (draft-ietf-httpbis-resumable-upload) with the part's digest in the
place of an upload's own address: `HEAD` asks for the offset, `PATCH` appends.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from hub.core.grant import Granted
from hub.core.part import Kept, Progress, Upload
from hub.core.trouble import Interrupted
from hub.telemetry import report
from hub.web.api.answers import ProblemsError, answer
from hub.web.api.api import Api, Transfers
from hub.web.api.grants import Asker
from hub.web.api.ranges import byte_range
from schemas.grant import Act
from schemas.refusal import Problem

_IDLE_S: Final = 60.0
"""How long a body may stand still; what has come of it stays."""

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the part, lower-case hexadecimal.")]
Document = Annotated[
    str, Query(pattern="^[0-9a-f]{64}$", description="Identity of the document in which the part was delivered.")
]
Offset = Annotated[int, Header(alias="Upload-Offset", ge=0, description="Where the body belongs in the part.")]
Length = Annotated[int, Header(alias="Upload-Length", ge=0, description="Length of the whole part.")]
Complete = Annotated[
    str, Header(alias="Upload-Complete", pattern=r"^\?[01]$", description="`?1` when the part ends with the body.")
]
Range = Annotated[str | None, Header(alias="Range", description="One range of bytes.")]

router: Final = APIRouter(prefix="/v1", tags=["parts"])


@router.head("/parts/{sha256}", status_code=204)
async def progress(sha256: Sha256, request: Request, asker: Asker) -> Response:
    """Say how many bytes of a part are there, and whether it is complete (grant: `upload`)."""
    _refuse_other(asker, "upload", sha256)
    api = Api.of(request)
    return _told(await api.parts.progress(Upload(sha256, asker.agency)), api)


@router.patch("/parts/{sha256}", status_code=204)
async def append(  # noqa: PLR0917 - FastAPI passes them by name
    sha256: Sha256,
    request: Request,
    asker: Asker,
    upload_offset: Offset,
    upload_length: Length,
    upload_complete: Complete,
) -> Response:
    """Append the body to a part (grant: `upload`). What has come stays when the connection breaks."""
    _refuse_other(asker, "upload", sha256)
    api = Api.of(request)
    async with api.uploads.place(), aclosing(_body_of(request)) as body:
        result = await api.parts.append(
            Upload(sha256, asker.agency),
            body,
            offset=upload_offset,
            length=upload_length,
            is_last=upload_complete == "?1",
        )
    report.part_answered("upload", result)
    if isinstance(result, Progress):
        return _told(result, api)
    # The offset of an upload that does not go on where it should is told as the draft says.
    return answer([result], headers={"Upload-Offset": result.en} if result.code == "E521" else None)


@router.get("/parts/{sha256}", response_class=StreamingResponse)
async def fetch(sha256: Sha256, document: Document, request: Request, asker: Asker, range_: Range = None) -> Response:
    """Read a part of a document that was delivered to the agency, or sent by it (grant: `fetch`)."""
    _refuse_other(asker, "fetch", sha256, document)
    api = Api.of(request)
    part = await api.parts.fetch(asker)
    if part is None:
        report.part_answered("fetch", Problem("E421"))
        raise ProblemsError(Problem("E421", "/document"))
    wanted = byte_range(range_, part.length)
    if wanted is None:
        problem = Problem("E522", "/Range", f"{part.length} bytes", f"{part.length} byte")
        return answer([problem], status=416, headers={"Content-Range": f"bytes */{part.length}"})
    report.part_answered("fetch", None)
    return _Download(part, *wanted, api.parts.read(part, *wanted), api.downloads)


class _Download(StreamingResponse):
    """A range of a part, sent as fast as it is read; takes a place as long as it lasts."""

    def __init__(self, part: Kept, begin: int, end: int, content: AsyncIterator[bytes], downloads: Transfers) -> None:
        is_whole = (begin, end) == (0, part.length)
        headers = _headers_of(part) | {"Content-Length": str(end - begin)}
        if not is_whole:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{part.length}"
        super().__init__(content, 200 if is_whole else 206, headers, "application/octet-stream")
        self._downloads = downloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._downloads.place():
            await super().__call__(scope, receive, send)


def _refuse_other(asker: Granted, act: Act, sha256: str, document: str | None = None) -> None:
    problems = asker.covers(act, part=sha256, document=document)
    if problems:
        raise ProblemsError(*problems)


def _told(reached: Progress, api: Api) -> Response:
    headers = {
        "Upload-Offset": str(reached.offset),
        "Upload-Complete": "?1" if reached.complete else "?0",
        "Upload-Limit": f"max-size={api.max_part_bytes}",
        "Cache-Control": "no-store",
    }
    return Response(status_code=204, headers=headers)


def _headers_of(part: Kept) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(part.sha256)).decode()
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{part.sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Cache-Control": "private, no-store",
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }


async def _body_of(request: Request) -> AsyncGenerator[bytes, None]:
    """Read a body as it comes; raises `Interrupted` when it breaks off or stands still."""
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(_IDLE_S):
                data = await anext(stream)
            yield data
    except StopAsyncIteration:
        return
    except (ClientDisconnect, TimeoutError) as error:
        raise Interrupted("the body ended before its time") from error
