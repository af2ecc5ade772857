"""The benchmark sends what was sent in 2019, to the last document."""

from collections import Counter

import pytest

from schemas.checks.directory import endpoints_of, snapshot
from tests.bench import workload
from tests.bench.workload import RECEIVED, SENT, nation, plan
from tests.unit.schemas.stage import NOW


@pytest.fixture(scope="module")
def nation2019():
    return nation()


@pytest.fixture(scope="module")
def documents(nation2019):
    return plan(nation2019)


def tiers(nation2019):
    return {code: tier for tier, codes in nation2019.by_tier.items() for code in codes}


def test_as_many_documents_are_sent_and_received_by_tier_as_in_2019(nation2019, documents):
    tier_of = tiers(nation2019)

    assert Counter(tier_of[item.sender] for item in documents) == SENT
    assert Counter(tier_of[code] for item in documents for code in item.recipients) == RECEIVED


def test_no_document_goes_to_its_sender_or_to_anybody_twice(documents):
    for item in documents:
        assert len(set(item.recipients)) == len(item.recipients) > 0
        assert item.sender not in item.recipients


def test_as_many_are_connected_as_in_2019(nation2019):
    directory = snapshot(nation2019.file, epoch=1, as_of=NOW)

    assert len(nation2019.by_tier["ministry-province"]) == 95
    assert len(nation2019.by_tier["department-district"]) == 1200
    assert len(endpoints_of(directory)) == 95
    assert len(directory.platforms) == 60


def test_the_same_seed_plans_the_same_documents(nation2019):
    assert plan(nation2019, share=0.01) == plan(nation2019, share=0.01)
    assert plan(nation2019, share=0.01) != plan(nation2019, share=0.01, seed=1)


def test_a_share_keeps_the_proportions(nation2019):
    tier_of = tiers(nation2019)
    some = plan(nation2019, share=0.01)

    assert Counter(tier_of[item.sender] for item in some) == {
        "ministry-province": 1166,
        "department-district": 449,
        "commune": 16,
    }
    assert sum(len(item.recipients) for item in some) == 3435 + 1437 + 9


def test_an_office_sends_by_day():
    hours = list(workload.hours_of(1000))

    assert hours == sorted(hours)
    assert min(hours) >= 7
    assert max(hours) < 19
    assert sum(8 <= hour < 17 for hour in hours) > 850
