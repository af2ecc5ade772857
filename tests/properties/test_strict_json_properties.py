"""Strict JSON against any bytes, and against the parsers that are not strict."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.strict_json import MAX_DEPTH, MAX_INTEGER, NotStrictError, loads

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)
JSON_PIECES = st.sampled_from(
    [
        *'[]{}",:\\ \n',
        *('\\"', "\\\\", "\\u0061", "\\ud800", "\\udc00", '"a"', '"a":'),
        *("1", "-", "0", "1.5", "1e9", "9" * 20, "NaN", "true", "null"),
        *("é", "\ufeff", "\0"),
    ]
)
ANY_JSON = TypeAdapter(Any)
REASONS = {None, "encoding", "syntax", "duplicate", "number", "depth", "surrogate"}


def depth_of(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


def reason(data: bytes) -> str | None:
    """Say why bytes are refused; `None` when they are taken, and then two other parsers make the same of them."""
    try:
        value = loads(data)
    except NotStrictError as error:
        return error.reason
    assert json.loads(data) == value
    assert ANY_JSON.validate_json(data) == value
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_alike_or_refused(data):
    assert reason(data) in REASONS


@settings(max_examples=500)
@given(st.lists(JSON_PIECES, max_size=40))
def test_anything_that_resembles_json_is_read_alike_or_refused(pieces):
    assert reason("".join(pieces).encode()) in REASONS


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_every_strict_value_is_taken_however_it_is_written(value, escaped, indent):
    data = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()

    assert reason(data) == (None if depth_of(value) <= MAX_DEPTH else "depth")


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_depth_is_refused_exactly_beyond_the_limit(kinds):
    opening = "".join("[" if is_list else '{"a":' for is_list in kinds)
    closing = "".join("]" if is_list else "}" for is_list in reversed(kinds))

    assert reason(f"{opening}0{closing}".encode()) == (None if len(kinds) <= MAX_DEPTH else "depth")


@given(st.dictionaries(TEXTS, st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_a_doubled_member_is_refused_wherever_it_stands(members, data):
    written = [f"{json.dumps(name)}:{value}" for name, value in members.items()]
    doubled = data.draw(st.sampled_from(written))
    written.insert(data.draw(st.integers(0, len(written))), doubled)

    assert reason(("{" + ",".join(written) + "}").encode()) == "duplicate"
