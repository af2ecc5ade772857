"""Puts `schemas.amqp_reader` between the socket and the library: the one thing in here that waits for something.

Hub and agencies share it, and meet nowhere else.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError

from schemas.amqp_reader import HEARTBEAT, FrameReader

_TOLD_EVERY_S: Final = 1.0


class Transport(TransportFactory):
    """Connects the library to a broker; give it to a new connection, one to each."""

    def __init__(self) -> None:
        self._frames = FrameReader()

    async def create(self, url: Any, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; called by the library.

        Raises:
            AMQPConnectionError: When nobody answers.
        """
        loop = asyncio.get_running_loop()
        certificates = options.pop("ssl_context_provider")
        context = await certificates.get_context() if url.scheme == "amqps" else None
        reader = _Reader(self._frames, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(lambda: protocol, url.host, url.port, ssl=context, **options)
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def serve(self, channels: Mapping[int, object]) -> None:
        """Tell those of a connection's channels that are receivers what is for them, from now on."""
        self._frames.channels = channels


class _Reader(asyncio.StreamReader):
    """What the library reads from.

    It ends a connection on which it has read nothing for long, and a broker that has much to say to receivers sends no
    heartbeats beside: the library is given some.
    """

    def __init__(self, frames: FrameReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._frames = frames
        self._time = loop.time
        self._told_at = loop.time()

    def feed_data(self, data: Any) -> None:  # bytes; the supertype takes more
        """Read what has come off the socket; called by the event loop."""
        passed, now = self._frames.read(data), self._time()
        if passed or now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            super().feed_data(passed or HEARTBEAT)

    def feed_eof(self) -> None:
        """Hear that nothing more will come; called by the event loop."""
        if rest := self._frames.rest():
            super().feed_data(rest)
        super().feed_eof()
