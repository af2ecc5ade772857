"""Several tokens in one message, and what is none of that."""

import pytest

from schemas.bundle import MAX_BUNDLE_BYTES, MAX_BUNDLED, in_bundles, tie, untie


def bundles(*tokens: bytes) -> list[bytes]:
    return [tie(bundle) for bundle in in_bundles(tokens, lambda token: token)]


def test_a_single_token_is_its_own_message():
    assert bundles(b"a.b.c") == [b"a.b.c"]
    assert list(untie(b"a.b.c")) == [b"a.b.c"]


def test_what_was_tied_comes_apart_as_it_was_and_in_its_order():
    tokens = [b"%d.b.c" % number for number in range(MAX_BUNDLED)]
    [body] = bundles(*tokens)

    assert list(untie(body)) == tokens


def test_one_too_many_begins_the_next_message():
    tokens = [b"%d" % number for number in range(MAX_BUNDLED + 1)]

    assert [list(untie(body)) for body in bundles(*tokens)] == [tokens[:MAX_BUNDLED], tokens[MAX_BUNDLED:]]


def test_a_message_has_no_more_bytes_than_allowed_and_is_filled_up_to_that():
    half, other_half = b"a" * (MAX_BUNDLE_BYTES // 2), b"b" * (MAX_BUNDLE_BYTES // 2 - 1)
    fits, does_not = bundles(half, other_half), bundles(half, other_half + b"b")

    assert [len(list(untie(body))) for body in fits] == [2]
    assert [list(untie(body)) for body in does_not] == [[half], [other_half + b"b"]]


def test_a_token_as_large_as_may_be_travels_alone():
    largest = b"a" * MAX_BUNDLE_BYTES

    assert bundles(b"b", largest, b"c") == [b"b", largest, b"c"]


def test_nothing_is_no_message():
    assert bundles() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"a\n",
        b"\na",
        b"a\n\nb",
        b"\n" * 1_000_000,
        b"\n".join([b"a"] * (MAX_BUNDLED + 1)),
        b"a" * MAX_BUNDLE_BYTES + b"\nb",
    ],
    ids=["empty", "a line end", "one behind", "one before", "two between", "a million", "too many", "too large"],
)
def test_what_is_no_bundle_stays_whole_to_be_judged_as_one_token(body):
    assert list(untie(body)) == [body]
