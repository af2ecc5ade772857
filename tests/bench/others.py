"""What the same machine can do without us: the ceilings and the alternatives; prints one JSON object.

`python -m tests.bench.others --messages 3000`: RabbitMQ's shovel, which checks nothing; the same fan-out written naively
with aio-pika, once with three publishes and once with one that has CC; FastStream as a Python user would pick it; the
ledger's rows inserted with nothing else; signatures verified on one core. Every queue is a quorum queue, every message
persistent and confirmed. Several rounds, each way once in each, and the median.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import aiormq
from cryptography.hazmat.primitives.asymmetric import ec
from faststream.rabbit import Channel as FastStreamChannel
from faststream.rabbit import QueueType, RabbitBroker, RabbitQueue
from pamqp.commands import Basic

from hub.core.letter import Decision
from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.dev.servers import run_directory
from hub.store.ledger import PostgresLedger
from hub.store.migrations.runner import upgrade
from hub.store.pool import open_pool
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Signer, new_envelope, read_envelope
from schemas.identifiers import AgencyCode
from schemas.signing import KeyRecord, KeySigner, Verified, sign, verify
from tests.services import Broker

_QUORUM = {"x-queue-type": "quorum"}
_RECIPIENTS = ("H01", "H02", "H03")
_BATCH = 200
_PREFETCH = 400
_PATIENCE_S = 300
_SHOVELLED = 10
_SHOVEL = "/parameters/shovel/%2F/bench"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(measure(options.messages, options.rounds)))
    return 0


def measure(messages: int, rounds: int, ways: Collection[str] | None = None) -> dict[str, Any]:
    """Forward as many messages in every way, or in those that are named, several times; returns the median rate of each."""
    with ExitStack() as ending:
        folder = ending.enter_context(run_directory("files"))
        rabbitmq = PrivateRabbitMQ(folder / "rabbitmq", plugins=("rabbitmq_shovel",))
        ending.callback(rabbitmq.remove)
        postgresql = PrivatePostgreSQL(folder / "postgresql")
        ending.callback(postgresql.remove)
        rabbitmq.start()
        postgresql.start()
        return asyncio.run(_Others(rabbitmq, postgresql.url, messages).compare(rounds, ways))


class _Others:
    def __init__(self, rabbitmq: PrivateRabbitMQ, database_url: str, messages: int) -> None:
        self.amqp_url = rabbitmq.amqp_url
        self.broker = Broker(rabbitmq.amqp_url, rabbitmq.management_url)
        self.database_url = database_url
        self.messages = messages
        key = ec.generate_private_key(ec.SECP256R1())
        self.signer = KeySigner(key, "x" * 43)
        self.key = KeyRecord("x" * 43, AgencyCode("G01"), "ES256", key.public_key(), 0, 2**40)
        self.tokens = [self._token(number) for number in range(messages)]

    async def compare(self, rounds: int, wanted: Collection[str] | None = None) -> dict[str, Any]:
        every: Mapping[str, Callable[[], Awaitable[float]]] = {
            "shovel": self.shovel,
            "naive_three_publishes": self.naive,
            "naive_cc": self.naive_cc,
            "faststream": self.faststream,
            "postgresql_rows": self.postgresql_rows,
            "verifications": self.verifications,
        }
        ways = {name: way for name, way in every.items() if wanted is None or name in wanted}
        await upgrade(self.database_url)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                rates[name].append(self.messages / await way())
        return {
            "messages": self.messages,
            "per_s": {name: round(statistics.median(one)) for name, one in rates.items()},
        }

    async def shovel(self) -> float:
        """Ten times as many messages as the others move, as the shovel needs a moment to get going."""
        messages = _SHOVELLED * self.messages
        await self._prepare("taken", copies=_SHOVELLED)
        definition = {
            "src-protocol": "amqp091",
            "src-uri": f"{self.amqp_url}%2f",
            "src-queue": "source",
            "src-queue-args": _QUORUM,
            "src-prefetch-count": 1000,
            "dest-protocol": "amqp091",
            "dest-uri": f"{self.amqp_url}%2f",
            "dest-queue": "taken",
            "dest-queue-args": _QUORUM,
            "ack-mode": "on-confirm",
        }
        began = time.monotonic()
        # Not by rabbitmqctl: that program alone takes seconds to start.
        await asyncio.to_thread(self.broker.manage, "PUT", _SHOVEL, {"value": definition})
        took = await self._until_there("taken", messages, began)
        await asyncio.to_thread(self.broker.manage, "DELETE", _SHOVEL)
        return took / _SHOVELLED

    async def naive(self) -> float:
        async def forward(channel: Any, message: Any) -> None:
            json.loads(message.headers.get("payload", "{}"))
            for recipient in _RECIPIENTS:
                await channel.default_exchange.publish(
                    aio_pika.Message(message.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), recipient
                )
            await message.ack()

        return await self._consume(forward)

    async def naive_cc(self) -> float:
        async def forward(channel: Any, message: Any) -> None:
            await channel.default_exchange.publish(
                aio_pika.Message(
                    message.body,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    headers={"CC": list(_RECIPIENTS[1:])},
                ),
                _RECIPIENTS[0],
            )
            await message.ack()

        return await self._consume(forward)

    async def _consume(self, forward: Callable[[Any, Any], Awaitable[None]]) -> float:
        await self._prepare(*_RECIPIENTS)
        connection = await aio_pika.connect(self.amqp_url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=_PREFETCH)
            queue = await channel.get_queue("source", ensure=False)
            began, done, left = time.monotonic(), asyncio.Event(), self.messages

            async def take(message: Any) -> None:
                nonlocal left
                await forward(channel, message)
                left -= 1
                if left == 0:
                    done.set()

            await queue.consume(take)
            await asyncio.wait_for(done.wait(), _PATIENCE_S)
            return time.monotonic() - began

    async def faststream(self) -> float:
        """Parse and forward, as its tutorial shows, with confirms and manual settings for quorum queues."""
        await self._prepare(*_RECIPIENTS)
        broker = RabbitBroker(self.amqp_url, default_channel=FastStreamChannel(prefetch_count=_PREFETCH), logger=None)
        done, left = asyncio.Event(), self.messages

        @broker.subscriber(RabbitQueue("source", durable=True, queue_type=QueueType.QUORUM, declare=False))
        async def take(body: bytes) -> None:
            nonlocal left
            for recipient in _RECIPIENTS:
                await broker.publish(body, recipient, persist=True)
            left -= 1
            if left == 0:
                done.set()

        await broker.connect()
        began = time.monotonic()
        await broker.start()
        await asyncio.wait_for(done.wait(), _PATIENCE_S)
        took = time.monotonic() - began
        await broker.stop()
        return took

    async def postgresql_rows(self) -> float:
        """The rows that intake writes for as many documents, in the same batches, with nothing else going on."""
        decisions = [Decision(self._accept(token), None) for token in (self._token(n) for n in range(self.messages))]
        async with open_pool(self.database_url) as pool:
            ledger = PostgresLedger(pool)
            began = time.monotonic()
            for start in range(0, len(decisions), _BATCH):
                await ledger.record(decisions[start : start + _BATCH], datetime.now(UTC))
            return time.monotonic() - began

    async def verifications(self) -> float:
        began = time.monotonic()
        for token in self.tokens:
            assert isinstance(self._verified(token), Verified)
        return time.monotonic() - began

    def _verified(self, token: bytes) -> Any:
        return verify(token, typ=ENVELOPE_TYP, keys={self.key.fingerprint: self.key}, now_s=int(time.time()))

    def _accept(self, token: bytes) -> Any:
        from hub.core.verdict import Accept, Addressee

        verified = self._verified(token)
        envelope = read_envelope(verified.payload)
        assert not isinstance(envelope, tuple)
        return Accept(
            document_id=verified.document_id,
            token=token,
            envelope=envelope,
            sender_tier="ministry-province",
            addressees=tuple(Addressee(AgencyCode(code), "ministry-province") for code in _RECIPIENTS),
            directory_epoch=1,
        )

    def _token(self, number: int) -> bytes:
        now_s = int(time.time())
        envelope = new_envelope(
            from_="G01",
            to=_RECIPIENTS,
            now_s=now_s,
            lifetime_s=int(timedelta(days=7).total_seconds()),
            doc=DocumentFacts(
                number=str(number),
                notation="UBND-VP",
                kind="Công văn",
                subject="Về việc triển khai kết nối, liên thông văn bản " + "x" * 250,
                issued_on="2026-03-02",
                signer=Signer(name="Nguyễn Văn An"),
            ),
        )
        return sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=self.signer, now_s=now_s)

    async def _prepare(self, *queues: str, copies: int = 1) -> None:
        """Make empty quorum queues, and one that is full of all messages, each as often as asked for."""
        connection = await aiormq.connect(self.amqp_url)
        channel = await connection.channel()
        for queue in ("source", *queues):
            await channel.queue_delete(queue)
            await channel.queue_declare(queue, durable=True, arguments=_QUORUM)
        for start in [*range(0, len(self.tokens), _BATCH)] * copies:
            await asyncio.gather(
                *(
                    channel.basic_publish(
                        token, routing_key="source", properties=Basic.Properties(delivery_mode=2), wait=False
                    )
                    for token in self.tokens[start : start + _BATCH]
                )
            )
        await connection.close()

    async def _until_there(self, queue: str, messages: int, began: float) -> float:
        connection = await aiormq.connect(self.amqp_url)
        channel = await connection.channel()
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                declared = await channel.queue_declare(queue, durable=True, passive=True, arguments=_QUORUM)
                if (declared.message_count or 0) >= messages:
                    took = time.monotonic() - began
                    await connection.close()
                    return took
                await asyncio.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
