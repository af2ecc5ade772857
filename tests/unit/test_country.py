"""The country for trials: the structure and the size of the real one, the same for the same seed."""

import tracemalloc
from collections import Counter
from datetime import UTC, datetime

import pytest

from adapters.settings import AgencySettings
from hub.core.directory_change import diff
from hub.core.directory_check import check
from hub.dev.country import COMMUNES, ECHO, country, demo_country, shipped
from schemas.addresses import TIERS
from schemas.checks.directory import endpoints_of, snapshot
from schemas.directory_file import DirectoryFile
from schemas.identifiers import is_agency_code

NOW = datetime(2026, 8, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def whole():
    return country(shipped(), seed=1)


@pytest.fixture(scope="module")
def demo():
    return demo_country(1)


@pytest.fixture(scope="module")
def directory(demo):
    return snapshot(demo, epoch=1, as_of=NOW)


class TestDemo:
    def test_it_has_no_findings(self, demo):
        assert check(demo, now=NOW) == []

    def test_connected_agencies(self, directory):
        connected = [agency for agency in directory.agencies.values() if agency.endpoint]

        assert Counter(agency.tier for agency in connected) == {
            "ministry-province": 8,
            "department-district": 16,
            "commune": 8,
            "associate": 2,
        }

    def test_the_echo_agency_is_the_one_that_agencies_try_by_default(self, directory):
        assert AgencySettings.model_fields["echo_code"].default == ECHO
        assert directory.endpoint_of(ECHO) == ECHO

    def test_a_platform_receives_for_several(self, directory):
        served = [agency.code for agency in directory.agencies.values() if agency.endpoint == "lgsp-h26"]
        assert served == ["H26", "H26.01", "H26.02", "H26.101", "H26.102"]
        assert directory.allows("lgsp-h26", "H26.101", "new")
        assert not directory.allows("lgsp-h26", "H53", "new")

    def test_the_others_receive_for_themselves(self, directory):
        assert directory.endpoint_of("H53.101") == "H53.101"
        assert "H53.101" in endpoints_of(directory)

    def test_the_first_level_is_there_with_its_history(self, directory):
        assert directory.agencies["H02"].successors == ("H05",)
        assert directory.agencies["H02"].endpoint is None
        assert directory.agencies["G10"].endpoint is None

    def test_groups_reach_the_connected_ones(self, directory):
        assert {agency.code for agency in directory.members_of("children:H53")} == {
            "H53.01", "H53.02", "H53.101", "H53.102",
        }  # fmt: skip
        assert all(any(True for _ in directory.members_of(f"tier:{tier}")) for tier in TIERS)

    def test_the_same_seed_gives_the_same_country(self, demo):
        assert demo_country(1) == demo
        assert demo_country(2) != demo

    def test_names_are_whole(self, directory):
        agencies = directory.agencies

        assert agencies["H53.02"].name == "Sở Nội vụ tỉnh Tây Ninh"
        assert agencies["G09.02"].name == "Vụ Tổ chức cán bộ - Bộ Nội vụ"
        assert agencies["H53.101"].name.startswith("UBND ")
        assert agencies["H53.101"].name.endswith(", tỉnh Tây Ninh")

    def test_it_survives_its_own_file(self, demo):
        assert DirectoryFile.model_validate_json(demo.to_json()) == demo


class TestRealSize:
    def test_it_has_no_findings(self, whole):
        assert check(whole, now=NOW) == []

    def test_number_of_agencies(self, whole):
        assert 110_000 < len({entry.code for entry in whole.agencies}) < 112_000

    def test_communes(self, whole):
        communes = Counter(
            entry.parent for entry in whole.agencies if entry.tier == "commune" and entry.name.startswith("UBND")
        )

        assert communes == COMMUNES
        assert communes.total() == 3321

    def test_codes(self, whole):
        codes = [entry.code for entry in whole.agencies if entry.parent]

        assert len(codes) == len(set(codes))
        assert all(is_agency_code(code) for code in codes)

    def test_nobody_stands_above_its_parent(self, whole):
        tiers = {entry.code: TIERS.index(entry.tier) for entry in whole.agencies}

        assert all(tiers[entry.parent] <= tiers[entry.code] for entry in whole.agencies if entry.parent)

    def test_names_of_communes_do_not_repeat_within_a_province(self, whole):
        names = [
            entry.name.split(" ", 2)[2] for entry in whole.agencies if entry.name.startswith(("UBND xã", "UBND ph"))
        ]

        assert len(names) == len(set(names))

    def test_a_snapshot_stays_within_its_memory(self, whole):
        tracemalloc.start()
        directory = snapshot(whole, epoch=1, as_of=NOW)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(directory.agencies) > 110_000
        assert held < 32 * 2**20
        assert peak < 40 * 2**20

    def test_importing_it_again_is_nothing_to_do(self, whole):
        changes = diff(whole, whole)

        assert not changes
        assert changes.unchanged == len(whole.agencies) + len(whole.platforms) + len(whole.mandates)
