"""Several signed objects in one message: one token to a line, no line end behind the last.

A token has no line end in it, so nothing else tells them apart, and each stays the bytes that were signed. What agencies
submit may come so, of one lane at a time; so may letters to one agency. A document always goes out to its recipient alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from schemas.signing import MAX_TOKEN_BYTES

BUNDLE_TYP: Final = "truc.bundle.v1"
"""What the property `type` of a message of the hub says when there are several in it."""

MAX_BUNDLED: Final = 100
"""Most tokens of one message."""

MAX_BUNDLE_BYTES: Final = MAX_TOKEN_BYTES
"""Most bytes of one message; a single token may have as many."""

_BETWEEN: Final = b"\n"

T = TypeVar("T")


def in_bundles(items: Iterable[T], token_of: Callable[[T], bytes]) -> Iterator[list[T]]:
    """Split into what may travel in one message, in order, each as full as the next item allows."""
    together: list[T] = []
    size_bytes = -len(_BETWEEN)  # there is one less than tokens
    for item in items:
        more_bytes = len(_BETWEEN) + len(token_of(item))
        if together and (len(together) == MAX_BUNDLED or size_bytes + more_bytes > MAX_BUNDLE_BYTES):
            yield together
            together, size_bytes = [], -len(_BETWEEN)
        together.append(item)
        size_bytes += more_bytes
    if together:
        yield together


def tie(tokens: Iterable[bytes]) -> bytes:
    """Make a message of tokens that `in_bundles` has put together; of a single one, the token."""
    return _BETWEEN.join(tokens)


def untie(body: bytes) -> Sequence[bytes]:
    """Give the tokens of a message; what is no bundle, or too large a one, comes as it is, to be judged as one token."""
    if _BETWEEN not in body:
        return (body,)
    tokens = body.split(_BETWEEN, MAX_BUNDLED)
    return tokens if len(tokens) <= MAX_BUNDLED and len(body) <= MAX_BUNDLE_BYTES and all(tokens) else (body,)
