"""A channel for the traffic of one agency: no task, no timeout and no drain for each message.

The library makes all of these, and they cost an agency more than signing does. What the broker says is told apart all
the same: confirms come singly or for all up to a number, and a returned message is known by its `message_id`. When the
channel or the connection ends, everything undecided ends with the library's own error; one timer sees to what the broker
says nothing about.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, Final, Literal
from uuid import uuid4

import aio_pika
import aio_pika.abc
import aiormq
import aiormq.channel
from aio_pika.connection import make_url
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from schemas.amqp_frames import ack_frame, publish_frames, reject_frame
from schemas.amqp_reader import Arrived, Receiver, read_properties
from schemas.amqp_transport import Transport
from schemas.bundle import untie

_FULL_S: Final = 0.01
"""How soon to look again whether the library's queue, of ten frames for a whole connection, has room."""

Said = Literal["taken", "returned", "not-taken"]
"""What the broker said about a publish."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came, or one of those that came in it.

    Attributes:
        body: The bytes: one token.
        routing_key: Under which it came.
        redelivered: Whether the broker handed it out before.
        channel: Where it can be settled.
        number: By what the channel knows it; all that came in one message have the same.
    """

    body: bytes
    routing_key: str
    redelivered: bool
    channel: "Channel"
    number: int


@dataclass(slots=True)
class _Bundle:
    """A message that brought several: how many of them are not settled, and whether one was given back."""

    left: int
    given_back: bool = False


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A publish that the broker has not spoken about."""

    said: asyncio.Future[Said]
    message_id: str
    until: float


class Channel(Receiver, aiormq.channel.Channel):
    """A channel of one connection; see `open_channel`."""

    def __init__(self, *arguments: Any, confirm_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._confirm_timeout_s = confirm_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._ended = self.create_future()  # the library ends what it made; what is made here ends with it
        self._ended.add_done_callback(self._end_all)
        self._awaited: dict[int, _Awaited] = {}  # by number, ascending
        self._numbers: dict[str, int] = {}  # by message id
        self._arrive: Callable[[Message], None] = lambda _: None
        self._unsettled: dict[int, None] = {}  # numbers of what has arrived, ascending
        self._bundles: dict[int, _Bundle] = {}  # those of them that are several
        self._done: set[int] = set()  # those of them that are acknowledged, but not yet to the broker
        self._unwritten = bytearray()  # what is to be said to the broker about them
        self._writing: asyncio.Handle | None = None  # set while somebody is going to say it

    @property
    def _is_ending(self) -> bool:
        """Whether it is closed, or the broker has begun to close it: it closes the connection on who goes on speaking."""
        return self.is_closed or self._close_exception is not None

    async def send(
        self, body: bytes, *, exchange: str, routing_key: str, correlation_id: str, user: str
    ) -> asyncio.Future[Said]:
        """Publish a message; returns what will be done when the broker has spoken about it.

        That ends with `TimeoutError` when the broker has said nothing for `confirm_timeout_s`, with another error when
        the channel ends.

        Raises:
            ChannelInvalidStateError: When the channel is closed.
            ValueError: When a text is longer than AMQP can carry.
        """
        message_id = uuid4().hex  # fresh: a returned message is told apart by it
        frames = publish_frames(
            self.number,
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            message_id=message_id,
            correlation_id=correlation_id,
            user_id=user,
            max_body_bytes=self.max_content_size,
            content_type="application/jose",
        )
        if self._is_ending:
            raise ChannelInvalidStateError(f"{self!r} closed")
        await self.write_queue.put(ChannelFrame(frames, should_close=False))
        # Nothing is awaited between the frames and their number, which the broker counts as they arrive.
        self.delivery_tag += 1
        said: asyncio.Future[Said] = self.loop.create_future()
        self._awaited[self.delivery_tag] = _Awaited(said, message_id, self.loop.time() + self._confirm_timeout_s)
        self._numbers[message_id] = self.delivery_tag
        if self._timer is None:
            self._timer = self.loop.call_later(self._confirm_timeout_s, self._end_overdue)
        return said

    async def settled(self) -> None:
        """Return when the broker has spoken about everything that was sent, or nothing more is expected of it."""
        if self._awaited:
            await asyncio.wait({awaited.said for awaited in self._awaited.values()})

    async def consume(self, queue: str, arrive: Callable[[Message], None]) -> None:
        """Have everything that arrives from a queue set down at once, in order."""
        self._arrive = arrive
        await self.basic_consume(queue, _never_called)

    def acknowledge(self, number: int) -> None:
        """Settle a message, or one of those that came in it; what is settled at about the same moment goes out together.

        Raises:
            ChannelInvalidStateError: When the channel is closed.
        """
        self._settle(number, give_back=False)

    def reject(self, number: int) -> None:
        """Give a message back to the axis, which decides about it; raises as `acknowledge`.

        Of those that came in one message all go back, when the last of them is settled; the axis sends each by itself then.
        """
        self._settle(number, give_back=True)

    def _settle(self, number: int, *, give_back: bool) -> None:
        if self._is_ending:
            raise ChannelInvalidStateError(f"{self!r} closed")
        bundle = self._bundles.get(number)
        if bundle is not None:
            bundle.left -= 1
            bundle.given_back |= give_back
            if bundle.left > 0:
                return
            give_back = bundle.given_back
            del self._bundles[number]
        if give_back:
            self._add_acknowledgements()  # what comes first must not be called settled together with this
            self._unsettled.pop(number, None)
            self._unwritten += reject_frame(self.number, number)
        else:
            self._done.add(number)
        if self._writing is None:
            self._writing = self.loop.call_soon(self._write)

    def _add_acknowledgements(self) -> None:
        """Settle with one frame all up to the first that is not done, and with one each those behind it."""
        first_open = next((number for number in self._unsettled if number not in self._done), None)
        behind = [] if first_open is None else sorted(number for number in self._done if number > first_open)
        up_to = max((number for number in self._done if first_open is None or number < first_open), default=None)
        if up_to is not None:
            self._unwritten += ack_frame(self.number, up_to, all_before=True)
        for number in behind:
            self._unwritten += ack_frame(self.number, number)
        for number in self._done:
            self._unsettled.pop(number, None)
        self._done.clear()

    def _write(self) -> None:
        """Say what was settled meanwhile in one piece; later, when others have filled the way to the broker."""
        self._writing = None
        self._add_acknowledgements()
        if not self._unwritten or self._is_ending:
            return
        if self.write_queue.full():
            self._writing = self.loop.call_later(_FULL_S, self._write)
            return
        self.write_queue.put_nowait(ChannelFrame(bytes(self._unwritten), should_close=False))
        self._unwritten.clear()

    async def flush(self) -> None:
        """Return when everything that was sent so far has left."""
        if self._writing is not None:
            self._writing.cancel()
        self._write()
        while self._unwritten and not self._is_ending:  # noqa: ASYNC110 - the library's queue tells nobody that it has room
            await asyncio.sleep(_FULL_S)
        drained = self.create_future()
        await self.write_queue.put(ChannelFrame(b"", should_close=False, drain_future=drained))
        await drained

    def confirmed(self, number: int, *, taken: bool, all_before: bool) -> None:
        """Tell the publishers what the broker said; called by the reader."""
        outcome: Said = "taken" if taken else "not-taken"
        for each in list(takewhile(lambda one: one <= number, self._awaited)) if all_before else [number]:
            if (awaited := self._awaited.pop(each, None)) is not None:
                del self._numbers[awaited.message_id]
                if not awaited.said.done():
                    awaited.said.set_result(outcome)

    def returned(self, properties: bytes) -> None:
        """Tell a publisher that its message could not be routed; called by the reader."""
        read = read_properties(properties)
        awaited = self._awaited.get(self._numbers.get((read and read.message_id) or "", 0))
        if awaited is not None and not awaited.said.done():
            awaited.said.set_result("returned")

    def arrived(self, message: Arrived) -> None:
        """Set a message down, of a bundle each by itself; called by the reader."""
        self._unsettled[message.number] = None
        tokens = untie(message.body)
        if len(tokens) > 1:
            self._bundles[message.number] = _Bundle(len(tokens))
        for token in tokens:
            self._arrive(Message(token, message.routing_key, message.redelivered, self, message.number))

    def _end_overdue(self) -> None:
        """End what the broker has said nothing about for too long; the timer goes on for the oldest of the others."""
        self._timer = None
        for awaited in self._awaited.values():
            if awaited.until > self.loop.time():
                self._timer = self.loop.call_at(awaited.until, self._end_overdue)
                return
            if not awaited.said.done():
                awaited.said.set_exception(TimeoutError())

    def _end_all(self, ended: asyncio.Future[Any]) -> None:
        """End everything with the channel."""
        if self._timer is not None:
            self._timer.cancel()
        error = None if ended.cancelled() else ended.exception()
        reason = error if isinstance(error, (AMQPError, OSError)) else ConnectionError("lost")
        for awaited in self._awaited.values():
            if not awaited.said.done():
                awaited.said.set_exception(reason)
        self._awaited.clear()
        self._numbers.clear()


async def connect(url: str, ssl_context: ssl.SSLContext | None, name: str) -> aio_pika.abc.AbstractConnection:
    """Open a connection, which the broker's own screens call by this name; raises the library's errors."""
    transport = Transport()
    connection = aio_pika.Connection(
        make_url(url), ssl_context=ssl_context, client_properties={"connection_name": name}
    )
    connection.kwargs["transport_factory"] = transport  # what this library does not know it would put into the url
    await connection.connect()
    transport.serve(_underneath(connection).channels)
    return connection


async def open_channel(
    connection: aio_pika.abc.AbstractConnection, *, confirms: bool = False, confirm_timeout_s: float = math.inf
) -> Channel:
    """Open a channel on a connection of `connect`; raises the library's errors."""
    below = _underneath(connection)
    number = next(number for number in count(1) if number not in below.channels)
    channel = Channel(below, number, publisher_confirms=confirms, confirm_timeout_s=confirm_timeout_s)
    below.channels[number] = channel
    await channel.open()
    return channel


def _underneath(connection: aio_pika.abc.AbstractConnection) -> aiormq.Connection:
    assert connection.transport is not None
    below = connection.transport.connection
    assert isinstance(below, aiormq.Connection)
    return below


async def _never_called(_: DeliveredMessage) -> None:
    """Stand where the library wants a callback; arrivals go past it."""
