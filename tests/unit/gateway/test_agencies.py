"""Finding agencies with and without the signs of Vietnamese."""

import unicodedata
from datetime import UTC, datetime

import pytest

from adapters.gateway.index import DirectoryIndex, fold
from adapters.trust import Trust
from schemas.directory_file import AgencyEntry, DirectoryFile
from tests.gateways import AGENCY, open_counter

NAMES = {
    "H26": "UBND thành phố Hà Nội",
    "H26.01": "Sở Nội vụ thành phố Hà Nội",
    "H26.101": "UBND phường Đống Đa",
    "H17": "UBND thành phố Đà Nẵng",
    "H17.DA": "UBND xã Hạ Nội",
}


def entry(code: str, name: str, **changes) -> AgencyEntry:
    tier = "ministry-province" if "." not in code else "commune"
    return AgencyEntry(**{"code": code, "name": name, "tier": tier, "valid_from": "2025-07-01", **changes})


@pytest.fixture
def index(tmp_path):
    entries = [entry(code, name) for code, name in NAMES.items()]
    entries.append(entry("H26.OLD", "UBND quận Hà Nội", valid_to="2025-08-01"))
    (tmp_path / "directory.json").write_bytes(DirectoryFile(agencies=tuple(entries)).to_json())
    clock = [datetime(2026, 7, 1, 9, tzinfo=UTC)]
    index = DirectoryIndex(Trust(tmp_path / "directory.json"), lambda: clock[0])
    index.clock = clock
    index.file = tmp_path / "directory.json"
    return index


def found(index, words: str, **options) -> list[str]:
    return [agency.code for agency in index.today().search(words, limit=10, **options)]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("words", ["Đống Đa", "đống đa", "dong da", "DONG  DA", "Đong Đa", "da dong"])
def test_signs_case_order_and_form_do_not_matter(index, words, form):
    assert found(index, unicodedata.normalize(form, words)) == ["H26.101"]


def test_what_has_the_words_as_written_comes_before_what_only_reads_alike(index):
    assert found(index, "Hạ Nội")[0] == "H17.DA"
    assert found(index, "Hà Nội")[:2] == ["H26", "H26.01"]
    assert set(found(index, "ha noi")) == {"H17.DA", "H26", "H26.01"}


@pytest.mark.parametrize(("words", "codes"), [("h26.1", ["H26.101"]), ("H26", ["H26", "H26.101", "H26.01"])])
def test_codes_are_found_by_their_beginning(index, words, codes):
    assert found(index, words) == codes


@pytest.mark.parametrize("words", ["không có", "%", "'", "   ", "̀"])
def test_what_nobody_is_called_finds_nobody(index, words):
    assert found(index, words) == []


def test_a_tier_narrows_the_search(index):
    assert found(index, "noi", tier="commune") == ["H17.DA", "H26.01"]


def test_who_is_no_longer_in_force_is_not_found(index):
    assert "H26.OLD" not in found(index, "Hà Nội")
    index.clock[0] = datetime(2025, 7, 31, 9, tzinfo=UTC)
    assert "H26.OLD" in found(index, "Hà Nội")


def test_a_new_file_is_searched_at_once(index):
    assert found(index, "Huế") == []
    new = index.file.with_suffix(".new")
    new.write_bytes(DirectoryFile(agencies=(entry("H57", "UBND thành phố Huế"),)).to_json())
    new.rename(index.file)

    assert found(index, "hue") == ["H57"]


def test_nothing_is_read_twice_without_a_change(index):
    assert index.today() is index.today()


def test_folding_takes_off_every_sign_of_vietnamese():
    assert fold("ĂÂĐÊÔƠƯ ạảãàá ằắặẳẵ Ỷ đ") == "aadeoou aaaaa aaaaa y d"


async def test_over_rest(tmp_path):
    async with open_counter(tmp_path) as counter:
        page = (await counter.http.get("/v1/agencies", params={"q": f"don vi {AGENCY.lower()}"})).json()
        one = (await counter.http.get(f"/v1/agencies/{AGENCY}")).json()
        unknown = await counter.http.get("/v1/agencies/Z99.KHONGCO")
        malformed = await counter.http.get("/v1/agencies/khong-co")
        wrong = [
            await counter.http.get("/v1/agencies", params=query) for query in ({}, {"q": ""}, {"q": "a", "tier": "x"})
        ]

    assert [item["code"] for item in page["items"]] == [AGENCY]
    assert (one["code"], one["connected"], one["state"]) == (AGENCY, True, "open")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "E404")
    assert (malformed.status_code, malformed.json()["code"]) == (422, "A206")
    assert [answer.json()["code"] for answer in wrong] == ["A206"] * 3
