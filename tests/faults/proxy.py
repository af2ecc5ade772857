"""A TCP proxy before the broker that understands AMQP frames well enough to swallow some of them.

Black-holing *confirms only* is the most valuable fault: the broker has taken the message, and nobody says so.
"""

import asyncio
import contextlib
import struct
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Hole = Literal["nothing", "confirms", "deliveries", "everything"]

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC = 60
_DELIVER, _ACK, _NACK = 60, 80, 120


class Proxy:
    """Stands between a client and the broker.

    Attributes:
        hole: What is swallowed at the moment, on every connection.
        swallowed: Frames swallowed so far.
    """

    def __init__(self, amqp_url: str) -> None:
        parts = urlsplit(amqp_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self._parts = parts
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.hole: Hole = "nothing"
        self.swallowed = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    @property
    def url(self) -> str:
        """The broker's URL by way of the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{port}"))

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, upstream_writer)
        self._writers.update(ends)
        pipes = [
            asyncio.create_task(self._pump_raw(reader, upstream_writer)),
            asyncio.create_task(self._pump_frames(upstream_reader, writer)),
        ]
        self._pipes.update(pipes)
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        self._pipes.difference_update(pipes)
        self._writers.difference_update(ends)

    async def _pump_raw(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.hole == "everything":
                    self.swallowed += 1
                    continue
                writer.write(data)
                await writer.drain()

    async def _pump_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        swallowing: set[int] = set()  # channels in the middle of a swallowed delivery
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(7)
                kind, channel, size = struct.unpack(">BHI", head)
                rest = await reader.readexactly(size + 1)
                if self._swallow(kind, channel, rest, swallowing):
                    self.swallowed += 1
                    continue
                writer.write(head + rest)
                await writer.drain()

    def _swallow(self, kind: int, channel: int, payload: bytes, swallowing: set[int]) -> bool:
        if self.hole == "everything":
            return True
        if kind in (_HEADER, _BODY):
            return channel in swallowing
        swallowing.discard(channel)
        if kind != _METHOD:
            return False
        method = struct.unpack(">HH", payload[:4])
        if self.hole == "confirms":
            return method in ((_BASIC, _ACK), (_BASIC, _NACK))
        if self.hole == "deliveries" and method == (_BASIC, _DELIVER):
            swallowing.add(channel)
            return True
        return False
