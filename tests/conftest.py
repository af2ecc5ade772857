"""Fixtures that every folder of tests may use."""

import gc
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from hub.dev import postgresql as dev_postgresql
from hub.dev import rabbitmq as dev_rabbitmq
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.dev.servers import run_directory
from hub.installation import Installation, install
from tests.agencies import COUNTRY, Agencies
from tests.builders import NOW
from tests.hub_process import HubProcess, free_port
from tests.services import Broker, run_sql, scratch, some_postgresql, some_rabbitmq, unavailable, with_path


def pytest_configure() -> None:
    """Let programs that the tests start be interrupted, also where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collector what all tests share: it is asked after each test, and half a million objects take it long."""
    gc.collect()
    gc.freeze()


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture(autouse=True)
def asyncio_errors(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Fail a test in which a task was forgotten with its exception; pytest's own filters do not see that.

    A test that provokes such an error on purpose clears the list.
    """
    records = _Records()
    logger = logging.getLogger("asyncio")
    logger.addHandler(records)
    yield records.messages
    if request.node.get_closest_marker("asyncio"):
        gc.collect()  # A forgotten task complains when it is collected.
    logger.removeHandler(records)
    if records.messages:
        pytest.fail("asyncio logged an error:\n" + "\n".join(records.messages), pytrace=False)


@pytest.fixture(scope="session")
def private_directory(pytestconfig: pytest.Config) -> Iterator[Path]:
    with run_directory("test", base_dir=pytestconfig.rootpath / ".truc") as directory:
        yield directory


@pytest.fixture(scope="session")
def scratch_directory(pytestconfig: pytest.Config) -> Iterator[Path]:
    with run_directory("scratch", base_dir=scratch(pytestconfig.rootpath)) as directory:
        yield directory


@pytest.fixture(scope="session")
def rabbitmq(private_directory: Path) -> Iterator[Broker]:
    """The broker that all tests share; `vhost` is a part of it for one test."""
    with some_rabbitmq(private_directory / "rabbitmq") as broker:
        yield broker


@pytest.fixture
def vhost(rabbitmq: Broker) -> Iterator[Broker]:
    with rabbitmq.fresh_vhost() as broker:
        yield broker


@pytest.fixture(scope="session")
def postgresql(scratch_directory: Path) -> Iterator[str]:
    """The superuser's URL of the cluster that all tests share; `database_url` is a database in it for one test."""
    with some_postgresql(scratch_directory / "postgresql") as url:
        yield url


@pytest.fixture(scope="session")
async def database_template(postgresql: str) -> AsyncIterator[str]:
    """The name of a database with all tables and no rows."""
    from hub.store.migrations.runner import upgrade

    name = f"truc_template_{secrets.token_hex(6)}"
    await run_sql(postgresql, f"CREATE DATABASE {name}")
    try:
        await upgrade(with_path(postgresql, name))
        # Most tests play at `NOW`, whatever the date is.
        await run_sql(with_path(postgresql, name), f"SELECT make_months('{NOW + timedelta(days=90)}')")
        yield name
    finally:
        await run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgresql: str, database_template: str) -> AsyncIterator[str]:
    """The owner's URL of a database with all tables and no rows, for one test."""
    name = f"truc_test_{secrets.token_hex(6)}"
    await run_sql(postgresql, f"CREATE DATABASE {name} TEMPLATE {database_template}")
    yield with_path(postgresql, name)
    await run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def mortal_rabbitmq(private_directory: Path) -> Iterator[PrivateRabbitMQ]:
    """Takes about seven seconds to start, so one is enough; it is started by those who need it."""
    if dev_rabbitmq.find_binaries() is None:
        unavailable(f"a broker to be killed needs the package {dev_rabbitmq.PACKAGE}")
    server = PrivateRabbitMQ(private_directory / f"own-rabbitmq-{secrets.token_hex(4)}")
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_rabbitmq(mortal_rabbitmq: PrivateRabbitMQ) -> Iterator[PrivateRabbitMQ]:
    """A broker that the test may kill, fill and restart; empty, whatever the test before has done to it."""
    mortal_rabbitmq.start()
    yield mortal_rabbitmq
    mortal_rabbitmq.start()
    broker = Broker(mortal_rabbitmq.amqp_url, mortal_rabbitmq.management_url)
    if broker.has_alarm():
        mortal_rabbitmq.ctl("set_vm_memory_high_watermark", "0.6")
    broker.make_empty()


@pytest.fixture
def own_postgresql(private_directory: Path) -> Iterator[PrivatePostgreSQL]:
    """A cluster that the test may kill and restart. Takes about a second to start."""
    if dev_postgresql.find_binaries() is None:
        unavailable(f"a database to be killed needs the package {dev_postgresql.PACKAGE}")
    server = PrivatePostgreSQL(private_directory / f"own-postgresql-{secrets.token_hex(4)}")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def installation(vhost: Broker, database_url: str, tmp_path: Path) -> Installation:
    """A small hub set up on the real broker and database, ready to run."""
    return await install(
        amqp_url=vhost.amqp_url,
        management_url=vhost.management_url,
        database_url=database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=tmp_path / "installation",
        country=COUNTRY,
    )


@pytest.fixture
async def hub(installation: Installation, tmp_path: Path) -> AsyncIterator[HubProcess]:
    """The whole hub as one process, ready."""
    process = HubProcess(
        installation, tmp_path / "hub.log", at_hub_url=True, receipt_deadline_s=5, retry_delay_s=0.5
    ).start()
    try:
        yield await process.ready()
    finally:
        process.end()


@pytest.fixture
async def agencies(installation: Installation, tmp_path: Path) -> AsyncIterator[Agencies]:
    """All agencies of the installation, connected and listening."""
    async with Agencies(installation, tmp_path) as connected:
        yield connected
