"""Takes parts in and hands them out: what happens to the bytes, in which order.

An upload comes in one request or, after interruptions, in several, at any process of the hub:

| effect                                  | if the process dies after it                                               |
|-----------------------------------------|----------------------------------------------------------------------------|
| `blobs.put` of a chunk                  | the chunk stays; the agency asks for the offset and goes on from there     |
| `blobs.put_stream` of all chunks        | an object that belongs to no part, swept after a day; uploaded again       |
| `register.add`                          | the part is there; its chunks are swept after a day                        |
| `blobs.delete` of the chunks            | –                                                                          |

The digest is computed while the chunks are joined, so nothing wrong ever becomes an object. A part that comes as a whole
and fits into one chunk is put at once. When two bring the same part, the register keeps the object of the first; the
other deletes its own. Nothing is kept in memory from one request to the next.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from hub.core.grant import Granted
from hub.core.part import CHUNK_BYTES, MAX_CHUNKS, Kept, Progress, StoredObject, Upload, assemble, part_key
from hub.core.trouble import Gone, Interrupted, Unavailable
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

FINISH_TIMEOUT_S: Final = 4 * 3600.0
"""An object that becomes part of the register later than the sweep's day of grace would be taken for an orphan."""


class Blobs(Protocol):
    """The blob store, as far as uploads and downloads need it."""

    async def put(self, key: str, content: bytes | bytearray) -> None:
        """Write an object as a whole."""

    async def put_stream(self, key: str, content: AsyncIterator[bytes]) -> None:
        """Write an object of any size; none when `content` raises."""

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a range; raises `Gone` when there is no such object."""

    async def chunks(self, upload: Upload) -> Sequence[StoredObject]:
        """List what an upload has left so far."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as far as they are there."""


class Register(Protocol):
    """What the database knows about parts."""

    async def find(self, sha256: str, agency: AgencyCode, now: datetime) -> Kept | None:
        """Give a part that the agency has uploaded, and keep it as if it were uploaded now."""

    async def add(self, part: Kept, agency: AgencyCode, now: datetime) -> bool:
        """Enter an uploaded part; returns whether its object is the one that is kept."""

    async def fetchable(self, granted: Granted) -> Kept | None:
        """Give the part that a grant asks for, when its agency may have it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The hub's parts.

    Attributes:
        blobs: Where the bytes are.
        register: What the database knows.
        max_bytes: Largest part.
        clock: The present.
        chunk_bytes: Most bytes of an upload that are in memory, and may come again when this process dies.
    """

    blobs: Blobs
    register: Register
    max_bytes: int
    clock: Callable[[], datetime]
    chunk_bytes: int = CHUNK_BYTES

    async def progress(self, upload: Upload) -> Progress:
        """Say how far an upload has got.

        Raises:
            Trouble: When database or blob store does not answer.
        """
        kept = await self.register.find(upload.sha256, upload.agency, self.clock())
        if kept is not None:
            return Progress(kept.length, complete=True)
        _, reached = assemble(await self.blobs.chunks(upload))
        return Progress(reached, complete=False)

    async def append(
        self, upload: Upload, body: AsyncIterator[bytes], *, offset: int, length: int, is_last: bool
    ) -> Progress | Problem:
        """Take the bytes of one request; returns how far the upload has got then, or why they are refused.

        Args:
            upload: What they belong to.
            body: The bytes; raises `Interrupted` when they end before their time.
            offset: Where they belong.
            length: Length of the whole part.
            is_last: Whether the part ends with them.

        Raises:
            Interrupted: When the body ended before its time; what has come of it stays.
            Trouble: When database or blob store does not answer; what has come stays.
        """
        if length > self.max_bytes:
            return Problem("E520", "/length", f"at most {self.max_bytes} bytes", f"tối đa {self.max_bytes} byte")
        before = await self.progress(upload)
        if before.complete:
            return before
        if offset != before.offset:
            return _at(before.offset)
        if offset == 0 and is_last and length <= self.chunk_bytes:
            return await self._take_whole(upload, body, length)
        end = await self._take_chunks(upload, body, offset, length)
        if end > length or (is_last and end != length):
            await self._begin_anew(upload)
            return _length_is_wrong(end, length)
        return await self._finish(upload, length) if is_last else await self.progress(upload)

    async def fetch(self, granted: Granted) -> Kept | None:
        """Find the part that a grant asks for; `None` when its agency may not have it, or there is none.

        Raises:
            Unavailable: When the database does not answer.
        """
        return await self.register.fetchable(granted)

    def read(self, part: Kept, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a range of a part.

        Raises:
            Trouble: When the blob store does not answer.
        """
        return self.blobs.read(part.object_key, start, end)

    async def _take_whole(self, upload: Upload, body: AsyncIterator[bytes], length: int) -> Progress | Problem:
        """Take a part that comes in one request and fits into memory."""
        content = bytearray()
        try:
            async for data in body:
                content += data
                if len(content) > length:
                    return _length_is_wrong(len(content), length)
        except Interrupted:
            if content:
                await self.blobs.put(upload.chunk_key(0, len(content)), content)
            raise
        if len(content) != length:
            return _length_is_wrong(len(content), length)
        digest = hashlib.sha256(content).hexdigest()
        if digest != upload.sha256:
            return _digest_is_wrong(digest)
        key = part_key(upload.sha256, secrets.token_hex(8))
        await self.blobs.put(key, content)
        await self._enter(upload, Kept(upload.sha256, len(content), key))
        return Progress(len(content), complete=True)

    async def _take_chunks(self, upload: Upload, body: AsyncIterator[bytes], offset: int, length: int) -> int:
        """Store a body chunk by chunk as it comes; returns where it ends, or where it became too long."""
        position, buffer = offset, bytearray()

        async def store() -> None:
            nonlocal buffer
            if buffer:
                await self.blobs.put(upload.chunk_key(position - len(buffer), len(buffer)), buffer)
                buffer = bytearray()

        try:
            async for data in body:
                rest = memoryview(data)
                while rest:
                    room = self.chunk_bytes - position % self.chunk_bytes
                    buffer += rest[:room]
                    position += len(rest[:room])
                    rest = rest[room:]
                    if position > length:
                        return position
                    if position % self.chunk_bytes == 0:
                        await store()
        except Interrupted:
            await store()
            raise
        await store()
        return position

    async def _finish(self, upload: Upload, length: int) -> Progress | Problem:
        """Join the chunks of an upload to the object of a part."""
        chunks = await self.blobs.chunks(upload)
        pieces, reached = assemble(chunks)
        if reached < length:
            return await self._overtaken(upload)
        if len(chunks) > MAX_CHUNKS:
            await self._begin_anew(upload)
            return _at(0)
        digest = hashlib.sha256()

        async def content() -> AsyncIterator[bytes]:
            for piece in pieces:
                async for data in self.blobs.read(piece.key, piece.start, piece.end):
                    digest.update(data)
                    yield data
            if digest.hexdigest() != upload.sha256:
                raise _WrongDigestError

        key = part_key(upload.sha256, secrets.token_hex(8))
        try:
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self.blobs.put_stream(key, content())
        except _WrongDigestError:
            await self._begin_anew(upload)
            return _digest_is_wrong(digest.hexdigest())
        except Gone:
            return await self._overtaken(upload)
        except TimeoutError as error:
            raise Unavailable("blobs", f"a part was not joined within {FINISH_TIMEOUT_S:.0f} s") from error
        await self._enter(upload, Kept(upload.sha256, length, key))
        await self._tidy([chunk.key for chunk in chunks])
        return Progress(length, complete=True)

    async def _overtaken(self, upload: Upload) -> Progress:
        """Say where an upload is whose chunks have gone: another request has finished it, or the sweep came by."""
        reached = await self.progress(upload)
        if reached.complete:
            await self._tidy([chunk.key for chunk in await self.blobs.chunks(upload)])
        return reached

    async def _enter(self, upload: Upload, part: Kept) -> None:
        if not await self.register.add(part, upload.agency, self.clock()):  # somebody was faster
            await self._tidy([part.object_key])

    async def _tidy(self, keys: Sequence[str]) -> None:
        """Delete what is not needed any more; where that fails, the sweep does it."""
        with suppress(Unavailable):
            await self.blobs.delete(keys)

    async def _begin_anew(self, upload: Upload) -> None:
        await self.blobs.delete([chunk.key for chunk in await self.blobs.chunks(upload)])


class _WrongDigestError(Exception):
    """Ends the writing of an object before it is one."""


def _at(offset: int) -> Problem:
    return Problem("E521", "/offset", str(offset), str(offset))


def _length_is_wrong(came: int, length: int) -> Problem:
    if came > length:
        return Problem("E505", "/length", f"more than {length} bytes came", f"nhận nhiều hơn {length} byte")
    return Problem("E505", "/length", f"{came} bytes came", f"nhận được {came} byte")


def _digest_is_wrong(found: str) -> Problem:
    return Problem("E504", "/sha256", f"it is {found}", f"mã băm thực tế {found}")
