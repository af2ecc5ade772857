"""Statuses both ways."""

from datetime import UTC, datetime

import pytest

from schemas.edxml.mapping import NationalId
from schemas.edxml.packet import Earlier, Party
from schemas.edxml.statuses import StatusDraft, draft_of, packet_of, status_of
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Status, read_status
from tests import packets
from tests.unit.schemas import stage

MESSAGE = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader"
DOCUMENT = DocumentId("ab" * 32)
CODES = ["01", "02", "03", "04", "05", "06", "13", "15", "16"]


def draft(code: str = "03", **changes) -> StatusDraft:
    made = draft_of(packets.status(code, **changes), now_s=stage.NOW_S)
    assert isinstance(made, StatusDraft), made
    return made


def problems(code: str = "03", **changes) -> list[tuple[str, str]]:
    made = draft_of(packets.status(code, **changes), now_s=stage.NOW_S)
    assert isinstance(made, tuple)
    return [(problem.code, problem.pointer) for problem in made]


@pytest.mark.parametrize("code", CODES)
def test_every_status_goes_there_and_back(code):
    """About the document of G01 to H26: 13 is its sender's, all others are the recipient's."""
    about = Envelope.model_validate(
        {
            **stage.valid("document-least.json"),
            "doc": {
                **stage.valid("document-least.json")["doc"],
                "number": "12",
                "notation": "TB-BTN",
                "issued_on": "2026-02-27",
            },
        },
        strict=False,
    )

    status = status_of(draft(code), DOCUMENT)

    assert isinstance(status, Status)
    assert read_status(status.to_json()) == status
    assert packet_of(status, about) == packets.status(code)


@pytest.mark.parametrize("code", CODES)
def test_the_id_of_the_document_is_always_its_senders(code):
    assert draft(code).document == NationalId("G01", packets.ID)


@pytest.mark.parametrize("code", ["07", "08", "12", "14", "1", "99", "xx"])
def test_a_code_without_a_known_meaning_is_refused_by_name(code):
    told = draft_of(packets.status(code), now_s=stage.NOW_S)

    assert [(problem.code, problem.pointer) for problem in told] == [("E512", f"{MESSAGE}/StatusCode")]
    assert code in told[0].vi


def test_a_refusal_needs_its_reason():
    assert problems("02", description=None) == [("E512", f"{MESSAGE}/Description")]


def test_all_problems_are_told_at_once():
    assert problems("07", from_=Party(code="x"), answered=Earlier(code="y")) == [
        ("E512", f"{MESSAGE}/From/OrganId"),
        ("E404", f"{MESSAGE}/ResponseFor/OrganId"),
        ("E512", f"{MESSAGE}/ResponseFor/DocumentId"),
        ("E512", f"{MESSAGE}/StatusCode"),
    ]


def test_a_status_to_nobody_is_refused():
    assert problems(answered=Earlier(document="x")) == [("E512", f"{MESSAGE}/ResponseFor/OrganId")]


def test_a_time_is_meant_in_vietnam():
    assert datetime.fromtimestamp(draft().at_s, UTC) == datetime(2026, 3, 2, 2, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("at", [datetime(2015, 9, 20, tzinfo=UTC), None])
def test_a_time_before_the_axis_is_replaced_and_named(at):
    made = draft(at=at)

    assert made.at_s == stage.NOW_S
    assert (f"{MESSAGE}/Timestamp" in made.unmapped) is (at is not None)


def test_codes_go_by_their_aliases():
    made = draft_of(
        packets.status(from_=Party(code="28.22.H17")), now_s=stage.NOW_S, aliases={"28.22.H17": AgencyCode("H26.02")}
    )

    assert isinstance(made, StatusDraft)
    assert made.from_ == "H26.02"


def test_what_does_not_fit_is_told_by_its_place_in_the_packet():
    told = status_of(draft(description="x" * 1001), DOCUMENT)

    assert [(problem.code, problem.pointer) for problem in told] == [("E512", f"{MESSAGE}/Description")]


def test_a_platform_speaks_for_the_agency():
    assert status_of(draft(), DOCUMENT, via=AgencyCode("lgsp-h26")).via == "lgsp-h26"
