"""Connects an agency, or a platform that speaks for several, to the axis: what is sent, answered, stated, handed over.

| effect                                            | if the process dies after it                                    |
|---------------------------------------------------|-----------------------------------------------------------------|
| `submit` signs, publishes, waits for the confirm  | the caller submits the same bytes again: the same document      |
| the broker hands a message out                    | handed out again                                                |
| what waits is proven, `guard.begin_all`           | handed out again, marked `interrupted`                          |
| the application does its part                     | the same: the one window, see `adapters.inbox_guard`            |
| `guard.settle`                                    | handed out again; answered, not handed over                     |
| the receipt is published and confirmed            | handed out again; answered with the same receipt                |
| ack                                               | –                                                               |

The mark comes before the receipt: in the other order a crash between the two would hand a document over twice, while
the axis already holds its receipt. A receipt that is lost after the mark heals with the next duplicate.

An application that itself only writes down what arrives, for somebody who comes for it later, takes two steps:

| effect                                            | if the process dies after it                                    |
|---------------------------------------------------|-----------------------------------------------------------------|
| the application has written the delivery down     | handed out again, `interrupted`; its unique key shows that      |
| `keep` acknowledges the message, without receipt  | the axis sends it again while no receipt is in; the same        |
| the application has written the answer down       | it calls `reply` when it starts again                           |
| `reply`: `guard.settle`, publish, confirm         | it calls `reply` again: the same receipt                        |

How it gets there is the business of `adapters.line`.
"""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from adapters.channel import Message
from adapters.errors import BrokerError, Unusable
from adapters.inbox_guard import Found, HandedOver, InboxGuard
from adapters.line import Consumer, Line, Publisher, acknowledge, put_aside
from adapters.parts import PartStore
from adapters.proof import Unproven, prove
from adapters.trust import Content, Problems, Trust
from schemas.addresses import Lane, agency_queue, submit_key
from schemas.envelope import ENVELOPE_TYP, Action, DocumentFacts, Envelope, Part, new_envelope
from schemas.identifiers import (
    AgencyCode,
    DeliveryId,
    DocumentId,
    delivery_id_of,
    is_agency_code,
    is_platform_code,
)
from schemas.receipt import (
    MAX_ANSWERS,
    RECEIPT_TYP,
    STATUS_TYP,
    Answer,
    Notice,
    Outcome,
    Receipt,
    Staff,
    Status,
    StatusCode,
)
from schemas.refusal import CATALOGUE
from schemas.signing import MAX_AGE_S, MAX_TOKEN_BYTES, KeySigner, Signer, Verified, identity, sign

log = logging.getLogger(__name__)

T = TypeVar("T")

_OPENED_TOGETHER: Final = 64  # most that are called interrupted though nobody had them, when the process dies
_PROVEN_AT_A_TIME: Final = 8  # about a millisecond
_REPEATABLE_S: Final = MAX_AGE_S - 3600
_MAX_ANSWER_BYTES: Final = 128 * 1024  # of all answers of a receipt, which must stay below 256 KiB when it is signed


@dataclass(frozen=True, slots=True)
class Submitted:
    """A document that the broker has confirmed.

    Attributes:
        document_id: Its identity.
        token: The signed bytes; submitting them again is the same document.
    """

    document_id: DocumentId
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one delivery, with all that its receipt needs.

    Attributes:
        recipient: Which of our agencies answers.
        sender: The agency that sent the document.
        answer: What became of it, and when.
    """

    recipient: AgencyCode
    sender: AgencyCode
    answer: Answer


@dataclass(slots=True, eq=False)
class Delivery:
    """A document for one of our agencies, to be handed over and answered.

    `async with delivery:` answers `received` at the end of the block, or `failed` when the block raises. A block that
    was cancelled answers nothing: the document comes again.

    Attributes:
        delivery_id: Never changes; keep it with whatever the application does, under a unique key.
        document_id: Identity of the document.
        recipient: Which of our agencies it is for.
        envelope: What was signed.
        token: The signed bytes.
        redelivered: Whether the broker handed the message out before.
        interrupted: Whether an earlier process died while handing it over, so that it may have been handed over.
    """

    delivery_id: DeliveryId
    document_id: DocumentId
    recipient: AgencyCode
    envelope: Envelope
    token: bytes = field(repr=False)
    redelivered: bool
    interrupted: bool
    _client: "AgencyClient" = field(repr=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._client.receipt(self)
        elif isinstance(error, Exception):
            await self._client.receipt(self, "failed", code="E807", detail=type(error).__name__)
        else:
            self._client.leave_open(self.delivery_id)


@dataclass(slots=True, eq=False)
class Letter:
    """A receipt, a status or a notice for one of our agencies.

    To read one twice does no harm, as it says the same; so nothing is written down before it is handed over.

    `async with letter:` acknowledges it at the end of the block; when the block raises, it is given back to the axis,
    which sends it again later.

    Attributes:
        delivery_id: Never changes.
        recipient: Which of our agencies, or the platform itself.
        content: What was signed.
        token: The signed bytes.
    """

    delivery_id: DeliveryId
    recipient: AgencyCode
    content: Receipt | Status | Notice
    token: bytes = field(repr=False)
    _client: "AgencyClient" = field(repr=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._client.acknowledge(self)
        elif isinstance(error, Exception):
            await self._client.give_back(self)
        else:
            self._client.leave_open(self.delivery_id)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that could not be believed; it was not handed over, and the axis has been told.

    Attributes:
        delivery_id: What the axis knows it by.
        recipient: The routing key under which it came.
        problems: Why.
        token: The bytes.
    """

    delivery_id: DeliveryId
    recipient: AgencyCode
    problems: Problems
    token: bytes = field(repr=False)


Arrival = Delivery | Letter | Rejected


class AgencyClient:
    """One agency or platform, connected.

    Use as `async with AgencyClient(…) as client`. Tasks may share a client: many may submit and answer at the same
    time, and several may take from `arrivals()`.

    Args:
        amqp_url: `amqp://` or `amqps://`, with the party's code as user. With client certificates `?auth=external`.
            It may name several hosts of a cluster, separated by commas.
        code: Code of the agency or platform that connects; the name of its broker user and of its queue.
        signer: Its key.
        trust: Its view of the directory.
        guard: Its memory of what was handed over.
        hub_url: The hub's HTTP API; without it no parts can be transferred.
        ssl_context: Authorities, and for mutual TLS the client certificate.
        prefetch: Most messages that the broker hands out before the first is answered.
        publish_timeout_s: How long to try until a publish is confirmed, seconds.
        confirm_timeout_s: How long to wait for one confirm before publishing again, seconds.
        connect_timeout_s: How long one attempt to connect may take, seconds.
        expired_too: Whether documents are handed over whose lifetime is over: for an agency that has lost what it had
            and catches up. Without its old guard nothing else keeps an old message from being handed over again.
        part_timeout_s: How long to try to transfer a part without getting any further, seconds.
        clock: The present, aware.
    """

    def __init__(
        self,
        amqp_url: str,
        code: str,
        signer: Signer,
        trust: Trust,
        guard: InboxGuard,
        *,
        hub_url: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        prefetch: int = 64,
        publish_timeout_s: float = 60.0,
        confirm_timeout_s: float = 20.0,
        connect_timeout_s: float = 15.0,
        expired_too: bool = False,
        part_timeout_s: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._code = AgencyCode(code)
        self._signer = signer
        self._trust = trust
        self._guard = guard
        self._clock = clock
        self._expired_too = expired_too
        self._publish_timeout_s = publish_timeout_s
        line = Line(amqp_url, self._code, ssl_context, connect_timeout_s)
        self._publisher = Publisher(line, self._code, confirm_timeout_s)
        self._parts = (
            PartStore(hub_url, self._code, signer, ssl_context=ssl_context, timeout_s=part_timeout_s, clock=clock)
            if hub_url is not None
            else None
        )
        self._arrived: asyncio.Queue[Message | BrokerError | None] = asyncio.Queue()
        self._consumer = Consumer(line, agency_queue(self._code), prefetch, self._arrived, self._forget_messages)
        self._consuming: asyncio.Task[None] | None = None
        self._opened: deque[Arrival] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._at_the_opening = asyncio.Lock()
        self._documents_too = False
        self._in_hand: dict[DeliveryId, list[Message]] = {}
        self._left_open: set[DeliveryId] = set()  # in hand, but nobody is at work on them any more

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = {task for task in (self._consuming, self._opening) if task is not None}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._arrived.put_nowait(None)
        await self._release_opened()
        await self._publisher.close()
        if self._parts is not None:
            await self._parts.close()

    async def _release_opened(self) -> None:
        """Let the guard forget what was opened and never taken, so that it is not called interrupted."""
        opened = [
            arrival.delivery_id for arrival in self._opened if isinstance(arrival, Delivery) and not arrival.interrupted
        ]
        if opened:
            with contextlib.suppress(Unusable):  # they come again as interrupted, which they may be
                await self._guard.release(opened)

    async def submit(self, document: Envelope | bytes, *, timeout_s: float | None = None) -> Submitted:
        """Sign a document and publish it until the broker has confirmed it; or publish bytes signed before.

        In doubt the same bytes are published again, which the axis knows for the same document.

        Args:
            document: An envelope; or a token, such as that in a `BrokerError`.
            timeout_s: Overrules `publish_timeout_s`.

        Raises:
            NotConfirmed: When it is in doubt at the deadline; `token` can be submitted later.
            NotTaken: When the broker still turns it away at the deadline.
            Unreachable: When the broker could not be reached until the deadline.
            RefusedByBroker: At once, when the broker does not let us in or does not permit it.
            ValueError: When it is larger than 256 KiB.
        """
        token = document if isinstance(document, bytes) else await self.sign(document)
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"the token has {len(token)} bytes, more than {MAX_TOKEN_BYTES}")
        await self._publish("document", token, self._publish_timeout_s if timeout_s is None else timeout_s)
        return Submitted(identity(token), token)

    async def sign(self, content: Envelope | Status) -> bytes:
        """Sign a document or a status and send nothing: for those who write it down before they submit it.

        Raises:
            ValueError: When the token would be larger than 256 KiB.
        """
        return await self._sign(content.to_json(), ENVELOPE_TYP if isinstance(content, Envelope) else STATUS_TYP)

    async def revoke(
        self,
        document: DocumentId,
        *,
        to: Sequence[str],
        doc: DocumentFacts,
        parts: Sequence[Part] = (),
        from_: AgencyCode | None = None,
    ) -> Submitted:
        """Recall a document that was sent before: submit the document that does so.

        Each recipient answers it with status 15 when it gives the earlier document up, with 16 when it does not. To
        ask a single recipient without a document of its own, set status 13.

        Args:
            document: What is recalled.
            to: Who is to give it up; as a rule its recipients.
            doc: The entry in the register of the document that recalls.
            parts: What belongs to that.
            from_: For a platform: the agency that sends.

        Raises:
            BrokerError: As `submit`.
            ValueError: As `submit`, or when a value does not fit.
        """
        return await self._submit_linked("revoke", (document,), to=to, doc=doc, parts=parts, from_=from_)

    async def update(
        self,
        document: DocumentId,
        *,
        to: Sequence[str],
        doc: DocumentFacts,
        parts: Sequence[Part] = (),
        from_: AgencyCode | None = None,
    ) -> Submitted:
        """Send a document as it is now in the place of the same one as it was before. Otherwise as `revoke`."""
        return await self._submit_linked("update", (document,), to=to, doc=doc, parts=parts, from_=from_)

    async def replace(
        self,
        documents: Sequence[DocumentId],
        *,
        to: Sequence[str],
        doc: DocumentFacts,
        parts: Sequence[Part] = (),
        from_: AgencyCode | None = None,
    ) -> Submitted:
        """Send a new document in the place of one or several earlier ones. Otherwise as `revoke`."""
        return await self._submit_linked("replace", documents, to=to, doc=doc, parts=parts, from_=from_)

    async def status(
        self,
        *,
        document: DocumentId,
        to: AgencyCode,
        status: StatusCode,
        from_: AgencyCode | None = None,
        detail: str | None = None,
        staff: Staff | None = None,
        at: datetime | None = None,
    ) -> None:
        """Say what our office does with a document, signed, and publish it until the broker has confirmed it.

        To set the same status again is harmless: the axis records it, and tells nobody twice.

        Args:
            document: Identity of the document.
            to: Its sender; for 13, which is the sender's own, the recipient that is asked for it.
            status: The code of QCVN 102:2016.
            from_: For a platform: the agency whose status it is.
            detail: A reason or remark; 02 must give its reason.
            staff: Who has set it.
            at: When it was set, by default now; the same status of the same moment is signed as the same for a day.

        Raises:
            BrokerError: As `submit`.
            ValueError: When a value does not fit, such as 02 without a reason or a platform that names no agency.
        """
        at_s = int((at or self._clock()).timestamp())
        content = Status(
            from_=from_ or self._code,
            via=self._via(from_),
            to=to,
            document=document,
            status=status,
            at=at_s,
            detail=detail,
            staff=staff,
        )
        await self.submit_status(await self._sign(content.to_json(), STATUS_TYP, self._repeatable(at_s)))

    async def submit_status(self, token: bytes) -> None:
        """Publish a status that was signed before, until the broker has confirmed it.

        Raises:
            BrokerError: As `submit`.
        """
        await self._publish("status", token, self._publish_timeout_s)

    async def upload(
        self, source: Path | bytes, *, name: str, media_type: str, from_: AgencyCode | None = None
    ) -> Part:
        """Bring a part to the hub, unless it is there already; name what comes back in the envelope.

        Do so before `submit`: a document whose parts are not there is refused with E503.

        Args:
            source: A file, which is streamed, or bytes.
            name: File name shown to people.
            media_type: Such as `application/pdf`.
            from_: For platforms: the agency that will send the document.

        Raises:
            FileUnusable: When the file cannot be read.
            PartError: When the hub refuses it, or nothing has moved for `part_timeout_s`.
            Unusable: Without `hub_url`.
            pydantic.ValidationError: When name or media type are not as envelopes want them.
        """
        return await self._part_store().upload(source, name=name, media_type=media_type, agency=from_ or self._code)

    async def fetch(self, delivery: Delivery, part: Part, into: Path) -> None:
        """Fetch a part of a delivered document to a file, which is there as a whole and right, or not at all.

        Do so before the delivery is answered. What has come before an interruption stays beside the file, hidden, and
        is used by the next try.

        Args:
            delivery: The document in which it came.
            part: One of its parts.
            into: The file; one that is there is replaced.

        Raises:
            FileUnusable: When the file cannot be written.
            PartError: When the hub refuses, what it sends is not the part, or nothing has moved for `part_timeout_s`.
            Unusable: Without `hub_url`.
        """
        await self._part_store().fetch(delivery.document_id, part, into, agency=delivery.recipient)

    def _part_store(self) -> PartStore:
        if self._parts is None:
            raise Unusable("needed for parts, and not set", "cần để chuyển tệp nhưng chưa đặt", place="hub_url")
        return self._parts

    def arrivals(self) -> AsyncIterator[Arrival]:
        """Iterate over all that arrives, until the client is closed.

        Duplicates of what was handed over are answered and left out. The iterator survives a cancelled step.

        Raises:
            RefusedByBroker: When the broker does not let us in or does not let us read.
            NoQueue: When there is no queue for us.
            Unusable: When guard or directory file cannot be used.
        """
        return _Stream(self._next)

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Iterate over documents only; letters are acknowledged unread. Raises as `arrivals`."""
        return _Stream(self._next_delivery)

    def letters(self) -> AsyncIterator[Letter]:
        """Iterate over letters only; documents stay in the queue and come again later. Raises as `arrivals`.

        For waiting for an answer. Documents fill the prefetch meanwhile, so this is no way to serve a queue.
        """
        return _Stream(self._next_letter)

    async def receipt(
        self, delivery: Delivery, outcome: Outcome = "received", *, code: str | None = None, detail: str | None = None
    ) -> None:
        """Answer a delivery: mark it, publish the signed receipt until it is confirmed, acknowledge the message.

        A delivery that was answered before is left alone; one whose receipt could not be published can be answered
        again.

        Args:
            delivery: What is answered.
            outcome: `received`: handed over. `failed`: not for now; the axis sends it again later, and it will be
                handed over again. `refused`: for good.
            code: For `failed` and `refused`: a code of ours or of the axis, at most 40 characters.
            detail: A sentence for people, at most 500 characters.

        Raises:
            BrokerError: As `submit`. The delivery is marked all the same and its receipt follows from
                `arrivals()`, which finds the message again.
            Unusable: When the guard cannot be used; nothing is published then.
        """
        await self.receipts((delivery,), outcome, code=code, detail=detail)

    async def receipts(
        self,
        deliveries: Sequence[Delivery],
        outcome: Outcome = "received",
        *,
        code: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Answer several deliveries alike, those of one sender in one receipt. Otherwise as `receipt`."""
        at = int(self._clock().timestamp())
        replies = [
            Reply(
                delivery.recipient,
                delivery.envelope.from_,
                Answer(delivery=str(delivery.delivery_id), outcome=outcome, at=at, code=code, detail=detail),
            )
            for delivery in deliveries
            if delivery.delivery_id in self._in_hand
        ]
        await self._mark(replies)
        await asyncio.gather(*(self._answer(batch) for batch in _by_sender(replies)))

    async def keep(self, delivery: Delivery) -> None:
        """Acknowledge the message of a delivery without a receipt: the application has written it down.

        It is answered with `reply` later. Until then the axis sends it again from time to time, and each duplicate
        comes up as a delivery that is `interrupted`, to be kept once more.
        """
        if delivery.delivery_id in self._in_hand:
            self._acknowledge(delivery.delivery_id)

    def delivery(
        self, delivery_id: DeliveryId, document_id: DocumentId, recipient: AgencyCode, envelope: Envelope, token: bytes
    ) -> Delivery:
        """Make a delivery anew of what was written down of it: its parts can be fetched, but it is answered with `reply`."""
        return Delivery(delivery_id, document_id, recipient, envelope, token, False, False, self)

    async def reply(self, replies: Sequence[Reply]) -> None:
        """Answer deliveries that were kept: mark them, publish the signed receipts until they are confirmed.

        The same replies may be given again, and must be after a crash in the middle: the receipts stay the same.

        Raises:
            BrokerError: As `submit`.
            Unusable: When the guard cannot be used; nothing is published then.
        """
        await self._mark(replies)
        receipts = [self._write_receipt(batch) for batch in _by_sender(replies)]
        await asyncio.gather(*(self._send_receipt(receipt, self._publish_timeout_s) for receipt in receipts))

    async def acknowledge(self, letter: Letter) -> None:
        """Mark a letter as handed over and acknowledge its message; it may be read twice when the process dies at once."""
        if letter.delivery_id in self._in_hand:
            self._guard.settle_letter(letter.delivery_id, self._clock())
            self._acknowledge(letter.delivery_id)

    async def give_back(self, letter: Letter) -> None:
        """Let the axis send a letter again later."""
        self._put_aside(letter.delivery_id)

    def leave_open(self, delivery_id: DeliveryId) -> None:
        """Put what was not answered back into `arrivals()`; it can still be answered before it comes again."""
        messages = self._in_hand.get(delivery_id)
        if messages is not None:
            self._left_open.add(delivery_id)
            for message in messages:
                self._arrived.put_nowait(message)
            messages.clear()

    async def _mark(self, replies: Sequence[Reply]) -> None:
        """Let the guard know: what failed comes again and is handed over again, everything else is done with."""
        failed = [reply.answer.delivery_id for reply in replies if reply.answer.outcome == "failed"]
        done = {
            reply.answer.delivery_id: HandedOver(self._write_receipt([reply]).to_json())
            for reply in replies
            if reply.answer.outcome != "failed"
        }
        if failed:
            await self._guard.release(failed)
        if done:
            await self._guard.settle(done, self._clock())

    async def _answer(self, batch: Sequence[Reply]) -> None:
        delivery_ids = [reply.answer.delivery_id for reply in batch]
        try:
            await self._send_receipt(self._write_receipt(batch), self._publish_timeout_s)
        except BaseException:
            for delivery_id in delivery_ids:
                self.leave_open(delivery_id)
            raise
        for delivery_id in delivery_ids:
            self._acknowledge(delivery_id)

    async def _submit_linked(
        self,
        action: Action,
        ref: Sequence[DocumentId],
        *,
        to: Sequence[str],
        doc: DocumentFacts,
        parts: Sequence[Part],
        from_: AgencyCode | None,
    ) -> Submitted:
        now_s = int(self._clock().timestamp())
        via = self._via(from_)
        return await self.submit(
            new_envelope(
                from_=from_ or self._code, via=via, to=to, doc=doc, now_s=now_s, action=action, ref=ref, parts=parts
            )
        )

    def _via(self, agency: AgencyCode | None) -> AgencyCode | None:
        """Name ourselves when we speak for somebody else."""
        return None if agency in (None, self._code) else self._code

    def _write_receipt(self, batch: Sequence[Reply]) -> Receipt:
        """Write one receipt for what `_by_sender` puts together."""
        return self._receipt_of(batch[0].recipient, batch[0].sender, [reply.answer for reply in batch])

    def _receipt_of(self, recipient: AgencyCode, sender: AgencyCode | None, answers: Sequence[Answer]) -> Receipt:
        return Receipt(from_=recipient, via=self._via(recipient), to=sender, answers=tuple(answers))

    async def _send_receipt(self, receipt: Receipt, timeout_s: float | None) -> None:
        """Publish a receipt, signed as of its answer while that is allowed: a repetition then has the same identity."""
        signed_at_s = self._repeatable(max(answer.at for answer in receipt.answers))
        token = await self._sign(receipt.to_json(), RECEIPT_TYP, signed_at_s)
        await self._publish("receipt", token, timeout_s)

    def _repeatable(self, at_s: int) -> int:
        """Say as of when to sign what was said at a moment: as of that moment, while the axis takes it."""
        now_s = int(self._clock().timestamp())
        return at_s if now_s - _REPEATABLE_S < at_s <= now_s else now_s

    async def _sign(self, payload: bytes, typ: str, at: int | None = None) -> bytes:
        now_s = int(self._clock().timestamp()) if at is None else at
        if self._signer.alg == "ES256" and isinstance(self._signer, KeySigner):
            # Quicker than the way to a thread; other keys take a millisecond, or live in a device.
            return sign(payload, typ=typ, signer=self._signer, now_s=now_s)
        return await asyncio.to_thread(sign, payload, typ=typ, signer=self._signer, now_s=now_s)

    async def _publish(self, lane: Lane, token: bytes, timeout_s: float | None) -> None:
        await self._publisher.publish(token, submit_key(lane, self._code), timeout_s)

    def _acknowledge(self, delivery_id: DeliveryId) -> None:
        self._left_open.discard(delivery_id)
        messages = self._in_hand.pop(delivery_id, [])
        while messages:
            acknowledge(messages.pop(0))

    def _put_aside(self, delivery_id: DeliveryId) -> None:
        self._left_open.discard(delivery_id)
        messages = self._in_hand.pop(delivery_id, [])
        while messages:
            put_aside(messages.pop(0))

    def _forget_messages(self) -> None:
        """Let go of the messages of a lost connection: nothing can settle them, and all of them come again."""
        for messages in self._in_hand.values():
            messages.clear()
        kept = [item for item in _drain(self._arrived) if item is None or isinstance(item, BrokerError)]
        for item in kept:
            self._arrived.put_nowait(item)

    async def _next(self) -> Arrival | None:
        self._documents_too = True
        return await self._take(lambda _: True)

    async def _next_delivery(self) -> Delivery | None:
        while not isinstance(arrival := await self._next(), Delivery | None):
            if isinstance(arrival, Letter):
                log.info("letter.unread delivery_id=%s", arrival.delivery_id)
                await self.acknowledge(arrival)
        return arrival

    async def _next_letter(self) -> Letter | None:
        while not isinstance(
            arrival := await self._take(lambda arrival: not isinstance(arrival, Delivery)), Letter | None
        ):
            pass
        return arrival

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
        for item in _drain(self._arrived):
            if isinstance(item, Message) and len(messages) < _OPENED_TOGETHER:
                messages.append(item)
            else:
                self._arrived.put_nowait(item)
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
            return Letter(delivery_id, recipient, content, token, self)
        redelivered = each.message.redelivered
        return Delivery(delivery_id, verified.document_id, recipient, content, token, redelivered, interrupted, self)

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
            await self._send_receipt(Receipt.model_validate_json(known.receipt), timeout_s=None)
        self._acknowledge(each.delivery_id)

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
            await self._send_receipt(self._receipt_of(recipient, None, [answer]), timeout_s=None)
            self._acknowledge(delivery_id)
        else:
            self._put_aside(delivery_id)


@dataclass(frozen=True, slots=True)
class _InHand:
    """A delivery that is being opened, with all its messages."""

    delivery_id: DeliveryId
    recipient: AgencyCode
    message: Message
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class _Stream(Generic[T]):
    """An iterator over what a function gives until it gives `None`; unlike a generator it survives cancellation."""

    take: Callable[[], Awaitable[T | None]]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self.take()
        if item is None:
            raise StopAsyncIteration
        return item


def _drain(queue: asyncio.Queue[T]) -> list[T]:
    """Take everything out of a queue."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


def _by_sender(replies: Sequence[Reply]) -> Iterator[Sequence[Reply]]:
    """Split into what one receipt may answer: one recipient, one sender, not too much."""

    def pair(reply: Reply) -> tuple[AgencyCode, AgencyCode]:
        return reply.recipient, reply.sender

    for _, group in itertools.groupby(sorted(replies, key=pair), key=pair):
        batch: list[Reply] = []
        size = 0
        for reply in group:
            more = len(reply.answer.to_json())
            if len(batch) == MAX_ANSWERS or size + more > _MAX_ANSWER_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(reply)
            size += more
        yield batch
