"""One range of bytes, as clients write it."""

import pytest

from hub.web.api.ranges import byte_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 10)),
        ("bytes=0-", (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=9-9", (9, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-99", (0, 10)),
        ("BYTES=1-2", (1, 3)),
        ("bytes=10-", None),
        ("bytes=99-100", None),
        ("bytes=-0", None),
        # Not understood, so the whole is sent.
        ("bytes=5-3", (0, 10)),
        ("bytes=-", (0, 10)),
        ("bytes=0-1,3-4", (0, 10)),
        ("bytes=a-b", (0, 10)),
        ("lines=1-2", (0, 10)),
        ("bytes=" + "9" * 30 + "-", (0, 10)),
    ],
)
def test_range_of_ten_bytes(header, expected):
    assert byte_range(header, 10) == expected


def test_of_nothing_only_the_whole_can_be_had():
    assert byte_range(None, 0) == (0, 0)
    assert byte_range("bytes=0-", 0) is None
    assert byte_range("bytes=-1", 0) is None
