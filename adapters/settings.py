"""Everything that an agency or platform may set, with its default.

A value comes from, in this order: an option of the command, the environment (`TRUC_AGENCY_…`), a file of that name in
the secrets directory (`TRUC_AGENCY_SECRETS_DIR`), the settings file, the default here. Unknown keys are errors.
Durations end in `_s` and are seconds.

Every command reads the same one settings file, which `truc-agency init` writes: what `--config` or `TRUC_AGENCY_CONFIG`
names; else `truc-agency.toml` in the working directory; else `/etc/truc-agency/truc-agency.toml`. Paths in it that do not
begin at the root begin at the folder that it lies in, wherever a command is called.
"""

import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from adapters.errors import Unusable
from schemas.hosts import names_hosts

PREFIX: Final = "TRUC_AGENCY_"
FILE_NAME: Final = "truc-agency.toml"
SYSTEM_FILE: Final = Path("/etc/truc-agency") / FILE_NAME
_ABOUT_SETTINGS: Final = frozenset({f"{PREFIX}CONFIG", f"{PREFIX}SECRETS_DIR"})

_VI: Final = {
    "missing": "thiếu",
    "extra_forbidden": "không có thiết lập này",
    "path_type": "phải là đường dẫn",
    "string_type": "phải là chuỗi ký tự",
    "literal_error": "giá trị không được phép",
    "int_parsing": "phải là số nguyên",
    "int_type": "phải là số nguyên",
    "float_parsing": "phải là số",
    "float_type": "phải là số",
    "greater_than": "quá nhỏ",
    "greater_than_equal": "quá nhỏ",
    "less_than_equal": "quá lớn",
    "bool_parsing": "phải là true hoặc false",
    "webhook_url": "không phải địa chỉ dạng https://MÁY/ĐƯỜNG-DẪN (http chỉ dùng trong máy)",
    "hub_url": "không phải địa chỉ dạng https://MÁY/",
    "amqp_url": "không phải địa chỉ dạng amqps://MÃ:MẬT-KHẨU@MÁY/ hoặc amqps://MÃ:MẬT-KHẨU@MÁY,MÁY/",
}


class AgencySettings(BaseSettings):
    """The settings of one agency or platform."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    amqp_url: SecretStr = Field(
        description="The broker of the axis: amqps://CODE:PASSWORD@HOST/VHOST; with client certificates ?auth=external."
    )
    hub_url: str | None = Field(
        default=None, description="The hub's HTTP API, where parts go up and come down: https://HOST/."
    )
    code: str = Field(description="Code of the agency or platform; also the broker user.")
    key_file: Path = Field(description="Private key that signs (PEM).")
    key_password: SecretStr | None = Field(default=None, description="Password of the private key.")
    certificate_file: Path = Field(description="Certificate of that key (PEM).")
    directory_file: Path = Field(description="The agencies' copy of the directory (JSON), replaced by renaming.")
    guard_file: Path = Field(
        default=Path("truc-agency.db"), description="Memory of what was handed over (SQLite), on a disk that lasts."
    )
    guard_days: int = Field(default=400, ge=31, description="Days after which the guard forgets.")

    ca_file: Path | None = Field(default=None, description="Authorities of the broker's certificate (PEM).")
    tls_certificate_file: Path | None = Field(default=None, description="Client certificate for mutual TLS (PEM).")
    tls_key_file: Path | None = Field(default=None, description="Private key of the client certificate (PEM).")

    prefetch: int = Field(default=64, ge=1, le=2000, description="Most documents in hand at a time.")
    publish_timeout_s: float = Field(default=60.0, gt=0, description="How long to try until a publish is confirmed.")
    confirm_timeout_s: float = Field(default=20.0, gt=0, description="How long to wait for one confirm.")
    connect_timeout_s: float = Field(default=15.0, gt=0, description="How long one attempt to connect may take.")

    part_timeout_s: float = Field(
        default=60.0, gt=0, description="How long to try to transfer a part without getting any further."
    )

    mailbox_file: Path = Field(
        default=Path("truc-mailbox.db"), description="What the gateway keeps (SQLite), on a disk that lasts."
    )
    mailbox_days: int = Field(default=400, ge=31, description="Days after which the mailbox forgets what is done with.")
    gateway_host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(default=8480, ge=0, le=65535, description="Port that the gateway listens on.")
    gateway_tokens_file: Path | None = Field(
        default=None, description="SHA-256 of each access token, one a line with a name; needed beyond loopback."
    )
    gateway_max_requests: int = Field(default=200, ge=1, description="Most requests answered at a time.")
    gateway_max_waiting: int = Field(default=10_000, ge=1, description="Most documents that wait for the broker.")
    gateway_max_part_bytes: int = Field(default=2**30, ge=1, description="Largest part that is taken.")
    webhook_url: str | None = Field(default=None, description="Where arrivals are announced; https, or loopback.")
    webhook_acknowledges: bool = Field(
        default=False, description="Whether an announcement that is taken also answers the document with `received`."
    )
    webhook_timeout_s: float = Field(default=10.0, gt=0, description="How long one announcement may take.")

    folder: Path | None = Field(
        default=None, description="Folder of the folder adapter, with outbox, inbox, sent and failed in it."
    )
    folder_journal_file: Path = Field(
        default=Path("truc-folder.db"), description="What the folder adapter remembers (SQLite), on a disk that lasts."
    )
    folder_journal_days: int = Field(default=400, ge=31, description="Days after which that is forgotten.")
    folder_poll_s: float = Field(default=2.0, gt=0, description="How often to look into outbox.")
    folder_settle_s: float = Field(
        default=2.0, ge=0, description="How long a file in outbox must have stayed as it is before it is taken."
    )
    folder_sends_arrival: bool = Field(
        default=True, description="Whether status 01 is sent by itself for what was put into inbox."
    )

    echo_code: str = Field(
        default="Z00.ECHO", description="The agency that `truc-agency test` writes to, because it answers everything."
    )

    language: Literal["vi", "en"] = Field(default="vi", description="Language of texts for people.")

    @field_validator("amqp_url")
    @classmethod
    def _is_url(cls, value: SecretStr) -> SecretStr:
        if not names_hosts(value.get_secret_value(), ("amqp", "amqps")):
            raise PydanticCustomError(
                "amqp_url", "not a URL such as amqps://CODE:PASSWORD@HOST/ or amqps://CODE:PASSWORD@HOST,HOST/"
            )
        return value

    @field_validator("webhook_url")
    @classmethod
    def _is_webhook(cls, value: str | None) -> str | None:
        try:
            url = urlsplit(value or "")
            usable = value is None or (bool(url.hostname) and url.port != 0 and _is_safe(url))
        except ValueError:
            usable = False
        if not usable:
            raise PydanticCustomError("webhook_url", "not a URL such as https://HOST/PATH; http only on loopback")
        return value

    @field_validator("hub_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        try:
            url = urlsplit(value or "http://unset")
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise PydanticCustomError("hub_url", "not a URL such as https://HOST/")
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
        return init_settings, env_settings, file_secret_settings, _SettingsFile(settings_cls, settings_file())

    def ssl_context(self) -> ssl.SSLContext | None:
        """Make what TLS needs; `None` when neither url asks for TLS.

        Raises:
            Unusable: A101 when a file of it cannot be used.
        """
        urls = self.amqp_url.get_secret_value(), self.hub_url or ""
        if not any(url.startswith(("amqps:", "https:")) for url in urls):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.tls_certificate_file is not None:
                context.load_cert_chain(self.tls_certificate_file, self.tls_key_file)
        except OSError as error:  # ssl.SSLError is one
            raise Unusable(
                f"TLS: {error}", f"TLS: {error}", place="ca_file, tls_certificate_file, tls_key_file"
            ) from error
        return context


class _SettingsFile(TomlConfigSettingsSource):
    """The settings file, with its paths as they are from everywhere."""

    def __init__(self, settings_cls: type[BaseSettings], file: Path) -> None:
        super().__init__(settings_cls, toml_file=file)
        self._folder = file.absolute().parent

    def __call__(self) -> dict[str, Any]:
        """Give the values."""
        return placed(super().__call__(), self._folder)


def placed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Let the paths among settings begin at the folder of their file."""

    def place(name: str, value: object) -> object:
        field = AgencySettings.model_fields.get(name)
        is_path = field is not None and field.annotation in (Path, Path | None)
        return folder / value if is_path and isinstance(value, str) else value

    return {name: place(name, value) for name, value in values.items()}


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_safe(url: SplitResult) -> bool:
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))


def settings_file() -> Path:
    """Say which file the settings are read from; it need not exist."""
    named = os.environ.get(f"{PREFIX}CONFIG")
    if named is not None:
        return Path(named)
    here = Path(FILE_NAME)
    return SYSTEM_FILE if not here.is_file() and SYSTEM_FILE.is_file() else here


def load_settings(**overrides: Any) -> AgencySettings:
    """Read the settings; an override that is `None` counts for nothing.

    Raises:
        Unusable: A101 when a value is missing or cannot be used, or when a key is unknown.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    _refuse_unknown_variables()
    try:
        return AgencySettings(_secrets_dir=os.environ.get(f"{PREFIX}SECRETS_DIR"), **given)
    except ValidationError as error:
        items = error.errors(include_input=False, include_url=False)
        places = [".".join(str(step) for step in item["loc"]) for item in items]
        en = "; ".join(f"{place}: {item['msg']}" for place, item in zip(places, items, strict=True))
        vi = "; ".join(
            f"{place}: {_VI.get(item['type'], item['msg'])}" for place, item in zip(places, items, strict=True)
        )
        raise Unusable(en, vi, place=str(settings_file())) from error
    except (OSError, ValueError) as error:  # TOML that cannot be read is a ValueError
        raise Unusable(str(error), str(error), place=str(settings_file())) from error


def _refuse_unknown_variables() -> None:
    """Find misspelt variables, which pydantic would pass over."""
    known = {f"{PREFIX}{name.upper()}" for name in AgencySettings.model_fields} | _ABOUT_SETTINGS
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        found = ", ".join(unknown)
        raise Unusable(f"unknown variable {found}", f"biến môi trường không có trong danh sách: {found}", place=found)
