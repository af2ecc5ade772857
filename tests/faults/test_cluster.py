"""Three RabbitMQ nodes behind one address: one dies, then a second, under traffic."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hub.dev import rabbitmq as dev_rabbitmq
from hub.dev.cluster import cluster
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation, install
from tests.agencies import COUNTRY, Agencies
from tests.faults.conftest import QUEUES_ARE_DURABLE_AFTER_S, Traffic, audit
from tests.faults.proxy import Proxy
from tests.hub_process import HubProcess, eventually, free_port
from tests.services import unavailable

SETTINGS = {"receipt_deadline_s": 8, "retry_delay_s": 0.5, "confirm_timeout_s": 4}


@pytest.fixture
def nodes(private_directory: Path) -> Iterator[list[PrivateRabbitMQ]]:
    if dev_rabbitmq.find_binaries() is None:
        unavailable(f"a cluster needs the package {dev_rabbitmq.PACKAGE}")
    with cluster(private_directory / "cluster") as started:
        yield started


@pytest.fixture
async def behind_one_address(
    nodes: list[PrivateRabbitMQ], database_url: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    """An installation whose agencies and hub know one address, as of a load balancer; it leads to the first that lives."""
    first, *others = nodes
    async with Proxy(first.amqp_url, *(node.amqp_url for node in others)) as proxy:
        made = await install(
            amqp_url=proxy.url,
            management_url=first.management_url,
            database_url=database_url,
            hub_url=f"http://127.0.0.1:{free_port()}",
            folder=tmp_path / "installation",
            country=COUNTRY,
        )
        await asyncio.sleep(QUEUES_ARE_DURABLE_AFTER_S)
        yield made


async def test_one_node_dies_and_all_goes_on_and_without_a_majority_all_waits(
    nodes: list[PrivateRabbitMQ], behind_one_address: Installation, tmp_path: Path
) -> None:
    first, second, _ = nodes
    hub = HubProcess(behind_one_address, tmp_path / "hub.log", **SETTINGS).start()
    try:
        async with Agencies(behind_one_address, tmp_path) as agencies:
            await hub.ready()
            traffic = Traffic(agencies, [])
            await traffic.during(lambda: asyncio.to_thread(first.kill))
            await traffic.has_arrived()
            await hub.ready()

            async def lose_the_majority() -> None:
                await asyncio.to_thread(second.kill)
                await eventually(lambda: "broker" in (hub.failing() or {}), 30, hub.failing)
                await asyncio.to_thread(first.start)
                await asyncio.to_thread(second.start)

            await traffic.during(lose_the_majority, count=len(traffic.submitted) + 60)
            await traffic.has_arrived()
            await hub.ready()
    finally:
        hub.end()
    assert (await audit(behind_one_address))["clean"]


def test_every_queue_has_a_member_on_each_node(nodes: list[PrivateRabbitMQ], behind_one_address: Installation) -> None:
    queues = nodes[1].ctl("list_queues", "--silent", "name", "type", "members").splitlines()
    assert len(queues) > len(behind_one_address.accounts)
    for queue in queues:
        assert all(node.name in queue for node in nodes), queue
