"""What a test hears, and whom it names when something is missing."""

import pytest

from adapters.round_trip import PREFETCH, Heard, Watch, hear, whose_turn
from schemas.capabilities import Capabilities
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import Answer, Notice, NoticeProblem, Receipt, Status

US, ECHO = AgencyCode("H17"), AgencyCode("Z00.ECHO")
DOCUMENT, OTHER = DocumentId("ab" * 32), DocumentId("cd" * 32)
AT = 1_790_000_000


def answer(document: DocumentId = DOCUMENT, outcome: str = "received", at: int = AT, **said: str) -> Answer:
    return Answer(delivery=str(delivery_id_of(document, ECHO)), outcome=outcome, at=at, **said)


def receipt(*answers: Answer) -> Receipt:
    return Receipt(from_=ECHO, to=US, answers=answers)


def status(code: str, *, document: DocumentId = DOCUMENT, from_: str = ECHO, **said: str) -> Status:
    return Status(from_=from_, to=US, document=document, status=code, at=AT, **said)


def notice(kind: str, document: DocumentId | None = DOCUMENT) -> Notice:
    return Notice(to=US, kind=kind, document=document, at=AT, problems=(NoticeProblem(code="E404", vi="v", en="e"),))


@pytest.mark.parametrize(
    ("content", "heard"),
    [
        (receipt(answer()), Heard(("receipt",))),
        (receipt(answer(), answer(OTHER)), Heard(("receipt",), whole=False)),
        (receipt(answer(OTHER)), None),
        (receipt(answer(outcome="failed", code="E807", detail="d")), Heard(no=(("E807", "failed d", "failed d"),))),
        (receipt(answer(outcome="refused", code="X")), Heard(no=(("X", "refused", "refused"),), final=True)),
        (status("01"), Heard(("01",))),
        (status("03"), Heard(("03",))),
        (status("02", detail="lý do"), Heard(no=(("02", "lý do", "lý do"),))),
        (status("01", document=OTHER), None),
        (status("01", from_="H49"), None),
        (notice("refused"), Heard(no=(("E404", "v", "e"),), final=True)),
        (notice("expired"), Heard(no=(("E404", "v", "e"),), final=True)),
        (notice("expiring"), Heard(no=(("E404", "v", "e"),))),
        (notice("refused", OTHER), None),
        (notice("parked", None), None),
    ],
)
def test_letters_about_the_test_document_are_heard_and_others_left_alone(content, heard):
    assert hear(content, DOCUMENT, ECHO) == heard


def capabilities(**changes: object) -> Capabilities:
    values = {"code": ECHO, "name": "e", "tier": "associate", "state": "open", "connected": True, "formats": ()}
    return Capabilities(**values | {"max_envelope_bytes": 1, "max_parts": 1, "max_part_bytes": 1} | changes)


@pytest.mark.parametrize(
    ("missing", "asked", "others", "unbelieved", "who", "words"),
    [
        ("receipt", capabilities(silent_since=AT), 0, set(), "operator", "is silent since"),
        ("receipt", capabilities(), 0, set(), "operator", "has not passed it on"),
        ("receipt", capabilities(connected=False), 0, set(), "operator", "is not connected"),
        ("receipt", capabilities(state="suspended"), 0, set(), "operator", "suspended"),
        ("receipt", "E404", 0, set(), "sender", "echo_code"),
        ("receipt", "E901", 0, set(), "operator", "truc trace"),
        ("receipt", None, 0, set(), "operator", "truc trace"),
        ("01", None, 0, set(), "operator", "not set status 01"),
        ("03", capabilities(silent_since=AT), 0, set(), "operator", "not set status 03"),
        ("receipt", None, PREFETCH, set(), "sender", "wait in your queue"),
        ("receipt", None, 3, {"E201"}, "sender", "E201"),
    ],
)
def test_whose_turn_it_is(missing, asked, others, unbelieved, who, words):
    messages = {(None, number) for number in range(others)}
    watch = Watch(None, None, others=messages, unbelieved=unbelieved)  # type: ignore[arg-type]

    turn = whose_turn(missing, ECHO, asked=asked, watch=watch)

    assert (turn.who, words in turn.en) == (who, True), turn
    assert turn.vi != turn.en
