"""The benchmark of a long run reads back what was seen, and finds what grows."""

import pytest

from tests.bench import moments
from tests.bench.steady import line


def test_moments_are_read_back_with_delays_and_what_came_twice(tmp_path):
    file = tmp_path / "moments.txt"
    with moments.writing(file) as seen:
        seen.sent("d1", 10.0)
        seen.confirmed("d1", 10.25)
        seen.arrived("l1", 11.0, 10.0)
        seen.arrived("l1", 13.0, 10.0)

    read = moments.read(file, began=10.0, to_wall=1000.0)

    assert read["sent_at"] == {"d1": 1010.0}
    assert read["confirmed_at"] == {"d1": 1010.25}
    assert read["arrivals"] == [(1.0, 1.0), (3.0, 3.0)]
    assert (read["received"], read["twice"]) == (1, 1)


def test_what_rises_after_the_first_fifth_is_told_by_the_hour():
    memory = [(at, 500.0 if at < 360 else 90.0 + at / 3600) for at in range(0, 1801, 10)]

    assert line(memory, 1800.0) == {"first": 90.1, "last": 90.5, "per_hour": 1.0}


@pytest.mark.parametrize("points", [[], [(0.0, 1.0), (60.0, 2.0)]])
def test_no_line_is_laid_through_less_than_two_points(points):
    assert line(points, 100.0) == {}
