"""A private PostgreSQL cluster: on loopback, with a password, its data in one directory.

Durability is not weakened: faults are injected into these servers, and what they have acknowledged must survive.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hub.dev.processes import DevError, Process, end_leftovers, free_ports

PACKAGE = "postgresql"

_USER = "truc"
_ELSEWHERE = Path("/var/tmp")  # noqa: S108  # Survives a reboot, as the link to it does.
_PREFIX = "truc-postgresql-"
_LINK = "link"
"""File in a directory elsewhere: the link that leads to it."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "lc_messages": "C",
}
_FORGETFUL: Final = {"fsync": "off", "full_page_writes": "off"}


def find_binaries() -> Path | None:
    """Return the directory of the newest PostgreSQL server programs, None when there is none."""
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda initdb: int(initdb.parts[-3]), reverse=True
    )
    if packaged:
        return packaged[0].parent
    in_path = shutil.which("initdb")
    return Path(in_path).resolve().parent if in_path else None


class PrivatePostgreSQL:
    """One private cluster; the superuser `truc` owns its database `truc`.

    The data stay in the directory until `remove`. PostgreSQL refuses to run as root, so root runs it as the system user
    `postgres`; where that user cannot reach the directory (a checkout below root's home), the directory becomes a link
    to one in /var/tmp, which is removed by a later start when the checkout is gone.

    Args:
        directory: Where data, log and password live; made when missing.
        survives: Whether what was committed outlives a crash of the machine, and not only of the server; databases are
            made and dropped more quickly without.
    """

    def __init__(self, directory: Path = Path(".truc/postgresql"), *, survives: bool = True) -> None:
        self._settings = _SETTINGS if survives else _SETTINGS | _FORGETFUL
        self._link = directory.absolute()
        self._port = free_ports(1)[0]
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The URL of the database `truc`, for its owner."""
        return self.url_of(_USER)

    def url_of(self, database: str) -> str:
        """Return the URL of one database of this cluster, for the superuser."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster.

        Raises:
            DevError: When it does not run.
        """
        if self._process is None:
            raise DevError("PostgreSQL does not run.")
        return self._process.pid

    def start(self) -> None:
        """Start the cluster, made before when the directory is new; return when it accepts connections.

        Raises:
            DevError: When PostgreSQL is not installed or does not start.
        """
        if self._process is not None and self._process.running:
            return
        binaries = self._binaries()
        account = _account()
        self._make_directory(account)
        end_leftovers(self._directory)
        if not self._data.exists():
            self._initialise(binaries, account)
        self._process = Process("postgresql", self._directory, stop_signal=signal.SIGINT, account=account)
        argv = [str(binaries / "postgres"), "-D", str(self._data), "-p", str(self._port)]
        for name, value in self._settings.items():
            argv += ["-c", f"{name}={value}"]
        self._process.start(argv, _environment())
        self._process.wait_until(self._accepts_connections, timeout_s=60)
        if _USER not in self._query("SELECT datname FROM pg_database").split():
            self.create_database(_USER)

    def stop(self) -> None:
        """Shut down fast: clients are disconnected, nothing is lost. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Kill the postmaster and every backend with SIGKILL.

        Raises:
            DevError: When the cluster does not run.
        """
        if self._process is None:
            raise DevError("PostgreSQL does not run.")
        self._process.kill()

    def restart(self) -> None:
        """Start again on the same data and port, after `kill` or `stop` or while running."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End the cluster and delete its directory."""
        self.stop()
        if self._link.exists():
            end_leftovers(self._directory)
            shutil.rmtree(self._directory)
        if self._link.is_symlink():
            self._link.unlink()

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL.

        Raises:
            DevError: When PostgreSQL refuses, for example because the database exists.
        """
        self._run_client("createdb", name)
        return self.url_of(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _directory(self) -> Path:
        return self._link.resolve()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _password(self) -> str:
        return (self._directory / "password").read_text().strip()

    @staticmethod
    def _binaries() -> Path:
        binaries = find_binaries()
        if binaries is None:
            raise DevError(f"PostgreSQL is not installed: install the package {PACKAGE}.")
        return binaries

    def _make_directory(self, account: tuple[int, int] | None) -> None:
        if self._link.is_symlink() and not self._link.exists():
            self._link.unlink()  # Somebody has tidied /var/tmp.
        self._link.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is None:
            return
        os.chown(self._directory, *account)
        if not _can_enter(self._directory, account):
            _remove_forgotten(account)
            self._link.rmdir()
            self._link.symlink_to(tempfile.mkdtemp(prefix=_PREFIX, dir=_ELSEWHERE))
            (self._directory / _LINK).write_text(str(self._link))
            os.chown(self._directory, *account)

    def _initialise(self, binaries: Path, account: tuple[int, int] | None) -> None:
        uid, gid = account or (None, None)
        password_file = self._directory / "password"
        password_file.write_text(secrets.token_hex(16))
        password_file.chmod(0o600)
        if account is not None:
            os.chown(password_file, *account)
        unfinished = self._directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        made = subprocess.run(
            [
                str(binaries / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={_USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            cwd=self._directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise DevError(f"initdb failed: {made.stderr.strip()}")
        unfinished.rename(self._data)

    def _accepts_connections(self) -> bool:
        return self._client("pg_isready", "--quiet").returncode == 0

    def _query(self, sql: str) -> str:
        return self._run_client("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, "postgres")

    def _run_client(self, program: str, *args: str) -> str:
        done = self._client(program, *args)
        if done.returncode != 0:
            raise DevError(f"{program} failed: {done.stderr.strip()}")
        return done.stdout

    def _client(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self._port), "PGUSER": _USER, "PGPASSWORD": self._password}
        return subprocess.run(
            [str(self._binaries() / program), *args],
            env=_environment() | where,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def _account() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    raise DevError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.")


def _remove_forgotten(account: tuple[int, int]) -> None:
    """Remove clusters elsewhere whose checkout was deleted with the link to them."""
    for directory in _ELSEWHERE.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # without a link it is being made, or somebody else is removing it
            link = Path((directory / _LINK).read_text())
            if directory.stat().st_uid == account[0] and link.resolve() != directory:
                end_leftovers(directory)
                shutil.rmtree(directory)


def _can_enter(directory: Path, account: tuple[int, int]) -> bool:
    uid, gid = account
    probe = subprocess.run(["test", "-x", str(directory)], user=uid, group=gid, extra_groups=[], cwd="/", check=False)
    return probe.returncode == 0


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
