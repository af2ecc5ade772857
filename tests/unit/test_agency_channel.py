"""How an agency's channel tells the broker what it has settled."""

import asyncio
from collections.abc import AsyncIterator

import aiormq
import pamqp.commands
import pamqp.frame
import pytest
from aiormq.abc import ChannelFrame
from aiormq.exceptions import ChannelClosed, ChannelInvalidStateError

from adapters.channel import Channel
from schemas.amqp_reader import Arrived

MESSAGES = 30

Said = tuple[str, int, bool]
"""Ack or reject, the number, and whether all before it are meant."""


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    """A channel on which some messages have arrived, of a connection that writes nothing."""
    connection = aiormq.Connection("amqp://127.0.0.1/")
    connection.connection_tune = pamqp.commands.Connection.Tune(frame_max=131_072)
    made = Channel(connection, 1, publisher_confirms=False, confirm_timeout_s=1.0)
    for number in range(1, MESSAGES + 1):
        made.arrived(Arrived("queue", number, False, "H26", b"", b"a.b.c"))
    yield made
    await made.close()


def said(channel: Channel) -> list[Said]:
    """Take everything out of the queue to the broker, and read it."""
    data = b""
    while not channel.write_queue.empty():
        data += channel.write_queue.get_nowait().payload
    return read(data)


def read(data: bytes) -> list[Said]:
    """Read frames as the broker does."""
    found = []
    while data:
        size, _, frame = pamqp.frame.unmarshal(data)
        match frame:
            case pamqp.commands.Basic.Ack():
                found.append(("ack", frame.delivery_tag, bool(frame.multiple)))
            case pamqp.commands.Basic.Reject():
                assert not frame.requeue
                found.append(("reject", frame.delivery_tag, False))
        data = data[size:]
    return found


async def test_what_is_given_back_at_once_fills_no_queue(channel: Channel) -> None:
    assert channel.write_queue.maxsize < MESSAGES
    for number in range(1, MESSAGES + 1):
        channel.reject(number)
    await asyncio.sleep(0)
    assert said(channel) == [("reject", number, False) for number in range(1, MESSAGES + 1)]


async def test_what_is_settled_while_others_fill_the_queue_is_said_when_there_is_room(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.channel._FULL_S", 0.0)
    while not channel.write_queue.full():
        channel.write_queue.put_nowait(ChannelFrame(b"", should_close=False))
    channel.acknowledge(1)
    channel.acknowledge(2)
    await asyncio.sleep(0)
    channel.reject(3)
    channel.acknowledge(4)
    channel.acknowledge(6)
    leaving = asyncio.create_task(channel.flush())
    await asyncio.sleep(0)
    assert not leaving.done()
    assert said(channel) == []
    piece, last = [await channel.write_queue.get() for _ in range(2)]
    assert read(piece.payload) == [("ack", 2, True), ("reject", 3, False), ("ack", 4, True), ("ack", 6, False)]
    last.drain()
    await leaving


async def test_nothing_is_said_on_a_channel_that_the_broker_has_begun_to_close(channel: Channel) -> None:
    channel.reject(1)
    channel.acknowledge(2)
    channel._close_exception = ChannelClosed(404, "gone")
    await asyncio.sleep(0)
    assert said(channel) == []
    with pytest.raises(ChannelInvalidStateError):
        channel.reject(3)


async def test_what_comes_before_something_given_back_is_settled_apart_from_it(channel: Channel) -> None:
    channel.acknowledge(1)
    channel.reject(2)
    channel.acknowledge(3)
    await asyncio.sleep(0)
    assert said(channel) == [("ack", 1, True), ("reject", 2, False), ("ack", 3, True)]
