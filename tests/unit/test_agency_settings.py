"""One settings file for all commands of an agency, wherever they are called."""

from pathlib import Path

import pytest

from adapters import settings as module
from adapters.settings import load_settings, settings_file

TEXT = 'amqp_url = "amqp://H26:x@h/"\ncode = "H26"\nkey_file = "k.pem"\ncertificate_file = "/c.pem"\ndirectory_file = "d/d.json"\n'


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings but those of the test."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("TRUC_AGENCY_CONFIG", raising=False)
    monkeypatch.setattr(module, "SYSTEM_FILE", tmp_path / "etc" / "truc-agency.toml")
    return here


def test_paths_in_the_file_begin_at_its_folder_and_others_where_the_command_is_called(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text(TEXT)
    monkeypatch.setenv("TRUC_AGENCY_CONFIG", str(tmp_path / "a.toml"))
    monkeypatch.setenv("TRUC_AGENCY_CA_FILE", "ca.pem")

    settings = load_settings()

    assert settings.key_file == tmp_path / "k.pem"
    assert settings.directory_file == tmp_path / "d" / "d.json"
    assert settings.certificate_file == Path("/c.pem")
    assert settings.ca_file == Path("ca.pem")


def test_the_file_here_comes_before_that_of_the_machine(alone, tmp_path):
    assert settings_file() == Path("truc-agency.toml")

    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "truc-agency.toml").write_text(TEXT)
    assert settings_file() == tmp_path / "etc" / "truc-agency.toml"
    assert load_settings().key_file == tmp_path / "etc" / "k.pem"

    (alone / "truc-agency.toml").write_text(TEXT)
    assert load_settings().key_file == alone / "k.pem"
