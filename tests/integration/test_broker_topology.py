"""The topology on a real broker, and what a user of it may do."""

from dataclasses import replace

import aiormq
import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from pamqp.commands import Basic

from hub.broker.management import Management
from hub.broker.topology import Bounds, desired, drift, plan
from hub.core.trouble import Unavailable
from schemas.addresses import INTAKE, RECEIPTS, SUBMIT, agency_queue
from schemas.identifiers import AgencyCode
from tests.hub_process import eventually, free_port
from tests.integration.broker_fixtures import (
    OWN_QUEUE_COMMUNE,
    PROVINCE,
    SMALL,
    agency,
    directory,
    mail_in,
    management,
    provide,
    raw_channel,
    user,
)


@pytest.fixture
async def api(vhost):
    async with management(vhost) as made:
        yield made


async def everything(api, wanted):
    """Compare, leaving out the users: they belong to the whole broker."""
    return drift(replace(wanted, users=()), await api.topology())


async def test_after_a_plan_is_carried_out_nothing_is_left_of_it(vhost, api):
    wanted = await provide(vhost)

    assert not await everything(api, wanted)


async def test_to_carry_it_out_twice_changes_nothing(vhost, api):
    wanted = replace(desired(SMALL), users=())
    steps = plan(wanted, await api.topology())
    await api.apply(steps)
    before = await api.topology()
    await api.apply(steps)

    assert await api.topology() == before


async def test_more_than_one_page_and_chunk(vhost, api):
    """501 queues with their bindings are more than one call takes and more than one page shows."""
    codes = [AgencyCode(f"H30.{number}") for number in range(501)]
    wanted = desired(directory(*(agency(code, "commune", code) for code in codes)))
    await provide(vhost, wanted)

    assert not await everything(api, wanted)


async def test_drift_is_found(vhost, api):
    wanted = await provide(vhost)
    vhost.manage("DELETE", f"/bindings/{vhost.vhost}/e/truc.tier.commune/q/truc.agency.H30.01/H30.01")
    vhost.manage("PUT", f"/queues/{vhost.vhost}/stranger", {"durable": True})
    found = await everything(api, desired(SMALL, Bounds(shared_queue_max_bytes=10**9)))

    assert [str(step) for step in found.missing] == ["make binding truc.tier.commune ─ H30.01 → truc.agency.H30.01"]
    assert [sentence.split(" (")[0] for sentence in found.wrong] == [
        "queue truc.intake has other arguments",
        "queue truc.receipts has other arguments",
    ]
    assert found.surplus == ("queue stranger is not in the plan",)
    assert wanted.queues[1].name == INTAKE


async def test_a_smaller_directory_deletes_nothing(vhost, api):
    await provide(vhost)
    before = await api.topology()
    await provide(vhost, desired(directory(agency(PROVINCE, "commune", PROVINCE), platforms=())))
    after = await api.topology()

    assert set(before.exchanges) <= set(after.exchanges)
    assert {item.name for item in before.queues} == {item.name for item in after.queues}
    assert set(before.bindings) < set(after.bindings)


async def test_a_queue_with_other_arguments_is_left_alone(vhost, api):
    await provide(vhost)
    await provide(vhost, desired(SMALL, Bounds(shared_queue_max_bytes=5)))

    assert not await everything(api, desired(SMALL))


async def test_a_wrong_password_is_trouble_that_does_not_tell_it(vhost):
    host = vhost.management_url.rpartition("@")[2]
    async with Management(f"http://nobody:secret@{host}", vhost.vhost) as api:
        with pytest.raises(Unavailable, match="refuses the user or password") as caught:
            await api.topology()

    assert "secret" not in str(caught.value)


async def test_an_api_that_does_not_answer_is_trouble_that_says_what_was_asked():
    async with Management(f"http://nobody:secret@127.0.0.1:{free_port()}", "/") as api:
        with pytest.raises(Unavailable, match="GET /api/exchanges//: ConnectError") as caught:
            await api.topology()

    assert "secret" not in str(caught.value)


class TestUser:
    """An agency's user may do exactly four things: submit three kinds under its own name, and read its own queue."""

    @pytest.fixture
    async def wanted(self, vhost):
        return await provide(vhost)

    @pytest.fixture
    async def url(self, vhost, wanted):
        async with user(vhost, PROVINCE, wanted) as url:
            yield url()

    async def test_is_as_wanted_once_made(self, vhost, api, wanted, url):
        users = {item.name: item for item in (await api.topology()).users}

        assert users[PROVINCE] in wanted.users

    async def test_lost_rights_are_given_back_and_the_password_stays(self, vhost, api, wanted, url):
        vhost.manage("DELETE", f"/permissions/{vhost.vhost}/{PROVINCE}")
        steps = [step for step in plan(wanted, await api.topology()) if getattr(step.item, "name", "") == PROVINCE]
        await api.apply(steps, passwords={})
        async with raw_channel(url) as channel:
            await channel.basic_publish(b"1", exchange=SUBMIT, routing_key="document.H26")

        assert [str(step) for step in steps] == ["change user H26"]

    async def test_without_passwords_a_user_can_only_come_with_a_certificate(self, vhost, api, wanted):
        steps = [step for step in plan(wanted, await api.topology()) if getattr(step.item, "name", "") == "H30.01"]
        await api.apply(steps)
        try:
            found = vhost.manage("GET", "/users/H30.01")
            host = vhost.amqp_url.rpartition("@")[2]
            with pytest.raises(aiormq.exceptions.AMQPConnectionError, match="ACCESS_REFUSED"):
                await aiormq.connect(f"amqp://H30.01:@{host}")
        finally:
            vhost.manage("DELETE", "/users/H30.01")

        assert found["password_hash"] == ""
        assert found["tags"] in ("", [])

    @pytest.mark.parametrize(
        ("key", "queue"), [("document.H26", INTAKE), ("receipt.H26", RECEIPTS), ("status.H26", RECEIPTS)]
    )
    async def test_submits_under_its_own_name(self, vhost, url, key, queue):
        async with raw_channel(url) as channel:
            properties = Basic.Properties(user_id=PROVINCE)
            confirm = await channel.basic_publish(b"1", exchange=SUBMIT, routing_key=key, properties=properties)

        assert isinstance(confirm, Basic.Ack)
        assert [message.body for message in await mail_in(vhost.amqp_url, queue)] == [b"1"]

    async def test_reads_its_own_queue(self, url):
        async with raw_channel(url) as channel:
            await channel.basic_consume(agency_queue(PROVINCE), _nothing)

    @pytest.mark.parametrize("key", ["document.H30.01", "document.H26.01", "documentXH26", "other.H26", "document"])
    async def test_may_not_submit_under_another_name(self, url, key):
        async with raw_channel(url) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.basic_publish(b"1", exchange=SUBMIT, routing_key=key)

    @pytest.mark.parametrize("exchange", ["truc.tier.commune", "truc.dead", "", "amq.topic"])
    async def test_may_not_publish_elsewhere(self, url, exchange):
        async with raw_channel(url) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.basic_publish(b"1", exchange=exchange, routing_key=agency_queue(OWN_QUEUE_COMMUNE))

    @pytest.mark.parametrize("queue", [agency_queue(OWN_QUEUE_COMMUNE), INTAKE, "truc.dead"])
    async def test_may_not_read_what_is_not_its_own(self, url, queue):
        async with raw_channel(url) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.basic_consume(queue, _nothing)

    async def test_may_not_claim_to_be_another(self, url):
        async with raw_channel(url) as channel:
            properties = Basic.Properties(user_id="H30.01")
            with pytest.raises(ChannelPreconditionFailed):
                await channel.basic_publish(b"1", exchange=SUBMIT, routing_key="document.H26", properties=properties)

    @pytest.mark.parametrize(
        "deed",
        [
            lambda channel: channel.queue_declare("truc.agency.H26.mine"),
            lambda channel: channel.queue_delete(agency_queue(PROVINCE)),
            lambda channel: channel.exchange_declare("mine"),
            lambda channel: channel.queue_bind(agency_queue(PROVINCE), "truc.tier.commune", "H30.01"),
            lambda channel: channel.queue_bind(agency_queue(PROVINCE), SUBMIT, "document.#"),
        ],
        ids=["declare a queue", "delete its queue", "declare an exchange", "bind to a tier", "listen to submissions"],
    )
    async def test_may_not_change_the_topology(self, url, deed):
        async with raw_channel(url) as channel:
            with pytest.raises(ChannelAccessRefused):
                await deed(channel)


async def _nothing(message):
    pass


async def test_the_broker_says_how_many_files_it_may_open(api: Management) -> None:
    version = (await api._get("/overview", columns="rabbitmq_version"))["rabbitmq_version"]
    if not version.startswith("3."):  # it reserves none, and does not count
        assert await api.file_limit() is None
        return

    async def enough() -> bool:
        return (await api.file_limit() or 0) >= 1000

    await eventually(enough, 20, "a limit of the broker")  # it counts for the first time some seconds after its start


async def test_a_node_that_has_not_counted_its_files_yet_sets_no_limit(api: Management, monkeypatch) -> None:
    """RabbitMQ shows the columns that it knows of a node, and where it knows none of them an empty list."""
    known = {"name": "rabbit@a", "rabbitmq_version": "3.10.8"}

    async def get(path: str, columns: str) -> object:
        shown = {name: known[name] for name in columns.split(",") if name in known} or []
        return shown if path == "/overview" else [shown]

    monkeypatch.setattr(api, "_get", get)
    assert await api.file_limit() is None
