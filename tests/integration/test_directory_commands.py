"""`truc directory` on a real database: what was imported is shown and exported."""

import json

import pytest
from typer.testing import CliRunner

from hub.cli.directory import app
from hub.dev.country import demo_country, shipped
from schemas.directory_file import DirectoryFile

runner = CliRunner()


@pytest.fixture
def truc(database_url, monkeypatch):
    monkeypatch.setenv("TRUC_DATABASE_URL", database_url)
    return lambda *arguments, answer=None: runner.invoke(app, [str(argument) for argument in arguments], input=answer)


@pytest.fixture
def demo_file(tmp_path):
    file = tmp_path / "demo.json"
    file.write_bytes(demo_country().to_json())
    return file


def test_import_twice(truc, demo_file):
    first = json.loads(truc("import", demo_file, "--yes", "--json").stdout)
    second = json.loads(truc("import", demo_file, "--yes", "--json").stdout)

    assert (first["applied"], second["applied"]) == (True, False)
    assert first["added"]["agencies"] == len(demo_country().agencies)
    assert (second["epoch"], second["unchanged"]) == (first["epoch"], sum(first["added"].values()))
    assert "Không có gì thay đổi" in truc("import", demo_file).stdout


def test_dry_run_enters_nothing(truc, demo_file):
    result = truc("import", demo_file, "--yes", "--dry-run")

    assert result.exit_code == 0
    assert json.loads(truc("show", "--json").stdout)["endpoints"] == 0


def test_without_an_answer_nothing_is_entered(truc, demo_file):
    result = truc("import", demo_file)

    assert result.exit_code == 1
    assert "--yes" in result.stderr
    assert json.loads(truc("show", "--json").stdout)["endpoints"] == 0


def test_a_part_is_checked_together_with_what_is_held(truc, demo_file, tmp_path):
    part = tmp_path / "part.json"
    commune = {"code": "H53.777", "name": "UBND xã Mới", "tier": "commune", "parent": "H53", "valid_from": "2026-01-01"}
    part.write_text(json.dumps({"directory": 1, "agencies": [commune]}), encoding="utf-8")

    assert truc("import", part, "--yes").exit_code == 1
    truc("import", demo_file, "--yes")
    assert truc("import", part, "--yes").exit_code == 0
    assert json.loads(truc("show", "H53.777", "--json").stdout)["agency"]["parent"] == "H53"


def test_a_file_that_contradicts_itself_is_refused(truc, tmp_path):
    file = tmp_path / "twice.json"
    first, second = shipped().agencies[0], shipped().agencies[0].model_copy(update={"name": "Tên khác"})
    file.write_bytes(DirectoryFile(agencies=(first, second)).to_json())

    result = truc("import", file, "--yes")

    assert result.exit_code == 1
    assert "xuất hiện hai lần" in result.stdout
    assert json.loads(truc("show", "--json").stdout)["epoch"] == 0


def test_a_change_is_shown_with_both_values(truc, demo_file, tmp_path):
    truc("import", demo_file, "--yes")
    part = tmp_path / "part.json"
    entry = next(entry for entry in demo_country().agencies if entry.code == "H53.101")
    changed = entry.model_copy(update={"name": "UBND phường Long Hoa"})
    part.write_bytes(DirectoryFile(agencies=(changed,)).to_json())

    result = truc("import", part, "--yes")

    assert f"H53.101: name: {entry.name} → UBND phường Long Hoa" in result.stdout


def test_what_is_new_is_shown_after_what_is_changed(truc, demo_file, tmp_path):
    truc("import", demo_file, "--yes")
    part = tmp_path / "part.json"
    entry = next(entry for entry in demo_country().agencies if entry.code == "H53.101")
    changed = entry.model_copy(update={"name": "UBND phường Long Hoa"})
    new = entry.model_copy(update={"code": "H53.777", "name": "UBND xã Mới", "endpoint": None})
    part.write_bytes(DirectoryFile(agencies=(new, changed)).to_json())

    shown = truc("import", part, "--dry-run").stdout

    line = "+ code: H53.777, name: UBND xã Mới, tier: commune, parent: H53, valid_from: 2025-07-01"
    assert shown.index("H53.101: name:") < shown.index(line)


def test_export_gives_back_what_was_imported(truc, demo_file, tmp_path):
    truc("import", demo_file, "--yes")
    out = tmp_path / "out.json"

    assert truc("export", out).exit_code == 0
    exported = DirectoryFile.model_validate_json(out.read_bytes())
    assert set(exported.agencies) == set(demo_country().agencies)
    assert set(exported.mandates) == set(demo_country().mandates)
    assert truc("check").exit_code == 0


def test_show_an_agency_on_a_day(truc, tmp_path):
    file = tmp_path / "shipped.json"
    file.write_bytes(shipped().to_json())
    truc("import", file, "--yes")

    before = json.loads(truc("show", "H02", "--at", "2025-06-30", "--json").stdout)
    after = json.loads(truc("show", "H02", "--at", "2025-07-01", "--json").stdout)

    assert (before["agency"]["state"], after["agency"]["state"]) == ("open", "closed")
    assert after["agency"]["successors"] == ["H05"]
    assert "đã đóng" in truc("show", "H02", "--at", "2025-07-01").stdout


def test_show_an_agency_that_nobody_knows(truc):
    assert truc("show", "H99").exit_code == 6


def test_a_database_that_does_not_answer(truc, monkeypatch):
    monkeypatch.setenv("TRUC_DATABASE_URL", "postgresql://truc@127.0.0.1:1/truc")

    assert truc("show").exit_code == 4
