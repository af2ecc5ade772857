"""On which channel the outbox goes on after the broker has turned mail away."""

from collections.abc import Sequence
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
