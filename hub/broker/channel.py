"""A channel that publishes many messages at once, and hands arrivals over without a task for each.

The library makes several futures, a task and a timeout for every message; all of them together cost more than the
broker does. Here a batch has one future. What the broker says about each message is told apart all the same:

- confirms come singly or for all up to a number, numbers being counted on both sides;
- a returned message has no number, so its `message_id` tells which it was, and its confirm follows and changes nothing;
- when the channel or the connection ends, all that is undecided ends with it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, Literal
from uuid import uuid4

import aiormq.channel
import structlog
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.exceptions import ChannelClosed, ChannelInvalidStateError

from hub.broker.errors import BROKER_ERRORS, is_cancelled
from hub.core.delivery import Posting
from hub.core.settlement import Handover
from schemas.amqp_frames import publish_frames
from schemas.amqp_reader import Arrived, Receiver, read_properties

Outcome = Handover | Literal["channel-closed", "not-sent", "timed-out", "withheld"]
"""What became of one publish on one channel, before anybody asked whose fault it was."""

_MAX_WRITE_BYTES: Final = 256 * 1024
"""Of one write; other channels of the connection, and heartbeats, go between two of them."""

_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Flight:
    """Messages that were published together.

    Attributes:
        landed: Done when the broker has spoken about each.
        outcomes: What it said; absent while it has not.
        to_come: How many it has not spoken about.
        sent: How many it has been sent, from the first on.
    """

    landed: asyncio.Future[None]
    outcomes: list[Outcome | None]
    to_come: int = 0
    sent: int = 0

    def land(self, index: int, outcome: Outcome) -> None:
        """Note what became of one; what was returned before stays unroutable."""
        self.outcomes[index] = self.outcomes[index] or outcome
        self.to_come -= 1
        if self.to_come == 0 and not self.landed.done():
            self.landed.set_result(None)


@dataclass(slots=True)
class _Write:
    """Frames that go out together, and which messages of a flight they are."""

    frames: list[bytes] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)
    size_bytes: int = 0


class Channel(Receiver, aiormq.channel.Channel):
    """A channel that is silent from the moment that the broker closes it.

    The library goes on publishing for some turns of the event loop, and the broker punishes a publish on a closed
    channel by closing the connection with all other channels.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_flight: dict[int, tuple[_Flight, int, str]] = {}  # by number, ascending
        self._numbers: dict[str, int] = {}  # by message id
        self.confirmed_at = 0.0
        """When the broker last confirmed anything, by the clock of the event loop."""
        self._arrivals: dict[str, Callable[[Arrived], None]] = {}  # by consumer tag

    async def publish_all(self, postings: Sequence[Posting], user: str | None, deadline: float) -> list[Outcome]:
        """Publish all and wait for every confirm.

        Args:
            postings: What to publish.
            user: What the broker vouches for to the recipients.
            deadline: When to wait no longer, by the clock of the event loop.

        Returns:
            One outcome for each, in order. Nothing but a cancellation is raised.
        """
        flight = _Flight(self.create_future(), [None] * len(postings))
        try:
            async with asyncio.timeout_at(deadline):
                await self._send(postings, user, flight)
                if flight.to_come:
                    await flight.landed
        except TimeoutError:
            ending: Outcome = "timed-out"
        except BROKER_ERRORS as error:
            ending = self._ending_of(error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            ending = "unsure"
        else:
            ending = "not-sent"
        finally:
            flight.landed.cancel()
        unsent: Outcome = "timed-out" if ending == "timed-out" else "not-sent"
        return [outcome or (ending if index < flight.sent else unsent) for index, outcome in enumerate(flight.outcomes)]

    def give_up(self) -> bool:
        """Wait no longer for what the broker has been sent and has not spoken about; tells whether there was any."""
        given_up = list(self._in_flight.values())
        self._in_flight.clear()
        self._numbers.clear()
        for flight, index, _ in given_up:
            flight.land(index, "withheld")
        return bool(given_up)

    async def consume(self, queue: str, arrive: Callable[[Arrived], None]) -> None:
        """Have everything that arrives from a queue set down at once, in order; the queue's name is the consumer's."""
        self._arrivals[queue] = arrive
        await self.basic_consume(queue, _never_called, consumer_tag=queue)

    def confirmed(self, number: int, *, taken: bool, all_before: bool) -> None:
        """Note what the broker said about a message, or about all up to it; called by the reader."""
        self.confirmed_at = self.loop.time()
        outcome: Outcome = "routed" if taken else "not-taken"
        for each in list(takewhile(lambda one: one <= number, self._in_flight)) if all_before else [number]:
            known = self._in_flight.pop(each, None)
            if known is not None:
                flight, index, message_id = known
                del self._numbers[message_id]
                flight.land(index, outcome)

    def returned(self, properties: bytes) -> None:
        """Note that a message could not be routed; called by the reader."""
        read = read_properties(properties)
        number = self._numbers.get((read and read.message_id) or "")
        if number is not None:
            flight, index, _ = self._in_flight[number]
            flight.outcomes[index] = "unroutable"

    def arrived(self, message: Arrived) -> None:
        """Set a message down where its consumer wants it; called by the reader."""
        arrive = self._arrivals.get(message.consumer)
        if arrive is not None:
            arrive(message)

    @property
    @asynccontextmanager
    async def lock(self) -> AsyncGenerator[None, None]:
        """Hold the channel; raises `ChannelInvalidStateError` from the moment that the broker closes it."""
        async with super().lock:
            if self._close_exception is not None:
                raise ChannelInvalidStateError(f"{self!r} closed")
            yield

    async def _send(self, postings: Sequence[Posting], user: str | None, flight: _Flight) -> None:
        async with self.lock:
            for write in self._writes(postings, user, flight):
                if self._close_exception is not None:
                    return
                drained = self.create_future()
                await self.write_queue.put(ChannelFrame(b"".join(write.frames), False, drained))
                # Nothing is awaited between the frames and their numbers, which the broker counts as they arrive.
                for index, message_id in zip(write.indices, write.message_ids, strict=True):
                    self.delivery_tag += 1
                    self._in_flight[self.delivery_tag] = flight, index, message_id
                    self._numbers[message_id] = self.delivery_tag
                flight.to_come += len(write.indices)
                flight.sent = write.indices[-1] + 1
                await drained

    def _writes(self, postings: Sequence[Posting], user: str | None, flight: _Flight) -> "list[_Write]":
        writes = [_Write()]
        for index, posting in enumerate(postings):
            message_id = uuid4().hex  # never used twice: of two alike the lost one would count as taken
            try:
                frames = publish_frames(
                    self.number,
                    exchange=posting.exchange,
                    routing_key=posting.routing_key,
                    body=posting.body,
                    message_id=message_id,
                    correlation_id=posting.object_id,
                    message_type=posting.typ,
                    user_id=user,
                    max_body_bytes=self.max_content_size,
                )
            except ValueError:
                _log.exception(
                    "delivery.unpublishable", delivery_ids=[str(each.delivery_id) for each in posting.deliveries]
                )
                flight.outcomes[index] = "broker-refused"
                continue
            if writes[-1].size_bytes > _MAX_WRITE_BYTES:
                writes.append(_Write())
            write = writes[-1]
            write.frames.append(frames)
            write.indices.append(index)
            write.message_ids.append(message_id)
            write.size_bytes += len(frames)
        return [write for write in writes if write.indices]

    def _ending_of(self, error: BaseException) -> Outcome:
        """Say what an error means for what was sent and not spoken about."""
        reason = self._close_exception or error
        return "channel-closed" if isinstance(reason, ChannelClosed) else "unsure"


async def _never_called(_: DeliveredMessage) -> None:
    """Stand where the library wants a callback; arrivals go past it."""
