"""One connection to the broker, made when it is needed and again after it was lost.

Never `connect_robust`: it hides that something was lost, and repeats what the broker refused. What was lost with a
connection comes back by itself: unsettled messages are handed out again, unconfirmed ones published again.

Of several hosts, nodes of one cluster, each new connection goes to the next in turn, so that what one node has lost, or
does not confirm, another one does. The first is drawn by lot: many processes spread over the nodes, also after one died.

Publishing and consuming need a `Connection` each. Under a memory or disk alarm the broker stops reading from those
that publish, and acknowledgements must not wait behind them.
"""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count, cycle
from ssl import SSLContext
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import aiormq

from hub.broker.channel import Channel
from hub.broker.errors import BROKER_ERRORS, translated
from hub.core.trouble import Unavailable
from schemas.amqp_transport import Transport
from schemas.hosts import urls_by_host

_CLOSE_TIMEOUT_S: Final = 5.0
_LOT: Final = random.SystemRandom()


class Connection:
    """The way to the broker for everything that publishes, or for everything that consumes.

    Args:
        url: AMQP URL with user, password and vhost; `?auth=external` with a client certificate. It may name several
            hosts, separated by commas.
        name: What the broker's own screens call this connection.
        connect_timeout_s: Longest wait for a connection to one host, and for a channel.
        heartbeat_s: Silence after which the broker gives up; the library does after three times as long.
        retry_delay_s: Wait after a first failed attempt to connect; doubles with every further one.
        max_retry_delay_s: Upper bound of that wait.
        ssl_context: Certificates for `amqps`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        connect_timeout_s: float = 10.0,
        heartbeat_s: int = 10,
        retry_delay_s: float = 0.2,
        max_retry_delay_s: float = 10.0,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._url = _with_query(url, heartbeat=str(heartbeat_s), name=name)
        urls = urls_by_host(self._url)
        self._urls = cycle(_LOT.sample(urls, len(urls)))
        self._connect_timeout_s = connect_timeout_s
        self._retry_delay_s = retry_delay_s
        self._max_retry_delay_s = max_retry_delay_s
        self._ssl_context = ssl_context
        self._connection: aiormq.Connection | None = None
        self._connecting = asyncio.Lock()
        self._failures = 0
        self._failure = ""
        self._retry_at = 0.0
        self._closings: set[asyncio.Task[None]] = set()

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel, on a new connection when there is none.

        Args:
            confirms: Whether what is published on it is confirmed.

        Raises:
            Unavailable: When the broker does not answer in time or refuses. After a failed attempt to connect also
                at once, until its wait is over: nobody has to queue for the same failure.
        """
        with translated():
            connection = await self._connected()
            # The library's own choice of a number only ever grows, past the `channel_max` of the broker.
            number = next(number for number in count(1) if number not in connection.channels)
            channel = Channel(connection, number, publisher_confirms=confirms)
            connection.channels[number] = channel
            async with asyncio.timeout(self._connect_timeout_s):
                await channel.open()
            return channel

    def carries(self, channel: Channel) -> bool:
        """Tell whether a channel is open, on the connection in use; one that was dropped closes a little later."""
        connection = self._connection
        return (
            connection is not None
            and connection.is_opened
            and channel.connection is connection
            and not channel.is_closed
        )

    @property
    def user(self) -> str | None:
        """The broker user that the URL names; absent when a certificate tells the broker."""
        user = urlsplit(self._url).username
        return None if user is None else unquote(user)

    async def is_blocked(self) -> bool:
        """Tell whether the broker has stopped reading from this connection; it says so at the first publish only."""
        if self._connection is None or not self._connection.is_opened:
            return False
        try:
            async with asyncio.timeout(0):
                await self._connection.ready()
        except TimeoutError:
            return True
        return False

    def retire(self, channel: Channel) -> None:
        """Close a channel that is used no more, without waiting for it."""
        self._in_background(_close(channel))

    def drop(self) -> None:
        """Give the connection up without waiting for it; the next channel is opened on a new one."""
        if self._connection is None:
            return
        self._in_background(_close(self._connection))
        self._connection = None

    def _in_background(self, closing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def close(self) -> None:
        """Close the connection; what is unsettled on it is handed out again."""
        self.drop()
        if self._closings:
            await asyncio.wait(self._closings)

    async def _connected(self) -> aiormq.Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.is_opened:
                return self._connection
            wait_s = self._retry_at - asyncio.get_running_loop().time()
            if wait_s > 0:
                raise Unavailable("broker", f"{self._failure}; tried again in {wait_s:.1f} s")
            try:
                self._connection = await self._connect()
            except Exception as error:
                self._put_off(f"{type(error).__name__}: {error}")
                raise
            self._failures = 0
            return self._connection

    async def _connect(self) -> aiormq.Connection:
        transport = Transport()
        async with asyncio.timeout(self._connect_timeout_s):
            connection = await aiormq.connect(next(self._urls), context=self._ssl_context, transport_factory=transport)
        transport.serve(connection.channels)
        return connection

    def _put_off(self, failure: str) -> None:
        wait_s = min(self._retry_delay_s * 2.0 ** min(self._failures, 40), self._max_retry_delay_s)
        self._failures += 1
        self._failure = failure
        self._retry_at = asyncio.get_running_loop().time() + wait_s * _LOT.uniform(0.5, 1.0)


async def _close(open_one: aiormq.Connection | Channel) -> None:
    with suppress(*BROKER_ERRORS):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await open_one.close()


def _with_query(url: str, **settings: str) -> str:
    """Add settings to a URL that does not have them."""
    parts = urlsplit(url)
    query = settings | dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode(query)))
