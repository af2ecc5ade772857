"""Publishes to the recipients' queues and says what the broker did with each message.

| the broker                                | outcome          |
|-------------------------------------------|------------------|
| confirms                                  | `routed`         |
| returns it: no queue is bound to the key  | `unroutable`     |
| confirms negatively: queue full or down   | `not-taken`      |
| says nothing in time; the connection ends | `unsure`         |
| confirms others, but not this one in time | `not-taken`      |
| closes the channel because of it          | `broker-refused` |

A channel that the broker closes (exchange deleted, wrong user, too large) takes everything in flight with it, and the
broker does not say which message was at fault. All of these are published again, singly, so that only the guilty one
is held; the innocent may arrive twice, under the same delivery id.

A queue that has lost its leader withholds its confirm while the others give theirs. That is the queue's trouble and not
the broker's: the delivery waits longer each time, so that one such queue does not stop all the others again and again.
"""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Final

from hub.broker.channel import Channel, Outcome
from hub.broker.connection import Connection
from hub.broker.errors import translated
from hub.core.delivery import Posting
from hub.core.settlement import Handover
from hub.core.trouble import Unavailable
from schemas.addresses import tier_exchange
from schemas.checks.directory import PLATFORM_TIER

_ANSWER_TIMEOUT_S: Final = 2.0
_NOBODY: Final = "nobody"
"""A routing key that is no agency's code, so that no queue is bound to it."""


class Outbox:
    """Channels with publisher confirms on one connection.

    Args:
        connection: A connection that nothing consumes on; the broker vouches to the recipients for its user.
        channels: How many to spread the recipients over.
        confirm_timeout_s: Longest wait for the confirms of one `publish`.
    """

    def __init__(self, connection: Connection, *, channels: int = 4, confirm_timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._user = connection.user
        self._confirm_timeout_s = confirm_timeout_s
        self._lanes = [_Lane(connection) for _ in range(channels)]
        self._single_file = _Lane(connection)
        self._questions = _Lane(connection, confirms=False)
        self._one_at_a_time = asyncio.Lock()
        self._suspect = False

    async def ready(self) -> None:
        """Return when the broker can be published to.

        Raises:
            Unavailable: When it does not answer, or has stopped reading because of a memory or disk alarm.
        """
        await self._raise_alarm()
        if self._suspect:
            self._connection.drop()
            self._suspect = False
        for lane in (*self._lanes, self._single_file):
            await lane.channel()

    async def answers(self) -> None:
        """Return when the broker reads and answers what it is sent; dearer than `ready`, and for people who ask.

        An alarm is told to those who publish, and only then: a hub that has nothing to do would not know of it. So a
        message goes out that no queue takes, and after it a question that is answered when both were read.

        Raises:
            Unavailable: As `ready`, when there is no answer within 2 seconds, and when the exchanges are missing.
        """
        await self.ready()
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                with translated():
                    channel = await self._questions.channel()
                    await channel.basic_publish(b"", exchange=tier_exchange(PLATFORM_TIER), routing_key=_NOBODY)
                    await channel.basic_qos()
        except TimeoutError:
            await self._raise_alarm()
            raise Unavailable("broker", f"no answer within {_ANSWER_TIMEOUT_S:.0f} s") from None

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        """Publish all and wait for every confirm, at most `confirm_timeout_s` altogether.

        Returns:
            One outcome for each, in order. Nothing but a cancellation is raised.
        """
        deadline = asyncio.get_running_loop().time() + self._confirm_timeout_s
        outcomes = await self._publish(postings, deadline)
        if "timed-out" in outcomes:
            await self._distrust_connection()
        settled = [
            await self._again_if_innocent(posting, outcome, deadline)
            for posting, outcome in zip(postings, outcomes, strict=True)
        ]
        broker_answers = "routed" in settled
        return [handover_of(outcome, broker_answers=broker_answers) for outcome in settled]

    async def _publish(self, postings: Sequence[Posting], deadline: float) -> list[Outcome]:
        """Publish the mail of each recipient in order, by the lane that its code falls to."""
        by_lane: list[list[int]] = [[] for _ in self._lanes]
        for index, posting in enumerate(postings):
            by_lane[zlib.crc32(posting.routing_key.encode()) % len(self._lanes)].append(index)
        said = await asyncio.gather(
            *(
                lane.publish([postings[index] for index in indices], self._user, deadline)
                for lane, indices in zip(self._lanes, by_lane, strict=True)
                if indices
            )
        )
        told = dict(
            zip(
                (index for indices in by_lane for index in indices), (one for lane in said for one in lane), strict=True
            )
        )
        return [told[index] for index in range(len(postings))]

    async def _again_if_innocent(self, posting: Posting, outcome: Outcome, deadline: float) -> Outcome:
        if outcome in ("channel-closed", "not-sent"):
            async with self._one_at_a_time:
                (outcome,) = await self._single_file.publish([posting], self._user, deadline)
        return outcome

    async def _raise_alarm(self) -> None:
        if await self._connection.is_blocked():
            raise Unavailable("broker", "publishing is blocked by a memory or disk alarm")

    async def _distrust_connection(self) -> None:
        """Have the connection replaced, unless the broker has said why it is silent."""
        if await self._connection.is_blocked():
            self._suspect = True  # Kept until it is unblocked: a new one would not know about the alarm.
        else:
            self._connection.drop()


def handover_of(outcome: Outcome, *, broker_answers: bool) -> Handover:
    """Say what an outcome means for the delivery.

    Args:
        outcome: What became of its last publish.
        broker_answers: Whether the broker has confirmed another message of the same call.
    """
    match outcome:
        case "channel-closed":
            return "broker-refused"
        case "timed-out":
            return "not-taken" if broker_answers else "unsure"
        case "not-sent":
            return "unsure"
        case _:
            return outcome


class _Lane:
    """One channel, opened again after it was closed."""

    def __init__(self, connection: Connection, *, confirms: bool = True) -> None:
        self._connection = connection
        self._confirms = confirms
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def channel(self) -> Channel:
        async with self._opening:
            if self._channel is None or not self._connection.carries(self._channel):
                self._channel = await self._connection.channel(confirms=self._confirms)
            return self._channel

    async def publish(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        try:
            async with asyncio.timeout_at(deadline):
                channel = await self.channel()
        except TimeoutError:
            return ["timed-out"] * len(postings)
        except Unavailable:
            return ["unsure"] * len(postings)
        return await channel.publish_all(postings, user, deadline)
