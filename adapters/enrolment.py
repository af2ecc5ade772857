"""From what a person in an agency's IT can answer to the one settings file: pure but for reading files.

Five questions: the code; the broker; the hub's HTTP address; where key, certificate and directory file lie; what carries
documents in and out. Asking is the business of `adapters.cli.init`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from adapters.errors import AgencyError, Unusable
from adapters.signer import load_record, load_signer
from adapters.trust import View, read_directory
from schemas.hosts import names_hosts, urls_by_host
from schemas.identifiers import is_agency_code, is_platform_code

Way = Literal["folder", "gateway", "none"]
"""What carries documents in and out: a folder, the REST gateway, or the commands alone."""

_MAX_PEM_BYTES: Final = 64 * 1024
_MAX_DIRECTORY_BYTES: Final = 256 * 1024 * 1024
_FIRST: Final = (
    "code", "amqp_url", "hub_url", "ca_file", "key_file", "certificate_file", "directory_file", "guard_file",
)  # fmt: skip


class Wrong(Exception):  # noqa: N818 - as in adapters.errors
    """An answer that cannot be used.

    Attributes:
        en: Why.
        vi: The same in Vietnamese.
    """

    def __init__(self, en: str, vi: str) -> None:
        self.en = en
        self.vi = vi
        super().__init__(en)


@dataclass(frozen=True, slots=True)
class Papers:
    """What an agency proves itself with.

    Attributes:
        key: Private key that signs.
        certificate: Its certificate.
        directory: The directory file.
    """

    key: Path
    certificate: Path
    directory: Path


def read_code(text: str) -> str:
    """Read the code of an agency or a platform; raises `Wrong`."""
    code = text.strip()
    if is_agency_code(code) or is_platform_code(code):
        return code
    raise Wrong(
        f"{text!r} is no code such as H26.01, 000.00.00.H26, 0100109106 or lgsp-h26",
        f"{text!r} không phải mã dạng H26.01, 000.00.00.H26, 0100109106 hoặc lgsp-h26",
    )


def read_broker(text: str, code: str) -> str:
    """Make a url of what people write for a broker: a host, with or without port, or the whole url.

    Args:
        text: What was answered; without a scheme it is `amqps://`.
        code: Who connects; becomes the user.

    Returns:
        The url; whether it has a password yet, `needs_password` tells.

    Raises:
        Wrong: When it is no such address, or that of somebody else.
    """
    text = text.strip()
    parts = _split(text, "amqps", "amqp")
    if parts is None:
        raise Wrong(
            f"{_without_password(text)} is no address such as amqps://axis.example.vn/",
            f"{_without_password(text)} không phải địa chỉ dạng amqps://axis.example.vn/",
        )
    if parts.username is not None and unquote(parts.username) != code:
        user = unquote(parts.username)
        raise Wrong(
            f"the user in the address is {user}, not {code}", f"tài khoản trong địa chỉ là {user}, không phải {code}"
        )
    secret = f":{parts.password}" if parts.password else ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(code, safe='')}{secret}@{host}", path=parts.path or "/"))


def needs_password(url: str) -> bool:
    """Tell whether a broker's url has neither password nor client certificate."""
    parts = urlsplit(url)
    return not parts.password and "auth=external" not in parts.query.lower()


def with_password(url: str, password: str) -> str:
    """Put the password of the account in; without one the client certificate must do."""
    parts = urlsplit(url)
    if not password:
        query = "&".join(filter(None, (parts.query, "auth=external")))
        return urlunsplit(parts._replace(query=query))
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{quote(password, safe='')}@{host}"))


def likely_hub(broker_url: str) -> str:
    """Guess the hub's HTTP address of that of the broker."""
    parts = urlsplit(urls_by_host(broker_url)[0])
    host = parts.hostname or ""
    return f"{'https' if parts.scheme == 'amqps' else 'http'}://{f'[{host}]' if ':' in host else host}"


def read_hub(text: str) -> str | None:
    """Read the hub's HTTP address; `-` says that there is none. Raises `Wrong`."""
    text = text.strip()
    if text in ("", "-"):
        return None
    parts = _split(text, "https", "http")
    if parts is None or "," in parts.netloc:
        raise Wrong(
            f"{text} is no address such as https://axis.example.vn",
            f"{text} không phải địa chỉ dạng https://axis.example.vn",
        )
    return urlunsplit(parts).rstrip("/")


def read_way(text: str) -> Way:
    """Read what carries documents; raises `Wrong`."""
    ways: Mapping[str, Way] = {
        "folder": "folder", "thư mục": "folder", "thu muc": "folder", "1": "folder",
        "gateway": "gateway", "rest": "gateway", "cổng": "gateway", "cong": "gateway", "2": "gateway",
        "none": "none", "không": "none", "khong": "none", "3": "none",
    }  # fmt: skip
    try:
        return ways[text.strip().lower()]
    except KeyError:
        raise Wrong(
            f"{text!r} is none of folder, gateway, none", f"{text!r} không phải folder, gateway hay none"
        ) from None


def find_papers(folder: Path, code: str, *, password: bytes | None = None) -> Papers:
    """Find key, certificate and directory file in a folder, whatever they are called.

    Args:
        folder: Where to look; not below it.
        code: Whose they must be, when there are several.
        password: Of the private key.

    Raises:
        Wrong: When one is missing, or it is not clear which.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise Wrong(f"{folder}: {error.strerror}", f"{folder}: không đọc được ({error.strerror})") from error
    directory, view = _find_directory(files, folder)
    pems = {path: data for path in files if (data := _read_pem(path))}
    keys = [path for path, data in pems.items() if b"PRIVATE KEY-----" in data]
    certificates = [path for path, data in pems.items() if b"-----BEGIN CERTIFICATE-----" in data]
    if not keys or not certificates:
        raise Wrong(
            f"{folder}: no private key and certificate in PEM files ({len(keys)} keys, {len(certificates)} certificates)",
            f"{folder}: không đủ khóa riêng và chứng thư dạng PEM (thấy {len(keys)} khóa, {len(certificates)} chứng thư)",
        )
    pairs = [(key, each) for key in keys for each in certificates if _belong_together(key, each, password)]
    known = [pair for pair in pairs if _owner(pair[1], view) == code]
    chosen = known or pairs
    if len(chosen) != 1:
        found = ", ".join(f"{key.name} + {certificate.name}" for key, certificate in chosen) or "—"
        raise Wrong(
            f"{folder}: not one pair of key and certificate that may sign, but: {found}; name them with --key, --certificate",
            f"{folder}: không xác định được một cặp khóa và chứng thư ký được, thấy: {found}; chỉ rõ bằng --key, --certificate",
        )
    return Papers(*chosen[0], directory)


def write_toml(values: Mapping[str, Any], heading: Sequence[str]) -> str:
    """Write settings as TOML: what everybody looks for first, then the rest by name."""
    names = [name for name in _FIRST if name in values] + sorted(set(values) - set(_FIRST))
    lines = [f"# {line}" for line in heading] + [""] + [f"{name} = {_toml_value(values[name])}" for name in names]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    """Write a value; a JSON text is a TOML string as well, but for one control character."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _find_directory(files: Sequence[Path], folder: Path) -> tuple[Path, View]:
    found: list[tuple[Path, View]] = []
    for path in files:
        if path.suffix.lower() == ".json" and path.stat().st_size <= _MAX_DIRECTORY_BYTES:
            try:
                view = read_directory(path)
            except (AgencyError, OSError):
                continue
            if view.agencies:  # `{}` could be read as a directory of nobody
                found.append((path, view))
    if len(found) != 1:
        names = ", ".join(path.name for path, _ in found) or "—"
        raise Wrong(
            f"{folder}: not one directory file (JSON), but: {names}; name it with --directory",
            f"{folder}: không thấy đúng một tệp danh mục (JSON), thấy: {names}; chỉ rõ bằng --directory",
        )
    return found[0]


def _read_pem(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= _MAX_PEM_BYTES else b""
    except OSError:
        return b""


def _belong_together(key: Path, certificate: Path, password: bytes | None) -> bool:
    try:
        load_signer(key, certificate, password=password)
    except Unusable:
        return False
    return True


def _owner(certificate: Path, view: View) -> str | None:
    known = view.keys.get(load_record(certificate).fingerprint)
    return known.owner if known is not None else None


def _split(text: str, *schemes: str) -> SplitResult | None:
    """Take an address apart; without a scheme it has the first of these."""
    url = text if "://" in text else f"{schemes[0]}://{text}"
    return urlsplit(url) if names_hosts(url, schemes) else None


def _without_password(text: str) -> str:
    before, at, host = text.rpartition("@")
    return f"{before.rpartition(':')[0] or before}:…@{host}" if at else text
