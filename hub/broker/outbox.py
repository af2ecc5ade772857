"""Publishes to the recipients' queues and says what the broker did with each message.

| the broker                                | outcome          |
|-------------------------------------------|------------------|
| confirms                                  | `routed`         |
| returns it: no queue is bound to the key  | `unroutable`     |
| confirms negatively: queue full or down   | `not-taken`      |
| says nothing in time; the connection ends | `unsure`         |
| confirms others, but not this one         | `not-taken`      |
| closes the channel because of it          | `broker-refused` |

A channel that the broker closes (exchange deleted, wrong user, too large) takes everything in flight with it, and the
broker does not say which message was at fault. All of these are published again, singly, so that only the guilty one
is held; the innocent may arrive twice, under the same delivery id.

A queue that has lost its leader withholds its confirm while the others give theirs, and may stop its whole channel.
That is the queue's trouble and not the broker's, and must not delay the mail of others: after a second without any
confirm the canary is published, into a quorum queue of its own. When it is confirmed twice, with a second between in which
still nothing else was, the broker has stored all that it could, and what was sent before is waited for no longer: a broker
that is only busy, or waits for its disk, confirms the rest soon after the canary. From then on not all is well with that
recipient, and its mail has a channel apart.

A channel of RabbitMQ 3.10 that has published to a quorum queue in the moment between the death of its leader and the
choice of the next one gets a negative confirm for everything that it publishes to that queue, for ever, while others are
confirmed. So after a negative confirm the next mail goes out on a fresh channel.
"""

import asyncio
import math
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from hub.broker.channel import Channel, Outcome
from hub.broker.connection import Connection
from hub.core.delivery import Delivery, Posting
from hub.core.settlement import Handover
from hub.core.trouble import Unavailable
from schemas.addresses import CANARY, tier_exchange
from schemas.checks.directory import PLATFORM_TIER
from schemas.identifiers import HUB, AgencyCode, DeliveryId, DocumentId

_QUIET_S: Final = 1.0
_CANARY_TIMEOUT_S: Final = 2.0
_CANARIES: Final = 2
"""That come back in one silence before it is believed to be a queue's."""
_RENEWED_AFTER_S: Final = 1.0
"""A queue that is full turns away whatever the channel, and is to cost no channel for each of its messages."""
_MAX_LEFT: Final = 16
"""Channels that may be left on one connection; the broker allows it 64."""
_CANARY: Final = Posting(
    tier_exchange(PLATFORM_TIER),
    CANARY,
    b"",
    (
        Delivery(
            delivery_id=DeliveryId(UUID(int=0)),
            object_id=DocumentId("0" * 64),
            typ="truc.canary",
            sender=HUB,
            recipient=AgencyCode(CANARY),
            state="pending",
            attempts=0,
            expires_at=datetime.max.replace(tzinfo=UTC),
        ),
    ),
)
"""A delivery of nothing to nobody."""


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
        self._apart = _Lane(connection)
        self._single_file = _Lane(connection)
        self._canary = _Lane(connection)
        self._one_at_a_time = asyncio.Lock()
        self._suspect = False
        self._left = 0

    async def ready(self) -> None:
        """Return when the broker can be published to.

        Raises:
            Unavailable: When it does not answer, or has stopped reading because of a memory or disk alarm.
        """
        await self._raise_alarm()
        if self._suspect:
            self._connection.drop()
            self._suspect = False
        for lane in (*self._lanes, self._apart, self._single_file, self._canary):
            await lane.channel()

    async def answers(self) -> None:
        """Return when the broker has stored and confirmed the canary; dearer than `ready`, and for people who ask.

        An alarm is told to those who publish, and only then: a hub that has nothing to do would not know of it.

        Raises:
            Unavailable: As `ready`, and when the canary is not confirmed within two seconds, or has no queue.
        """
        await self.ready()
        outcome = await self._let_canary_go()
        await self._raise_alarm()
        if outcome in ("unroutable", "channel-closed"):
            raise Unavailable("broker", f"no queue {CANARY}: run `truc broker apply`")
        if outcome != "routed":
            raise Unavailable("broker", f"confirms nothing within {_CANARY_TIMEOUT_S:.0f} s")

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        """Publish all and wait for every confirm, at most `confirm_timeout_s` altogether.

        Returns:
            One outcome for each, in order. Nothing but a cancellation is raised.
        """
        deadline = asyncio.get_running_loop().time() + self._confirm_timeout_s
        publishing = asyncio.create_task(self._publish(postings, deadline))
        try:
            await self._watch(publishing, deadline)
        finally:
            publishing.cancel()
        outcomes = publishing.result()
        if "timed-out" in outcomes:
            await self._distrust_connection()
        settled = [
            await self._again_if_innocent(posting, outcome, deadline)
            for posting, outcome in zip(postings, outcomes, strict=True)
        ]
        broker_answers = "routed" in settled
        return [handover_of(outcome, broker_answers=broker_answers) for outcome in settled]

    async def _watch(self, publishing: asyncio.Task[list[Outcome]], deadline: float) -> None:
        """Return when all is published; see to it that no queue holds up the others until the deadline."""
        lanes = (*self._lanes, self._apart)
        began = asyncio.get_running_loop().time()
        canaries = 0
        while not (await asyncio.wait({publishing}, timeout=_QUIET_S))[0]:
            confirmed_at = max(began, *(lane.confirmed_at for lane in lanes))
            is_quiet = asyncio.get_running_loop().time() - confirmed_at >= _QUIET_S
            canaries = canaries + 1 if is_quiet and await self._let_canary_go(deadline) == "routed" else 0
            if canaries == _CANARIES:
                self._left += sum(lane.give_up() for lane in lanes)
                canaries = 0
        if self._left > _MAX_LEFT:
            self._connection.drop()
            self._left = 0

    async def _let_canary_go(self, deadline: float = math.inf) -> Outcome:
        at_most = asyncio.get_running_loop().time() + _CANARY_TIMEOUT_S
        (outcome,) = await self._canary.publish([_CANARY], self._user, min(deadline, at_most))
        self._canary.heed([outcome])
        return outcome

    async def _publish(self, postings: Sequence[Posting], deadline: float) -> list[Outcome]:
        """Publish the mail of each recipient in order, by the lane that its code falls to, or apart."""
        lanes = (*self._lanes, self._apart)
        by_lane: list[list[int]] = [[] for _ in lanes]
        for index, posting in enumerate(postings):
            number = -1 if posting.apart else zlib.crc32(posting.routing_key.encode()) % len(self._lanes)
            by_lane[number].append(index)
        used = [(lane, indices) for lane, indices in zip(lanes, by_lane, strict=True) if indices]
        said = await asyncio.gather(
            *(lane.publish([postings[index] for index in indices], self._user, deadline) for lane, indices in used)
        )
        told: dict[int, Outcome] = {}
        for (lane, indices), outcomes in zip(used, said, strict=True):
            lane.heed(outcomes)
            told |= zip(indices, outcomes, strict=True)
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
        case "withheld":
            return "not-taken"
        case "not-sent":
            return "unsure"
        case _:
            return outcome


class _Lane:
    """One channel, opened again after it was closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._opened_at = 0.0

    @property
    def confirmed_at(self) -> float:
        """When the broker last confirmed anything here, by the clock of the event loop."""
        return self._channel.confirmed_at if self._channel else 0.0

    async def channel(self) -> Channel:
        async with self._opening:
            if self._channel is None or not self._connection.carries(self._channel):
                self._channel = await self._connection.channel(confirms=True)
                self._opened_at = asyncio.get_running_loop().time()
            return self._channel

    def heed(self, outcomes: Sequence[Outcome]) -> None:
        """Go on with a fresh channel after a negative confirm, which may be the channel's fault, unless it is fresh itself."""
        is_old = asyncio.get_running_loop().time() - self._opened_at >= _RENEWED_AFTER_S
        if "not-taken" in outcomes and is_old and self._channel is not None:
            self._connection.retire(self._channel)
            self._channel = None

    def give_up(self) -> bool:
        """Wait no longer for what is unconfirmed, and leave the channel, which a queue may have stopped, as it is.

        Returns:
            Whether a channel was left. To close it would take an answer from it.
        """
        if self._channel is None or not self._channel.give_up():
            return False
        self._channel = None
        return True

    async def publish(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        try:
            async with asyncio.timeout_at(deadline):
                channel = await self.channel()
        except TimeoutError:
            return ["timed-out"] * len(postings)
        except Unavailable:
            return ["unsure"] * len(postings)
        return await channel.publish_all(postings, user, deadline)
