"""What came for an agency and is not settled yet: taken from the line, proven, marked, laid out for the application.

A message is in hand from the moment it is taken out of the line until it is acknowledged, put aside, or lost with its
connection. All messages of one delivery, the first and its duplicates, are settled together.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from adapters.arrivals import Arrival, Client, Delivery, Letter, Rejected
from adapters.channel import Message
from adapters.errors import BrokerError, Unusable
from adapters.inbox_guard import Found, HandedOver, InboxGuard
from adapters.line import Consumer, Line, acknowledge, put_aside
from adapters.outbox import Outbox
from adapters.proof import Unproven, prove
from adapters.trust import Content, Trust
from schemas.addresses import agency_queue
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DeliveryId, delivery_id_of, is_agency_code, is_platform_code
from schemas.receipt import Answer, Receipt
from schemas.refusal import CATALOGUE
from schemas.signing import Verified, identity

log = logging.getLogger(__name__)

T = TypeVar("T")

_OPENED_TOGETHER: Final = 64  # most that are called interrupted though nobody had them, when the process dies
_PROVEN_AT_A_TIME: Final = 8  # about a millisecond


class Inbox:
    """The queue of one agency or platform, as it comes.

    Args:
        line: The way to the broker; a connection is opened by the first `take`.
        code: Whose queue it is.
        trust: Its view of the directory.
        guard: Its memory of what was handed over.
        outbox: Where duplicates and what cannot be believed are answered.
        client: Where the application answers everything else.
        prefetch: Most messages that the broker hands out before the first is settled.
        expired_too: Whether documents are laid out whose lifetime is over.
        clock: The present, aware.
    """

    def __init__(
        self,
        line: Line,
        code: AgencyCode,
        *,
        trust: Trust,
        guard: InboxGuard,
        outbox: Outbox,
        client: Client,
        prefetch: int,
        expired_too: bool,
        clock: Callable[[], datetime],
    ) -> None:
        self._code = code
        self._trust = trust
        self._guard = guard
        self._outbox = outbox
        self._client = client
        self._expired_too = expired_too
        self._clock = clock
        self._arrived: asyncio.Queue[Message | BrokerError | None] = asyncio.Queue()
        self._consumer = Consumer(line, agency_queue(code), prefetch, self._arrived, self._forget_messages)
        self._consuming: asyncio.Task[None] | None = None
        self._opened: deque[Arrival] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._at_the_opening = asyncio.Lock()
        self._documents_too = False
        self._in_hand: dict[DeliveryId, list[Message]] = {}
        self._left_open: set[DeliveryId] = set()  # in hand, but nobody is at work on them any more

    def holds(self, delivery_id: DeliveryId) -> bool:
        """Tell whether a delivery is in hand."""
        return delivery_id in self._in_hand

    async def take(self) -> Arrival | None:
        """Take the next of all that arrives; `None` at the end."""
        self._documents_too = True
        return await self._take(lambda _: True)

    async def take_letter(self) -> Letter | None:
        """Take the next letter; documents stay in the queue and come again later. `None` at the end."""
        while not isinstance(
            arrival := await self._take(lambda arrival: not isinstance(arrival, Delivery)), Letter | None
        ):
            pass
        return arrival

    def acknowledge(self, delivery_id: DeliveryId) -> None:
        """Acknowledge all messages of a delivery."""
        self._left_open.discard(delivery_id)
        messages = self._in_hand.pop(delivery_id, [])
        while messages:
            acknowledge(messages.pop(0))

    def put_aside(self, delivery_id: DeliveryId) -> None:
        """Give all messages of a delivery back to the axis, which sends it again later."""
        self._left_open.discard(delivery_id)
        messages = self._in_hand.pop(delivery_id, [])
        while messages:
            put_aside(messages.pop(0))

    def leave_open(self, delivery_id: DeliveryId) -> None:
        """Put what was not answered back among the arrivals; it can still be answered before it comes again."""
        messages = self._in_hand.get(delivery_id)
        if messages is not None:
            self._left_open.add(delivery_id)
            for message in messages:
                self._arrived.put_nowait(message)
            messages.clear()

    async def stop(self) -> None:
        """Take nothing more out of the line; whoever waits for an arrival hears of the end."""
        ending = {task for task in (self._consuming, self._opening) if task is not None}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._arrived.put_nowait(None)
        await self._release_opened()

    async def _take(self, wanted: Callable[[Arrival], bool]) -> Arrival | None:
        """Take the first wanted arrival that is opened, and open what waits while there is none."""
        if self._consuming is None:
            self._consuming = asyncio.create_task(self._consumer.run(), name=f"consume {self._code}")
        while True:
            async with self._at_the_opening:
                for index, arrival in enumerate(self._opened):
                    if wanted(arrival):
                        del self._opened[index]
                        return arrival
                if not await self._open_more():
                    return None

    async def _open_more(self) -> bool:
        """Open everything that waits, together; false at the end.

        A caller who is cancelled meanwhile leaves the work to be waited for by the next one: what is marked must not
        get lost on its way to the application.
        """
        if self._opening is None:
            messages = await self._take_waiting()
            if not messages:
                return False
            self._opening = asyncio.create_task(self._open_all(messages), name=f"open {self._code}")
        await asyncio.wait({self._opening})
        done, self._opening = self._opening, None
        await done
        return True

    async def _take_waiting(self) -> list[Message]:
        """Wait for a message and take all that are there; none at the end."""
        first = await self._arrived.get()
        if not isinstance(first, Message):
            self._arrived.put_nowait(first)  # whoever else waits must hear of it too
            if first is None:
                return []
            raise first
        messages = [first]
        while len(messages) < _OPENED_TOGETHER and not self._arrived.empty():
            item = self._arrived.get_nowait()
            if not isinstance(item, Message):
                self._arrived.put_nowait(item)
                break
            messages.append(item)
        return messages

    async def _open_all(self, messages: Sequence[Message]) -> None:
        """Make arrivals of messages; settle those of which nothing is left to be handed over; in trouble put back the rest."""
        fresh = self._take_in_hand(messages)
        try:
            await self._prove_and_begin(fresh)
        except BaseException:
            for each in fresh.values():
                self._give_up(each)
            raise

    def _take_in_hand(self, messages: Sequence[Message]) -> "dict[DeliveryId, _InHand]":
        """Put each message to its delivery; those in hand already are settled together with it."""
        fresh: dict[DeliveryId, _InHand] = {}
        for message in messages:
            recipient = AgencyCode(message.routing_key)
            delivery_id = delivery_id_of(identity(message.body), recipient)
            if delivery_id in self._in_hand and delivery_id not in self._left_open:
                self._in_hand[delivery_id].append(message)
                continue
            self._left_open.discard(delivery_id)
            mine = self._in_hand[delivery_id] = [*self._in_hand.get(delivery_id, ()), message]
            fresh[delivery_id] = _InHand(delivery_id, recipient, message, mine)
        return fresh

    async def _prove_and_begin(self, fresh: "dict[DeliveryId, _InHand]") -> None:
        """Open deliveries; each that is opened is taken out of the dictionary."""
        now = self._clock()
        view = await self._trust.newest_view()
        proven: list[tuple[_InHand, Verified, Content]] = []
        for number, each in enumerate(list(fresh.values()), 1):
            found = prove(each.message.body, each.recipient, view, now, expired_too=self._expired_too)
            if isinstance(found, Unproven):
                await self._settle_unproven(found, each)
            elif isinstance(found[1], Envelope) and not self._documents_too:
                self._let_go(each)
            else:
                proven.append((each, *found))
            if number % _PROVEN_AT_A_TIME == 0:
                await asyncio.sleep(0)  # a thread for each would cost more than the proof, but others want to run too
        states = await self._begin(proven, now)
        done_before = []
        for (each, verified, content), state in zip(proven, states, strict=True):
            if isinstance(state, HandedOver):
                done_before.append(self._repeat(state, each))
            else:
                self._opened.append(self._arrival(each, verified, content, interrupted=state == "interrupted"))
                del fresh[each.delivery_id]
        await asyncio.gather(*done_before)

    async def _begin(self, proven: "Sequence[tuple[_InHand, Verified, Content]]", now: datetime) -> list[Found]:
        if not proven:
            return []
        letters = {each.delivery_id for each, _, content in proven if not isinstance(content, Envelope)}
        return await self._guard.begin_all([each.delivery_id for each, _, _ in proven], now, only_find=letters)

    def _arrival(self, each: "_InHand", verified: Verified, content: Content, *, interrupted: bool) -> Arrival:
        token, recipient, delivery_id = each.message.body, each.recipient, each.delivery_id
        if not isinstance(content, Envelope):
            return Letter(delivery_id, recipient, content, token, self._client)
        redelivered = each.message.redelivered
        return Delivery(
            delivery_id, verified.document_id, recipient, content, token, redelivered, interrupted, self._client
        )

    async def _settle_unproven(self, unproven: Unproven, each: "_InHand") -> None:
        """Answer what was handed over when it could still be believed, tell of everything else."""
        if isinstance(known := await self._guard.find(each.delivery_id), HandedOver):
            await self._repeat(known, each)
        else:
            await self._reject(unproven, each.recipient, each.delivery_id)
            self._opened.append(Rejected(each.delivery_id, each.recipient, unproven.problems, each.message.body))
            self._let_go(each)

    def _let_go(self, each: "_InHand") -> None:
        """Take a delivery out of hand, unless a duplicate of it has been taken up meanwhile."""
        if self._in_hand.get(each.delivery_id) is each.messages:
            del self._in_hand[each.delivery_id]

    def _give_up(self, each: "_InHand") -> None:
        """Put back what could not be opened, unless it was settled before the trouble."""
        if self._in_hand.get(each.delivery_id) is each.messages:
            self._let_go(each)
            for message in each.messages:
                self._arrived.put_nowait(message)

    async def _repeat(self, known: HandedOver, each: "_InHand") -> None:
        if known.receipt is not None:
            await self._outbox.send_receipts([Receipt.model_validate_json(known.receipt)], timeout_s=None)
        self.acknowledge(each.delivery_id)

    async def _reject(self, unproven: Unproven, recipient: AgencyCode, delivery_id: DeliveryId) -> None:
        """Answer a document with `failed`; put aside what cannot be answered, which the axis counts as a failure too.

        The sender is not named: only a document that was believed tells who it is.
        """
        code = unproven.problems[0].code
        log.warning("delivery.rejected delivery_id=%s recipient=%s code=%s", delivery_id, recipient, code)
        may_answer = recipient == self._code or is_platform_code(self._code)
        if unproven.kind == "document" and is_agency_code(recipient) and may_answer:
            answer = Answer(
                delivery=str(delivery_id),
                outcome="failed",
                at=int(self._clock().timestamp()),
                code=code,
                detail=CATALOGUE[code].en,
            )
            await self._outbox.send_receipts([self._outbox.receipt(recipient, None, [answer])], timeout_s=None)
            self.acknowledge(delivery_id)
        else:
            self.put_aside(delivery_id)

    async def _release_opened(self) -> None:
        """Let the guard forget what was opened and never taken, so that it is not called interrupted."""
        opened = [
            arrival.delivery_id for arrival in self._opened if isinstance(arrival, Delivery) and not arrival.interrupted
        ]
        if opened:
            with contextlib.suppress(Unusable):  # they come again as interrupted, which they may be
                await self._guard.release(opened)

    def _forget_messages(self) -> None:
        """Let go of the messages of a lost connection: nothing can settle them, and all of them come again."""
        for messages in self._in_hand.values():
            messages.clear()
        kept = [item for item in _drain(self._arrived) if item is None or isinstance(item, BrokerError)]
        for item in kept:
            self._arrived.put_nowait(item)


@dataclass(frozen=True, slots=True)
class _InHand:
    """A delivery that is being opened, with all its messages."""

    delivery_id: DeliveryId
    recipient: AgencyCode
    message: Message
    messages: list[Message]


def _drain(queue: asyncio.Queue[T]) -> list[T]:
    """Take everything out of a queue."""
    return [queue.get_nowait() for _ in range(queue.qsize())]
