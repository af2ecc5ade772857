"""Whatever arrives in whatever order, a business status never goes back and can be explained."""

from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from hub.core.ladder import NOTHING_YET, Standing, climb
from schemas.receipt import StatusCode

CODES = st.sampled_from(get_args(StatusCode))
BEGINNINGS = st.sampled_from([NOTHING_YET, Standing(request="asked")])
HEIGHT = {None: 0, "01": 1, "02": 2, "03": 2, "04": 3, "05": 4, "06": 5}


def walk(standing: Standing, codes: list[StatusCode]) -> list[Standing]:
    """Every place that is passed, the beginning included."""
    places = [standing]
    for code in codes:
        places.append(climb(places[-1], code) or places[-1])
    return places


@given(BEGINNINGS, st.lists(CODES, max_size=30))
def test_progress_never_goes_back(beginning, codes):
    heights = [HEIGHT[place.progress] for place in walk(beginning, codes)]

    assert heights == sorted(heights)


@given(BEGINNINGS, st.lists(CODES, max_size=30))
def test_not_accepted_and_given_back_are_final(beginning, codes):
    places = walk(beginning, codes)

    for earlier, later in pairwise(places):
        if earlier.progress == "02" or earlier.request == "agreed":
            assert later == earlier


@given(BEGINNINGS, st.lists(CODES, max_size=30), CODES)
def test_the_same_status_again_at_once_changes_nothing(beginning, codes, code):
    *_, once = walk(beginning, [*codes, code])

    assert climb(once, code) is None


@given(st.lists(st.sampled_from(["01", "03", "04", "05", "06"]), max_size=12))
def test_in_any_order_the_furthest_status_stands(codes):
    *_, last = walk(NOTHING_YET, codes)

    assert last.progress == max(codes, default=None)


@given(st.lists(st.sampled_from(["01", "02", "03", "04", "05", "06"]), max_size=12))
def test_of_accepting_and_not_accepting_the_first_stands(codes):
    *_, last = walk(NOTHING_YET, codes)
    decisive = next((code for code in codes if code != "01"), None)

    assert (last.progress == "02") == (decisive == "02")


@given(BEGINNINGS, st.lists(CODES, max_size=30))
def test_every_place_is_explained_by_what_has_arrived(beginning, codes):
    *_, last = walk(beginning, codes)

    assert last.progress is None or last.progress in codes
    assert last.request != "agreed" or "15" in codes
    assert last.request != "declined" or "16" in codes
    assert last.request != "asked" or "13" in codes or beginning.request == "asked"


@given(BEGINNINGS, st.lists(CODES, max_size=30))
def test_repeating_the_whole_history_ends_no_lower(beginning, codes):
    *_, once = walk(beginning, codes)
    *_, twice = walk(once, codes)

    assert HEIGHT[twice.progress] >= HEIGHT[once.progress]
    assert (once.request == "agreed") <= (twice.request == "agreed")
