"""The outbox against a real broker: every answer that it can give, really provoked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import repeat

import pytest

from hub.broker.connection import Connection
from hub.broker.outbox import Outbox
from hub.broker.topology import Binding, Bounds, Exchange, Queue, Topology, desired
from hub.core.trouble import Unavailable
from schemas.addresses import CANARY, DEAD, TIERS, agency_queue, tier_exchange
from schemas.identifiers import AgencyCode
from tests.contract.outbox_contract import EXCHANGE, HERE, NOWHERE, THERE, OutboxContract, posting
from tests.faults.proxy import Proxy
from tests.integration.broker_fixtures import (
    OWN_QUEUE_COMMUNE,
    PROVINCE,
    SMALL,
    connection,
    mail_in,
    provide,
    user,
)
from tests.services import Broker

GONE = tier_exchange("commune") + ".gone"
CANARY_QUEUE = next(queue for queue in desired(SMALL).queues if queue.name == CANARY)
CANARY_BINDING = next(binding for binding in desired(SMALL).bindings if binding.queue == CANARY)


def queues_of(*codes: AgencyCode) -> Topology:
    return Topology(
        exchanges=(Exchange(DEAD, "topic"), *(Exchange(tier_exchange(tier), "direct") for tier in TIERS)),
        queues=(CANARY_QUEUE, *(Queue(agency_queue(code), {"x-queue-type": "quorum"}) for code in codes)),
        bindings=(CANARY_BINDING, *(Binding(EXCHANGE, code, agency_queue(code)) for code in codes)),
    )


async def bodies_in(vhost: Broker, code: AgencyCode) -> list[bytes]:
    return [message.body for message in await mail_in(vhost.amqp_url, agency_queue(code))]


@pytest.fixture
async def hub(vhost: Broker) -> AsyncIterator[Connection]:
    async with connection(vhost.amqp_url) as made:
        yield made


@pytest.fixture
async def outbox(vhost: Broker, hub: Connection) -> Outbox:
    await provide(vhost, queues_of(HERE, THERE))
    return Outbox(hub)


class TestOutbox(OutboxContract):
    @pytest.fixture
    async def outbox(self, vhost, hub):
        await provide(vhost, queues_of())
        return Outbox(hub)

    @pytest.fixture
    def connect(self, vhost):
        async def connect(code):
            await provide(vhost, queues_of(code))

        return connect

    @pytest.fixture
    def mail(self, vhost):
        async def mail(code):
            return await bodies_in(vhost, code)

        return mail


async def test_a_message_says_which_document_it_is_and_who_sent_it(vhost, outbox):
    await outbox.publish([posting(HERE, document=7)])
    (message,) = await mail_in(vhost.amqp_url, agency_queue(HERE))
    properties = message.header.properties

    assert properties.delivery_mode == 2
    assert properties.correlation_id == f"{7:064x}"
    assert properties.message_type == "truc.document.v1"
    assert properties.user_id == "truc"
    assert set(properties.headers or {}) <= {"x-delivery-count"}


async def test_a_queue_that_has_lost_its_binding_is_unroutable(vhost, outbox):
    await outbox.ready()
    vhost.manage("DELETE", f"/bindings/{vhost.vhost}/e/{EXCHANGE}/q/{agency_queue(HERE)}/{HERE}")

    assert await outbox.publish([posting(HERE), posting(THERE)]) == ["unroutable", "routed"]


async def test_a_full_queue_takes_nothing_more(vhost, hub):
    await provide(vhost, desired(SMALL, Bounds(agency_queue_max_messages=2)))
    outbox = Outbox(hub)
    own, other = (
        posting(OWN_QUEUE_COMMUNE),
        posting(PROVINCE, exchange=tier_exchange("ministry-province")),
    )
    outcomes = [(await outbox.publish([own]))[0] for _ in range(8)]

    assert set(outcomes) == {"routed", "not-taken"}
    assert outcomes == sorted(outcomes, reverse=True)
    assert await outbox.publish([own, other]) == ["not-taken", "routed"]
    assert len(await bodies_in(vhost, OWN_QUEUE_COMMUNE)) == outcomes.count("routed")


async def test_an_exchange_that_is_gone_costs_only_its_own_postings(vhost, outbox):
    """The others may arrive twice; they must arrive."""
    innocent = [posting(code, b"%d" % number) for number in range(50) for code in (HERE, THERE)]
    guilty = [posting(code, exchange=GONE) for code in (HERE, THERE, NOWHERE)]
    outcomes = await outbox.publish([*innocent[:50], *guilty, *innocent[50:]])

    assert outcomes == ["routed"] * 50 + ["broker-refused"] * 3 + ["routed"] * 50
    assert set(await bodies_in(vhost, HERE)) == {b"%d" % number for number in range(50)}


async def test_an_exchange_that_is_deleted_while_in_use_is_never_taken_for_a_success(vhost, outbox):
    assert await outbox.publish([posting(HERE)]) == ["routed"]
    vhost.manage("DELETE", f"/exchanges/{vhost.vhost}/{EXCHANGE}")

    assert set(await outbox.publish([posting(HERE), posting(THERE)] * 100)) == {"broker-refused"}


async def test_a_body_that_is_too_large_is_refused_and_harms_nobody(vhost, outbox):
    too_large = bytes(16 * 1024 * 1024 + 1)
    outcomes = await outbox.publish([posting(THERE), posting(HERE, too_large), posting(HERE)])

    assert outcomes == ["routed", "broker-refused", "routed"]


async def test_a_foreign_user_is_refused(outbox):
    outbox._user = "somebody-else"

    assert await outbox.publish([posting(HERE)]) == ["broker-refused"]


async def test_an_exchange_that_the_user_may_not_write_to_is_refused(vhost):
    wanted = await provide(vhost)
    async with user(vhost, PROVINCE, wanted) as url, connection(url()) as made:
        assert await Outbox(made).publish([posting(OWN_QUEUE_COMMUNE)]) == ["broker-refused"]


async def test_thousands_are_published_at_once(vhost, outbox):
    count = 3000
    outcomes = await outbox.publish([posting(HERE, b"%d" % number, document=number) for number in range(count)])

    assert Counter(outcomes) == {"routed": count}
    assert set(await bodies_in(vhost, HERE)) == {b"%d" % number for number in range(count)}


async def test_confirms_that_never_come_leave_everything_unsure_in_time(vhost, outbox):
    """However much there was to publish, it takes one timeout; the next one has a new connection."""
    async with Proxy(vhost.amqp_url) as proxy, connection(proxy.url) as hub:
        outbox = Outbox(hub, confirm_timeout_s=1)
        await outbox.ready()
        proxy.hole = "confirms"
        began = asyncio.get_running_loop().time()
        outcomes = await outbox.publish([posting(HERE, document=number) for number in range(3000)])
        took_s = asyncio.get_running_loop().time() - began
        proxy.hole = "nothing"
        await outbox.ready()

        assert Counter(outcomes) == {"unsure": 3000}
        assert took_s < 3
        assert await outbox.publish([posting(HERE)]) == ["routed"]


async def test_a_connection_that_breaks_in_mid_flight_leaves_everything_unsure(vhost, outbox):
    async with Proxy(vhost.amqp_url) as proxy, connection(proxy.url) as hub:
        outbox = Outbox(hub)
        await outbox.ready()
        proxy.hole = "confirms"
        publishing = asyncio.create_task(outbox.publish([posting(HERE)] * 100))
        await asyncio.sleep(0.3)
        proxy.cut()
        outcomes = await asyncio.wait_for(publishing, 5)
        proxy.hole = "nothing"
        await outbox.ready()

        assert set(outcomes) == {"unsure"}
        assert await outbox.publish([posting(HERE)]) == ["routed"]


async def test_a_cancelled_publish_is_cancelled_and_harms_no_later_one(vhost, outbox):
    publishing = asyncio.create_task(outbox.publish([posting(HERE, document=number) for number in range(3000)]))
    await asyncio.sleep(0.02)
    publishing.cancel()
    await asyncio.wait([publishing])

    assert publishing.cancelled()
    assert await outbox.publish([posting(HERE), posting(NOWHERE)]) == ["routed", "unroutable"]


async def test_without_a_broker_nothing_is_ready_and_everything_unsure(outbox, hub):
    await hub.close()
    hub._urls = repeat("amqp://truc:secret@127.0.0.1:1/")

    with pytest.raises(Unavailable, match="broker: ") as caught:
        await outbox.ready()
    assert "secret" not in str(caught.value)
    assert await outbox.publish([posting(HERE), posting(THERE)]) == ["unsure", "unsure"]


async def test_a_broker_that_nobody_has_prepared_is_told_what_it_lacks(hub):
    with pytest.raises(Unavailable, match=r"no queue truc\.canary: run `truc broker apply`"):
        await Outbox(hub).answers()


async def test_a_queue_that_confirms_nothing_delays_nobody_until_the_timeout(own_rabbitmq):
    """Its process hangs, as that of a queue does whose leader is lost."""
    vhost = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    await provide(vhost, queues_of(HERE, THERE))
    hanging = f"'%2F_{agency_queue(HERE)}'"
    async with connection(vhost.amqp_url) as hub, asyncio.timeout(60):
        outbox = Outbox(hub, confirm_timeout_s=600)
        own_rabbitmq.ctl("eval", f"sys:suspend({hanging}).")
        first = await outbox.publish([posting(code) for code in (HERE, THERE) * 50])
        later = await outbox.publish([replace(posting(HERE), apart=True), posting(THERE)])
        own_rabbitmq.ctl("eval", f"sys:resume({hanging}).")
        after = await outbox.publish([posting(HERE), posting(THERE)])

    assert first[::2] == ["not-taken"] * 50
    assert set(first[1::2]) <= {"routed", "not-taken"}  # that channel may have been stopped as well
    assert later == ["not-taken", "routed"]
    assert after == ["routed", "routed"]


async def test_a_memory_alarm_is_named_and_waited_out(own_rabbitmq):
    """Under an alarm the broker reads nothing more; it says so at the first publish, also to those who only ask."""
    vhost = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    await provide(vhost, queues_of(HERE))
    async with connection(vhost.amqp_url) as hub:
        outbox = Outbox(hub, confirm_timeout_s=1)
        await outbox.answers()
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        with pytest.raises(Unavailable, match="alarm"):
            await _ask_again_and_again(outbox)
        during = await outbox.publish([posting(HERE)] * 10)
        with pytest.raises(Unavailable, match="alarm"):
            await outbox.ready()
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        await _until_ready(outbox)
        after = await outbox.publish([posting(HERE)])

    assert during == ["unsure"] * 10
    assert after == ["routed"]


async def test_a_connection_that_the_broker_closes_in_mid_flight_leaves_everything_unsure(own_rabbitmq):
    vhost = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    await provide(vhost, queues_of(HERE))
    async with connection(vhost.amqp_url) as hub:
        outbox = Outbox(hub)
        await outbox.ready()
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        publishing = asyncio.create_task(outbox.publish([posting(HERE)] * 100))
        await asyncio.sleep(0.5)
        own_rabbitmq.ctl("close_all_connections", "test")
        outcomes = await asyncio.wait_for(publishing, 5)

    assert set(outcomes) == {"unsure"}


async def test_a_killed_broker_is_used_again_once_it_is_back_with_all_that_was_routed(own_rabbitmq):
    vhost = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    await provide(vhost, queues_of(HERE))
    own_rabbitmq.restart()  # RabbitMQ 3.10 forgets the members of a queue that was made seconds before a kill
    async with connection(vhost.amqp_url) as hub:
        outbox = Outbox(hub, confirm_timeout_s=5)
        assert await outbox.publish([posting(HERE, b"before")]) == ["routed"]
        own_rabbitmq.kill()
        assert await outbox.publish([posting(HERE, b"without")]) == ["unsure"]
        own_rabbitmq.start()
        await _until_ready(outbox)
        assert await outbox.publish([posting(HERE, b"after")]) == ["routed"]

    assert {b"before", b"after"} <= set(await bodies_in(vhost, HERE)) <= {b"before", b"without", b"after"}


async def _ask_again_and_again(outbox: Outbox) -> None:
    async with asyncio.timeout(30):
        while True:
            await outbox.answers()
            await asyncio.sleep(0.1)


async def _until_ready(outbox: Outbox) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await outbox.ready()
            except Unavailable:
                await asyncio.sleep(0.1)
