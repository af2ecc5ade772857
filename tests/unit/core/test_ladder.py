"""The ladder of business statuses: every row of the table."""

from typing import get_args

import pytest

from hub.core.ladder import RUNGS, Progress, Request, Standing, climb, first_standing
from schemas.envelope import REF_COUNTS
from schemas.receipt import StatusCode

NO = None

# From where each status of the recipient may be set, while nothing is asked, and what it leads to.
STEPS: dict[str, dict[str | None, str | None]] = {
    "01": {None: "01", "01": NO, "02": NO, "03": NO, "04": NO, "05": NO, "06": NO},
    "02": {None: "02", "01": "02", "02": NO, "03": NO, "04": NO, "05": NO, "06": NO},
    "03": {None: "03", "01": "03", "02": NO, "03": NO, "04": NO, "05": NO, "06": NO},
    "04": {None: "04", "01": "04", "02": NO, "03": "04", "04": NO, "05": NO, "06": NO},
    "05": {None: "05", "01": "05", "02": NO, "03": "05", "04": "05", "05": NO, "06": NO},
    "06": {None: "06", "01": "06", "02": NO, "03": "06", "04": "06", "05": "06", "06": NO},
}


@pytest.mark.parametrize("code", STEPS)
@pytest.mark.parametrize("progress", [None, *get_args(Progress)])
@pytest.mark.parametrize("request_", [None, "declined"])
def test_recipient_comes_further_and_never_back(code, progress, request_):
    expected = STEPS[code][progress]

    after = climb(Standing(progress, request_), code)

    assert (after.progress if after else NO) == expected


@pytest.mark.parametrize("code", ["01", "03", "04", "05", "06"])
def test_recipient_may_come_further_while_it_is_asked(code):
    """Its status crosses the request on its way; the request still wants an answer."""
    assert climb(Standing(None, "asked"), code) == Standing(code, "asked")


def test_what_is_not_accepted_need_not_be_given_back():
    assert climb(Standing("01", "asked"), "02") == Standing("02", None)
    assert climb(Standing("02"), "15") is None
    assert climb(Standing("02"), "13") is None


@pytest.mark.parametrize("progress", [None, "01", "03", "04", "05"])
@pytest.mark.parametrize("before", [None, "declined"])
def test_sender_may_ask_for_it_back_until_it_is_finished_and_again_after_a_refusal(progress, before):
    assert climb(Standing(progress, before), "13") == Standing(progress, "asked")


@pytest.mark.parametrize(
    "standing", [Standing("06"), Standing("02"), Standing("03", "asked"), Standing("03", "agreed")]
)
def test_sender_asks_in_vain_for_what_is_finished_refused_asked_for_or_given_back(standing):
    assert climb(standing, "13") is None


@pytest.mark.parametrize("progress", [None, "01", "03", "04", "05", "06"])
def test_answer_to_a_request_ends_it(progress):
    """At 06 too: the request was there before the recipient had finished."""
    assert climb(Standing(progress, "asked"), "15") == Standing(progress, "agreed")
    assert climb(Standing(progress, "asked"), "16") == Standing(progress, "declined")


@pytest.mark.parametrize("code", ["15", "16"])
@pytest.mark.parametrize("before", [None, "agreed", "declined"])
def test_answer_without_an_open_request_comes_too_late(code, before):
    assert climb(Standing("03", before), code) is None


@pytest.mark.parametrize("code", get_args(StatusCode))
def test_nothing_follows_what_was_given_back(code):
    assert climb(Standing("03", "agreed"), code) is None


@pytest.mark.parametrize("action", REF_COUNTS)
def test_document_about_an_earlier_one_asks_by_itself(action):
    assert first_standing(action) == Standing(None, None if action == "new" else "asked")


def test_every_status_has_its_rung_and_every_rung_speaks_of_known_places():
    assert set(RUNGS) == set(get_args(StatusCode))
    for rung in RUNGS.values():
        assert rung.progress <= {None, *get_args(Progress)}
        assert rung.request <= {None, *get_args(Request)}
