"""What `truc-agency catch-up` says when it is used wrongly, or nobody can be asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters.cli import app
from tests.keys import agency_keys

CODE = "H26"


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keys = agency_keys(CODE)
    (tmp_path / "key.pem").write_bytes(keys.private_key_pem)
    (tmp_path / "certificate.pem").write_text(keys.pem)
    settings = {
        "AMQP_URL": "amqp://127.0.0.1:1/",
        "CODE": CODE,
        "KEY_FILE": "key.pem",
        "CERTIFICATE_FILE": "certificate.pem",
        "DIRECTORY_FILE": "directory.json",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"TRUC_AGENCY_{name}", value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def catch_up(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["catch-up", *arguments])


@pytest.mark.parametrize("since", ["yesterday", "7", "0d", "7m", "2026-13-01"])
def test_what_is_no_moment_is_wrong_use(office, since):
    ended = catch_up("--since", since)

    assert ended.exit_code == 2
    assert "no moment" in ended.stderr


def test_without_hub_url_nobody_can_be_asked(office):
    ended = catch_up("--since", "7d")

    assert (ended.exit_code, "A101" in ended.stderr, "hub_url" in ended.stderr) == (3, True, True)


def test_hub_that_is_not_there_is_told_as_that(office, monkeypatch):
    monkeypatch.setenv("TRUC_AGENCY_HUB_URL", "http://127.0.0.1:1/")

    ended = catch_up()

    assert (ended.exit_code, "E901" in ended.stderr) == (4, True)
