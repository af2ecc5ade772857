"""How one document goes out to very many recipients."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from hub.core.policy import Pace

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def waits_s(pace: Pace, recipients: int, expires_at: datetime = LATER) -> list[float]:
    """When each of the recipients is due, seconds from now."""
    return [(pace.first_attempt_at(index, NOW, expires_at) - NOW).total_seconds() for index in range(recipients)]


def test_the_first_recipients_are_served_at_once_and_the_others_behind_them():
    waits = waits_s(Pace(at_once=100, per_s=500.0), 12_000)
    assert waits[:100] == [0.0] * 100
    assert waits[100] > 0
    assert waits == sorted(waits)


@pytest.mark.parametrize("per_s", [3.0, 40.0, 500.0])
def test_each_further_second_serves_as_many_as_the_pace_says(per_s):
    waits = waits_s(Pace(at_once=10, per_s=per_s), 10 + 20 * int(per_s))
    for second in range(20):
        assert sum(second < wait <= second + 1 for wait in waits) == per_s


def test_recipients_are_due_in_few_moments_so_that_they_are_handed_over_together():
    moments = Counter(waits_s(Pace(at_once=100, per_s=500.0), 1_100))
    assert len(moments) == 1 + 20
    assert set(moments.values()) == {100, 50}


def test_a_slow_pace_is_not_made_slower_by_more_than_a_moment():
    waits = waits_s(Pace(at_once=1, per_s=3.0), 31)
    assert all(0 <= wait - index / 3 < 0.1 for index, wait in enumerate(waits))


def test_nobody_waits_beyond_the_middle_of_the_lifetime():
    assert max(waits_s(Pace(at_once=1, per_s=1.0), 1_000, NOW + timedelta(minutes=2))) == 60
