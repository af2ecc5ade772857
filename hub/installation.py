"""A whole hub set up from nothing: tables, directory, keys, broker. For the demo, development, tests and benchmarks.

Each step is the one that an operator does by hand with `truc db`, `truc directory` and `truc broker`; running them
again over what stands already changes nothing.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hub.broker.management import Management
from hub.broker.topology import Step, User, desired, plan
from hub.core.directory_change import diff
from hub.dev.country import demo_country
from hub.dev.pki import certificate_file, equip, key_file
from hub.dev.servers import Servers
from hub.store.directory import DirectoryStore
from hub.store.migrations.runner import upgrade
from hub.store.pool import open_pool
from schemas.checks.directory import Directory, endpoints_of, snapshot
from schemas.directory_file import DirectoryFile
from schemas.identifiers import HUB, AgencyCode


@dataclass(frozen=True, slots=True)
class Account:
    """How an agency or a platform connects: everything that its adapter is given.

    Attributes:
        code: Its code, which is also its broker user.
        amqp_url: The broker with user and password.
        hub_url: The hub's HTTP API.
        key_file: Its private key (PEM).
        certificate_file: Its certificate (PEM).
    """

    code: AgencyCode
    amqp_url: str
    hub_url: str
    key_file: Path
    certificate_file: Path


@dataclass(frozen=True, slots=True)
class Installation:
    """A hub that is ready to run.

    Attributes:
        settings: What `hub.settings.Settings` must be given.
        directory: The directory at the moment of the installation.
        directory_file: The same as a file, as agencies get it.
        accounts: How each endpoint connects.
        environment_file: Shell assignments for `truc` in other terminals. Beside it, `agencies/` has the settings of
            `truc-agency` for each endpoint.
    """

    settings: Mapping[str, str]
    directory: Directory
    directory_file: Path
    accounts: Mapping[AgencyCode, Account]
    environment_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {f"TRUC_{key.upper()}": value for key, value in self.settings.items()}


async def install(
    *, amqp_url: str, management_url: str, database_url: str, hub_url: str, folder: Path, country: DirectoryFile
) -> Installation:
    """Set a hub up on a broker and a database.

    Args:
        amqp_url: The broker's vhost, as its administrator.
        management_url: Root of its management API.
        database_url: The database, as its owner.
        hub_url: Where the hub's HTTP API is going to be; agencies are told.
        folder: Where keys, passwords, parts and the directory file are kept; what is there is used again.
        country: Who the agencies are; they and the hub are given certificates.
    """
    now = datetime.now(UTC)
    file = _equipped(folder, country, now)
    directory = snapshot(file, epoch=0, as_of=now)
    await upgrade(database_url)
    await _load(database_url, file, now)
    passwords = _passwords(folder, directory)
    await _apply(amqp_url, management_url, directory, passwords)
    keys = (folder / "keys").absolute()
    settings = {
        "amqp_url": amqp_url,
        "amqp_management_url": management_url,
        "database_url": database_url,
        "blobs_url": (folder / "blobs").absolute().as_uri(),
        "hub_key_file": str(key_file(keys, HUB)),
        "hub_certificate_file": str(certificate_file(keys, HUB)),
    }
    installation = Installation(
        settings=settings,
        directory=directory,
        directory_file=folder / "directory.json",
        accounts={
            code: Account(
                code, _with_user(amqp_url, code, password), hub_url, key_file(keys, code), certificate_file(keys, code)
            )
            for code, password in passwords.items()
        },
        environment_file=folder / "environment",
    )
    lines = [f"{name}='{value}'\n" for name, value in installation.environment.items()]
    _write_secret(installation.environment_file, "".join(lines))
    _write_agencies(folder / "agencies", installation)
    return installation


async def install_demo(servers: Servers, folder: Path, hub_url: str) -> Installation:
    """Set the small demo country up on the given servers, for a hub whose HTTP API is going to be at `hub_url`."""
    return await install(
        amqp_url=servers.amqp_url,
        management_url=servers.management_url,
        database_url=servers.database_url,
        hub_url=hub_url,
        folder=folder,
        country=demo_country(),
    )


def _equipped(folder: Path, country: DirectoryFile, now: datetime) -> DirectoryFile:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "directory.json"
    if path.exists():
        return DirectoryFile.model_validate_json(path.read_bytes())
    owners = [HUB, *endpoints_of(snapshot(country, epoch=0, as_of=now))]
    file = equip(country, owners, folder / "keys", now)
    path.write_bytes(file.to_json())
    return file


async def _load(database_url: str, file: DirectoryFile, now: datetime) -> None:
    async with open_pool(database_url) as pool:
        store = DirectoryStore(pool)
        _, held = await store.read()
        changes = diff(held, file)
        if changes:
            await store.apply(changes, actor="installation", source="generated", now=now)


async def _apply(amqp_url: str, management_url: str, directory: Directory, passwords: Mapping[AgencyCode, str]) -> None:
    async with Management(management_url, vhost=_vhost(amqp_url)) as management:
        wanted = desired(directory)
        steps = [step for step in plan(wanted, await management.topology()) if not isinstance(step.item, User)]
        # Users anew each time: the broker may know them with a password from another installation.
        await management.apply(
            [*steps, *map(Step, wanted.users)], passwords={str(code): password for code, password in passwords.items()}
        )


def _passwords(folder: Path, directory: Directory) -> dict[AgencyCode, str]:
    path = folder / "passwords.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    passwords = {code: known.get(code) or secrets.token_urlsafe(18) for code in endpoints_of(directory)}
    _write_secret(path, json.dumps(passwords, indent=1))
    return passwords


def _write_agencies(folder: Path, installation: Installation) -> None:
    folder.mkdir(exist_ok=True)
    for code, account in installation.accounts.items():
        settings = {
            "amqp_url": account.amqp_url,
            "hub_url": account.hub_url,
            "code": code,
            "key_file": str(account.key_file),
            "certificate_file": str(account.certificate_file),
            "directory_file": str(installation.directory_file.absolute()),
            "guard_file": str((folder / f"{code}.guard").absolute()),
        }
        # A JSON text is a TOML string as well.
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items()]
        _write_secret(folder / f"{code}.toml", "".join(lines))


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _with_user(amqp_url: str, user: str, password: str) -> str:
    parts = urlsplit(amqp_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def _vhost(amqp_url: str) -> str:
    return unquote(urlsplit(amqp_url).path[1:]) or "/"
