"""Step 8: signer, connection, `from` and `via` must agree."""

from dataclasses import replace

import pytest

from hub.core.decide import decide
from hub.core.verdict import Accept
from tests.unit.schemas import stage
from tests.unit.schemas.stage import document, signed, submitted

REF = ["a" * 64]
BY_PLATFORM = {"from": "H26.01", "via": "lgsp-h26"}


def places(payload, signer, user, *, key=None, directory=None):
    arrival = submitted(signed(payload, signer), user, key=key)
    verdict = decide(arrival, directory or stage.directory(), stage.POLICY, stage.NOW)
    return [] if isinstance(verdict, Accept) else [(problem.code, problem.pointer) for problem in verdict.problems]


def test_an_agency_speaks_for_itself():
    assert places(document(), "G01", "G01") == []


@pytest.mark.parametrize("signer", ["lgsp-h26", "H26.01"])
@pytest.mark.parametrize("user", ["lgsp-h26", "H26.01"])
def test_a_platform_with_a_mandate_speaks_for_its_agency(signer, user):
    """Either may hold the key, and either the connection; the mandate covers both."""
    assert places(document(**BY_PLATFORM), signer, user) == []


def test_a_platform_is_named_when_it_signs():
    """Without `via` the document would look as if the agency had signed."""
    assert places(document(**{"from": "H26.01"}), "lgsp-h26", "H26.01") == [("E401", "/from")]


def test_a_third_party_neither_signs_nor_connects():
    assert places(document(**BY_PLATFORM), "G01", "G01") == [("E401", "/from"), ("E403", "")]
    assert places(document(**BY_PLATFORM), "G01", "lgsp-h26") == [("E401", "/from")]
    assert places(document(**BY_PLATFORM), "lgsp-h26", "G01") == [("E403", "")]


def test_the_agency_above_does_not_speak_for_those_below():
    assert places(document(**{"from": "H26.01"}), "H26", "H26") == [("E401", "/from"), ("E403", "")]


@pytest.mark.parametrize(
    ("action", "ref", "expected"),
    [("new", [], []), ("update", REF, []), ("revoke", REF, ["E402"]), ("replace", REF, ["E402"])],
)
def test_a_mandate_is_for_the_actions_that_it_lists(action, ref, expected):
    found = places(document(**BY_PLATFORM, action=action, ref=ref), "lgsp-h26", "lgsp-h26")

    assert found == [(code, "/via") for code in expected]


def test_a_mandate_that_is_absent_or_over_allows_nothing():
    assert places(document(**{"from": "H26.02", "via": "lgsp-h26"}), "lgsp-h26", "lgsp-h26") == [("E402", "/via")]
    assert places(document(**{"from": "H26.01.07", "via": "lgsp-h26"}), "lgsp-h26", "lgsp-h26") == [("E402", "/via")]


def test_a_mandate_is_needed_even_when_the_agency_signs_itself():
    """`via` tells recipients that the platform speaks with the agency's consent."""
    assert places(document(**{"from": "H26.02", "via": "lgsp-h26"}), "H26.02", "H26.02") == [("E402", "/via")]


def test_a_mandate_ends_with_its_platform():
    assert stage.directory().allows("lgsp-cu", "H26.01", "new")
    assert places(document(**{"from": "H26.01", "via": "lgsp-cu"}), "H26.01", "H26.01") == [("E402", "/via")]


def test_a_closed_agency_sends_nothing_and_a_suspended_one_does():
    """Suspension is about what is accepted for an agency."""
    assert places(document(**{"from": "H31"}), "H31", "H31") == [("E401", "/from")]

    agencies = dict(stage.directory().agencies)
    agencies["G01"] = replace(agencies["G01"], state="suspended")
    suspended = replace(stage.directory(), agencies=agencies)
    assert places(document(), "G01", "G01", directory=suspended) == []


def test_a_sender_must_be_an_agency_of_the_directory():
    """A platform with a mandate from an agency that is no more."""
    agencies = dict(stage.directory().agencies)
    del agencies["H26.01"]
    gone = replace(stage.directory(), agencies=agencies)

    assert places(document(**BY_PLATFORM), "lgsp-h26", "lgsp-h26", directory=gone) == [("E401", "/from")]


@pytest.mark.parametrize(
    "key", ["", "document.H26", "receipt.G01", "document.G01.x", "document", "DOCUMENT.G01", "document.G01\n"]
)
def test_a_routing_key_that_contradicts_the_connection_is_refused(key):
    assert places(document(), "G01", "G01", key=key) == [("E403", "")]
