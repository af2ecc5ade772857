"""On which channel the outbox goes on after the broker has turned mail away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hub.broker import outbox
from hub.broker.channel import Outcome
from hub.broker.outbox import Outbox
from hub.core.delivery import Posting
from tests.unit.test_outbox_outcomes import posting


class PlayedChannel:
    """Says the same about everything."""

    confirmed_at = 0.0

    def __init__(self, says: Outcome) -> None:
        self.says = says
        self.published = 0

    async def publish_all(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        self.published += len(postings)
        return [self.says] * len(postings)


class PlayedConnection:
    """Gives channels in turn; the last for ever."""

    user = "truc-hub"

    def __init__(self, *says: Outcome) -> None:
        self._ready = [PlayedChannel(each) for each in says]
        self.given: list[PlayedChannel] = []
        self.retired: list[PlayedChannel] = []

    async def channel(self, *, confirms: bool) -> PlayedChannel:
        assert confirms
        self.given.append(self._ready.pop(0))
        return self.given[-1]

    def carries(self, channel: PlayedChannel) -> bool:
        return channel not in self.retired

    def retire(self, channel: PlayedChannel) -> None:
        self.retired.append(channel)


async def publish(connection: Any, times: int) -> list[list[str]]:
    outgoing = Outbox(connection, channels=1)
    return [await outgoing.publish([posting()]) for _ in range(times)]  # type: ignore[misc]


async def test_after_a_negative_confirm_mail_goes_by_a_fresh_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_RENEWED_AFTER_S", 0.0)
    connection = PlayedConnection("not-taken", "routed")
    assert await publish(connection, 3) == [["not-taken"], ["routed"], ["routed"]]
    first, second = connection.given
    assert connection.retired == [first]
    assert second.published == 2


async def test_a_full_queue_costs_no_channel_for_each_of_its_messages() -> None:
    connection = PlayedConnection("not-taken", "routed")
    assert await publish(connection, 3) == [["not-taken"]] * 3
    assert connection.retired == []


class SlowChannel(PlayedChannel):
    """Confirms nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__("routed")
        self.word: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def publish_all(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        self.published += len(postings)
        return [await self.word] * len(postings)

    def give_up(self) -> bool:
        self.word.set_result("withheld")
        return True


class CanaryChannel(PlayedChannel):
    """Confirms at once, and lets the other channel confirm a little later."""

    def __init__(self, slow: SlowChannel | None = None) -> None:
        super().__init__("routed")
        self.slow = slow

    async def publish_all(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        if self.slow is not None:
            asyncio.get_running_loop().call_later(0.01, self.slow.word.set_result, "routed")
        return await super().publish_all(postings, user, deadline)


def slow_connection(canary: Callable[[SlowChannel], CanaryChannel]) -> PlayedConnection:
    connection = PlayedConnection()
    slow = SlowChannel()
    connection._ready = [slow, canary(slow)]
    return connection


async def test_a_broker_that_was_only_slow_takes_everything_though_the_canary_is_back_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "_QUIET_S", 0.05)
    connection = slow_connection(CanaryChannel)

    assert await publish(connection, 1) == [["routed"]]
    assert connection.given[1].published == 1


async def test_what_a_queue_withholds_is_given_up_when_the_canary_is_back_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "_QUIET_S", 0.05)
    connection = slow_connection(lambda _: CanaryChannel())

    assert await publish(connection, 1) == [["not-taken"]]
    assert connection.given[1].published == 2
