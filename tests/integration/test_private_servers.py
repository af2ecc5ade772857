"""The private servers of `hub.dev`: they keep what they have acknowledged, and they leave nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from hub.dev import postgresql as dev_postgresql
from hub.dev import processes
from hub.dev import rabbitmq as dev_rabbitmq
from hub.dev.cluster import cluster
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.processes import DevError, Process
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.dev.servers import Servers, clean, missing
from tests.services import Broker, run_sql, unavailable

_REPOSITORY = Path(__file__).parents[2]
_LOOPBACK = {"127.0.0.1", "::1"}
_QUEUE_IS_DURABLE_AFTER_S = 2
_GIVEN_BROKER = {"TRUC_AMQP_URL": "amqp://given/", "TRUC_AMQP_MANAGEMENT_URL": "http://given"}

type_and_kind = pytest.mark.parametrize(
    ("server_type", "find_binaries"),
    [
        pytest.param(PrivatePostgreSQL, dev_postgresql.find_binaries, id="postgresql"),
        pytest.param(PrivateRabbitMQ, dev_rabbitmq.find_binaries, id="rabbitmq"),
    ],
)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="truc-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def _installed(find_binaries):
    if find_binaries() is None:
        unavailable("not installed")


def processes_in(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(directory.resolve()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def listening_addresses(directory: Path) -> set[str]:
    """Return the addresses on which the processes of a directory listen."""
    found = set()
    for pid in processes_in(directory):
        with suppress(psutil.NoSuchProcess):  # A worker of PostgreSQL's that has ended meanwhile.
            sockets = psutil.Process(pid).net_connections("inet")
            found.update(socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN)
    return found


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def wait_until(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not so after {within_s} s"
        time.sleep(0.05)


def owner_of(server_type, directory: Path) -> subprocess.Popen:
    """Start a process that has started a server in the directory and now waits."""
    program = f"""
import time
from pathlib import Path
from {server_type.__module__} import {server_type.__name__}
server = {server_type.__name__}(Path({str(directory)!r}))
server.start()
print("ready", flush=True)
time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=_REPOSITORY, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    return owner


async def test_postgresql_keeps_data_and_address_when_killed_and_restarted(own_postgresql: PrivatePostgreSQL) -> None:
    url = own_postgresql.url
    await run_sql(url, "CREATE TABLE kept (word text)", "INSERT INTO kept VALUES ('committed')")

    own_postgresql.kill()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    own_postgresql.restart()

    assert own_postgresql.url == url
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT word FROM kept") == "committed"
    await connection.close()


async def test_postgresql_ends_busy_backends_when_killed(own_postgresql: PrivatePostgreSQL) -> None:
    connection = await asyncpg.connect(own_postgresql.url)
    backend = await connection.fetchval("SELECT pg_backend_pid()")

    own_postgresql.kill()

    wait_until(lambda: not Path(f"/proc/{backend}/cmdline").exists(), within_s=5)
    connection.terminate()


async def test_postgresql_keeps_its_durability(own_postgresql: PrivatePostgreSQL) -> None:
    connection = await asyncpg.connect(own_postgresql.url)
    settings = [
        await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "server_encoding")
    ]
    await connection.close()
    assert settings == ["on", "on", "UTF8"]


async def test_postgresql_refuses_a_wrong_password(own_postgresql: PrivatePostgreSQL) -> None:
    user, _, rest = own_postgresql.url.rpartition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"{user}x@{rest}")


async def test_postgresql_creates_databases(own_postgresql: PrivatePostgreSQL) -> None:
    await run_sql(own_postgresql.create_database("another"), "CREATE TABLE mine ()")
    with pytest.raises(DevError, match="already exists"):
        own_postgresql.create_database("another")


def test_rabbitmq_keeps_messages_and_address_when_killed_and_restarted(own_rabbitmq: PrivateRabbitMQ) -> None:
    urls = own_rabbitmq.amqp_url, own_rabbitmq.management_url
    broker = Broker(*urls)
    broker.manage("PUT", "/queues/%2F/kept", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    message = {"properties": {"delivery_mode": 2}, "routing_key": "kept", "payload": "m", "payload_encoding": "string"}
    # RabbitMQ writes the name of a new quorum queue to disk only every half second. One that is killed before has a queue
    # without a leader afterwards, and has lost what it had confirmed.
    time.sleep(_QUEUE_IS_DURABLE_AFTER_S)
    assert broker.manage("POST", "/exchanges/%2F/amq.default/publish", message) == {"routed": True}

    own_rabbitmq.kill()
    with pytest.raises(DevError, match="does not run"):
        own_rabbitmq.ctl("list_queues")
    own_rabbitmq.restart()

    assert (own_rabbitmq.amqp_url, own_rabbitmq.management_url) == urls
    wanted = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
    assert [got["payload"] for got in broker.manage("POST", "/queues/%2F/kept/get", wanted)] == ["m"]


def test_rabbitmq_obeys_its_command_line_tool(own_rabbitmq: PrivateRabbitMQ) -> None:
    own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    broker = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    wait_until(lambda: broker.manage("GET", "/nodes")[0].get("mem_alarm", False), within_s=20)
    with pytest.raises(DevError, match="no_such_command"):
        own_rabbitmq.ctl("no_such_command")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_root_keeps_postgresql_elsewhere_where_its_user_may_not_enter(directory: Path) -> None:
    if dev_postgresql.find_binaries() is None:
        unavailable("not installed")
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    server = PrivatePostgreSQL(closed / "server")
    with server:
        elsewhere = (closed / "server").resolve()
    with server:
        assert (closed / "server").resolve() == elsewhere
    shutil.rmtree(elsewhere)
    with server:
        another = (closed / "server").resolve()
    server.remove()
    assert not another.exists()
    assert names_in(closed) == []


@type_and_kind
@pytest.mark.usefixtures("_installed")
def test_listens_on_loopback_only_and_leaves_nothing_running_when_stopped(server_type, directory: Path) -> None:
    server = server_type(directory / "server")
    with server:
        addresses = listening_addresses(directory)
    left = processes_in(directory)
    server.remove()
    assert addresses
    assert addresses <= _LOOPBACK
    assert left == []
    assert names_in(directory) == []


@type_and_kind
@pytest.mark.usefixtures("_installed")
def test_ends_when_its_owner_is_killed(server_type, directory: Path) -> None:
    owner = owner_of(server_type, directory / "server")
    assert processes_in(directory)
    owner.kill()
    owner.communicate()
    wait_until(lambda: not processes_in(directory), within_s=30)


@type_and_kind
@pytest.mark.usefixtures("_installed")
def test_ends_what_a_crashed_run_has_left_before_it_starts(server_type, directory: Path) -> None:
    owner = owner_of(server_type, directory / "server")
    for pid_file in (directory / "server").glob("*.pid"):
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGSTOP)  # A guard that cannot do its work.
    owner.kill()
    owner.communicate()
    left = set(processes_in(directory))
    assert left

    server = server_type(directory / "server")
    server.start()
    assert left.isdisjoint(processes_in(directory))
    server.remove()
    assert processes_in(directory) == []


@type_and_kind
@pytest.mark.usefixtures("_installed")
def test_works_for_an_ordinary_user(server_type, directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests have shown it: they run as an ordinary user")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("no Python that every user may run")
    shutil.copytree(_REPOSITORY / "hub" / "dev", directory / "hub" / "dev")
    (directory / "hub" / "__init__.py").touch()
    home = directory / "home"
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    program = f"""
from pathlib import Path
from {server_type.__module__} import {server_type.__name__}
server = {server_type.__name__}(Path("server"))
server.start()
print(Path(f"/proc/{{server.pid}}").stat().st_uid)
server.remove()
"""
    done = subprocess.run(
        [python, "-c", program],
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd=home,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == Path(home).stat().st_uid


def test_refuses_a_start_that_fails_with_the_end_of_the_log(own_postgresql: PrivatePostgreSQL) -> None:
    own_postgresql.stop()
    (own_postgresql._data / "PG_VERSION").write_text("1\n")
    with pytest.raises(DevError, match="incompatible"):
        own_postgresql.start()


def test_a_cluster_of_which_one_node_does_not_start_leaves_nothing_running(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dev_rabbitmq.find_binaries() is None:
        unavailable("not installed")
    started = PrivateRabbitMQ.start

    def start(node: PrivateRabbitMQ) -> None:
        if node.name.startswith("truc2"):
            raise DevError("no second node")
        started(node)

    monkeypatch.setattr(PrivateRabbitMQ, "start", start)
    with pytest.raises(DevError, match="no second node"), cluster(directory, 2):
        pass
    assert processes_in(directory) == []
    assert names_in(directory) == []


def test_given_servers_are_used_and_nothing_is_started(directory: Path) -> None:
    given = _GIVEN_BROKER | {"TRUC_DATABASE_URL": "postgresql://given/db"}
    with Servers(base_dir=directory, environment=given) as servers:
        urls = [servers.amqp_url, servers.management_url, servers.database_url]
    assert urls == ["amqp://given/", "http://given", "postgresql://given/db"]
    assert missing(given) == []
    assert names_in(directory) == []


def test_a_given_broker_needs_its_management_url(directory: Path) -> None:
    with (
        pytest.raises(DevError, match="TRUC_AMQP_MANAGEMENT_URL must be set"),
        Servers(base_dir=directory, environment={"TRUC_AMQP_URL": "amqp://given/"}),
    ):
        pass


def test_servers_of_one_run_are_removed_with_their_directory(directory: Path) -> None:
    if missing({}):
        unavailable("needs both servers")
    with Servers(purpose="demo", base_dir=directory, environment={}) as servers:
        running = processes_in(directory / f"demo-{os.getpid()}" / "rabbitmq")
        assert Broker(servers.amqp_url, servers.management_url).manage("GET", "/whoami")["tags"] == ["administrator"]
        assert servers.database_url.startswith("postgresql://truc:")
    assert running
    assert processes_in(directory) == []
    assert names_in(directory) == ["lock"]


async def test_kept_servers_are_for_one_process_at_a_time_and_keep_their_data(directory: Path) -> None:
    if missing(_GIVEN_BROKER):
        unavailable("needs PostgreSQL")
    with Servers(base_dir=directory, environment=_GIVEN_BROKER) as servers:
        await run_sql(servers.database_url, "CREATE TABLE kept ()")
        with (
            pytest.raises(DevError, match="in use by another process"),
            Servers(base_dir=directory, environment=_GIVEN_BROKER),
        ):
            pass
        with pytest.raises(DevError, match="In use"):
            clean(directory)
    with Servers(base_dir=directory, environment=_GIVEN_BROKER) as servers:
        await run_sql(servers.database_url, "DROP TABLE kept")
    clean(directory)
    assert names_in(directory) == ["lock"]


@pytest.mark.parametrize("moment", ["forking", "waiting"])
def test_a_start_that_is_interrupted_leaves_no_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    forked: list[int] = []

    def popen(*args: object, **options: object) -> subprocess.Popen[bytes]:
        process = real(*args, **options)
        forked.append(process.pid)
        if moment == "forking":
            signal.raise_signal(signal.SIGINT)
        return process

    def interrupted(*_: object, **__: object) -> None:
        wait_until((directory / "sleeper.pid").exists, within_s=10)
        signal.raise_signal(signal.SIGINT)

    real = subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    if moment == "waiting":
        monkeypatch.setattr(Process, "wait_until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Process("sleeper", directory).start(["sleep", "600"], os.environ)
    assert len(forked) == 1
    assert processes_in(directory) == []


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_remains_of_servers_whose_process_is_ended(way: signal.Signals, directory: Path) -> None:
    if missing(_GIVEN_BROKER):
        unavailable("needs PostgreSQL")
    program = f"""
import time
from pathlib import Path
from hub.dev.servers import Servers
with Servers(purpose="demo", base_dir=Path({str(directory)!r}), environment={json.dumps(_GIVEN_BROKER)}):
    print("ready", flush=True)
    time.sleep(600)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=_REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"

    owner.send_signal(way)
    owner.communicate()

    wait_until(lambda: not processes_in(directory), within_s=30)
    if way is signal.SIGKILL:
        clean(directory)  # As the next run does: nobody was left to remove the directory.
    assert names_in(directory) == ["lock"]
