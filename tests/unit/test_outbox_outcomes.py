"""What the outbox makes of the broker's answers, on the library's real channel and a broker that is a script.

Guards every change of the library's version: nothing that was returned or refused counts as routed, and nothing
outlives its timeout.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.abc import ChannelFrame
from aiormq.base import FutureStore
from aiormq.exceptions import ConnectionClosed
from pamqp import frame as wire
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader

from hub.broker.channel import Channel as PublishingChannel
from hub.broker.channel import Outcome
from hub.broker.outbox import handover_of
from hub.core.delivery import Posting
from schemas.amqp_reader import FrameReader
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from tests.builders import delivery

RECIPIENT = AgencyCode("H26")


def posting(document: int = 0, recipient: AgencyCode = RECIPIENT) -> Posting:
    return Posting("truc.tier.commune", recipient, b"token", (delivery(document, recipient),))


class ScriptedBroker:
    """A connection as far as a channel needs one. What is published is kept, answers are given by the test."""

    publisher_confirms = True
    is_opened = True

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.write_queue: asyncio.Queue[ChannelFrame] = asyncio.Queue(maxsize=10)
        self.connection_tune = SimpleNamespace(frame_max=131_072, heartbeat=1)
        self.channels: dict[int, Any] = {}
        self.sent: list[Any] = []
        self._futures = FutureStore(self.loop)
        self.channel = PublishingChannel(self, 1)  # type: ignore[arg-type]
        self._reader = FrameReader()
        self._reader.channels = {1: self.channel}
        self._writing = asyncio.create_task(self._write())

    def _future_store_child(self) -> FutureStore:
        return self._futures.get_child()

    @property
    def message_ids(self) -> list[str]:
        return [item.properties.message_id for item in self.sent if isinstance(item, ContentHeader)]

    async def until_published(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.message_ids) < count:  # noqa: ASYNC110 - the test ends with the writer's next turn
                await asyncio.sleep(0)

    async def answer(self, *frames: Any) -> None:
        for item in frames:
            if self._reader.read(wire.marshal(item, 1)):
                await self.channel.frames.put((0, item))

    async def give_back(self, number: int) -> None:
        properties = Basic.Properties(message_id=self.message_ids[number - 1])
        await self.answer(
            Basic.Return(312, "NO_ROUTE", "truc.tier.commune", RECIPIENT),
            ContentHeader(body_size=5, properties=properties),
            ContentBody(b"token"),
        )

    async def end(self) -> None:
        self.is_opened = False
        await self.channel.close()
        self._writing.cancel()

    async def _write(self) -> None:
        while True:
            chunk = await self.write_queue.get()
            data = chunk.payload
            while data:
                consumed, _, item = wire.unmarshal(data)
                data = data[consumed:]
                self.sent.append(item)
            await asyncio.sleep(0)
            chunk.drain()


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    scripted = ScriptedBroker()
    yield scripted
    await scripted.end()


async def publish_one(broker: ScriptedBroker, item: Posting, timeout_s: float = 30) -> Outcome:
    (outcome,) = await publish_all(broker, [item], timeout_s)
    return outcome


async def publish_all(broker: ScriptedBroker, items: Sequence[Posting], timeout_s: float = 30) -> list[Outcome]:
    deadline = asyncio.get_running_loop().time() + timeout_s
    return await broker.channel.publish_all(items, "truc-hub", deadline)


Publish = Callable[..., asyncio.Task[Outcome]]


@pytest.fixture
async def publish(broker: ScriptedBroker) -> AsyncIterator[Publish]:
    tasks: list[asyncio.Task[Outcome]] = []

    def start(document: int = 0) -> asyncio.Task[Outcome]:
        task = asyncio.create_task(publish_one(broker, posting(document)))
        tasks.append(task)
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_confirmed_message_is_routed(broker: ScriptedBroker, publish: Publish) -> None:
    task = publish()
    await broker.until_published(1)
    await broker.answer(Basic.Ack(1))

    assert await task == "routed"


async def test_one_confirm_may_speak_for_several_messages(broker: ScriptedBroker, publish: Publish) -> None:
    tasks = [publish(number) for number in range(5)]
    await broker.until_published(5)
    await broker.answer(Basic.Ack(5, multiple=True))

    assert await asyncio.gather(*tasks) == ["routed"] * 5


async def test_a_message_that_no_queue_takes_is_unroutable_though_it_is_confirmed(
    broker: ScriptedBroker, publish: Publish
) -> None:
    task = publish()
    await broker.until_published(1)
    await broker.give_back(1)
    await broker.answer(Basic.Ack(1))

    assert await task == "unroutable"


async def test_a_returned_message_is_not_mistaken_for_the_other_delivery_of_its_document(
    broker: ScriptedBroker, publish: Publish
) -> None:
    first, second = publish(7), publish(7)
    await broker.until_published(2)
    await broker.give_back(1)
    await broker.answer(Basic.Ack(2, multiple=True))

    assert await first == "unroutable"
    assert await second == "routed"


async def test_a_full_queue_takes_nothing(broker: ScriptedBroker, publish: Publish) -> None:
    tasks = [publish(number) for number in range(3)]
    await broker.until_published(3)
    await broker.answer(Basic.Ack(1), Basic.Nack(3, multiple=True))

    assert await asyncio.gather(*tasks) == ["routed", "not-taken", "not-taken"]


async def test_every_publish_has_an_id_of_its_own(broker: ScriptedBroker, publish: Publish) -> None:
    tasks = [publish(7) for _ in range(3)]
    await broker.until_published(3)
    await broker.answer(Basic.Ack(3, multiple=True))
    await asyncio.gather(*tasks)

    assert len(set(broker.message_ids)) == 3


async def test_a_message_is_persistent_mandatory_and_names_document_type_and_user(
    broker: ScriptedBroker, publish: Publish
) -> None:
    task = publish(7)
    await broker.until_published(1)
    await broker.answer(Basic.Ack(1))
    await task
    method, header, *_ = broker.sent

    assert (method.exchange, method.routing_key, method.mandatory) == ("truc.tier.commune", RECIPIENT, True)
    assert header.properties.delivery_mode == 2
    assert header.properties.correlation_id == f"{7:064x}"
    assert header.properties.message_type == ENVELOPE_TYP
    assert header.properties.user_id == "truc-hub"


async def test_a_channel_that_the_broker_closes_leaves_everything_in_flight_undecided(
    broker: ScriptedBroker, publish: Publish
) -> None:
    tasks = [publish(number) for number in range(3)]
    await broker.until_published(3)
    await broker.answer(Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))

    assert await asyncio.gather(*tasks) == ["channel-closed"] * 3


async def test_nothing_is_published_on_a_channel_after_the_broker_has_closed_it(
    broker: ScriptedBroker, publish: Publish
) -> None:
    """The broker would close the whole connection for it."""
    tasks = [publish(number) for number in range(100)]
    await broker.until_published(10)
    await broker.answer(Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
    outcomes = await asyncio.gather(*tasks)
    goodbye = next(index for index, item in enumerate(broker.sent) if isinstance(item, Channel.CloseOk))

    assert broker.sent[goodbye + 1 :] == []
    assert set(outcomes) == {"channel-closed", "not-sent"}


@pytest.mark.parametrize("reason", [ConnectionClosed(320, "CONNECTION_FORCED"), asyncio.CancelledError()])
async def test_a_lost_connection_leaves_a_message_unsure(
    broker: ScriptedBroker, publish: Publish, reason: BaseException
) -> None:
    """The library reports some losses as a cancellation, although nobody cancelled anything."""
    task = publish()
    await broker.until_published(1)
    broker.is_opened = False
    await broker.channel.close(reason)

    assert await task == "unsure"


async def test_a_cancelled_publish_ends_cancelled(broker: ScriptedBroker, publish: Publish) -> None:
    task = publish()
    await broker.until_published(1)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_what_the_broker_is_silent_about_has_timed_out_and_nothing_else(broker: ScriptedBroker) -> None:
    publishing = asyncio.create_task(publish_all(broker, [posting(number) for number in range(4)], timeout_s=0.2))
    await broker.until_published(4)
    await broker.give_back(2)
    await broker.answer(Basic.Ack(2, multiple=True), Basic.Nack(4))

    assert await publishing == ["routed", "unroutable", "timed-out", "not-taken"]


async def test_what_is_given_up_was_withheld_and_a_later_confirm_changes_nothing(broker: ScriptedBroker) -> None:
    publishing = asyncio.create_task(publish_all(broker, [posting(1), posting(2)]))
    await broker.until_published(2)
    await broker.answer(Basic.Ack(1))
    while not broker.channel.confirmed_at:  # noqa: ASYNC110 - ends with the reader's next turn
        await asyncio.sleep(0)
    assert broker.channel.give_up()
    assert await publishing == ["routed", "withheld"]
    await broker.answer(Basic.Ack(2))
    assert not broker.channel.give_up()


async def test_what_amqp_cannot_carry_is_refused_alone(broker: ScriptedBroker) -> None:
    too_long = posting(recipient=AgencyCode("H" * 300))
    publishing = asyncio.create_task(publish_all(broker, [posting(1), too_long, posting(2)]))
    await broker.until_published(2)
    await broker.answer(Basic.Ack(2, multiple=True))

    assert await publishing == ["routed", "broker-refused", "routed"]


async def test_more_than_one_write_of_bodies_keeps_its_order(broker: ScriptedBroker) -> None:
    large = [replace(posting(number), body=bytes([number]) * 200_000) for number in range(5)]
    publishing = asyncio.create_task(publish_all(broker, large))
    await broker.until_published(5)
    await broker.answer(Basic.Ack(1), Basic.Nack(2), Basic.Ack(5, multiple=True))

    assert await publishing == ["routed", "not-taken", "routed", "routed", "routed"]
    assert [header.body_size for header in broker.sent if isinstance(header, ContentHeader)] == [200_000] * 5
    assert b"".join(item.value for item in broker.sent if isinstance(item, ContentBody)) == b"".join(
        item.body for item in large
    )


@pytest.mark.parametrize("seed", range(20))
async def test_no_order_of_answers_turns_a_bad_outcome_into_routed(
    broker: ScriptedBroker, publish: Publish, seed: int
) -> None:
    """Messages are confirmed, refused and returned at random, singly or several at once; the last ones are forgotten."""
    dice = random.Random(seed)
    wanted: list[Outcome] = dice.choices(["routed", "not-taken", "unroutable"], k=60)
    answered = [publish(number) for number in range(len(wanted))]
    await broker.until_published(len(wanted))
    forgotten = [publish(number) for number in range(5)]
    await broker.until_published(len(wanted) + len(forgotten))
    for refused, group in groupby(enumerate(wanted, start=1), key=lambda item: item[1] == "not-taken"):
        await _answer(broker, Basic.Nack if refused else Basic.Ack, dict(group), together=dice.random() < 0.5)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*answered)

    assert outcomes == wanted
    assert not any(task.done() for task in forgotten)


async def _answer(broker: ScriptedBroker, frame: Any, wanted: dict[int, Outcome], *, together: bool) -> None:
    """Answer neighbours alike; what is returned is confirmed after its return, as by the broker."""
    for tag, outcome in wanted.items():
        if outcome == "unroutable":
            await broker.give_back(tag)
        if not together:
            await broker.answer(frame(tag))
    if together:
        await broker.answer(frame(max(wanted), multiple=True))


@pytest.mark.parametrize(
    ("outcome", "broker_answers", "handover"),
    [
        ("timed-out", True, "not-taken"),
        ("timed-out", False, "unsure"),
        ("withheld", False, "not-taken"),
        ("not-sent", True, "unsure"),
        ("channel-closed", True, "broker-refused"),
        ("routed", True, "routed"),
        ("unroutable", False, "unroutable"),
        ("not-taken", True, "not-taken"),
    ],
)
def test_silence_about_one_message_is_its_queue_s_when_the_broker_confirms_others(
    outcome: Outcome, broker_answers: bool, handover: str
) -> None:
    assert handover_of(outcome, broker_answers=broker_answers) == handover
