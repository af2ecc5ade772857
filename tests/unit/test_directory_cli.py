"""`truc directory` without a hub: generate and check files."""

import json

import pytest
from typer.testing import CliRunner

from hub.cli.directory import app
from hub.dev.country import demo_country
from schemas.directory_file import DirectoryFile

runner = CliRunner()


def truc(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def write(tmp_path):
    def write(**members):
        file = tmp_path / "directory.json"
        file.write_text(json.dumps({"directory": 1, **members}), encoding="utf-8")
        return file

    return write


def test_generate_writes_the_country_of_the_seed(tmp_path):
    out = tmp_path / "demo.json"

    result = truc("generate", "--seed", 7, "--out", out)

    assert (result.exit_code, result.stdout) == (0, "")
    assert DirectoryFile.model_validate_json(out.read_bytes()) == demo_country(7)
    assert list(tmp_path.iterdir()) == [out]


def test_generate_to_the_standard_output():
    result = truc("generate", "--out", "-")

    assert DirectoryFile.model_validate_json(result.stdout) == demo_country(0)


def test_generated_keys_belong_to_everyone_who_connects(tmp_path):
    out, keys = tmp_path / "demo.json", tmp_path / "keys"

    result = truc("generate", "--out", out, "--keys", keys)

    assert "CHỈ DÙNG ĐỂ THỬ NGHIỆM" in result.stderr
    owners = {entry.owner for entry in DirectoryFile.model_validate_json(out.read_bytes()).certificates}
    assert {"hub", "lgsp-h26", "H53.101", "0100109106"} <= owners
    assert "H26" not in owners
    assert truc("check", out, "--anchors", keys / "authority.cert.pem").exit_code == 0
    assert truc("check", out, "--anchors", keys / "H53.cert.pem").exit_code == 1


def test_check_of_a_good_file_says_so():
    result = truc("check", "hub/data/vietnam-2025.json")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "không có lỗi" in result.stderr


def test_check_exits_1_on_errors(write):
    agency = {"code": "H01", "name": "An Giang", "tier": "commune", "parent": "H99", "valid_from": "2020-09-15"}

    result = truc("check", write(agencies=[agency]), "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "version": 1,
        "findings": [
            {
                "level": "error",
                "place": "/agencies/0/parent",
                "code": "",
                "en": "H01: its parent H99 is unknown",
                "vi": "H01: không có đơn vị cấp trên H99",
            }
        ],
    }


def test_check_exits_0_on_warnings(write):
    agency = {"code": "H02", "name": "Bắc Giang", "tier": "commune", "state": "closed", "valid_from": "2025-07-01"}

    result = truc("check", write(agencies=[agency]))

    assert result.exit_code == 0
    assert "lưu ý" in result.stdout


def test_a_file_that_is_no_directory_is_told_field_by_field(write):
    result = truc("check", write(agencies=[{"code": "h01", "name": "An Giang", "tier": "commune"}]))

    assert result.exit_code == 2
    assert "/agencies/0/code: không đúng dạng quy định" in result.stderr
    assert "/agencies/0/valid_from: thiếu trường bắt buộc" in result.stderr


def test_a_file_that_is_not_there(tmp_path):
    assert truc("check", tmp_path / "nothing.json").exit_code == 2


def test_anchors_that_are_no_certificates(write):
    file = write()

    assert truc("check", file, "--anchors", file).exit_code == 2


def test_a_day_that_does_not_exist():
    assert truc("show", "--at", "2025-02-30").exit_code == 2
