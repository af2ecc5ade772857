"""How chunks are joined, and which parts of a document are missing."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.part import Piece, StoredObject, Upload, assemble, part_key, upload_of
from schemas.identifiers import AgencyCode

UPLOAD = Upload("ab" * 32, AgencyCode("H26.01"))
CONTENT = bytes(range(100))


def chunk(offset: int, length: int) -> StoredObject:
    return StoredObject(UPLOAD.chunk_key(offset, length), length, datetime(2026, 11, 23, tzinfo=UTC))


def read(pieces: tuple[Piece, ...]) -> bytes:
    """What the pieces give, when every chunk holds the bytes that belong there."""

    def begin(piece: Piece) -> int:
        return int(piece.key.rpartition("/")[2].partition("-")[0], 16)

    return b"".join(CONTENT[begin(piece) + piece.start : begin(piece) + piece.end] for piece in pieces)


@pytest.mark.parametrize(
    ("ranges", "reached"),
    [
        ([], 0),
        ([(0, 10)], 10),
        ([(10, 10)], 0),
        ([(0, 10), (10, 5)], 15),
        ([(10, 5), (0, 10)], 15),
        ([(0, 10), (11, 5)], 10),
        ([(0, 10), (0, 20), (10, 3)], 20),
        ([(0, 10), (5, 10), (15, 1)], 16),
        ([(0, 10), (2, 3)], 10),
        ([(0, 0)], 0),
    ],
)
def test_chunks_reach_as_far_as_there_is_no_gap(ranges, reached):
    pieces, found = assemble(chunk(*each) for each in ranges)

    assert found == reached
    assert read(pieces) == CONTENT[:reached]


def test_chunk_that_was_cut_short_with_the_power_counts_for_nothing():
    cut = replace(chunk(10, 10), length=0)

    assert assemble([chunk(0, 10), cut, chunk(20, 5)])[1] == 10


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=12))
def test_joined_chunks_are_the_beginning_of_the_part_whatever_overlaps(ranges):
    covered = {position for offset, length in ranges for position in range(offset, offset + length)}
    gap = next(position for position in range(101) if position not in covered)

    pieces, reached = assemble(chunk(*each) for each in ranges)

    assert reached == gap
    assert read(pieces) == CONTENT[:gap]
    assert len({piece.key for piece in pieces}) == len(pieces)


def test_key_of_a_chunk_names_its_upload_and_no_other_key_does():
    assert upload_of(UPLOAD.chunk_key(2**40, 8 * 1024 * 1024)) == UPLOAD
    assert upload_of(part_key(UPLOAD.sha256, "0011")) is None
    assert upload_of("uploads/" + "ab" * 32 + "/H26/../0-1") is None
