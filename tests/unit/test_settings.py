"""What an operator may get wrong in the settings, and what is said about it."""

from pathlib import Path

import pytest

from hub.core.policy import Retry
from hub.settings import SettingsError, load_settings
from schemas.identifiers import AgencyCode


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("TRUC_AMQP_URL", "TRUC_AMQP_MANAGEMENT_URL", "TRUC_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRUC_DATABASE_URL", "foo"),
        ("TRUC_DATABASE_URL", "http://user:secret@database/truc"),
        ("TRUC_DATABASE_URL", "postgresql://user:secret@database:port/truc"),
        ("TRUC_DATABASE_URL", "postgresql://user:secret@[::1/truc"),
        ("TRUC_AMQP_URL", ""),
        ("TRUC_AMQP_URL", "amqp://user:secret@broker:port/"),
        ("TRUC_AMQP_URL", "amqp:///"),
        ("TRUC_AMQP_URL", "amqp://user:secret@first,/"),
        ("TRUC_AMQP_URL", "amqp://user:secret@first,second:port/"),
        ("TRUC_AMQP_URL", "amqp://user:secret@first/,amqp://user:secret@second/"),
        ("TRUC_AMQP_MANAGEMENT_URL", "http://user:secret@first:15672,second:15672"),
        ("TRUC_AMQP_MANAGEMENT_URL", "http://user:secret@broker:99999"),
        ("TRUC_AMQP_MANAGEMENT_URL", "broker:15672"),
    ],
)
def test_what_is_no_url_is_refused_without_showing_the_password(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)

    with pytest.raises(
        SettingsError, match=f"^{variable.removeprefix('TRUC_').lower()}: not a URL such as "
    ) as refused:
        load_settings()

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40ss@database/truc",
        "postgres://user@[::1]:5432/truc",
        "postgresql://user@first:5432,second:5433/truc",
        "postgresql:///truc?host=/run/postgresql",
    ],
)
def test_every_form_of_a_postgresql_url_is_taken(url):
    assert load_settings(database_url=url).database_url.get_secret_value() == url


def test_the_url_of_a_broker_may_name_several_hosts():
    url = "amqps://truc:a%2Cb@first:5671,second,[::1]:5673/vhost"
    assert load_settings(amqp_url=url).amqp_url.get_secret_value() == url


def test_misspelt_variable_is_refused(monkeypatch):
    monkeypatch.setenv("TRUC_INTAKE_BACH", "5")

    with pytest.raises(SettingsError, match="unknown variable TRUC_INTAKE_BACH"):
        load_settings()


@pytest.mark.parametrize("name", ["TRUC_AGENCY_CODE", "TRUC_TEST_EDXML"])
def test_variables_of_an_adapter_and_of_the_tests_are_let_be(monkeypatch, name):
    monkeypatch.setenv(name, "H26")

    load_settings()


def test_rules_for_a_code_and_for_a_recipient_are_read_from_the_file():
    Path("truc.toml").write_text("[retry_by_code.E807]\nretry_delay_s = 60\n[retry_by_recipient.H26]\nmax_attempts = 3")

    policy = load_settings().policy()

    assert policy.retry("E807", AgencyCode("H26")) == Retry(60, policy.max_retry_delay_s, 3)
    assert policy.retry("E805", AgencyCode("H27")) == Retry(policy.retry_delay_s, policy.max_retry_delay_s, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[retry_by_code.E999]", "retry_by_code.E999"),
        (b"[retry_by_code.E807]\nmax_attempts = 0", "retry_by_code.E807.max_attempts: "),
        (b"[retry_by_code.E807]\nretry_delay = 5", "retry_by_code.E807.retry_delay: unknown key"),
        (b"[retry_by_code.E807]\nreceipt_deadline_s = 5", "retry_by_code.E807.receipt_deadline_s: unknown key"),
        (b"intake_bach = 5", "intake_bach: unknown key"),
        (b"intake_batch = ", "truc.toml: Invalid value"),
        (b"\xff\xfe", "truc.toml: 'utf-8' codec"),
    ],
)
def test_file_that_cannot_be_used_is_refused(content, said):
    Path("truc.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_file_that_is_named_must_be_there(monkeypatch):
    monkeypatch.setenv("TRUC_CONFIG", "nowhere.toml")

    with pytest.raises(SettingsError, match=r"TRUC_CONFIG: there is no file nowhere\.toml"):
        load_settings()


def test_place_of_the_secrets_must_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "secrets").touch()
    monkeypatch.setenv("TRUC_SECRETS_DIR", "secrets")

    with pytest.raises(SettingsError, match="TRUC_SECRETS_DIR: "):
        load_settings()
