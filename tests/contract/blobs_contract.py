"""What every blob store does: a directory, S3, and the one in memory; a subclass provides the fixture `blobs`."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from hub import parts, sweep
from hub.core.part import Upload
from hub.core.trouble import Gone
from schemas.identifiers import AgencyCode

UPLOAD = Upload("ab" * 32, AgencyCode("H26.01"))
MIB = 1024 * 1024


class Blobs(parts.Blobs, sweep.Blobs, Protocol):
    """All that the hub needs of a blob store."""


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(blobs: Blobs, key: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in blobs.read(key, start, end)])


async def keys(blobs: Blobs) -> list[str]:
    """Walk over everything once."""
    found: list[str] = []
    while page := await blobs.next_objects():
        found += [item.key for item in page]
    return sorted(found)


class BlobsContract:
    """Bytes under keys."""

    async def test_object_is_read_as_it_was_put(self, blobs: Blobs):
        await blobs.put("parts/ab/x", b"0123456789")
        assert await read(blobs, "parts/ab/x", 0, 10) == b"0123456789"
        assert await read(blobs, "parts/ab/x", 3, 6) == b"345"

    async def test_bytes_that_are_still_growing_are_put_as_they_are(self, blobs: Blobs):
        content = bytearray(b"abc")
        await blobs.put("parts/ab/x", content)
        content += b"more"
        assert await read(blobs, "parts/ab/x", 0, 3) == b"abc"

    async def test_empty_object_can_be_put(self, blobs: Blobs):
        await blobs.put("parts/ab/empty", b"")
        assert await keys(blobs) == ["parts/ab/empty"]

    async def test_long_object_is_put_piece_by_piece(self, blobs: Blobs):
        await blobs.put_stream("parts/ab/long", stream(bytes([number]) * MIB for number in range(20)))
        assert await read(blobs, "parts/ab/long", 9 * MIB - 2, 9 * MIB + 2) == b"\x08\x08\x09\x09"
        whole = await read(blobs, "parts/ab/long", 0, 20 * MIB)
        assert (len(whole), whole[-1]) == (20 * MIB, 19)

    async def test_object_whose_bytes_end_in_an_error_is_not_there(self, blobs: Blobs):
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 9 * MIB
            raise LookupError("broken")

        with pytest.raises(LookupError, match="broken"):
            await blobs.put_stream("parts/ab/broken", broken())
        assert await keys(blobs) == []
        assert await blobs.remove_staged(datetime.now(UTC) + timedelta(days=1)) == 0

    async def test_object_that_is_not_there_is_gone(self, blobs: Blobs):
        with pytest.raises(Gone):
            await read(blobs, "parts/ab/none", 0, 1)

    async def test_chunks_of_an_upload_are_those_of_its_part_and_its_agency(self, blobs: Blobs):
        others = Upload(UPLOAD.sha256, AgencyCode("H26.011")), Upload("cd" * 32, UPLOAD.agency)
        for upload in (UPLOAD, *others):
            await blobs.put(upload.chunk_key(0, 3), b"abc")
        [chunk] = await blobs.chunks(UPLOAD)
        assert (chunk.key, chunk.length) == (UPLOAD.chunk_key(0, 3), 3)
        assert abs(chunk.changed_at - datetime.now(UTC)) < timedelta(minutes=1)

    async def test_upload_that_has_left_nothing_has_no_chunks(self, blobs: Blobs):
        assert list(await blobs.chunks(UPLOAD)) == []

    async def test_deleted_objects_are_gone_and_those_that_never_were_do_not_matter(self, blobs: Blobs):
        for key in ("parts/ab/x", "parts/ab/y", "parts/ab/z"):
            await blobs.put(key, b"abc")
        await blobs.delete(["parts/ab/none", "parts/ab/x", "parts/cd/none", "parts/ab/y"])
        await blobs.delete([])
        assert await keys(blobs) == ["parts/ab/z"]

    async def test_walk_comes_by_every_object_and_begins_anew(self, blobs: Blobs):
        assert await keys(blobs) == []
        wanted = sorted([f"parts/{number:02x}/x" for number in range(5)] + [UPLOAD.chunk_key(0, 1)])
        for key in wanted:
            await blobs.put(key, b"x")
        assert await keys(blobs) == wanted
        assert await keys(blobs) == wanted
