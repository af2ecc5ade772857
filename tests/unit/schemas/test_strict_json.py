"""Strict JSON: one reading only, at bounded cost."""

import pytest

from schemas import wire
from schemas.strict_json import MAX_DEPTH, MAX_INTEGER, NotStrictError, loads


def reason(data: bytes) -> str:
    with pytest.raises(NotStrictError) as caught:
        loads(data)
    return caught.value.reason


REFUSED = {
    "not UTF-8": (b'"\xff"', "encoding"),
    "overlong": (b'"\xc0\x80"', "encoding"),
    "surrogate in UTF-8": (b'"\xed\xa0\x80"', "encoding"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "encoding"),
    "UTF-16 without mark": ('{"a":1}'.encode("utf-16-le"), "syntax"),
    "byte order mark": (b"\xef\xbb\xbf{}", "encoding"),
    "nothing": (b"", "syntax"),
    "white space": (b" \n", "syntax"),
    "two values": (b"{}{}", "syntax"),
    "comment": (b"{}//", "syntax"),
    "single quotes": (b"{'a':1}", "syntax"),
    "trailing comma": (b"[1,]", "syntax"),
    "raw line feed in text": (b'"a\nb"', "syntax"),
    "NUL behind": (b"{}\0", "syntax"),
    "other white space": (b"\xc2\xa0{}", "syntax"),
    "leading zero": (b"01", "syntax"),
    "plus": (b"+1", "syntax"),
    "unknown escape": (b'"\\x41"', "syntax"),
    "doubled": (b'{"a":1,"a":2}', "duplicate"),
    "doubled with equal values": (b'{"a":1,"a":1}', "duplicate"),
    "doubled by escape": (b'{"a":1,"\\u0061":2}', "duplicate"),
    "doubled and deep": (b'[{"b":{"a":1,"c":0,"a":2}}]', "duplicate"),
    "doubled empty name": (b'{"":1,"":2}', "duplicate"),
    "fraction": (b"1.0", "number"),
    "exponent": (b"1e3", "number"),
    "overflow": (b"1e400", "number"),
    "NaN": (b"NaN", "number"),
    "Infinity": (b"Infinity", "number"),
    "-Infinity": (b"[-Infinity]", "number"),
    "2^53": (b"9007199254740992", "number"),
    "-2^53": (b"-9007199254740992", "number"),
    "a million digits": (b"9" * 1_000_000, "number"),
    "17 lists": (b"[" * 17 + b"]" * 17, "depth"),
    "17 objects": (b'{"a":' * 17 + b"1" + b"}" * 17, "depth"),
    "half a pair": (b'"\\ud800"', "surrogate"),
    "half a pair in a name": (b'{"\\uDFFF":1}', "surrogate"),
    "half a pair in a list": (b'[[1,"\\udbff x"]]', "surrogate"),
    "pair in the wrong order": (b'"\\udc00\\ud800"', "surrogate"),
}

TAKEN = {
    "object": (b'{"a":[1,true,null,"b"]}', {"a": [1, True, None, "b"]}),
    "white space": (b" \t\r\n{ } \n", {}),
    "text alone": (b'"a"', "a"),
    "greatest": (b"9007199254740991", MAX_INTEGER),
    "least": (b"-9007199254740991", -MAX_INTEGER),
    "minus zero": (b"-0", 0),
    "16 lists": (b"[" * 16 + b"]" * 16, [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]),
    "20 lists side by side": (b"[" + b"[]," * 19 + b"[]]", [[]] * 20),
    "brackets in text": (b'["' + b"[{" * 100 + b'"]', ["[{" * 100]),
    "brackets behind an escaped quote": (b'["\\"' + b"[" * 100 + b'"]', ['"' + "[" * 100]),
    "backslash before the quote": (b'["' + b"\\\\" * 20 + b'",' + b"[]," * 19 + b"[]]", ["\\" * 20, *[[]] * 20]),
    "a pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "pairs in a deep value": (b'{"a":["\\ud83d\\ude00",1,{"b":null}]}', {"a": ["\U0001f600", 1, {"b": None}]}),
    "equal names in two objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "names that only look equal": ('{"é":1,"e\u0301":2}'.encode(), {"é": 1, "e\u0301": 2}),
    "a mark inside": (b'"\xef\xbb\xbf"', "\ufeff"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_two_parsers_could_read_differently_is_refused(what):
    data, expected = REFUSED[what]

    assert reason(data) == expected


@pytest.mark.parametrize("what", TAKEN)
def test_what_all_parsers_read_alike_is_taken(what):
    data, expected = TAKEN[what]

    assert loads(data) == expected


def test_a_doubled_member_is_named_without_its_control_characters():
    with pytest.raises(NotStrictError, match=r"member 'a\\x1b\\u202e' appears twice"):
        loads(b'{"a\\u001b\\u202e":1,"a\\u001b\\u202e":2}')


HOSTILE = {
    "open lists": lambda size: b"[" * size,
    "open objects": lambda size: b'{"a":' * (size // 5),
    "quotes": lambda size: b'"' * size,
    "escaped quotes without an end": lambda size: b"[" * 17 + b'"' + b'\\"' * (size // 2),
    "backslashes without an end": lambda size: b"[" * 17 + b'"' + b"\\" * size,
    "texts without an end": lambda size: b"[" * 17 + b'"\\' * (size // 2),
    "many members": lambda size: b"{" + b",".join(b'"%d":0' % index for index in range(size // 8)) + b',"0":0}',
    "many lists side by side": lambda size: b"[" + b"[]," * (size // 3) + b"1.5]",
    "closed lists": lambda size: b"]" * size,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [10**5, 10**6])
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_text_costs_linear_time(what, size):
    """Anything quadratic would need 10^12 steps for the larger size, far beyond the time that a test may take."""
    with pytest.raises(NotStrictError):
        loads(HOSTILE[what](size))


def test_depth_counts_what_the_parser_would_enter():
    depth = b"[" * MAX_DEPTH + b'"]]]]]]]]]]]]]]]]]]]"'

    assert reason(depth + b"]" * MAX_DEPTH + b"[") == "syntax"
    assert reason(depth + b",[" + b"]" * MAX_DEPTH) == "depth"


def test_every_reason_has_a_vietnamese_text():
    assert {expected for _, expected in REFUSED.values()} == wire._STRICT_VI.keys()
