"""Parts: the pieces that an upload has left in the store, and whether a document's parts are there.

```
uploads/<sha256>/<agency>/<offset>-<length>    a chunk of an upload that is not finished; 16 and 8 hexadecimal digits
parts/<two digits>/<sha256>.<random>           the bytes of a finished part, under a key that is never used again
```

The keys say everything, so any process of the hub can go on with an upload that another has begun. Chunks are cut at
multiples of `CHUNK_BYTES`, and earlier only where a connection broke; two connections that bring the same bytes may
leave chunks that overlap.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

CHUNK_BYTES: Final = 8 * 1024 * 1024
MAX_CHUNKS: Final = 20_000
"""Chunks of one upload; who leaves more by breaking off again and again begins anew."""

UPLOADS: Final = "uploads/"
PARTS: Final = "parts/"

_CHUNK: Final = re.compile(r"uploads/([0-9a-f]{64})/([A-Za-z0-9.-]+)/([0-9a-f]{16})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the blob store.

    Attributes:
        key: Its key.
        length: Number of bytes.
        changed_at: When it was written, by the store's clock.
    """

    key: str
    length: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished part.

    Attributes:
        sha256: Its digest.
        length: Number of bytes.
        object_key: Where they are in the blob store.
    """

    sha256: str
    length: int
    object_key: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that is not finished: one part, from one agency.

    Attributes:
        sha256: The digest that the part is named by.
        agency: In whose name it is uploaded. Nobody can spoil what another has sent.
    """

    sha256: str
    agency: AgencyCode

    @property
    def prefix(self) -> str:
        """What the keys of all its chunks begin with."""
        return f"{UPLOADS}{self.sha256}/{self.agency}/"

    def chunk_key(self, offset: int, length: int) -> str:
        """Name the chunk of a range."""
        return f"{self.prefix}{offset:016x}-{length:08x}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has got.

    Attributes:
        offset: Bytes that are there, from the beginning.
        complete: Whether the part is there as a whole, with the right digest.
    """

    offset: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a chunk that is to be read.

    Attributes:
        key: The chunk.
        start: Where to begin in it.
        end: Where to end in it.
    """

    key: str
    start: int
    end: int


def part_key(sha256: str, random: str) -> str:
    """Name the object of a finished part."""
    return f"{PARTS}{sha256[:2]}/{sha256}.{random}"


def upload_of(key: str) -> Upload | None:
    """Say which upload a key is a chunk of; `None` when it is no chunk."""
    found = _CHUNK.fullmatch(key)
    return Upload(found[1], AgencyCode(found[2])) if found else None


def assemble(chunks: Iterable[StoredObject]) -> tuple[tuple[Piece, ...], int]:
    """Join chunks from the beginning as far as they reach without a gap; returns what to read, and how far it goes.

    A chunk that is shorter than its key says was cut short when the power failed, and counts for nothing.
    """
    ranges = ((_range_of(chunk.key), chunk.length) for chunk in chunks)
    waiting = deque(sorted(each for each, stored in ranges if each[1] == stored))
    pieces: list[Piece] = []
    reached = 0
    while True:
        farthest, best = reached, None
        while waiting and waiting[0][0] <= reached:
            offset, length, key = waiting.popleft()
            if offset + length > farthest:
                farthest, best = offset + length, Piece(key, reached - offset, length)
        if best is None:
            return tuple(pieces), reached
        pieces.append(best)
        reached = farthest


def _range_of(key: str) -> tuple[int, int, str]:
    found = _CHUNK.fullmatch(key)
    assert found is not None, "the store lists chunks only under the prefix of an upload"
    return int(found[3], 16), int(found[4], 16), key


def check_parts(envelope: Envelope, held: Mapping[tuple[str, AgencyCode], int]) -> tuple[Problem, ...]:
    """Check that the sender has uploaded every part of a document, with the length that the envelope gives.

    Args:
        envelope: The document.
        held: Lengths of parts by digest and by each agency that has uploaded them.
    """
    problems = []
    for index, part in enumerate(envelope.parts):
        length = held.get((part.sha256, envelope.from_))
        if length is None:
            problems.append(Problem("E503", f"/parts/{index}/sha256", part.name, part.name))
        elif length != part.length:
            found = f"{length} bytes", f"{length} byte"
            problems.append(Problem("E505", f"/parts/{index}/length", *found))
    return tuple(problems)


def digests_of(envelopes: Iterable[Envelope]) -> Sequence[str]:
    """List the parts of documents, each once, in order."""
    return sorted({part.sha256 for envelope in envelopes for part in envelope.parts})
