"""What every payload has in common: strict reading, places, texts in two languages."""

import json
import re
from datetime import date

import pytest
from pydantic import ValidationError

from schemas import wire
from schemas.directory_file import DirectoryFile
from schemas.envelope import DocumentFacts, Envelope, read_envelope
from schemas.receipt import Notice, Receipt, read_notice, read_receipt, read_status
from schemas.wire import MAX_PROBLEMS, pointer, read_payload
from tests.unit.schemas import stage


def problems(**changes):
    return read_envelope(json.dumps(stage.document(**changes)).encode())


def found(result):
    assert isinstance(result, tuple)
    return [(problem.code, problem.pointer) for problem in result]


def test_all_problems_are_told_at_once():
    payload = stage.document(
        v=2,
        id="x",
        to=["h26", "H26", 5],
        action="update",
        created="now",
        parts=[{"name": "a", "media_type": "b", "sha256": "c"}],
        surprise=1,
    )
    del payload["doc"]["kind"]

    result = read_envelope(json.dumps(payload).encode())

    assert sorted(found(result)) == [
        ("E502", "/created"),
        ("E502", "/doc/kind"),
        ("E502", "/id"),
        ("E502", "/parts/0/length"),
        ("E502", "/parts/0/sha256"),
        ("E502", "/ref"),
        ("E502", "/surprise"),
        ("E502", "/to/0"),
        ("E502", "/to/2"),
        ("E502", "/v"),
    ]


def test_a_payload_that_is_no_strict_json_has_one_problem():
    assert found(read_envelope(b'{"v":1,"v":1,"x":2}')) == [("E501", "")]


def test_an_invalid_item_does_not_also_make_the_list_too_short():
    assert found(problems(to=["h26"])) == [("E502", "/to/0")]
    assert found(problems(to=[])) == [("E502", "/to")]
    deep = stage.receipt(answers=[{"delivery": "x", "outcome": "received", "at": stage.NOW_S}])
    assert found(read_receipt(json.dumps(deep).encode())) == [("E502", "/answers/0/delivery")]


@pytest.mark.parametrize(
    "name", ["\0", "a\x1b[2J", "\u202efdp", "a" * 61, "ă", "a/b", "~", "", "\U0001f600", "\n"], ids=ascii
)
def test_an_unknown_member_with_a_strange_name_is_placed_at_its_object(name):
    """The name is the sender's choice, and it travels into notices, the database, logs and screens."""
    (problem,) = read_envelope(json.dumps({**stage.document(), "doc": {**stage.document()["doc"], name: 1}}).encode())

    assert (problem.code, problem.pointer) == ("E502", "/doc")
    assert problem.en.isascii()
    assert problem.en.isprintable()
    assert problem.vi.isprintable()
    assert ascii(name)[:60] in problem.en


def test_an_unknown_member_with_a_plain_name_is_placed_by_it():
    (problem,) = problems(Priority_2=1)

    assert problem.pointer == "/Priority_2"


def test_a_hostile_payload_has_a_bounded_number_of_problems():
    payload = {**stage.document(), **{f"x{index}": 0 for index in range(5000)}}

    assert len(read_envelope(json.dumps(payload).encode())) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("place", "expected"),
    [((), ""), (("to", 0), "/to/0"), (("a/b",), "/a~1b"), (("m~n",), "/m~0n"), (("~1",), "/~01"), (("",), "/")],
)
def test_a_pointer_follows_rfc_6901(place, expected):
    assert pointer(place) == expected


REFUSAL_WITHOUT_REASON = {
    "v": 1,
    "from": "H26",
    "to": "G01",
    "document": "0" * 64,
    "status": "02",
    "at": stage.NOW_S,
}


def test_every_kind_of_problem_that_our_models_have_is_told_in_vietnamese():
    """The text for unknown kinds says nothing; a model with a new kind of rule must bring its own."""
    wrong = {
        "missing": problems(doc=None),
        "extra_forbidden": problems(x=1),
        "string_type": problems(id=1),
        "string_too_short": problems(doc={**stage.document()["doc"], "subject": ""}),
        "string_too_long": problems(doc={**stage.document()["doc"], "subject": "a" * 2001}),
        "string_pattern_mismatch": problems(id="x"),
        "int_type": problems(created="x"),
        "literal_error": problems(action="x"),
        "tuple_type": problems(to="x"),
        "too_short": problems(to=[]),
        "too_long": problems(to=["H26"] * 1001),
        "greater_than_equal": problems(created=1),
        "less_than_equal": problems(created=10**12),
        "model_type": problems(doc=[]),
        "value_error": problems(doc={**stage.document()["doc"], "issued_on": "2026-13-01"}),
        "ref_count": problems(action="update"),
        "edxml_part": problems(edxml={"id": "1", "part": "0" * 64, "level": "A1"}),
        "reason_missing": read_status(json.dumps(REFUSAL_WITHOUT_REASON).encode()),
        "reference_empty": problems(doc={**stage.document()["doc"], "reply_to": [{}]}),
    }

    assert wrong.keys() == wire._SCHEMA_VI.keys()
    for kind, result in wrong.items():
        assert [re.sub(r"\{\w+\}", "…", wire._SCHEMA_VI[kind])] == [
            re.sub(r"(?<=nhất )\d+|(?<=từ )\d+|(?<=quá )\d+|(?<=giá trị )'.*", "…", problem.vi) for problem in result
        ]


def test_values_of_a_choice_are_told_in_the_language_of_the_sentence():
    (problem,) = problems(action="delete")

    assert problem.en == "should be 'new', 'update', 'replace' or 'revoke'"
    assert problem.vi == "chỉ nhận một trong các giá trị 'new', 'update', 'replace' hoặc 'revoke'"


@pytest.mark.parametrize(
    ("model", "member"), [(Envelope, "v"), (Receipt, "v"), (Notice, "v"), (DirectoryFile, "directory")]
)
@pytest.mark.parametrize("value", [True, "1", 0, 2, None, [1]], ids=repr)
def test_the_version_is_the_number_1(model, member, value):
    result = read_payload(model, json.dumps({member: value}).encode())

    assert ("E502", f"/{member}") in found(result)


@pytest.mark.parametrize("lane", ["document", "receipt"])
def test_a_member_goes_by_its_name_on_the_wire_only(lane):
    """`from_` for `from` would be read by nobody but us."""
    payload = stage.document() if lane == "document" else stage.receipt()
    payload["from_"] = payload.pop("from")
    read = read_envelope if lane == "document" else read_receipt

    assert found(read(json.dumps(payload).encode())) == [("E502", "/from"), ("E502", "/from_")]


def test_a_notice_is_from_the_hub_only():
    notice = stage.valid("notice-refused.json") | {"from": "G01"}

    assert found(read_notice(json.dumps(notice).encode())) == [("E502", "/from")]
    assert read_notice(json.dumps(notice | {"from": "hub"}).encode()).from_ == "hub"


@pytest.mark.parametrize("day", ["2024-02-29", "1000-01-01", "2999-12-31"])
def test_a_day_of_the_calendar_is_a_day(day):
    facts = {**stage.document()["doc"], "issued_on": day}

    assert problems(doc=facts).doc.issued_on == day


@pytest.mark.parametrize(
    "day",
    ["2023-02-29", "0999-12-31", "3000-01-01", "2026-1-1", "20260101", "2026-W01-1", "2026-03-02\n", "２026-03-02"],
)
def test_what_is_no_day_of_the_calendar_is_refused(day):
    assert found(problems(doc={**stage.document()["doc"], "issued_on": day})) == [("E502", "/doc/issued_on")]


def test_a_day_may_be_given_as_a_date_in_code():
    doc = stage.document()["doc"] | {"issued_on": date(2026, 3, 2)}

    assert DocumentFacts.model_validate(doc).issued_on == "2026-03-02"


@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x0b", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\ufffe"], ids=ascii
)
def test_control_characters_are_refused_in_texts(character):
    facts = stage.document()["doc"]

    assert found(problems(doc={**facts, "subject": f"a{character}b"})) == [("E502", "/doc/subject")]


def test_tabs_and_line_feeds_are_part_of_texts():
    assert problems(doc={**stage.document()["doc"], "subject": "a\n\tb"}).doc.subject == "a\n\tb"


def test_a_payload_does_not_change_after_it_was_read():
    envelope = problems()

    with pytest.raises(ValidationError):
        envelope.action = "revoke"
