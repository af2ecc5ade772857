"""Everything an operator may set, with its default.

A value comes from, in this order: the environment (`TRUC_…`), a file of that name in the secrets directory
(`TRUC_SECRETS_DIR`), `truc.toml` in the working directory (or the file that `TRUC_CONFIG` names), the default here.
Unknown keys in the file are errors, and so are unknown variables. Durations end in `_s` and are seconds, sizes end in
`_bytes`.
"""

import os
import re
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from hub.core.catch_up import CatchUpLimits
from hub.core.policy import BreakerPolicy, Pace, Policy, Retry
from hub.core.working_calendar import WorkingCalendar
from schemas.hosts import names_hosts, urls_by_host
from schemas.identifiers import AgencyCode

PREFIX: Final = "TRUC_"
_NOT_OF_THE_HUB: Final = ("TRUC_AGENCY_", "TRUC_TEST_")
"""Variables of the agencies' adapter, which may run on the same machine, and of the tests, which start hubs."""
_BESIDE_THE_SETTINGS: Final = frozenset({"TRUC_CONFIG", "TRUC_SECRETS_DIR", "TRUC_DATABASE_OWNER_URL"})
_URLS: Final = {
    "amqp_url": "amqp://user:password@broker:5672/ or amqp://user:password@first:5672,second:5672/",
    "amqp_management_url": "http://user:password@broker:15672",
    "database_url": "postgresql://user:password@database:5432/truc",
}
_SCHEMES: Final = {
    "amqp_url": {"amqp", "amqps"},
    "amqp_management_url": {"http", "https"},
    "database_url": {"postgresql", "postgres"},
}


class SettingsError(ValueError):
    """The settings cannot be used; the message names each key and what is wrong with it."""


class WorkingDaysFile(BaseModel):
    """The file of `working_days_file`; its members are those of a `WorkingCalendar`, and where they are from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    closed: frozenset[date]
    open: frozenset[date]


FailureCode = Literal["E801", "E802", "E804", "E805", "E806", "E807"]
"""Codes of failures that are tried again, each with a wait; E803 is tried again at once and counts for nothing."""


class RetryRule(BaseModel):
    """How a failure is tried again; what is absent is as for the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry_delay_s: float | None = Field(default=None, gt=0)
    max_retry_delay_s: float | None = Field(default=None, gt=0)
    max_attempts: int | None = Field(default=None, ge=1)

    def retry(self) -> Retry:
        """Give it as the pure core wants it."""
        return Retry(**self.model_dump())


class RecipientRule(RetryRule):
    """The same for a recipient, with the time that it has for a receipt."""

    receipt_deadline_s: float | None = Field(default=None, gt=0)


class Settings(BaseSettings):
    """The settings of the hub."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
        description="The broker, with the hub's own user; hosts of a cluster are separated by commas.",
    )
    amqp_management_url: SecretStr | None = Field(
        default=None, description="The broker's management API; only `truc broker` needs it."
    )
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://truc@127.0.0.1:5432/truc"), description="The ledger's PostgreSQL database."
    )
    database_connections: int = Field(default=10, ge=4, le=200, description="Most connections of one process.")

    hub_key_file: Path | None = Field(default=None, description="Private key of the hub (PEM), signs its notices.")
    hub_certificate_file: Path | None = Field(default=None, description="Certificate of the hub (PEM).")

    http_host: str = Field(default="127.0.0.1", description="Where /livez, /readyz and /metrics listen.")
    http_port: int = Field(default=8470, ge=0, le=65535, description="Port of the same; 0 takes a free one.")

    blobs_url: str = Field(
        default="file:///var/lib/truc/blobs",
        description="Where parts are kept: file:///directory or s3://bucket/prefix (with the usual AWS_ variables).",
    )
    part_max_bytes: int = Field(default=2 * 1024**3, ge=0, le=64 * 1024**3, description="Largest part; at most 64 GiB.")
    part_uploads: int = Field(default=16, ge=1, le=1000, description="Most uploads at a time; each needs 32 MiB.")
    part_downloads: int = Field(default=64, ge=1, le=1000, description="Most downloads at a time; each needs 8 MiB.")
    part_unreferenced_s: float = Field(
        default=7 * 86_400.0, gt=0, description="Lifetime of a part that no document names."
    )
    part_unfinished_s: float = Field(
        default=86_400.0, ge=6 * 3600, description="Lifetime of an upload that does not go on, and of orphaned objects."
    )
    sweep_pause_s: float = Field(default=3600.0, gt=0, description="Pause between two walks through the blob store.")

    directory_refresh_s: float = Field(
        default=0.5, gt=0, description="Pause between two looks for a change of the directory."
    )
    directory_max_age_s: float = Field(
        default=60.0, gt=0, description="Greatest age of the directory snapshot; an older one stops the hub."
    )

    intake_batch: int = Field(
        default=200,
        ge=1,
        le=5000,
        description="Most submissions of one transaction, but for the rest of the last message.",
    )
    receipts_batch: int = Field(
        default=500,
        ge=1,
        le=5000,
        description="Most receipts and statuses of one transaction, but for the rest of the last message.",
    )
    returns_batch: int = Field(
        default=100,
        ge=1,
        le=5000,
        description="Most deliveries that came back of one transaction, but for the rest of the last message.",
    )
    linger_s: float = Field(default=0.004, ge=0, le=1, description="How long a batch waits to become fuller.")
    receipts_linger_s: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The same for receipts and statuses, for which nobody waits: fewer, larger transactions.",
    )
    dispatch_batch: int = Field(default=300, ge=1, le=5000, description="Most deliveries of one claim.")
    dispatch_share: int = Field(
        default=60, ge=1, description="Most of them for one recipient, so that one with very many never fills a claim."
    )
    dispatch_wait_s: float = Field(default=0.5, gt=0, le=60, description="Longest wait for new deliveries.")
    publish_channels: int = Field(default=4, ge=1, le=32, description="Channels that publish side by side.")
    confirm_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=25,
        description="How long the broker may take to confirm; others wait for the rows of a claim, at most 30 seconds.",
    )
    reconcile_pause_s: float = Field(default=1.0, gt=0, description="Pause between two looks at the deadlines.")
    replay_pause_s: float = Field(default=1.0, gt=0, le=10, description="Pause between two steps of a replay.")
    replay_per_minute: int = Field(default=60, ge=1, description="Items of a replay a minute, unless it says another.")
    replay_per_recipient: int = Field(default=60, ge=1, description="The same for one recipient.")
    replay_catch_up_per_minute: int = Field(
        default=600, ge=1, description="Deliveries a minute that are handed out again to an agency that catches up."
    )
    catch_up_max_days: int = Field(
        default=31, ge=1, description="How far back agencies may catch up by themselves, days."
    )
    catch_up_pause_s: float = Field(
        default=3600.0, gt=0, description="How long after a catch-up the same agency may begin the next one by itself."
    )
    catch_up_at_once: int = Field(
        default=20, ge=0, description="Most agencies that catch up at a time; beyond it none begins by itself."
    )
    replay_second_person_above: int = Field(
        default=1000, ge=0, description="Size of a replay above which a second person confirms it."
    )

    max_recipients: int = Field(default=20_000, ge=1, description="Most recipients of one document.")
    max_recipients_by_sender: dict[AgencyCode, Annotated[int, Field(ge=1)]] = Field(
        default={}, description='The same for some senders, by code: `{"G22": 50000}`.'
    )
    broadcast_at_once: int = Field(
        default=100, ge=1, description="Recipients of one document that are served at once; more go out at a pace."
    )
    broadcast_per_s: float = Field(default=500.0, gt=0, description="That pace: recipients of one document a second.")
    receipt_deadline_s: float = Field(default=900.0, gt=0, description="Time for a receipt before sending again.")
    max_receipt_deadline_s: float = Field(
        default=86_400.0, gt=0, description="Upper bound of that time, which doubles."
    )
    retry_delay_s: float = Field(default=5.0, gt=0, description="Wait before the second attempt; doubles.")
    max_retry_delay_s: float = Field(default=3600.0, gt=0, description="Upper bound of that wait.")
    max_attempts: int = Field(
        default=20,
        ge=1,
        description="Attempts after which a delivery that fails for an unknown reason needs a person.",
    )
    retry_by_code: dict[FailureCode, RetryRule] = Field(
        default={},
        description='Other numbers for some failures: `{"E807": {"retry_delay_s": 60, "max_attempts": 10}}`.',
    )
    retry_by_recipient: dict[AgencyCode, RecipientRule] = Field(
        default={},
        description='The same for some recipients, which come first: `{"H26": {"receipt_deadline_s": 3600}}`.',
    )
    expiry_warning_s: float = Field(
        default=86_400.0,
        gt=0,
        description="How long before its lifetime ends a sender is warned; at most a quarter of it.",
    )

    breaker_failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a recipient's documents are held."
    )
    probe_delay_s: float = Field(default=60.0, gt=0, description="Wait before one of them is tried; doubles.")
    max_probe_delay_s: float = Field(default=3600.0, gt=0, description="Upper bound of that wait.")
    drain_at_first: int = Field(
        default=10,
        ge=1,
        description="Documents let go at first when the recipient is back; doubles when they came through.",
    )
    drain_at_most: int = Field(default=50, ge=1, le=1000, description="Upper bound of that number.")
    drain_pause_s: float = Field(default=0.5, gt=0, description="Pause between two such turns.")

    queue_max_messages: int = Field(default=100_000, ge=1, description="Length of an agency's queue.")
    queue_max_bytes: int = Field(default=1024**3, ge=1, description="Size of an agency's queue.")

    working_days_file: Path | None = Field(
        default=None, description="Holidays and swapped days (JSON), by default those that are shipped."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` is colour on a terminal and JSON otherwise."
    )
    language: Literal["vi", "en"] = Field(default="vi", description="Language of texts for people.")

    @field_validator(*_URLS)
    @classmethod
    def _is_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        name = str(info.field_name)
        if value is not None and not _is_url_of(value.get_secret_value(), _SCHEMES[name]):
            raise ValueError(f"not a URL such as {_URLS[name]}")  # without the value: it has the password
        return value

    @field_validator("blobs_url")
    @classmethod
    def _is_blob_store(cls, value: str) -> str:
        if not re.fullmatch(r"file:///[^?#]*|s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?", value):
            raise ValueError("not a URL such as file:///var/lib/truc/blobs or s3://bucket/prefix")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources as the module says."""
        del dotenv_settings  # what a shell does not set, the file says
        toml = TomlConfigSettingsSource(settings_cls, toml_file=_file())
        return init_settings, env_settings, file_secret_settings, toml

    def policy(self) -> Policy:
        """Gather what the pure core wants to know."""
        return Policy(
            max_recipients=self.max_recipients,
            max_recipients_by_sender=self.max_recipients_by_sender,
            receipt_deadline_s=self.receipt_deadline_s,
            max_receipt_deadline_s=self.max_receipt_deadline_s,
            retry_delay_s=self.retry_delay_s,
            max_retry_delay_s=self.max_retry_delay_s,
            max_attempts=self.max_attempts,
            retry_by_code={code: rule.retry() for code, rule in self.retry_by_code.items()},
            retry_by_recipient={code: rule.retry() for code, rule in self.retry_by_recipient.items()},
            expiry_warning_s=self.expiry_warning_s,
            breaker=self._breaker(),
        )

    def _breaker(self) -> BreakerPolicy:
        return BreakerPolicy(
            failures=self.breaker_failures,
            silence_s=self.receipt_deadline_s,
            probe_delay_s=self.probe_delay_s,
            max_probe_delay_s=self.max_probe_delay_s,
            probe_patience_s=self.max_receipt_deadline_s,
            drain_at_first=self.drain_at_first,
            drain_at_most=self.drain_at_most,
            drain_pause_s=self.drain_pause_s,
            drain_patience_s=self.receipt_deadline_s,
        )

    def calendar(self) -> WorkingCalendar:
        """Read which days are worked.

        Raises:
            SettingsError: When the file cannot be used.
        """
        file = self.working_days_file or files("hub").joinpath("data", "working-days.json")
        try:
            days = WorkingDaysFile.model_validate_json(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingsError(f"working_days_file: {error}") from error
        return WorkingCalendar(days.closed, days.open)

    def catch_up_limits(self) -> CatchUpLimits:
        """Gather what agencies may do by themselves."""
        return CatchUpLimits(
            per_minute=self.replay_catch_up_per_minute,
            max_age_s=self.catch_up_max_days * 86_400.0,
            pause_s=self.catch_up_pause_s,
            at_once=self.catch_up_at_once,
        )

    def pace(self) -> Pace:
        """Gather how fast a broadcast goes out."""
        return Pace(self.broadcast_at_once, self.broadcast_per_s)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; an override that is `None` counts for nothing.

    Raises:
        SettingsError: When a value cannot be used, a key or variable is unknown, or a file cannot be read.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    _refuse_unknown_variables()
    _refuse_missing_file()
    try:
        return Settings(_secrets_dir=os.environ.get("TRUC_SECRETS_DIR"), **given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in item['loc'])}: {_said(item['type'], item['msg'])}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(problems) from error
    except SourceError as error:
        raise SettingsError(f"TRUC_SECRETS_DIR: {error}") from error
    except (OSError, ValueError) as error:  # TOML that cannot be read is a ValueError
        raise SettingsError(f"{_file()}: {error}") from error


def _file() -> Path:
    return Path(os.environ.get("TRUC_CONFIG", "truc.toml"))


def _refuse_missing_file() -> None:
    """Find a file that is named and is not there, which would leave every default in force."""
    if "TRUC_CONFIG" in os.environ and not _file().is_file():
        raise SettingsError(f"TRUC_CONFIG: there is no file {_file()}")


def _refuse_unknown_variables() -> None:
    """Find misspelt variables, which pydantic would pass over."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _BESIDE_THE_SETTINGS
    unknown = sorted(
        name
        for name in os.environ
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(_NOT_OF_THE_HUB)
    )
    if unknown:
        raise SettingsError(f"unknown variable {', '.join(unknown)}")


def _said(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message.removeprefix("Value error, ")


def _is_url_of(text: str, schemes: set[str]) -> bool:
    """Tell whether a text is a usable URL; PostgreSQL's may leave the host out, the management API's names only one."""
    is_one = "http" not in schemes or len(urls_by_host(text)) == 1
    return is_one and names_hosts(text, schemes, optional="postgres" in schemes)
