"""The broker and the database that a command works with: those given by URL, or private ones.

    with Servers(purpose="demo") as servers:
        run(servers.amqp_url, servers.database_url)

* `TRUC_AMQP_URL`, `TRUC_AMQP_MANAGEMENT_URL` and `TRUC_DATABASE_URL` name given servers; what they name is not started.
* Private servers live below the base directory: `run/` keeps its data from one `make run` to the next, any other
  purpose has `<purpose>-<process id>/`, which is removed at the end.
* A locked file in each of these directories says that its owner lives. Directories without one are what a crashed run
  has left, and the next run removes them.
"""

import fcntl
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, NoReturn, Self

from hub.dev import postgresql, rabbitmq
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.processes import DevError
from hub.dev.rabbitmq import PrivateRabbitMQ

BASE_DIR = Path(".truc")
KEPT_PURPOSE = "run"

_AMQP = "TRUC_AMQP_URL"
_MANAGEMENT = "TRUC_AMQP_MANAGEMENT_URL"
_DATABASE = "TRUC_DATABASE_URL"
_TICK_S = 5
_TICK_OF_MANY_QUEUES_S = 60
_OF_ONE_RUN = re.compile(r"[a-z]+-\d+")


def missing(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the Debian packages that private servers would need and this machine lacks."""
    lacking = []
    if _AMQP not in environment and rabbitmq.find_binaries() is None:
        lacking.append(rabbitmq.PACKAGE)
    if _DATABASE not in environment and postgresql.find_binaries() is None:
        lacking.append(postgresql.PACKAGE)
    return lacking


class Servers:
    """The broker and the database of one command, started if need be and ended with it.

    Args:
        purpose: `run` keeps its data; any other word is for one run only.
        base_dir: Where private servers live.
        environment: Where the URLs of given servers are looked up.
    """

    def __init__(
        self,
        *,
        purpose: str = KEPT_PURPOSE,
        base_dir: Path = BASE_DIR,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._purpose = purpose
        self._base_dir = base_dir
        self._environment = environment
        self._ending = ExitStack()
        self._rabbitmq: PrivateRabbitMQ | None = None
        self._postgresql: PrivatePostgreSQL | None = None

    @property
    def amqp_url(self) -> str:
        """The URL of the broker's vhost."""
        return self._environment[_AMQP] if self._rabbitmq is None else self._rabbitmq.amqp_url

    @property
    def management_url(self) -> str:
        """The root of the broker's management API, with user and password."""
        return self._environment[_MANAGEMENT] if self._rabbitmq is None else self._rabbitmq.management_url

    @property
    def database_url(self) -> str:
        """The URL of the database, for its owner."""
        return self._environment[_DATABASE] if self._postgresql is None else self._postgresql.url

    def __enter__(self) -> Self:
        """Start what is not given, both at the same time.

        Raises:
            DevError: When a server is not installed, does not start, or another `run` is using the directory.
        """
        if _AMQP in self._environment and _MANAGEMENT not in self._environment:
            raise DevError(f"{_AMQP} is set, so {_MANAGEMENT} must be set as well.")
        wants_rabbitmq, wants_postgresql = _AMQP not in self._environment, _DATABASE not in self._environment
        if not wants_rabbitmq and not wants_postgresql:
            return self
        if lacking := missing(self._environment):
            raise DevError(f"Not installed: {', '.join(lacking)}.")
        with ExitStack() as ending:
            ending.enter_context(_exit_on_sigterm())
            directory = ending.enter_context(run_directory(self._purpose, base_dir=self._base_dir))
            servers: list[PrivateRabbitMQ | PrivatePostgreSQL] = []
            if wants_rabbitmq:
                tick_s = _TICK_OF_MANY_QUEUES_S if self._purpose == "bench" else _TICK_S
                self._rabbitmq = PrivateRabbitMQ(directory / "rabbitmq", tick_s=tick_s)
                servers.append(self._rabbitmq)
            if wants_postgresql:
                self._postgresql = PrivatePostgreSQL(directory / "postgresql")
                servers.append(self._postgresql)
            end = [server.stop if self._purpose == KEPT_PURPOSE else server.remove for server in servers]
            ending.callback(_all_at_once, end)
            _start_together(servers)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()


@contextmanager
def run_directory(purpose: str, *, base_dir: Path = BASE_DIR) -> Iterator[Path]:
    """Hold a directory for the private servers of one run; remove what crashed runs have left.

    Args:
        purpose: `run` for the one directory that is kept, any other word for one that is removed at the end.
        base_dir: Where it is made.

    Raises:
        DevError: When another process holds the directory that is kept, or it belongs to another user.
    """
    keep = purpose == KEPT_PURPOSE
    directory = base_dir.absolute() / (purpose if keep else f"{purpose}-{os.getpid()}")
    try:
        base_dir.mkdir(parents=True, exist_ok=True)
        with _lock(base_dir / "lock", wait=True):  # One at a time, or a sweep would take a directory being made.
            _sweep(base_dir)
            directory.mkdir(exist_ok=True)
            lock = _lock(directory / "lock", wait=False)
    except BlockingIOError as error:
        raise DevError(f"The servers in {directory} are in use by another process: stop that one first.") from error
    except PermissionError as error:
        raise DevError(f"{error.filename} belongs to another user: remove it, or work as that user.") from error
    with lock:
        try:
            yield directory
        finally:
            if not keep:
                with _lock(base_dir / "lock", wait=True):
                    shutil.rmtree(directory)


def clean(base_dir: Path = BASE_DIR) -> None:
    """Remove the data of all private servers, those of `run` included.

    Raises:
        DevError: When some are in use, or belong to another user.
    """
    if not base_dir.exists():
        return
    with _lock(base_dir / "lock", wait=True):
        if kept := _sweep(base_dir, kept_too=True):
            names = ", ".join(str(directory) for directory in kept)
            raise DevError(f"In use, or of another user: {names}.")


def _sweep(base_dir: Path, *, kept_too: bool = False) -> list[Path]:
    """Remove what nobody holds and return what had to stay."""
    stays = []
    for directory in base_dir.iterdir():
        if _OF_ONE_RUN.fullmatch(directory.name) or (kept_too and directory.name == KEPT_PURPOSE):
            try:
                with _lock(directory / "lock", wait=False):
                    PrivateRabbitMQ(directory / "rabbitmq").remove()
                    PrivatePostgreSQL(directory / "postgresql").remove()
                    shutil.rmtree(directory)
            except (BlockingIOError, PermissionError):
                stays.append(directory)
    return stays


def _lock(path: Path, *, wait: bool) -> IO[str]:
    """Return a file that stays locked until it is closed or its process ends."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file


def _start_together(servers: list[PrivateRabbitMQ | PrivatePostgreSQL]) -> None:
    with ThreadPoolExecutor() as pool:
        starting = [pool.submit(server.start) for server in servers]
        try:
            for start in starting:
                start.result()
        except BaseException:
            for server in servers:
                with suppress(DevError):
                    server.kill()  # Or the other thread would wait until its server is ready.
            raise


def _all_at_once(actions: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(action) for action in actions]:
            done.result()


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, as Python does with SIGINT, unless somebody already handles it."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
