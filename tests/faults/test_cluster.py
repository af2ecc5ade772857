"""Three RabbitMQ nodes under traffic: one dies, then so many that no majority is left, and all come back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.dev import rabbitmq as dev_rabbitmq
from hub.dev.cluster import amqp_url_of, cluster
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation, install
from schemas.addresses import INTAKE
from tests.agencies import COUNTRY, Agencies
from tests.faults.conftest import QUEUES_ARE_DURABLE_AFTER_S, Traffic, audit
from tests.hub_process import HubProcess, eventually, free_port
from tests.services import unavailable

pytestmark = pytest.mark.cluster

SETTINGS = {"receipt_deadline_s": 8, "retry_delay_s": 0.5, "confirm_timeout_s": 4}


@pytest.fixture(scope="module")
def nodes(private_directory: Path) -> Iterator[list[PrivateRabbitMQ]]:
    if dev_rabbitmq.find_binaries() is None:
        unavailable(f"a cluster needs the package {dev_rabbitmq.PACKAGE}")
    with cluster(private_directory / "cluster") as started:
        yield started


@pytest.fixture
async def on_three_nodes(nodes: list[PrivateRabbitMQ], database_url: str, tmp_path: Path) -> Installation:
    """An installation whose hub and agencies know all nodes."""
    made = await install(
        amqp_url=amqp_url_of(nodes),
        management_url=nodes[0].management_url,
        database_url=database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=tmp_path / "installation",
        country=COUNTRY,
    )
    await asyncio.sleep(QUEUES_ARE_DURABLE_AFTER_S)
    return made


async def test_one_node_dies_and_all_goes_on_and_without_a_majority_all_waits(
    nodes: list[PrivateRabbitMQ], on_three_nodes: Installation, tmp_path: Path
) -> None:
    """The first to die leads the queue of submissions, so that they meet the moment in which it has no leader."""
    first, second, _ = nodes
    every_queue_has_a_member_on_each(nodes, at_least=len(on_three_nodes.accounts))
    make_leader_of_intake(first)
    hub = HubProcess(on_three_nodes, tmp_path / "hub.log", **SETTINGS).start()
    try:
        async with Agencies(on_three_nodes, tmp_path) as agencies:
            await hub.ready()
            traffic = Traffic(agencies, [])
            await traffic.during(lambda: asyncio.to_thread(first.kill), 80)
            await traffic.has_arrived()
            await hub.ready()

            async def lose_the_majority() -> None:
                await asyncio.to_thread(second.kill)
                await eventually(lambda: "broker" in (hub.failing() or {}), 30, hub.failing)
                await asyncio.gather(asyncio.to_thread(first.start), asyncio.to_thread(second.start))

            await traffic.during(lose_the_majority, 120)
            await traffic.has_arrived()
            await hub.ready()
    finally:
        hub.end()
    assert (await audit(on_three_nodes))["clean"]


def every_queue_has_a_member_on_each(nodes: list[PrivateRabbitMQ], *, at_least: int) -> None:
    queues = nodes[1].ctl("list_queues", "--silent", "name", "members").splitlines()
    assert len(queues) > at_least
    for queue in queues:
        assert all(node.name in queue for node in nodes), queue


def make_leader_of_intake(node: PrivateRabbitMQ) -> None:
    name = f'rabbit_misc:r(<<"/">>, queue, <<"{INTAKE}">>)'
    node.ctl("eval", f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), rabbit_quorum_queue:transfer_leadership(Q, node()).")
