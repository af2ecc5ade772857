"""Brings parts to the hub and fetches them, over HTTP: streamed from and to the disk, resumed after an interruption.

| effect                                             | if the process dies after it                                      |
|----------------------------------------------------|-------------------------------------------------------------------|
| `upload`: bytes arrive at the hub                  | uploaded again: the hub is asked for its offset, and it goes on   |
| `fetch`: bytes arrive in `.<name>.<digest>.part`   | fetched again: what is there is read, and it goes on              |
| `fetch`: the file is renamed                       | –                                                                 |

A file bears its name only when digest and length are what the envelope says. Each request carries a fresh grant, signed
with our own key. Trouble on the way is waited out, ever longer, until nothing has moved for `timeout_s`; what the hub
refuses is an error at once.
"""

import asyncio
import hashlib
import logging
import os
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import httpx2

from adapters.errors import FileUnusable, PartError
from schemas.envelope import Part
from schemas.grant import GRANT_TYP, MAX_GRANT_AGE_S, Act, Grant
from schemas.identifiers import AgencyCode, DocumentId
from schemas.problem_details import read_problem_details
from schemas.refusal import CATALOGUE, Problem
from schemas.signing import Signer, sign

log = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 1024 * 1024
_ASK_FIRST_BYTES: Final = 256 * 1024
"""A smaller part is sent without asking whether it is there."""
_MIN_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 10.0
_JOINED_BYTES_PER_S: Final = 4 * 1024 * 1024
"""The hub reads an upload once more before it answers to its end; slower than this it hardly is."""


class _Trouble(Exception):  # noqa: N818 - it is waited out
    """The hub does not answer, or not for now."""


@dataclass(frozen=True, slots=True)
class _Offset:
    """How far an upload has got."""

    offset: int
    complete: bool


class PartStore:
    """The hub's parts, for one agency or platform. Tasks may share it.

    Args:
        hub_url: Root of the hub's HTTP API.
        code: Code of the agency or platform that signs.
        signer: Its key.
        ssl_context: Authorities, and for mutual TLS the client certificate; the system's by default.
        timeout_s: How long to try without getting any further, seconds.
        clock: The present, aware.
    """

    def __init__(
        self,
        hub_url: str,
        code: AgencyCode,
        signer: Signer,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = 60.0,
        clock: Callable[[], datetime],
    ) -> None:
        self._url = hub_url.rstrip("/")
        self._code = code
        self._signer = signer
        self._timeout_s = timeout_s
        self._clock = clock
        self._http = httpx2.AsyncClient(
            verify=ssl_context or True,
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 15.0)),
            headers={"User-Agent": "truc-agency", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def upload(self, source: Path | bytes, *, name: str, media_type: str, agency: AgencyCode) -> Part:
        """Bring a part to the hub, unless it is there already; returns how an envelope names it.

        Raises:
            FileUnusable: When the file cannot be read.
            PartError: When the hub refuses it, or nothing has moved for too long.
            pydantic.ValidationError: When name or media type are not as envelopes want them; nothing is sent then.
        """
        sha256, length = await asyncio.to_thread(_digest_of, source)
        part = Part(name=name, media_type=media_type, sha256=sha256, length=length)
        reached = _Offset(0, complete=False)
        known = length <= _ASK_FIRST_BYTES

        async def step() -> bool:
            nonlocal reached, known
            if not known:
                reached = await self._ask(part, agency)
            known = False  # whatever happens to the request, the hub is asked before the next
            if not reached.complete:
                reached = await self._append(part, source, reached.offset, agency)
            return reached.complete

        await self._until_done(step, lambda: reached.offset)
        return part

    async def ask(self, part: Part, *, agency: AgencyCode) -> int:
        """Ask the hub once how many bytes of a part it has; changes nothing for one that it does not have.

        Raises:
            PartError: When the hub refuses to say, or does not answer.
        """
        try:
            return (await self._ask(part, agency)).offset
        except _Trouble as trouble:
            raise PartError(str(trouble), str(trouble), place=self._url) from trouble

    async def fetch(self, document_id: DocumentId, part: Part, into: Path, *, agency: AgencyCode) -> None:
        """Fetch a part of a document to a file, which is there as a whole and right, or not at all.

        Raises:
            FileUnusable: When the file cannot be written.
            PartError: When the hub refuses, what it sends is not the part, or nothing has moved for too long.
        """
        try:
            sink = await asyncio.to_thread(_Sink, into, part)
        except OSError as error:
            raise _unusable(into, error) from error
        try:

            async def step() -> bool:
                if sink.length < part.length:
                    await self._read_on(document_id, part, sink, agency)
                return sink.length >= part.length

            await self._until_done(step, lambda: sink.length)
            await asyncio.to_thread(sink.finish)
        except OSError as error:
            raise _unusable(into, error) from error
        finally:
            sink.close()

    async def _until_done(self, step: Callable[[], Awaitable[bool]], reached: Callable[[], int]) -> None:
        """Repeat a step until it says that all is done; gives up when nothing has moved for too long."""
        farthest, moved_at, pause_s = reached(), time.monotonic(), _MIN_PAUSE_S
        while True:
            reason = "the transfer broke off"
            try:
                if await step():
                    return
            except _Trouble as trouble:
                reason = str(trouble)
            if reached() > farthest:
                farthest, moved_at, pause_s = reached(), time.monotonic(), _MIN_PAUSE_S
            elif time.monotonic() - moved_at + pause_s > self._timeout_s:
                raise PartError(reason, reason, place=self._url)
            log.info("part.waiting reason=%s again_in_s=%g", reason, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    async def _ask(self, part: Part, agency: AgencyCode) -> _Offset:
        with _translated():
            response = await self._http.head(self._address(part), headers=await self._grant("upload", part, agency))
        limit = response.headers.get("Upload-Limit", "").removeprefix("max-size=")
        if limit.isdecimal() and part.length > int(limit):
            raise PartError(f"at most {limit} bytes", f"tối đa {limit} byte", place=self._url, code="E520")
        return self._offset_of(response)

    async def _append(self, part: Part, source: Path | bytes, offset: int, agency: AgencyCode) -> _Offset:
        headers = await self._grant("upload", part, agency) | {
            "Content-Type": "application/partial-upload",
            "Content-Length": str(part.length - offset),
            "Upload-Offset": str(offset),
            "Upload-Length": str(part.length),
            "Upload-Complete": "?1",
        }
        timeout = httpx2.Timeout(self._timeout_s, read=self._timeout_s + part.length / _JOINED_BYTES_PER_S)
        async with aclosing(_blocks(source, offset, part.length)) as blocks:
            with _translated():
                response = await self._http.patch(self._address(part), headers=headers, content=blocks, timeout=timeout)
        return self._offset_of(response)

    async def _read_on(self, document_id: DocumentId, part: Part, sink: "_Sink", agency: AgencyCode) -> None:
        headers = await self._grant("fetch", part, agency, document_id)
        if sink.length:
            headers["Range"] = f"bytes={sink.length}-"
        expected = httpx2.codes.PARTIAL_CONTENT if sink.length else httpx2.codes.OK
        with _translated():
            async with self._http.stream(
                "GET", self._address(part), params={"document": document_id}, headers=headers
            ) as response:
                if response.status_code != expected:
                    await response.aread()
                    raise self._problem_of(response)
                async for data in response.aiter_bytes(_BLOCK_BYTES):
                    await asyncio.to_thread(sink.write, data)

    def _address(self, part: Part) -> str:
        return f"{self._url}/v1/parts/{part.sha256}"

    async def _grant(
        self, act: Act, part: Part, agency: AgencyCode, document_id: DocumentId | None = None
    ) -> dict[str, str]:
        now_s = int(self._clock().timestamp())
        grant = Grant(
            from_=agency,
            via=None if agency == self._code else self._code,
            act=act,
            part=part.sha256,
            document=document_id,
            until=now_s + MAX_GRANT_AGE_S,
        )
        token = await asyncio.to_thread(sign, grant.to_json(), typ=GRANT_TYP, signer=self._signer, now_s=now_s)
        return {"Authorization": f"Bearer {token.decode()}"}

    def _offset_of(self, response: httpx2.Response) -> _Offset:
        offset = response.headers.get("Upload-Offset", "")
        if response.status_code == httpx2.codes.NO_CONTENT and offset.isdecimal():
            return _Offset(int(offset), complete=response.headers.get("Upload-Complete") == "?1")
        raise self._problem_of(response)

    def _problem_of(self, response: httpx2.Response) -> Exception:
        """Make an error of an answer: one that can be waited out, or one for the caller."""
        problem = read_problem_details(response.content)
        if problem is None and response.request.method == "HEAD" and response.is_client_error:
            # An answer to HEAD has no body, so the code is told in a header.
            code = response.headers.get("Truc-Code", "")
            problem = Problem(code) if code in CATALOGUE else None
        if response.is_server_error or (problem is not None and CATALOGUE[problem.code].retry):
            return _Trouble(problem.code if problem else f"HTTP {response.status_code}")
        if problem is None:
            found = f"HTTP {response.status_code}"
            return PartError(found, found, place=self._url, code="A121")
        return PartError(problem.en, problem.vi, place=self._url, code=problem.code)


class _Sink:
    """A file that is being fetched; it has its name only when it is right.

    Args:
        into: The name.
        part: What it must be.
    """

    def __init__(self, into: Path, part: Part) -> None:
        self._into = into
        self._part = part
        self._path = into.with_name(f".{into.name}.{part.sha256[:16]}.part")
        self._file: BinaryIO = self._path.open("a+b")
        self._digest = hashlib.sha256()
        self.length = 0
        self._file.seek(0)
        while data := self._file.read(_BLOCK_BYTES):
            self._digest.update(data)
            self.length += len(data)
        if self.length > part.length:
            self._empty()

    def write(self, data: bytes) -> None:
        """Append bytes; raises `PartError` when there are more than there should be."""
        self.length += len(data)
        if self.length > self._part.length:
            self._path.unlink(missing_ok=True)
            found = f"more than {self._part.length} bytes"
            raise PartError(found, f"nhiều hơn {self._part.length} byte", place=str(self._into), code="E505")
        self._digest.update(data)
        self._file.write(data)

    def finish(self) -> None:
        """Give the file its name; raises `PartError` when its digest is wrong."""
        found = self._digest.hexdigest()
        if found != self._part.sha256:
            self._path.unlink(missing_ok=True)
            raise PartError(f"it is {found}", f"mã băm thực tế {found}", place=str(self._into), code="E504")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(self._into)
        _sync_folder(self._into.parent)

    def close(self) -> None:
        """Let go of the file; what has come of it stays for the next try."""
        self._file.close()
        if not self.length:
            self._path.unlink(missing_ok=True)

    def _empty(self) -> None:
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.length = 0


@contextmanager
def _translated() -> Iterator[None]:
    """Make trouble of everything that happens to connections."""
    try:
        yield
    except httpx2.TransportError as error:
        raise _Trouble(f"{type(error).__name__} {error}".rstrip()) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest_of(source: Path | bytes) -> tuple[str, int]:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest(), len(source)
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return digest.hexdigest(), file.tell()
    except OSError as error:
        raise _unusable(source, error) from error


async def _blocks(source: Path | bytes, offset: int, end: int) -> AsyncGenerator[bytes, None]:
    """Read a source from an offset on, but never beyond the length that was announced."""
    if isinstance(source, bytes):
        for position in range(offset, end, _BLOCK_BYTES):
            yield source[position : position + _BLOCK_BYTES]
        return
    try:
        with source.open("rb") as file:
            file.seek(offset)
            while offset < end and (data := await asyncio.to_thread(file.read, min(_BLOCK_BYTES, end - offset))):
                offset += len(data)
                yield data
    except OSError as error:
        raise _unusable(source, error) from error


def _unusable(file: Path, error: OSError) -> FileUnusable:
    reason = error.strerror or type(error).__name__
    return FileUnusable(reason, f"không dùng được tệp: {reason}", place=str(file))
