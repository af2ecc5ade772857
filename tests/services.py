"""RabbitMQ and PostgreSQL for tests: given by URL, else started here, else in a container.

`TRUC_AMQP_URL` with `TRUC_AMQP_MANAGEMENT_URL`, and `TRUC_DATABASE_URL` (an owner who may create databases), name given
servers. A test whose service is nowhere to be had is skipped with the reason, and fails in CI.
"""

import base64
import json
import os
import secrets
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

from hub.dev import postgresql, rabbitmq
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.rabbitmq import PrivateRabbitMQ

RABBITMQ_IMAGE = "rabbitmq:4-management"
POSTGRESQL_IMAGE = "postgres:17"

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 6 * 1024**3


@dataclass(frozen=True, slots=True)
class Broker:
    """One vhost of a broker, and the administrator's way into it."""

    amqp_url: str
    management_url: str
    vhost: str = "/"

    def manage(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API (`path` begins after `/api`) and return its answer; HTTP errors are raised."""
        url = urlsplit(self.management_url)
        credentials = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        request = urllib.request.Request(
            f"{url.scheme}://{url.hostname}:{url.port}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    @contextmanager
    def fresh_vhost(self) -> Iterator["Broker"]:
        vhost = f"test-{secrets.token_hex(6)}"
        user = urlsplit(self.management_url).username
        users = self._users()
        self.manage("PUT", f"/vhosts/{vhost}")
        try:
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            self.manage("PUT", f"/permissions/{vhost}/{user}", everything)
            yield Broker(with_path(self.amqp_url, vhost), self.management_url, vhost)
        finally:
            self.manage("DELETE", f"/vhosts/{vhost}")
            for made in self._users() - users:  # users belong to the whole broker
                self.manage("DELETE", f"/users/{quote(made, safe='')}")

    def has_alarm(self) -> bool:
        """Tell whether a memory or disk alarm is on."""
        try:
            self.manage("GET", "/health/checks/local-alarms")
        except urllib.error.HTTPError:
            return True
        return False

    def make_empty(self) -> None:
        """Bring a whole broker back to how it was born."""
        vhost, user = quote(self.vhost, safe=""), urlsplit(self.management_url).username
        self.manage("DELETE", f"/vhosts/{vhost}")
        self.manage("PUT", f"/vhosts/{vhost}")
        self.manage("PUT", f"/permissions/{vhost}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        for made in self._users() - {user}:
            self.manage("DELETE", f"/users/{quote(made, safe='')}")

    def _users(self) -> set[str]:
        return {item["name"] for item in self.manage("GET", "/users")}


@contextmanager
def some_rabbitmq(directory: Path) -> Iterator[Broker]:
    if amqp_url := os.environ.get("TRUC_AMQP_URL"):
        yield Broker(amqp_url, os.environ["TRUC_AMQP_MANAGEMENT_URL"])
    elif rabbitmq.find_binaries():
        server = PrivateRabbitMQ(directory)
        try:
            server.start()
            yield Broker(server.amqp_url, server.management_url)
        finally:
            server.remove()
    elif docker_answers():
        with _rabbitmq_container() as broker:
            yield broker
    else:
        unavailable(
            f"no RabbitMQ: TRUC_AMQP_URL is not set, {rabbitmq.PACKAGE} not installed, no Docker engine answers"
        )


@contextmanager
def some_postgresql(directory: Path) -> Iterator[str]:
    """Yield the URL of a superuser."""
    if url := os.environ.get("TRUC_DATABASE_URL"):
        yield url
    elif postgresql.find_binaries():
        server = PrivatePostgreSQL(directory, survives=False)  # a test that kills one has its own
        try:
            server.start()
            yield server.url
        finally:
            server.remove()
    elif docker_answers():
        with _postgresql_container() as url:
            yield url
    else:
        unavailable(
            f"no PostgreSQL: TRUC_DATABASE_URL is not set, {postgresql.PACKAGE} not installed, no Docker engine answers"
        )


def scratch(checkout: Path) -> Path:
    """Say where the tests' shared PostgreSQL keeps its data: in memory where there is room, else in the checkout.

    A database is five hundred files, which a disk makes in half a second and memory in a twentieth.
    """
    if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES:
        return _MEMORY / f"truc-tests-{os.getuid()}"
    return checkout / ".truc"


def unavailable(reason: str) -> NoReturn:
    """Skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def docker_answers() -> bool:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        return True  # Somebody has set it on purpose.
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(host.removeprefix("unix://")) == 0


def with_path(url: str, name: str) -> str:
    """Return a URL for another vhost or database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


async def run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def ask_sql(url: str, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


@contextmanager
def _rabbitmq_container() -> Iterator[Broker]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = (
        DockerContainer(RABBITMQ_IMAGE)
        .with_envs(RABBITMQ_DEFAULT_USER="truc", RABBITMQ_DEFAULT_PASS="truc")
        .with_exposed_ports(5672, 15672)
        .waiting_for(LogMessageWaitStrategy("Server startup complete"))
    )
    with container:
        host = container.get_container_host_ip()
        yield Broker(
            f"amqp://truc:truc@{host}:{container.get_exposed_port(5672)}/",
            f"http://truc:truc@{host}:{container.get_exposed_port(15672)}",
        )


@contextmanager
def _postgresql_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = (
        DockerContainer(POSTGRESQL_IMAGE)
        .with_envs(POSTGRES_USER="truc", POSTGRES_PASSWORD="truc", POSTGRES_DB="truc")
        .with_exposed_ports(5432)
        # The image starts the server once to set it up, and says so a second time when it is there to stay.
        .waiting_for(LogMessageWaitStrategy("database system is ready to accept connections", times=2))
    )
    with container:
        yield f"postgresql://truc:truc@{container.get_container_host_ip()}:{container.get_exposed_port(5432)}/truc"
