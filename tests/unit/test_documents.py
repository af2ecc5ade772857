"""What is written about the project is true: settings, codes, files, containers."""

import re
from pathlib import Path

import pytest
import yaml

from hub.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).parents[2]


def rows_of_settings() -> dict[str, tuple[str, str]]:
    found = re.findall(
        r"^\| `(TRUC_[A-Z_]+)` \| (.+?) \| (.+?) \|$", (ROOT / "hub/README.md").read_text(), re.MULTILINE
    )
    return {name: (default, text) for name, default, text in found}


def test_every_setting_is_described_with_its_default_and_no_other_is() -> None:
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if hasattr(field.default, "get_secret_value") else field.default
        expected[f"TRUC_{name.upper()}"] = ("—" if default is None else f"`{default}`", field.description)
    assert rows_of_settings() == expected


def test_every_setting_of_a_duration_or_a_size_has_its_unit_in_its_name() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation is float:
            assert name.endswith("_s"), name


def test_an_unknown_key_in_the_file_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "truc.toml"
    file.write_text('retry_dellay_s = 3\nlog_level = "loud"\n')
    monkeypatch.setenv("TRUC_CONFIG", str(file))
    with pytest.raises(SettingsError, match="retry_dellay_s") as caught:
        load_settings()
    assert "log_level" in str(caught.value)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "truc.toml"
    file.write_text("retry_delay_s = 3\nmax_attempts = 4\n")
    monkeypatch.setenv("TRUC_CONFIG", str(file))
    monkeypatch.setenv("TRUC_RETRY_DELAY_S", "7")
    settings = load_settings()
    assert (settings.retry_delay_s, settings.max_attempts) == (7, 4)


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "TRUC_DATABASE_URL").write_text("postgresql://from-a-file/truc")
    monkeypatch.setenv("TRUC_SECRETS_DIR", str(tmp_path))
    monkeypatch.delenv("TRUC_DATABASE_URL", raising=False)
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://from-a-file/truc"
    assert "from-a-file" not in repr(settings)


def test_the_compose_file_names_only_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(compose["services"]) == {"rabbitmq", "postgresql", "hub"}
    known = {f"TRUC_{name.upper()}" for name in Settings.model_fields}
    assert set(compose["services"]["hub"]["environment"]) <= known
    for service in ("rabbitmq", "postgresql"):
        assert compose["services"]["hub"]["depends_on"][service]["condition"] == "service_healthy"
    assert set(compose["volumes"]) == {"rabbitmq", "postgresql", "truc"}


@pytest.mark.parametrize("readme", [*ROOT.glob("*/README.md"), ROOT / "README.md"], ids=lambda path: path.parent.name)
def test_every_file_that_a_readme_links_to_is_there(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", readme.read_text()):
        assert (readme.parent / target).exists(), target


def test_ci_runs_the_tests_of_the_makefile() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
