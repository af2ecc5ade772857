"""Installations whose servers may be killed, and traffic that goes on meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from adapters.errors import BrokerError
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation, install
from schemas.identifiers import DocumentId
from tests.agencies import COUNTRY, MINISTRY, Agencies, document
from tests.command_line import truc_json
from tests.hub_process import free_port
from tests.services import Broker

QUEUES_ARE_DURABLE_AFTER_S = 2.0
"""RabbitMQ 3.10.8 writes the names of new quorum queues to disk every half second; a node killed before forgets them."""


@pytest.fixture
async def mortal_broker(own_rabbitmq: PrivateRabbitMQ, database_url: str, tmp_path: Path) -> Installation:
    """An installation on a broker of its own."""
    made = await install(
        amqp_url=own_rabbitmq.amqp_url,
        management_url=own_rabbitmq.management_url,
        database_url=database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=tmp_path / "installation",
        country=COUNTRY,
    )
    await asyncio.sleep(QUEUES_ARE_DURABLE_AFTER_S)
    return made


@pytest.fixture
async def mortal_database(vhost: Broker, own_postgresql: PrivatePostgreSQL, tmp_path: Path) -> Installation:
    """An installation on a database server of its own."""
    return await install(
        amqp_url=vhost.amqp_url,
        management_url=vhost.management_url,
        database_url=own_postgresql.url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=tmp_path / "installation",
        country=COUNTRY,
    )


@dataclass(slots=True)
class Traffic:
    """Documents that a ministry submits one after the other, whatever happens around it."""

    agencies: Agencies
    submitted: list[DocumentId]

    async def go_on(self, count: int, pause_s: float = 0.02) -> None:
        """Submit documents; one that is in doubt is submitted again with the same bytes until it is confirmed."""
        client = self.agencies.clients[MINISTRY]
        for number in range(count):
            envelope: Any = document(int(time.time()), number)
            while True:
                try:
                    sent = await client.submit(envelope, timeout_s=20)
                    break
                except BrokerError as error:
                    envelope = error.token
            self.submitted.append(sent.document_id)
            await asyncio.sleep(pause_s)

    async def during(self, fault: Callable[[], Awaitable[None]], count: int = 120) -> None:
        """Submit documents, with the fault in the middle of them."""
        going_on = asyncio.create_task(self.go_on(count))
        try:
            while len(self.submitted) < count // 4:
                assert not going_on.done(), going_on
                await asyncio.sleep(0.02)
            await fault()
            await going_on
        finally:
            going_on.cancel()

    async def has_arrived(self, timeout_s: float = 90) -> None:
        """Every document was handed over by every recipient's adapter, exactly once."""
        await self.agencies.everyone_has(self.submitted, timeout_s)
        assert set(self.agencies.handed_over.values()) == {1}
        await self.agencies.all_receipts_are_back(len(self.submitted), timeout_s)


async def audit(installation: Installation) -> dict[str, Any]:
    """Run `truc audit` as an operator does; fails when it finds anything."""
    return await truc_json(installation, "audit", "--full")


async def waiting(installation: Installation, queue: str, count: int) -> bool:
    """Tell whether so many messages wait in a queue; the management API would know it seconds later."""
    async with await aio_pika.connect(installation.settings["amqp_url"]) as connection:
        declared = await (await connection.channel()).declare_queue(queue, passive=True)
        return (declared.declaration_result.message_count or 0) >= count


@pytest.fixture
async def mortal_agencies(mortal_broker: Installation, tmp_path: Path) -> AsyncIterator[Agencies]:
    """The agencies of the installation with a broker of its own."""
    async with Agencies(mortal_broker, tmp_path) as connected:
        yield connected
