"""Whatever arrives gets a verdict, and every verdict can be told."""

import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hub.core.decide import decide, decide_answer
from hub.core.letter import notice_of
from hub.core.verdict import Accept, Answered, Park, Refuse, Stated
from schemas.envelope import ENVELOPE_TYP, Envelope, read_envelope
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, read_notice
from schemas.refusal import CATALOGUE, Problem
from schemas.signing import Verified, verify
from tests.unit.schemas import stage

USERS = st.sampled_from([None, "G01", "H26", "lgsp-h26", "H31", "H99"]) | st.text(max_size=10)
KEYS = st.sampled_from(["document.G01", "receipt.G01", "document.H26", "receipt.H26", "status.H26"]) | st.text(
    max_size=20
)
SIGNERS = st.sampled_from(["G01", "G01 PS256", "H26", "lgsp-h26", "G01 expired", "G01 unregistered", "hub"])
CHARACTERS = st.characters(exclude_categories=["Cs"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(CHARACTERS, max_size=10)
    | st.sampled_from(["H26", "H99", "tier:commune", "children:H26", "lgsp-h26", "2026-02-30", "a" * 64, ""])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS, max_size=8), inner, max_size=4),
    max_leaves=8,
)
PAYLOADS = [
    json.loads(path.read_bytes())
    for path in sorted((stage.EXAMPLES / "valid").glob("*.json"))
    if path.name.startswith(("document", "receipt", "status"))
]


def told(verdict: Any) -> None:
    """Check what every verdict promises to those who carry it out."""
    assert isinstance(verdict, Accept | Answered | Stated | Refuse | Park)
    if isinstance(verdict, Refuse | Park):
        assert verdict.problems
        assert all(problem.code in CATALOGUE for problem in verdict.problems)
        letter = notice_of(verdict, stage.signer("hub"), stage.NOW)
        assert (letter is None) == (isinstance(verdict, Park) and verdict.tell is None)
        if letter is not None:
            notice = verify(letter.token, typ=letter.typ, keys=stage.directory().keys, now_s=stage.NOW_S)
            assert isinstance(notice, Verified)
            read = read_notice(notice.payload)
            assert not isinstance(read, tuple)
            assert stage.directory().knows(read.to)


def both(arrival) -> list[Any]:
    verdicts = [
        decide(arrival, stage.directory(), stage.POLICY, stage.NOW),
        decide_answer(arrival, stage.directory(), stage.NOW),
    ]
    for verdict in verdicts:
        told(verdict)
    return verdicts


def lane_of(payload: Any) -> str:
    """Tell what a payload was before it was changed, as far as one can."""
    return "receipt" if "answers" in payload else "status" if "status" in payload else "document"


def resolves(payload: Any, problem: Problem) -> bool:
    """Tell whether a pointer leads to a value, or names a member that is missing in an object that is there."""
    place = payload
    steps = [step.replace("~1", "/").replace("~0", "~") for step in problem.pointer.split("/")[1:]]
    for number, step in enumerate(steps):
        if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict) and step in place:
            place = place[step]
        else:
            return isinstance(place, dict) and number == len(steps) - 1
    return True


@st.composite
def changed(draw) -> Any:
    """A valid payload in which one to three values are replaced, removed or added, at any depth."""
    payload = json.loads(json.dumps(draw(st.sampled_from(PAYLOADS))))
    for _ in range(draw(st.integers(1, 3))):
        holder = payload
        while True:
            inside = [
                value
                for value in (holder.values() if isinstance(holder, dict) else holder)
                if value and isinstance(value, dict | list)
            ]
            if not inside or draw(st.booleans()):
                break
            holder = draw(st.sampled_from(inside))
        if isinstance(holder, list):
            holder[draw(st.integers(0, len(holder) - 1))] = draw(JSON)
        elif draw(st.booleans()):
            holder.pop(draw(st.sampled_from(sorted(holder))))
        else:
            name = draw(st.sampled_from(sorted(holder)) | st.text(CHARACTERS, max_size=70)) if holder else "x"
            holder[name] = draw(JSON)
        assume(isinstance(payload, dict) and payload)
    return payload


@given(st.binary(max_size=300), USERS, KEYS)
def test_any_bytes_from_anybody_get_a_verdict(body, user, key):
    for verdict in both(stage.submitted(body, user, key=key)):
        assert isinstance(verdict, Park)


@given(st.binary(max_size=200), SIGNERS, USERS, KEYS, st.sampled_from([ENVELOPE_TYP, RECEIPT_TYP, STATUS_TYP]))
def test_any_signed_bytes_get_a_verdict(payload, signer, user, key, typ):
    both(stage.submitted(stage.signed(payload, signer, typ=typ), user, key=key))


@given(JSON, SIGNERS, USERS)
def test_any_signed_json_gets_a_verdict(payload, signer, user):
    both(stage.submitted(stage.signed(json.dumps(payload).encode(), signer), user))


@settings(max_examples=400)
@given(changed(), SIGNERS, USERS, KEYS)
def test_any_changed_envelope_receipt_or_status_gets_a_verdict(payload, signer, user, key):
    typ = stage.TYPS[lane_of(payload)]

    both(stage.submitted(stage.signed(json.dumps(payload).encode(), signer, typ=typ), user, key=key))


@settings(max_examples=400)
@given(changed())
def test_a_problem_with_a_place_leads_there(payload):
    """So that a program can show the mistake where it was made."""
    lane = lane_of(payload)
    user = "G01" if lane == "document" else "H26"
    arrival = stage.submitted(stage.signed(json.dumps(payload).encode(), user, typ=stage.TYPS[lane]), user, lane=lane)
    verdict = both(arrival)[lane != "document"]

    if isinstance(verdict, Refuse | Park):
        assert all(resolves(payload, problem) for problem in verdict.problems), verdict.problems


@given(st.binary(max_size=60), st.integers(0, 10**6), st.integers(0, 3))
def test_a_token_with_bytes_put_in_or_left_out_proves_nobody(inserted, position, removed):
    token = stage.signed(stage.document())
    position %= len(token)
    mutated = token[:position] + inserted + token[position + removed :]
    assume(mutated != token)

    for verdict in both(stage.submitted(mutated)):
        assert isinstance(verdict, Park)


DEFECTS: dict[str, tuple[Any, set[tuple[str, str]]]] = {
    "created": (stage.NOW_S + 301, {("E601", "/created")}),
    "expires": (stage.NOW_S + 40 * 86400, {("E602", "/expires")}),
    "via": ("lgsp-h26", {("E402", "/via")}),
    "from": ("H26", {("E401", "/from"), ("E403", "")}),
}
RECIPIENTS = {"H26": None, "H26.01": None, "H99": "E404", "children:H99": "E404", "H30": "E405", "H31": "E408"}


@given(
    st.sets(st.sampled_from(sorted(DEFECTS))),
    st.lists(st.sampled_from(sorted(RECIPIENTS)), min_size=1, max_size=8),
    st.booleans(),
)
def test_planted_defects_are_all_told_and_nothing_else(planted, to, wrong_key):
    expected = {("E403", "")} if wrong_key else set()
    for name in planted:
        expected |= DEFECTS[name][1]
    for index, recipient in enumerate(to):
        code = "E406" if recipient in to[:index] else RECIPIENTS[recipient]
        expected |= {(code, f"/to/{index}")} if code else set()
    payload = stage.document(to=to, **{name: DEFECTS[name][0] for name in planted})
    arrival = stage.submitted(stage.signed(payload), key="document.H26" if wrong_key else None)

    verdict = decide(arrival, stage.directory(), stage.POLICY, stage.NOW)

    assert isinstance(verdict, Refuse if expected else Accept)
    if isinstance(verdict, Refuse):
        assert {(problem.code, problem.pointer) for problem in verdict.problems} == expected


SCHEMA_DEFECTS: dict[str, Any] = {
    "v": 2,
    "id": "x",
    "from": "g01",
    "via": "x",
    "to": [],
    "action": "x",
    "doc": 1,
    "created": "x",
    "expires": -1,
    "parts": {},
    "extra": 0,
}


@given(st.sets(st.sampled_from(sorted(SCHEMA_DEFECTS)), min_size=1))
def test_planted_defects_of_form_are_all_told_and_nothing_else(planted):
    payload = stage.document(**{name: SCHEMA_DEFECTS[name] for name in planted})

    problems = read_envelope(json.dumps(payload).encode())

    assert sorted(problem.pointer for problem in problems) == sorted(f"/{name}" for name in planted)


def test_the_largest_refusals_can_still_be_told():
    """A notice is a token too, so what it quotes from a hostile submission must fit."""
    names = [f"{index:04}" + "\U0001f600" * 50 for index in range(800)]
    payloads = [
        stage.document(**dict.fromkeys(names, 0)),
        stage.document(**{"x" * 52 + f"{index:08}": 0 for index in range(2000)}),
        stage.document(to=["H99"] + [f"H{index:02}." + "Z" * 31 for index in range(99)] * 10),
        stage.document(parts=[{"~" * 60: 0, "/" * 60: 0}] * 200),
    ]
    for payload in payloads:
        verdict = decide(stage.submitted(stage.signed(payload)), stage.directory(), stage.POLICY, stage.NOW)

        assert len(verdict.problems) >= 200
        told(verdict)


ENVELOPES = st.builds(
    lambda to, subject, urgency, created, life_s, parts: {
        **stage.document(),
        "to": to,
        "doc": {**stage.document()["doc"], "subject": subject, "urgency": urgency},
        "created": created,
        "expires": created + life_s,
        "parts": parts,
    },
    st.lists(st.sampled_from(["H26", "000.00.00.H27", "0100109106-001", "tier:commune", "children:H26"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn"]), min_size=1, max_size=200),
    st.sampled_from(["normal", "urgent", "express"]),
    st.integers(1_500_000_000, 9_000_000_000),
    st.integers(1, 30 * 86400),
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(["công văn.pdf", "a.xlsx"]),
                "media_type": st.just("application/pdf"),
                "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
                "length": st.integers(0, 2**40),
            }
        ),
        max_size=3,
    ),
)


@given(ENVELOPES)
def test_an_envelope_reads_back_as_it_was_written(payload):
    envelope = read_envelope(json.dumps(payload).encode())

    assert isinstance(envelope, Envelope)
    assert read_envelope(envelope.to_json()) == envelope
    written = json.loads(envelope.to_json())
    assert payload.items() <= {**written, "doc": payload["doc"]}.items()
    assert payload["doc"].items() <= written["doc"].items()
