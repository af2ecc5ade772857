"""Finds out how the line stands, for people who ask: may we log in, publish, read; what waits in our queue."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed

from adapters.errors import NoQueue
from adapters.line import CLOSE_TIMEOUT_S, Line, hang_up, last_line
from schemas.addresses import SUBMIT, agency_queue, submit_key
from schemas.identifiers import AgencyCode


@dataclass(frozen=True, slots=True)
class Standing:
    """How our queue stands.

    Attributes:
        waiting: How many messages wait in it, those in somebody's hands left out.
        consumers: How many read from it.
    """

    waiting: int
    consumers: int


class Probe:
    """Finds out what the broker permits, and leaves no trace: each question is one that it must turn down.

    The broker checks permissions first, and then refuses with another code what is wrong on purpose: a publish in the
    name of another user, a consumer with an impossible priority.
    """

    def __init__(self, line: Line, code: AgencyCode) -> None:
        self._line = line
        self._code = code

    async def log_in(self) -> None:
        """Open a connection and close it.

        Raises:
            BrokerError: When that cannot be done.
        """
        await hang_up(await self._line.connect("probe"))

    async def ask_to_publish(self) -> None:
        """Ask whether we may publish documents.

        Raises:
            BrokerError: When we may not, or nobody answers.
        """

        async def ask(channel: AbstractChannel) -> None:
            exchange = await channel.get_exchange(SUBMIT, ensure=False)
            message = aio_pika.Message(b"", user_id=f"{self._code} probe", message_id=uuid.uuid4().hex)
            await exchange.publish(message, submit_key("document", self._code), mandatory=True)

        await self._ask(ask)

    async def ask_to_read(self) -> None:
        """Ask whether there is a queue for us and we may read it.

        Raises:
            BrokerError: When we may not, when there is none, or nobody answers.
        """

        async def ask(channel: AbstractChannel) -> None:
            queue = await channel.get_queue(agency_queue(self._code), ensure=False)
            await queue.consume(_ignore, arguments={"x-priority": "probe"})

        await self._ask(ask)

    async def look(self) -> Standing:
        """Look at our queue, without reading from it.

        Raises:
            BrokerError: When there is none, or nobody answers.
        """
        standing: list[Standing] = []

        async def ask(channel: AbstractChannel) -> None:
            found = (await channel.declare_queue(agency_queue(self._code), passive=True)).declaration_result
            standing.append(Standing(found.message_count or 0, found.consumer_count or 0))

        await self._ask(ask, ends_refused=False)
        return standing[0]

    async def _ask(
        self, ask: Callable[[AbstractChannel], Coroutine[Any, Any, None]], *, ends_refused: bool = True
    ) -> None:
        connection = await self._line.connect("probe")
        try:
            asking = asyncio.ensure_future(ask(await connection.channel(publisher_confirms=True)))
            await asyncio.wait({asking}, timeout=CLOSE_TIMEOUT_S)
            error = asking.exception() if asking.done() and not asking.cancelled() else TimeoutError()
        finally:
            await hang_up(connection)
        match error:
            case ChannelPreconditionFailed() if ends_refused:
                return
            case None if not ends_refused:
                return
            case ChannelNotFoundEntity():
                raise NoQueue(last_line(error), last_line(error), place=self._line.place) from error
            case ChannelClosed():
                raise self._line.refused(error) from error
            case _:
                raise self._line.unreachable(error) from error


async def _ignore(message: AbstractIncomingMessage) -> None:
    """Leave a message unacknowledged, so that it goes back when the connection is closed."""
