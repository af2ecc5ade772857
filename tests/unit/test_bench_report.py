"""The report of the benchmark says what was measured."""

import pytest

from tests.bench.report import growth, ratios
from tests.bench.stage import percentiles
from tests.bench.watch import shares


def run(cpu_s_late):
    """A hundred seconds with ten deliveries in each; intake takes a second of CPU for each ten seconds at first."""
    cpu_s = [at / 10 if at <= 60 else 6 + (at - 60) * cpu_s_late for at in range(101)]
    samples = [
        {"at_s": float(at), "cpu_s": {"hub receipts": used}, "written_mib": {}, "memory_mib": {"hub receipts": 90.0}}
        for at, used in enumerate(cpu_s)
    ]
    rate = [{"at_s": at + 0.5, "per_s": 10.0} for at in range(100)]
    return samples, {"documents": rate, "deliveries": rate}, [{"at_s": 30.0, "p99": 5.0}, {"at_s": 80.0, "p99": 50.0}]


def test_what_costs_the_same_all_along_does_not_grow():
    found = growth(*run(cpu_s_late=0.1))

    assert found["hub receipts: CPU, µs a delivery"] == {"early": 10_000.0, "late": 10_000.0}
    assert found["hub receipts: memory, MiB"] == {"early": 90.0, "late": 90.0}


def test_what_costs_more_at_the_end_is_shown():
    found = growth(*run(cpu_s_late=0.2))

    assert found["hub receipts: CPU, µs a delivery"] == {"early": 10_000.0, "late": 20_000.0}
    assert found["from submission to arrival, p99, ms"] == {"early": 5.0, "late": 50.0}


def test_the_ratio_is_taken_within_each_round_and_the_shovel_is_compared_by_messages():
    rounds = [
        {
            "ours": {"documents_per_s": fast, "deliveries_per_s": 3 * fast},
            "others_per_s": {"shovel": 6 * fast, "naive_cc": 4 * fast},
        }
        for fast in (100, 10, 1000)
    ]

    assert ratios(rounds) == {
        "shovel": {"least": 0.5, "middle": 0.5, "most": 0.5},
        "naive_cc": {"least": 0.25, "middle": 0.25, "most": 0.25},
    }


def test_a_sample_counts_for_the_innermost_frame_that_is_known():
    proving = (
        "run (asyncio/runners.py:1);turn (hub/intake.py:9);verify (schemas/signing.py:3);verify (cryptography/x.py:1)"
    )
    turning = "run (asyncio/runners.py:1);turn (hub/intake.py:9);dumps (json/encoder.py:2)"
    stacks = f"{proving} 3\n{turning} 1\n"

    assert shares(stacks) == {"verify signatures": 0.75, "loops": 0.25}


@pytest.mark.parametrize(("name", "value"), [("p50", 501.0), ("p99", 991.0), ("p99_9", 1000.0)])
def test_percentiles_are_in_milliseconds(name, value):
    assert percentiles([number / 1000 for number in range(1, 1001)])[name] == value
