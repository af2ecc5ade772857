"""The connection against a real broker."""

import asyncio

import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from hub.broker.connection import Connection
from hub.core.trouble import Unavailable
from tests.integration.broker_fixtures import connection

NOWHERE = "amqp://truc:secret@127.0.0.1:1/"


async def test_channels_share_one_connection(vhost):
    async with connection(vhost.amqp_url) as made:
        first, second = await asyncio.gather(made.channel(), made.channel())

        assert first.connection is second.connection


async def test_the_numbers_of_closed_channels_are_used_again(vhost):
    """The broker allows 64 channels and closes the connection at a higher number."""
    async with connection(vhost.amqp_url) as made:
        kept = await made.channel()
        for _ in range(100):
            channel = await made.channel()
            with pytest.raises(ChannelNotFoundEntity):
                await channel.queue_declare("missing", passive=True)

        assert made.carries(kept)


async def test_a_dropped_connection_carries_nothing_and_the_next_channel_is_on_a_new_one(vhost):
    async with connection(vhost.amqp_url) as made:
        before = await made.channel()
        made.drop()
        after = await made.channel()

        assert not made.carries(before)
        assert made.carries(after)


async def test_a_failed_attempt_is_not_repeated_at_once_by_everybody(vhost):
    made = Connection(NOWHERE, name="test", retry_delay_s=60)
    with pytest.raises(Unavailable, match="Connect") as first:
        await made.channel()
    with pytest.raises(Unavailable, match="tried again in") as second:
        await made.channel()

    assert "secret" not in f"{first.value} {second.value}"


async def test_the_wait_between_attempts_grows_up_to_a_bound():
    made = Connection(NOWHERE, name="test", retry_delay_s=0.01, max_retry_delay_s=0.05)
    waits = []
    for _ in range(6):
        await asyncio.sleep(max(0.0, made._retry_at - asyncio.get_running_loop().time()))
        with pytest.raises(Unavailable):
            await made.channel()
        waits.append(made._retry_at - asyncio.get_running_loop().time())

    assert waits[0] <= 0.01
    assert 0.01 < waits[-1] <= 0.05


async def test_a_port_that_never_answers_is_given_up_in_time():
    async def never(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = Connection(f"amqp://truc:secret@127.0.0.1:{port}/", name="test", connect_timeout_s=0.2)
        with pytest.raises(Unavailable, match="TimeoutError"):
            await made.channel()


async def test_of_several_hosts_the_next_one_is_tried_after_one_that_failed_or_was_lost(vhost):
    host = vhost.amqp_url.rpartition("@")[2].partition("/")[0]
    made = Connection(
        vhost.amqp_url.replace(f"@{host}", f"@127.0.0.1:1,{host}"), name="test", retry_delay_s=0, max_retry_delay_s=0
    )
    outcomes = []
    for _ in range(4):
        try:
            await made.channel()
        except Unavailable:
            outcomes.append("failed")
        else:
            outcomes.append("connected")
            made.drop()
    await made.close()

    assert outcomes in (["failed", "connected"] * 2, ["connected", "failed"] * 2)


async def test_a_wrong_password_is_trouble_that_does_not_tell_it(vhost):
    user, _, rest = vhost.amqp_url.partition("truc:")
    made = Connection(f"{user}truc:secret@{rest.partition('@')[2]}", name="test")
    with pytest.raises(Unavailable, match="ACCESS_REFUSED") as caught:
        await made.channel()

    assert "secret" not in str(caught.value)


async def test_settings_in_the_url_win(vhost):
    made = Connection(f"{vhost.amqp_url}?heartbeat=5", name="hub", heartbeat_s=10)

    assert made._url.endswith("?heartbeat=5&name=hub")
    assert made.user == "truc"
