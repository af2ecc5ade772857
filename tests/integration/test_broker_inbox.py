"""The inboxes against a real broker."""

import asyncio
import struct
from collections.abc import AsyncIterator

import aiormq
import pytest
from pamqp import frame as wire
from pamqp.commands import Basic

from hub.broker.connection import Connection
from hub.broker.inbox import DeadInbox, QueueInbox
from hub.broker.outbox import Outbox
from hub.core.trouble import Unavailable
from schemas.addresses import DEAD, INTAKE, SUBMIT, agency_queue
from schemas.identifiers import DocumentId, delivery_id_of
from schemas.signing import identity
from tests.contract.inbox_contract import MAX_BATCH, InboxContract, bodies
from tests.contract.outbox_contract import posting
from tests.integration.broker_fixtures import COMMUNE, PLATFORM, connection, mail_in, provide, raw_channel
from tests.services import Broker

QUEUE = INTAKE
KEY = "document.truc"


@pytest.fixture
async def hub(vhost: Broker) -> AsyncIterator[Connection]:
    await provide(vhost)
    async with connection(vhost.amqp_url) as made:
        yield made


@pytest.fixture
async def inbox(hub: Connection) -> QueueInbox:
    return QueueInbox(hub, QUEUE, max_batch=MAX_BATCH)


async def submit(vhost: Broker, *messages: bytes, **properties: object) -> None:
    async with raw_channel(vhost.amqp_url) as channel:
        for body in messages:
            await channel.basic_publish(
                body, exchange=SUBMIT, routing_key=KEY, properties=Basic.Properties(delivery_mode=2, **properties)
            )


async def take(inbox, wanted: int = 1):
    """Take batches until so many have come."""
    found: list = []
    async with asyncio.timeout(20):
        while len(found) < wanted:
            batch = await inbox.take()
            found += batch.returns if isinstance(inbox, DeadInbox) else batch.submissions
    return found


class TestQueueInbox(InboxContract):
    @pytest.fixture
    async def inbox(self, hub):
        return QueueInbox(hub, QUEUE, max_batch=MAX_BATCH)

    @pytest.fixture
    def publish(self, vhost):
        async def publish(body):
            await submit(vhost, body)

        return publish

    @pytest.fixture
    async def restart(self, vhost, hub):
        async with connection(vhost.amqp_url) as successor:

            async def restart():
                hub.drop()
                return QueueInbox(successor, QUEUE, max_batch=MAX_BATCH)

            yield restart


async def test_a_submission_is_what_the_broker_vouches_for(vhost, inbox):
    await submit(vhost, b"body", user_id="truc", message_id="m1")
    (submission,) = await take(inbox)

    assert submission.body == b"body"
    assert submission.user == "truc"
    assert submission.routing_key == KEY
    assert submission.message_id == "m1"


async def test_who_did_not_say_who_it_is_has_no_user(vhost, inbox):
    await submit(vhost, b"body")

    assert (await take(inbox))[0].user is None


async def test_a_batch_waits_a_moment_for_more(vhost, hub):
    inbox = QueueInbox(hub, QUEUE, linger_s=0.5)
    await inbox.take()
    taking = asyncio.create_task(inbox.take())
    await submit(vhost, b"1")
    await submit(vhost, b"2")

    assert bodies(await taking) == [b"1", b"2"]


async def test_a_cancelled_take_loses_nothing(vhost, hub):
    inbox = QueueInbox(hub, QUEUE, linger_s=30)
    await inbox.take()
    await submit(vhost, b"1")
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0.3)
    taking.cancel()
    await asyncio.wait([taking])
    inbox._consumer._linger_s = 0

    assert bodies(await inbox.take()) == [b"1"]


async def test_a_consumer_that_the_broker_ends_is_trouble_at_the_next_take(vhost, inbox):
    await inbox.take()
    vhost.manage("DELETE", f"/queues/{vhost.vhost}/{QUEUE}")

    with pytest.raises(Unavailable, match="ended the consumer"):
        await take(inbox)


async def test_after_the_queue_is_back_the_inbox_takes_again(vhost, inbox):
    await inbox.take()
    vhost.manage("DELETE", f"/queues/{vhost.vhost}/{QUEUE}")
    with pytest.raises(Unavailable):
        await take(inbox)
    with pytest.raises(Unavailable, match="NOT_FOUND"):
        await inbox.take()
    await provide(vhost)
    await submit(vhost, b"1")

    assert [item.body for item in await take(inbox)] == [b"1"]


async def test_a_lost_connection_is_trouble_once_and_then_made_again(vhost, hub, inbox):
    await submit(vhost, b"1")
    await take(inbox)
    await close_connections_of(vhost)

    with pytest.raises(Unavailable):
        await take(inbox)
    (again,) = await take(inbox)

    assert (again.body, again.redelivered) == (b"1", True)


async def test_a_stopped_inbox_takes_nothing_and_still_settles_what_is_in_hand(vhost, hub, inbox):
    await submit(vhost, b"1", b"2", b"3", b"4")
    in_hand = await inbox.take()
    await asyncio.sleep(0.1)
    await inbox.stop()
    nothing = await inbox.take()
    await inbox.acknowledge(in_hand)
    await hub.close()

    assert bodies(nothing) == []
    assert [message.body for message in await mail_in(vhost.amqp_url, QUEUE)] == [b"4"]


async def test_no_more_than_prefetch_is_ever_held(vhost, hub):
    inbox = QueueInbox(hub, QUEUE, prefetch=5, max_batch=50, linger_s=0.3)
    await submit(vhost, *(b"%d" % number for number in range(20)))

    assert len((await inbox.take()).submissions) == 5
    assert len((await inbox.take()).submissions) == 0


async def test_a_large_batch_is_settled_with_one_acknowledgement(vhost, hub, monkeypatch):
    inbox = QueueInbox(hub, QUEUE, linger_s=0.5)
    await submit(vhost, *(b"%d" % number for number in range(50)))
    batch = await inbox.take()
    acks = []
    channel = batch.handful.session.channel
    real = channel.basic_ack
    monkeypatch.setattr(
        channel, "basic_ack", lambda tag, **options: (acks.append((tag, options)), real(tag, **options))[1]
    )
    await inbox.acknowledge(batch)

    assert acks == [(50, {"multiple": True})]


def tables_in_tables(depth: int) -> bytes:
    table = struct.pack(">I", 0)
    for _ in range(depth):
        field = b"\x01aF" + table
        table = struct.pack(">I", len(field)) + field
    return table


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(b"\x00\x40" + b"\xff" * 8, id="a timestamp beyond all calendars"),
        pytest.param(b"\x00\x80\x03\xff\xfe\xfd", id="a message id that is not UTF-8"),
        pytest.param(b"\x20\x00" + struct.pack(">I", 4) + b"\x02\xff\xfeV", id="a header name that is not UTF-8"),
        pytest.param(b"\x20\x00" + tables_in_tables(2000), id="tables nested deeper than Python can follow"),
    ],
)
async def test_properties_that_cannot_be_read_stop_nobody(vhost, inbox, properties):
    """The library would close the connection, at this message and again whenever it comes back."""
    await submit_raw(vhost, properties, b"hostile")
    await submit(vhost, b"honest", user_id="truc")
    hostile, honest = await take(inbox, 2)

    assert (hostile.body, hostile.user) == (b"hostile", None)
    assert (honest.body, honest.user) == (b"honest", "truc")


class TestDeadInbox:
    """Letters that really died."""

    @pytest.fixture
    def dead(self, hub):
        return DeadInbox(hub, DEAD)

    async def test_a_delivery_that_its_recipient_gave_back_is_found_again(self, vhost, dead):
        """The queue is the platform's; whose delivery it was stands in the key."""
        async with connection(vhost.amqp_url, "publishing") as publishing:
            assert await Outbox(publishing).publish([posting(COMMUNE, b"token", document=7)]) == ["routed"]
        async with raw_channel(vhost.amqp_url) as channel:
            message = await channel.basic_get(agency_queue(PLATFORM))
            await channel.basic_reject(message.delivery_tag, requeue=False)
            (returned,) = await take(dead)

        assert returned.delivery_id == delivery_id_of(DocumentId(f"{7:064x}"), COMMUNE)
        assert (returned.submission.body, returned.submission.routing_key) == (b"token", COMMUNE)

    async def test_letters_that_came_back_in_one_message_are_each_found_again(self, vhost, dead):
        letters = [b"e30.e30.one", b"e31.e31.two"]
        async with connection(vhost.amqp_url, "publishing") as publishing:
            assert await Outbox(publishing).publish([posting(COMMUNE, b"\n".join(letters), document=7)]) == ["routed"]
        async with raw_channel(vhost.amqp_url) as channel:
            message = await channel.basic_get(agency_queue(PLATFORM))
            await channel.basic_reject(message.delivery_tag, requeue=False)
            returned = await take(dead)

        assert [each.delivery_id for each in returned] == [delivery_id_of(identity(body), COMMUNE) for body in letters]
        assert [each.submission.body for each in returned] == letters

    async def test_a_delivery_that_killed_its_recipient_too_often_is_found_again(self, vhost, dead):
        """By the limit of the queue, 100 returns."""
        async with connection(vhost.amqp_url, "publishing") as publishing:
            await Outbox(publishing).publish([posting(COMMUNE, document=8)])
        await die(vhost, agency_queue(PLATFORM), times=101)
        (returned,) = await take(dead)

        assert returned.delivery_id == delivery_id_of(DocumentId(f"{8:064x}"), COMMUNE)

    async def test_a_submission_that_the_hub_never_settled_is_parked_as_it_came(self, vhost, dead):
        await submit(vhost, b"poison", user_id="truc", message_id="m1", correlation_id=f"{9:064x}")
        await die(vhost, INTAKE, times=21)
        (returned,) = await take(dead)

        assert returned.delivery_id is None
        assert returned.submission.body == b"poison"
        assert returned.submission.user == "truc"
        assert returned.submission.routing_key == KEY
        assert returned.submission.message_id == "m1"

    @pytest.mark.parametrize(
        ("correlation_id", "headers"),
        [
            (None, {"x-first-death-queue": "truc.agency.H26"}),
            ("not a digest", {"x-first-death-queue": "truc.agency.H26"}),
            (f"{1:064x}\n", {"x-first-death-queue": "truc.agency.H26"}),
            (f"{1:064x}", None),
            (f"{1:064x}", {"x-death": "soon", "x-first-death-queue": 7}),
            (f"{1:064x}", {"x-death": [], "x-first-death-queue": "truc.intake"}),
            (f"{1:064x}", {"x-death": [{"routing-keys": [1]}]}),
            (f"{1:064x}", {"x-death": [7]}),
        ],
    )
    async def test_a_letter_that_makes_no_sense_is_one_without_a_delivery(self, vhost, dead, correlation_id, headers):
        async with raw_channel(vhost.amqp_url) as channel:
            properties = Basic.Properties(correlation_id=correlation_id, headers=headers)
            await channel.basic_publish(b"?", exchange=DEAD, routing_key="agency", properties=properties)
        (returned,) = await take(dead)

        assert returned.delivery_id is None

    async def test_without_its_key_a_letter_is_its_queue_s(self, vhost, dead):
        headers = {"x-death": [{"routing-keys": []}], "x-first-death-queue": "truc.agency.H26"}
        async with raw_channel(vhost.amqp_url) as channel:
            properties = Basic.Properties(correlation_id=f"{1:064x}", headers=headers)
            await channel.basic_publish(b"?", exchange=DEAD, routing_key="agency", properties=properties)
        (returned,) = await take(dead)

        assert returned.delivery_id == delivery_id_of(DocumentId(f"{1:064x}"), "H26")

    async def test_an_acknowledged_letter_is_gone_and_a_released_one_is_not(self, vhost, hub, dead):
        async with raw_channel(vhost.amqp_url) as channel:
            await channel.basic_publish(b"1", exchange=DEAD, routing_key="intake")
        batch = await dead.take()
        await dead.release()
        batch = await dead.take()
        await dead.acknowledge(batch)
        await hub.close()

        assert [item.submission.body for item in batch.returns] == [b"1"]
        assert await mail_in(vhost.amqp_url, DEAD) == []


async def die(vhost: Broker, queue: str, *, times: int) -> None:
    """Take the only message of a queue and give it back, so many times."""
    async with raw_channel(vhost.amqp_url) as channel:
        for _ in range(times):
            async with asyncio.timeout(10):
                while isinstance((message := await channel.basic_get(queue)).delivery, Basic.GetEmpty):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await channel.basic_nack(message.delivery_tag, requeue=True)


async def close_connections_of(vhost: Broker) -> None:
    """Have the broker close every connection of the vhost; its list of them is a few seconds late."""
    async with asyncio.timeout(20):
        while not (found := vhost.manage("GET", f"/vhosts/{vhost.vhost}/connections?columns=name")):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    for item in found:
        vhost.manage("DELETE", f"/connections/{item['name'].replace(' ', '%20').replace('>', '%3E')}")


async def submit_raw(vhost: Broker, properties: bytes, body: bytes) -> None:
    """Publish with properties that a library would not write: two bytes of flags, then values."""
    made = await aiormq.connect(vhost.amqp_url)
    try:
        channel = await made.channel()
        frames = wire.marshal(Basic.Publish(exchange=SUBMIT, routing_key=KEY), channel.number)
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties
        frames += struct.pack(">BHI", 2, channel.number, len(header)) + header + b"\xce"
        frames += struct.pack(">BHI", 3, channel.number, len(body)) + body + b"\xce"
        await made.write_queue.put(aiormq.abc.ChannelFrame(payload=frames, should_close=False))
        await channel.basic_qos(prefetch_count=1)  # answered after everything before it
    finally:
        await made.close()
