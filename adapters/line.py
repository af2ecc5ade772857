"""The line to the axis: connections, publishing until it is confirmed, taking what arrives.

Connections are plain ones under supervision of our own, one to publish and one to consume, each opened at first use.
Nothing is declared here: queues and permissions are the operator's.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final, assert_never
from urllib.parse import unquote, urlsplit

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ChannelNotFoundEntity,
    ConnectionClosed,
    ProbableAuthenticationError,
)

from adapters.channel import Channel, Message, Said, connect, open_channel
from adapters.errors import BrokerError, NoQueue, NotConfirmed, NotTaken, RefusedByBroker, Unreachable, Unusable
from schemas.addresses import SUBMIT
from schemas.bundle import untie
from schemas.hosts import urls_by_host
from schemas.identifiers import AgencyCode
from schemas.signing import identity

log = logging.getLogger(__name__)

_TROUBLE: Final = (AMQPError, OSError, RuntimeError)  # the library's errors have no common root
_NOT_ALLOWED: Final = 530
_MAX_UNCONFIRMED: Final = 256
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 5.0
"""Longest wait for the broker when a connection ends."""


class Line:
    """The way to the broker: opens connections and says in our words why one cannot be opened.

    Args:
        amqp_url: As in `AgencyClient`.
        code: The party that connects.
        ssl_context: As in `AgencyClient`.
        timeout_s: How long an attempt may take with one host, seconds.

    Raises:
        Unusable: A101 when the url names another user than `code`.
    """

    def __init__(self, amqp_url: str, code: AgencyCode, ssl_context: ssl.SSLContext | None, timeout_s: float) -> None:
        parts = urlsplit(amqp_url)
        user = unquote(parts.username or "")
        if user != code:
            raise Unusable(
                f"the user of the url is {user!r}, not {code}",
                f"tài khoản trong địa chỉ là {user!r}, không phải {code}",
                place="amqp_url",
            )
        hosts = urls_by_host(amqp_url)
        self.place = ", ".join(f"{url.scheme}://{url.hostname}:{url.port or ''}" for url in map(urlsplit, hosts))
        self._hosts = len(hosts)
        self._urls = cycle(random.sample(hosts, self._hosts))  # so that agencies spread over the nodes of a cluster
        self._code = code
        self._ssl_context = ssl_context
        self._timeout_s = timeout_s

    async def connect(self, purpose: str) -> AbstractConnection:
        """Open a connection, to the next host in turn that answers.

        Raises:
            RefusedByBroker: When the broker does not let us in.
            Unreachable: When no host answers.
        """
        for _ in range(self._hosts - 1):
            with contextlib.suppress(Unreachable):
                return await self._connect(next(self._urls), purpose)
        return await self._connect(next(self._urls), purpose)

    async def _connect(self, url: str, purpose: str) -> AbstractConnection:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await connect(url, self._ssl_context, f"truc-agency {self._code} {purpose}")
        except (AuthenticationError, ProbableAuthenticationError) as error:
            raise self.refused(error) from error
        except ConnectionClosed as error:
            if error.args and error.args[0] == _NOT_ALLOWED:
                raise self.refused(error) from error
            raise self.unreachable(error) from error
        except _TROUBLE as error:
            raise self.unreachable(error) from error

    def refused(self, error: Exception) -> RefusedByBroker:
        """Say that the broker said no."""
        return RefusedByBroker(
            f"the broker says: {last_line(error)}", f"máy chủ báo: {last_line(error)}", place=self.place
        )

    def unreachable(self, error: BaseException | None) -> Unreachable:
        """Say that the broker does not answer."""
        return Unreachable(
            f"no connection: {last_line(error)}", f"không kết nối được: {last_line(error)}", place=self.place
        )


class Publisher:
    """Publishes under confirms, on a connection of its own that is opened when needed.

    What was turned away is published again on a fresh channel: one of RabbitMQ 3.10 that published to a quorum queue just
    when its leader had died is turned away for ever, while others are not.
    """

    def __init__(self, line: Line, code: AgencyCode, confirm_timeout_s: float) -> None:
        self._line = line
        self._code = code
        self._confirm_timeout_s = confirm_timeout_s
        self._room = asyncio.Semaphore(_MAX_UNCONFIRMED)
        self._opening = asyncio.Lock()
        self._closed = False
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def publish(self, body: bytes, routing_key: str, timeout_s: float | None) -> None:
        """Publish the same bytes until they are confirmed, or until the time is over; without end for `None`."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        doubt: NotConfirmed | None = None
        async with self._room:
            for wait_s in _waits():
                trouble = await self._attempt(body, routing_key)
                if trouble is None:
                    return
                doubt = trouble if isinstance(trouble, NotConfirmed) else doubt
                out_of_time = self._closed or (deadline is not None and loop.time() + wait_s >= deadline)
                if out_of_time or isinstance(trouble, RefusedByBroker):
                    final = trouble if isinstance(trouble, RefusedByBroker) else doubt or trouble
                    final.token = body
                    raise final
                log.warning("publish.again in %.1f s: %s", wait_s, trouble)
                await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """End the connection; nothing can be published afterwards."""
        self._closed = True
        await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await hang_up(connection)

    def _retire(self, channel: Channel) -> None:
        """Use a channel no more, and close it when what is under way on it is settled."""
        if channel is self._channel:
            self._channel = None
            retiring = asyncio.create_task(_retire(channel))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)

    async def _attempt(self, body: bytes, routing_key: str) -> BrokerError | None:
        """Publish once; returns what went wrong."""
        try:
            channel = await self._open_channel()
        except BrokerError as error:
            return error
        try:
            said = await channel.send(
                body,
                exchange=SUBMIT,
                routing_key=routing_key,
                correlation_id=identity(untie(body)[0]),
                user=self._code,
            )
        except _TROUBLE as error:
            return self._translate(error)
        try:
            outcome = await said
            if outcome == "not-taken":
                self._retire(channel)
            return self._translate(outcome)
        except TimeoutError:
            if channel is self._channel:
                await self._hang_up()
            return NotConfirmed(
                f"nothing in {self._confirm_timeout_s:g} s", f"không trả lời trong {self._confirm_timeout_s:g} giây"
            )
        except _TROUBLE as error:
            return self._translate(error)

    def _translate(self, said: BaseException | Said) -> BrokerError | None:
        match said:
            case "taken":
                return None
            case "returned" | ChannelNotFoundEntity():
                return NotTaken("nothing is bound at the axis", "trục chưa có hàng đợi nhận", code="E801")
            case "not-taken":
                return NotTaken("the queue of the axis is full or down", "hàng đợi của trục đầy hoặc đang ngừng")
            case ChannelClosed():
                return self._line.refused(said)
            case BaseException():
                return NotConfirmed(f"the connection was lost: {last_line(said)}", f"mất kết nối: {last_line(said)}")
            case _:
                assert_never(said)

    async def _open_channel(self) -> Channel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        async with self._opening:
            if self._closed:
                raise Unreachable("the client is closed", "kết nối đã đóng")
            if self._channel is None or self._channel.is_closed:
                if self._channel is not None or self._connection is None or self._connection.is_closed:
                    await self._hang_up()
                    self._connection = await self._line.connect("publish")
                try:
                    async with asyncio.timeout(self._confirm_timeout_s):
                        self._channel = await open_channel(
                            self._connection, confirms=True, confirm_timeout_s=self._confirm_timeout_s
                        )
                except _TROUBLE as error:
                    await self._hang_up()  # a connection that opens no channel is of no use to the next attempt either
                    raise self._line.unreachable(error) from error
            return self._channel


class Consumer:
    """Consumes a queue, again and again, on a connection of its own.

    What the broker refuses before anything has worked is a mistake of ours and ends it; later it is weather.
    """

    def __init__(
        self,
        line: Line,
        queue: str,
        prefetch: int,
        arrived: "asyncio.Queue[Message | BrokerError | None]",
        forget_messages: Callable[[], None],
    ) -> None:
        self._line = line
        self._queue = queue
        self._prefetch = prefetch
        self._arrived = arrived
        self._forget_messages = forget_messages
        self._worked = False

    async def run(self) -> None:
        """Consume until cancelled, over as many connections as it takes; what cannot be mended is handed on."""
        waits = _waits()
        while True:
            try:
                await self._consume()
            except BrokerError as error:
                if not self._worked and not isinstance(error, Unreachable):
                    self._arrived.put_nowait(error)
                    return
                log.warning("consume.again: %s", error)
            else:
                log.warning("consume.again: the broker or the network ended it")
                waits = _waits()
            await asyncio.sleep(next(waits))

    async def _consume(self) -> None:
        """Consume until the broker or the network ends it."""
        connection = await self._line.connect("consume")
        ended = asyncio.Event()
        try:
            channel = await open_channel(connection)
            channel.closing.add_done_callback(lambda _: ended.set())
            channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
            await channel.basic_qos(prefetch_count=self._prefetch)
            await channel.consume(self._queue, self._arrived.put_nowait)  # bounded by the prefetch
            self._worked = True
            try:
                await ended.wait()
            finally:
                await _flush(channel)  # what was acknowledged last
        except ChannelNotFoundEntity as error:
            raise NoQueue(f"there is no {self._queue}", f"không có {self._queue}", place=self._line.place) from error
        except ChannelClosed as error:
            raise self._line.refused(error) from error
        except _TROUBLE as error:
            raise self._line.unreachable(error) from error
        finally:
            await hang_up(connection)
            self._forget_messages()


def acknowledge(message: Message) -> None:
    """Settle a message; one whose channel is gone comes again."""
    try:
        message.channel.acknowledge(message.number)
    except _TROUBLE as error:
        log.info("ack.stale: %s", error)  # the channel is gone; the message comes again and is known


def put_aside(message: Message) -> None:
    """Give a message back to the axis, which decides about it."""
    try:
        message.channel.reject(message.number)
    except _TROUBLE as error:
        log.info("reject.stale: %s", error)


def _waits() -> Iterator[float]:
    """Give waits in seconds, doubling up to a bound, with jitter so that not all agencies return at one moment."""
    wait_s = _FIRST_WAIT_S
    while True:
        yield wait_s * random.uniform(0.5, 1)  # noqa: S311 - no secret
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


async def _retire(channel: Channel) -> None:
    with contextlib.suppress(*_TROUBLE):
        await channel.settled()
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await channel.close()


async def _flush(channel: Channel) -> None:
    with contextlib.suppress(*_TROUBLE):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await channel.flush()


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection; nothing is raised, and it takes at most `CLOSE_TIMEOUT_S`."""
    with contextlib.suppress(*_TROUBLE):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close()


def last_line(error: BaseException | None) -> str:
    """Give the words of an error of the library without its wrapping."""
    if isinstance(error, TimeoutError) and not str(error):
        return "timeout"
    text = str(error.args[-1] if error is not None and error.args else error)
    return text.splitlines()[-1][:300] if text else type(error).__name__
