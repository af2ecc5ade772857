"""What an agency does with a channel on which it is turned away."""

import asyncio
from typing import Any

import pytest

from adapters import line
from adapters.channel import Said
from adapters.errors import NotTaken
from adapters.line import Publisher
from schemas.identifiers import AgencyCode

TOKEN = b"a.b.c"


class PlayedChannel:
    """Says the same about everything."""

    def __init__(self, says: Said) -> None:
        self.says = says
        self.sent = 0
        self.is_closed = False

    async def send(self, body: bytes, **_: str) -> "asyncio.Future[Said]":
        assert not self.is_closed
        self.sent += 1
        said: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        said.set_result(self.says)
        return said

    async def settled(self) -> None:
        return

    async def close(self) -> None:
        self.is_closed = True


class PlayedLine:
    """Connects always."""

    def __init__(self) -> None:
        self.connections = 0
        self.is_closed = False

    async def connect(self, _: str) -> "PlayedLine":
        self.connections += 1
        return self

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[PlayedChannel]:
    """The channels that are opened in turn."""
    ready = [PlayedChannel("not-taken"), PlayedChannel("not-taken"), PlayedChannel("taken")]
    given: list[PlayedChannel] = []

    async def open_channel(*_: object, **__: object) -> PlayedChannel:
        given.append(ready.pop(0))
        return given[-1]

    monkeypatch.setattr(line, "open_channel", open_channel)
    return given


async def test_what_is_turned_away_is_published_again_on_a_fresh_channel_of_the_same_connection(
    opened: list[PlayedChannel],
) -> None:
    at: Any = PlayedLine()
    publisher = Publisher(at, AgencyCode("H26"), 5.0)
    await publisher.publish(TOKEN, "document.H26", 10.0)
    await asyncio.sleep(0)
    assert [channel.sent for channel in opened] == [1, 1, 1]
    assert [channel.is_closed for channel in opened] == [True, True, False]
    assert at.connections == 1
    await publisher.publish(TOKEN, "document.H26", 10.0)
    assert opened[-1].sent == 2


async def test_who_is_turned_away_until_the_end_is_told_so(opened: list[PlayedChannel]) -> None:
    at: Any = PlayedLine()
    with pytest.raises(NotTaken):
        await Publisher(at, AgencyCode("H26"), 5.0).publish(TOKEN, "document.H26", 0.0)
    assert [channel.sent for channel in opened] == [1]
