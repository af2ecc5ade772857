"""What a person may answer to the questions of `truc-agency init`, and what becomes of it."""

import tomllib
from pathlib import Path

import pytest

from adapters.enrolment import (
    Wrong,
    find_papers,
    likely_hub,
    needs_password,
    read_broker,
    read_code,
    read_hub,
    read_way,
    with_password,
    write_toml,
)
from schemas.directory_file import AgencyEntry, DirectoryFile
from tests.keys import Certified, agency_keys, make_certificate

CODE = "H26.01"


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ("axis.example.vn", "amqps://H26.01@axis.example.vn/"),
        (" axis.example.vn:5671 ", "amqps://H26.01@axis.example.vn:5671/"),
        ("amqp://127.0.0.1:5672", "amqp://H26.01@127.0.0.1:5672/"),
        ("amqps://axis.example.vn/truc", "amqps://H26.01@axis.example.vn/truc"),
        ("amqps://H26.01:b%20c@axis.example.vn/", "amqps://H26.01:b%20c@axis.example.vn/"),
        ("amqps://H26.01@axis/?auth=external", "amqps://H26.01@axis/?auth=external"),
        ("amqps://[::1]:5671", "amqps://H26.01@[::1]:5671/"),
        ("mq1.example.vn,mq2.example.vn:5672", "amqps://H26.01@mq1.example.vn,mq2.example.vn:5672/"),
    ],
)
def test_broker_may_be_given_as_a_host_or_as_a_url(answer, url):
    assert read_broker(answer, CODE) == url


@pytest.mark.parametrize("answer", ["", "http://axis", "amqps://", "axis:port", "amqps://[::1", "axis:0", "one,,two"])
def test_what_is_no_broker_is_told_in_both_languages(answer):
    with pytest.raises(Wrong) as wrong:
        read_broker(answer, CODE)

    assert "amqps://axis.example.vn/" in wrong.value.en
    assert "không phải địa chỉ" in wrong.value.vi


def test_the_account_of_somebody_else_is_not_taken_and_no_password_is_shown():
    with pytest.raises(Wrong, match="H17, not ") as wrong:
        read_broker("amqps://H17:bimat@axis/", CODE)
    assert "bimat" not in wrong.value.en
    with pytest.raises(Wrong) as wrong:
        read_broker("http://H26.01:bimat@axis/", CODE)
    assert "bimat" not in wrong.value.en + wrong.value.vi


def test_the_password_is_put_in_whatever_it_holds():
    url = read_broker("axis.example.vn", CODE)

    assert needs_password(url)
    assert with_password(url, "mật/khẩu@1") == "amqps://H26.01:m%E1%BA%ADt%2Fkh%E1%BA%A9u%401@axis.example.vn/"
    assert with_password(url, "") == "amqps://H26.01@axis.example.vn/?auth=external"
    assert not needs_password(with_password(url, ""))
    assert not needs_password(with_password(url, "x"))


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ("axis.example.vn", "https://axis.example.vn"),
        ("http://127.0.0.1:8470/", "http://127.0.0.1:8470"),
        ("-", None),
        (" ", None),
    ],
)
def test_hub_may_be_given_as_a_host_or_not_at_all(answer, url):
    assert read_hub(answer) == url


@pytest.mark.parametrize("answer", ["ftp://axis", "https://", "https://[::1", "https://axis:port", "one,two"])
def test_what_is_no_hub_is_told(answer):
    with pytest.raises(Wrong):
        read_hub(answer)


def test_the_hub_is_guessed_beside_the_broker():
    assert likely_hub("amqps://H26.01@axis.example.vn:5671/") == "https://axis.example.vn"
    assert likely_hub("amqp://H26.01@[::1]/") == "http://[::1]"
    assert likely_hub("amqps://H26.01@mq1.example.vn:5671,mq2.example.vn/") == "https://mq1.example.vn"


@pytest.mark.parametrize("code", ["H26.01", "000.00.00.H26", "0100109106", "lgsp-h26"])
def test_codes_of_agencies_and_platforms_are_taken(code):
    assert read_code(f" {code} ") == code


@pytest.mark.parametrize("code", ["", "h26", "hub", "H26/01", "lgsp-"])
def test_what_is_no_code_is_told(code):
    with pytest.raises(Wrong, match="no code such as"):
        read_code(code)


def test_ways_may_be_named_in_vietnamese_and_by_number():
    assert [read_way(answer) for answer in ("Thư mục", "2", " NONE ")] == ["folder", "gateway", "none"]
    with pytest.raises(Wrong):
        read_way("fax")


def lay(folder: Path, keys: Certified, key_name: str, certificate_name: str) -> None:
    (folder / key_name).write_bytes(keys.private_key_pem)
    (folder / certificate_name).write_text(keys.pem)


def lay_directory(folder: Path, *owners: str) -> None:
    agencies = (AgencyEntry(code=CODE, name="Sở", tier="commune", valid_from="2025-07-01"),)
    certificates = tuple(agency_keys(owner).entry(owner) for owner in owners)
    (folder / "danh-muc.json").write_bytes(DirectoryFile(agencies=agencies, certificates=certificates).to_json())


def test_papers_are_found_whatever_they_are_called(tmp_path):
    lay(tmp_path, agency_keys(CODE), "khóa riêng.txt", "chứng thư.crt")
    lay_directory(tmp_path, CODE)
    (tmp_path / "khác.json").write_text("{}")
    (tmp_path / "ảnh.bin").write_bytes(bytes(range(256)))

    found = find_papers(tmp_path, CODE)

    assert (found.key.name, found.certificate.name, found.directory.name) == (
        "khóa riêng.txt",
        "chứng thư.crt",
        "danh-muc.json",
    )


def test_of_several_pairs_the_one_that_the_directory_knows_is_taken(tmp_path):
    lay_directory(tmp_path, CODE)
    lay(tmp_path, make_certificate(CODE), "old.pem", "old.crt")
    lay(tmp_path, agency_keys(CODE), "now.pem", "now.crt")

    assert find_papers(tmp_path, CODE).certificate.name == "now.crt"
    with pytest.raises(Wrong, match="--key, --certificate"):
        find_papers(tmp_path, "H17")


def test_missing_papers_are_told_by_kind(tmp_path):
    with pytest.raises(Wrong, match="--directory"):
        find_papers(tmp_path, CODE)
    lay_directory(tmp_path)
    with pytest.raises(Wrong, match="0 keys, 0 certificates"):
        find_papers(tmp_path, CODE)
    lay(tmp_path, agency_keys(CODE), "a.pem", "b.pem")
    (tmp_path / "b.pem").write_text(agency_keys("H17").pem)
    with pytest.raises(Wrong, match="not one pair"):
        find_papers(tmp_path, CODE)
    with pytest.raises(Wrong, match="gone"):
        find_papers(tmp_path / "gone", CODE)


def test_what_is_written_is_read_as_it_was():
    values = {
        "code": CODE,
        "amqp_url": 'a"b\\c',
        "folder": "/srv/văn bản\x7f\n",
        "prefetch": 5,
        "folder_sends_arrival": False,
    }

    text = write_toml(values, ["một dòng"])

    assert tomllib.loads(text) == values
    assert text.splitlines()[0] == "# một dòng"
    assert text.index("code") < text.index("amqp_url") < text.index("folder")
