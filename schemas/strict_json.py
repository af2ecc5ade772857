"""JSON as signed objects use it: one reading only, whatever parser looks at it.

Ordinary parsers keep the last of two equal keys, accept `NaN`, byte order marks and halves of surrogate pairs, and
fall over at great depth. Each of these is a way to show two parties two different documents under one signature, or
to stop a process, so they are refused here (RFC 8259, RFC 7493).
"""

import json
import re
from collections import Counter
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1
"""Greatest integer that every parser keeps exactly; many hold all numbers in 64-bit floating point (RFC 7493)."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class NotStrictError(ValueError):
    """The bytes are not strict JSON.

    Attributes:
        reason: One of `encoding`, `syntax`, `duplicate`, `number`, `depth`, `surrogate`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def loads(data: bytes) -> Any:
    """Read strict JSON.

    Args:
        data: UTF-8 without a byte order mark, nested at most `MAX_DEPTH` deep, numbers integers up to `MAX_INTEGER`.

    Raises:
        NotStrictError: On the first thing that two parsers could read differently.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrictError("encoding", f"not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise NotStrictError("encoding", "byte order mark at the beginning")
    _refuse_depth(data)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotStrictError("syntax", f"not JSON at character {error.pos}") from error
    if _SURROGATE_ESCAPE.search(data):
        _refuse_lone_surrogates(value)
    return value


# The closing quote is optional: an unterminated string then runs to the end once, instead of being tried at every quote.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def _refuse_depth(data: bytes) -> None:
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise NotStrictError("depth", f"nested deeper than {MAX_DEPTH}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise NotStrictError("duplicate", f"member {key[:60]!r} appears twice in one object")
    return members


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise NotStrictError("number", f"integer beyond {MAX_INTEGER}")
    return int(text)


def _no_float(text: str) -> NoReturn:
    raise NotStrictError("number", f"number {text[:20]!r} is not an integer")


def _refuse_lone_surrogates(value: Any) -> None:
    match value:
        case str():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise NotStrictError("surrogate", "half of a surrogate pair in a string") from error
        case dict():
            for key, member in value.items():
                _refuse_lone_surrogates(key)
                _refuse_lone_surrogates(member)
        case list():
            for member in value:
                _refuse_lone_surrogates(member)
        case _:
            pass


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_no_float, parse_constant=_no_float
)
