"""Takes messages off the queues, a batch at a time, and settles a batch at a time.

- Settled by hand only, never by the library, never put back by hand: a message that was not settled is handed out
  again when its channel closes, and that is the only way back.
- The callback does nothing but set a message down, so nothing can go wrong in it unseen.
- In memory are at most `prefetch` messages, each at most the broker's `max_message_size` (1 MiB in production, so
  200 MiB for 200): larger ones never get past the broker.
- A message may be a bundle. A batch is full when it has its number of tokens; the last message may overfill it, by less than
  a bundle has.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pamqp.decode
import structlog

from hub.broker.channel import Channel
from hub.broker.connection import Connection
from hub.broker.errors import BROKER_ERRORS, translated
from hub.broker.topology import AGENCY_LETTERS
from hub.core.submission import Return, Submission
from hub.core.trouble import Unavailable
from schemas.addresses import AGENCY_QUEUE_PREFIX, DEAD
from schemas.amqp_reader import Arrived, Properties, read_properties
from schemas.bundle import untie
from schemas.identifiers import (
    DOCUMENT_ID_PATTERN,
    AgencyCode,
    DocumentId,
    delivery_id_of,
    is_agency_code,
    is_platform_code,
)
from schemas.signing import identity

_TAKE_TIMEOUT_S: Final = 0.5
_CLOSE_TIMEOUT_S: Final = 5.0
_MAX_REASON: Final = 40
_DOCUMENT_ID: Final = re.compile(DOCUMENT_ID_PATTERN[1:-1])
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SubmissionBatch:
    """Submissions that were taken together."""

    submissions: Sequence[Submission]
    handful: "Handful"


@dataclass(frozen=True, slots=True)
class ReturnBatch:
    """Returns that were taken together."""

    returns: Sequence[Return]
    handful: "Handful"


class QueueInbox:
    """The queue `truc.intake` or `truc.receipts`, for one loop.

    Args:
        connection: A connection that nothing publishes on.
        queue: Name of the queue, which must exist.
        prefetch: Most messages that the broker hands out before some are settled.
        max_batch: Most submissions taken together, all but those of the last message; half of `prefetch` keeps the next
            batch coming meanwhile.
        linger_s: How long a batch that is not full waits for more.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        *,
        prefetch: int = 200,
        max_batch: int = 100,
        linger_s: float = 0.005,
    ) -> None:
        self._consumer = Consumer(connection, queue, prefetch=prefetch, max_batch=max_batch, linger_s=linger_s)

    async def take(self) -> SubmissionBatch:
        """Wait at most half a second for submissions; the batch is empty when none came.

        Raises:
            Unavailable: When the broker does not answer, or has ended the consumer.
        """
        handful = await self._consumer.take()
        submissions = [submission for message in handful.messages for submission in _submission(message).untied()]
        return SubmissionBatch(submissions, handful)

    async def acknowledge(self, batch: object) -> None:
        """Settle all of a batch of this inbox; one whose channel is gone comes again, which is logged only."""
        assert isinstance(batch, SubmissionBatch)
        await self._consumer.acknowledge(batch.handful)

    async def release(self) -> None:
        """Give back everything that is not settled."""
        await self._consumer.release()

    async def stop(self) -> None:
        """Take nothing more; a batch in hand can still be acknowledged, the rest goes back with the connection."""
        await self._consumer.stop()


class DeadInbox:
    """The queue `truc.dead`, for one loop.

    Args:
        connection: A connection that nothing publishes on.
        queue: Name of the queue, which must exist.
        prefetch: Most messages that the broker hands out before some are settled.
        max_batch: Most returns taken together, all but those of the last message.
        linger_s: How long a batch that is not full waits for more.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str = DEAD,
        *,
        prefetch: int = 200,
        max_batch: int = 100,
        linger_s: float = 0.005,
    ) -> None:
        self._consumer = Consumer(connection, queue, prefetch=prefetch, max_batch=max_batch, linger_s=linger_s)

    async def take(self) -> ReturnBatch:
        """Wait at most half a second for returns; the batch is empty when none came.

        Raises:
            Unavailable: When the broker does not answer, or has ended the consumer.
        """
        handful = await self._consumer.take()
        return ReturnBatch([each for message in handful.messages for each in _returns(message)], handful)

    async def acknowledge(self, batch: object) -> None:
        """Settle all of a batch of this inbox; one whose channel is gone comes again, which is logged only."""
        assert isinstance(batch, ReturnBatch)
        await self._consumer.acknowledge(batch.handful)

    async def release(self) -> None:
        """Give back everything that is not settled."""
        await self._consumer.release()

    async def stop(self) -> None:
        """Take nothing more; a batch in hand can still be acknowledged, the rest goes back with the connection."""
        await self._consumer.stop()


@dataclass(slots=True)
class Session:
    """One consumer on a channel of its own: what has arrived on it, and what is in hand.

    Attributes:
        channel: The channel; its messages count 1, 2, 3 … in order of arrival.
        waiting: What has arrived and was not taken.
        tokens: How many tokens that is.
        in_hand: The first number of every handful that was taken and is not settled.
        trouble: Why nothing will arrive any more.
        woken: Set when something arrives, or nothing will.
    """

    channel: Channel
    waiting: deque[Arrived] = field(default_factory=deque)
    tokens: int = 0
    in_hand: set[int] = field(default_factory=set)
    trouble: str | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def arrive(self, message: Arrived) -> None:
        """Set a message down."""
        self.waiting.append(message)
        self.tokens += len(untie(message.body))
        self.woken.set()

    def take(self, tokens: int) -> list[Arrived]:
        """Take the oldest messages, as many as bring so many tokens."""
        messages = []
        while self.waiting and tokens > 0:
            messages.append(self.waiting.popleft())
            taken = len(untie(messages[-1].body))
            tokens -= taken
            self.tokens -= taken
        return messages

    def end(self, why: str) -> None:
        """Remember that nothing will arrive any more."""
        self.trouble = self.trouble or why
        self.woken.set()


@dataclass(frozen=True, slots=True)
class Handful:
    """Messages with consecutive numbers of one session; `session` is absent when there are none."""

    messages: Sequence[Arrived] = ()
    session: Session | None = None

    @property
    def first_number(self) -> int:
        """The number of the oldest message."""
        return self.messages[0].number

    @property
    def last_number(self) -> int:
        """The number of the youngest message."""
        return self.messages[-1].number


class Consumer:
    """Takes messages off one queue, in handfuls, for one loop."""

    def __init__(self, connection: Connection, queue: str, *, prefetch: int, max_batch: int, linger_s: float) -> None:
        self._connection = connection
        self._queue = queue
        self._prefetch = prefetch
        self._max_batch = max_batch
        self._linger_s = linger_s
        self._session: Session | None = None
        self._stopped = False

    async def take(self) -> Handful:
        """Wait a moment for messages; raises `Unavailable` when there is no consumer any more."""
        if self._stopped:
            await asyncio.sleep(_TAKE_TIMEOUT_S)
            return Handful()
        session = self._session or await self._open()
        await self._wait_for_messages(session)
        if session.trouble is not None:
            await self.release()
            raise Unavailable("broker", session.trouble)
        # Nothing is awaited from here on, so a cancellation cannot lose what was taken.
        messages = session.take(self._max_batch)
        if not messages:
            return Handful()
        handful = Handful(messages, session)
        session.in_hand.add(handful.first_number)
        return handful

    async def acknowledge(self, handful: Handful) -> None:
        """Settle all of a handful, and nothing else."""
        session = handful.session
        if session is None:
            return
        try:
            if handful.first_number == min(session.in_hand):
                # Everything older is settled: "this and all before it" means this handful.
                await session.channel.basic_ack(handful.last_number, multiple=True)
            else:
                for message in handful.messages:
                    await session.channel.basic_ack(message.number, wait=message is handful.messages[-1])
        except BROKER_ERRORS as error:
            _log.info("batch.acknowledged_late", queue=self._queue, messages=len(handful.messages), error=repr(error))
        session.in_hand.discard(handful.first_number)

    async def release(self) -> None:
        """Close the channel; the broker hands out again what is not settled on it, to whoever comes first."""
        session, self._session = self._session, None
        if session is None:
            return
        session.end("released")
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await session.channel.close()
        except BROKER_ERRORS:
            self._connection.drop()

    async def stop(self) -> None:
        """End the consumer and leave the channel open, for the sake of what is in hand."""
        self._stopped = True
        session = self._session
        if session is None or session.trouble is not None:
            return
        with suppress(*BROKER_ERRORS):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await session.channel.basic_cancel(self._queue)

    async def _open(self) -> Session:
        session = Session(await self._connection.channel())
        self._session = session
        session.channel.closing.add_done_callback(lambda _: session.end(f"the channel of {self._queue} was closed"))
        session.channel.on_consumer_cancel_callbacks.add(
            lambda _: session.end(f"the broker ended the consumer of {self._queue}")
        )
        try:
            with translated():
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await session.channel.basic_qos(prefetch_count=self._prefetch)
                    await session.channel.consume(self._queue, session.arrive)
        except BaseException:
            await self.release()
            raise
        return session

    async def _wait_for_messages(self, session: Session) -> None:
        if not session.waiting:
            session.woken.clear()
            if session.trouble is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TAKE_TIMEOUT_S):
                        await session.woken.wait()
        if 0 < session.tokens < self._max_batch:
            await asyncio.sleep(self._linger_s)


def _submission(message: Arrived) -> Submission:
    properties = _properties(message)
    return Submission(
        body=message.body,
        user=properties.user_id,
        routing_key=message.routing_key,
        message_id=properties.message_id,
        redelivered=message.redelivered,
    )


def _properties(message: Arrived) -> Properties:
    """Read the properties; without any there is no proven user, so the checks park what came with those of this one."""
    properties = read_properties(message.properties)
    if properties is None:
        _log.warning("message.unreadable_properties", number=message.number)
    return properties or Properties()


def _headers(properties: Properties) -> Mapping[str, Any]:
    try:
        _, headers = pamqp.decode.field_table(properties.headers)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the sender's doing
        _log.warning("message.unreadable_headers", error=type(error).__name__)
        return {}
    return headers


def _returns(message: Arrived) -> list[Return]:
    """Read a dead letter, or those of one message; whatever cannot be read makes it one without a delivery."""
    properties = _properties(message)
    headers = _headers(properties)
    first_key = _first_key(headers)
    submissions = Submission(
        body=message.body,
        user=properties.user_id,
        routing_key=message.routing_key if first_key is None else first_key,
        message_id=properties.message_id,
        redelivered=message.redelivered,
    ).untied()
    recipient = _recipient(first_key, headers.get("x-first-death-queue"))
    if message.routing_key != AGENCY_LETTERS or recipient is None:
        return [Return(each, None) for each in submissions]
    single = properties.correlation_id or ""
    ids = [single] if len(submissions) == 1 else [identity(each.body) for each in submissions]
    how = _how(headers)
    return [
        Return(each, delivery_id_of(DocumentId(object_id), recipient), how)
        if _DOCUMENT_ID.fullmatch(object_id)
        else Return(each, None)
        for each, object_id in zip(submissions, ids, strict=True)
    ]


def _first_key(headers: Mapping[str, Any]) -> str | None:
    """Find the key under which a message was published before it died for the first time."""
    deaths = headers.get("x-death")
    match deaths[-1] if isinstance(deaths, list) and deaths else None:
        case {"routing-keys": [str(key), *_]}:
            return key
        case _:
            return None


def _how(headers: Mapping[str, Any]) -> str | None:
    """Read the broker's word for what happened: `rejected`, `delivery_limit`, `expired`, `maxlen`."""
    reason = headers.get("x-first-death-reason")
    return reason[:_MAX_REASON] if isinstance(reason, str) and reason.isprintable() else None


def _recipient(first_key: str | None, queue: object) -> AgencyCode | None:
    """Say whose delivery it was: by its key, else by the queue, which is that of a single agency in most cases."""
    named_by_queue = queue.removeprefix(AGENCY_QUEUE_PREFIX) if isinstance(queue, str) else None
    for code in (first_key, named_by_queue):
        if code is not None and (is_agency_code(code) or is_platform_code(code)):
            return AgencyCode(code)
    return None
