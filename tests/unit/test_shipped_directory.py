"""The shipped directory: the numbers of the reorganisation of 2025."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub.core.directory_check import check
from schemas.checks.directory import snapshot
from schemas.directory_file import DirectoryFile, start_of

FILE = Path(__file__).parents[2] / "hub" / "data" / "vietnam-2025.json"
CLOSED_MINISTRIES = {"G04": "G17", "G05": "G12", "G07": "G09", "G13": "G10", "G14": "G06", "G24": "G12"}


@pytest.fixture(scope="module")
def shipped():
    return DirectoryFile.model_validate_json(FILE.read_bytes())


@pytest.fixture(scope="module")
def on(shipped):
    return lambda day: snapshot(shipped, epoch=1, as_of=start_of(day))


def open_codes(directory, letter):
    return [code for code, agency in directory.agencies.items() if code[0] == letter and agency.state == "open"]


def test_it_has_no_findings(shipped):
    assert check(shipped, now=datetime(2026, 8, 1, tzinfo=UTC)) == []


def test_nobody_is_connected_yet(shipped):
    assert not any(entry.endpoint for entry in shipped.agencies)
    assert (shipped.platforms, shipped.mandates, shipped.certificates) == ((), (), ())


@pytest.mark.parametrize("letter", ["H", "K"])
@pytest.mark.parametrize(
    ("day", "count"), [("2020-09-15", 63), ("2025-06-30", 63), ("2025-07-01", 34), ("2026-08-01", 34)]
)
def test_provinces(on, letter, day, count):
    assert len(open_codes(on(day), letter)) == count


@pytest.mark.parametrize(
    ("day", "count"), [("2020-09-15", 31), ("2025-02-28", 31), ("2025-03-01", 25), ("2026-08-01", 25)]
)
def test_government(on, day, count):
    assert len(open_codes(on(day), "G")) == count


def test_nothing_is_known_before_the_decision_of_2020(on):
    assert on("2020-09-14").agencies == {}


def test_ministries_that_were_merged(on):
    later = on("2025-03-01").agencies

    assert {
        code: agency.successors[0] for code, agency in later.items() if code[0] == "G" and agency.state == "closed"
    } == CLOSED_MINISTRIES


@pytest.mark.parametrize("day", ["2025-03-01", "2025-07-01", "2026-08-01"])
def test_every_closed_code_leads_to_an_open_one_of_its_kind(on, day):
    agencies = on(day).agencies

    for code, agency in agencies.items():
        if agency.state == "closed":
            assert [agencies[successor].state for successor in agency.successors] == ["open"], code
            assert agency.successors[0][0] == code[0]


@pytest.mark.parametrize(
    ("code", "day", "name"),
    [
        ("G10", "2025-02-28", "Bộ Nông nghiệp và Phát triển nông thôn"),
        ("G10", "2025-03-01", "Bộ Nông nghiệp và Môi trường"),
        ("G21", "2025-02-28", "Ủy ban Dân tộc"),
        ("G21", "2025-03-01", "Bộ Dân tộc và Tôn giáo"),
        ("H57", "2024-12-31", "UBND tỉnh Thừa Thiên Huế"),
        ("H57", "2025-01-01", "UBND thành phố Huế"),
        ("K57", "2025-01-01", "HĐND thành phố Huế"),
        ("H19", "2026-04-29", "UBND tỉnh Đồng Nai"),
        ("H19", "2026-04-30", "UBND thành phố Đồng Nai"),
        ("H29", "2026-01-01", "UBND Thành phố Hồ Chí Minh"),
    ],
)
def test_names_change_on_their_day(on, code, day, name):
    assert on(day).agencies[code].name == name


@pytest.mark.parametrize(
    ("code", "before"),
    [
        ("H05", {"H02"}),
        ("H13", {"H30", "H51"}),
        ("H29", {"H06", "H09"}),
        ("H44", {"H28", "H62"}),
        ("H61", {"H07", "H59"}),
    ],
)
def test_provinces_that_were_merged(on, code, before):
    agencies = on("2025-07-01").agencies

    assert {old for old, agency in agencies.items() if code in agency.successors} == before


def test_eleven_provinces_were_left_alone(on):
    agencies = on("2025-07-01").agencies
    merged = {successor for agency in agencies.values() for successor in agency.successors}

    assert [code for code in open_codes(on("2025-07-01"), "H") if code not in merged] == [
        "H14", "H18", "H26", "H27", "H35", "H37", "H41", "H49", "H52", "H56", "H57",
    ]  # fmt: skip
