"""Whether an agency may begin by itself to get its deliveries again."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.core.catch_up import CatchUpLimits, LastCatchUp, answer_to
from schemas.catch_up import CatchUp, CatchUpState
from schemas.refusal import Problem

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
LIMITS = CatchUpLimits(max_age_s=31 * 86_400, pause_s=3600, at_once=2)
A_WEEK = NOW - timedelta(days=7)


def last(state: CatchUpState, *, since: datetime = A_WEEK, changed_at: datetime = NOW) -> LastCatchUp:
    view = CatchUp(
        number=4,
        agency="H26",
        since=int(since.timestamp()),
        state=state,
        size=10,
        handed_out=3,
        not_handed_out=0,
        per_minute=600,
    )
    return LastCatchUp(view, changed_at)


def code_of(answer: CatchUp | Problem | None) -> str | None:
    assert not isinstance(answer, CatchUp)
    return None if answer is None else answer.code


def test_first_one_begins():
    assert answer_to(A_WEEK, None, 0, LIMITS, NOW) is None


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
@pytest.mark.parametrize("since", [A_WEEK, A_WEEK + timedelta(days=1)])
def test_one_that_goes_on_and_begins_no_later_is_meant(state, since):
    assert answer_to(since, last(state), 2, LIMITS, NOW) == last(state).view


def test_one_that_goes_on_and_begins_later_is_waited_for():
    assert code_of(answer_to(A_WEEK - timedelta(seconds=1), last("running"), 1, LIMITS, NOW)) == "E423"


@pytest.mark.parametrize("state", ["done", "cancelled"])
@pytest.mark.parametrize(("ago_s", "expected"), [(0, "E423"), (3599, "E423"), (3600, None), (10**6, None)])
def test_after_the_end_of_one_there_is_a_pause(state, ago_s, expected):
    ended = last(state, changed_at=NOW - timedelta(seconds=ago_s))

    assert code_of(answer_to(A_WEEK, ended, 0, LIMITS, NOW)) == expected


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (NOW, "E424"),
        (NOW + timedelta(days=1), "E424"),
        (NOW - timedelta(seconds=1), None),
        (NOW - timedelta(days=31), None),
        (NOW - timedelta(days=31, seconds=1), "E424"),
    ],
)
def test_it_begins_in_the_past_and_not_too_long_ago(since, expected):
    assert code_of(answer_to(since, None, 0, LIMITS, NOW)) == expected


def test_only_so_many_agencies_catch_up_at_a_time():
    assert code_of(answer_to(A_WEEK, None, 1, LIMITS, NOW)) is None
    assert code_of(answer_to(A_WEEK, None, 2, LIMITS, NOW)) == "E423"
