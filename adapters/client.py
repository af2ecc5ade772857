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

What arrives waits in `adapters.inbox`, what is said goes out through `adapters.outbox`; how it gets to the broker is the
business of `adapters.line`.
"""

import asyncio
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from adapters.arrivals import Arrival, Delivery, Letter, Reply
from adapters.errors import Unusable
from adapters.inbox import Inbox
from adapters.inbox_guard import HandedOver, InboxGuard
from adapters.line import Line, Publisher
from adapters.outbox import Outbox
from adapters.parts import PartStore
from adapters.trust import Trust
from schemas.envelope import ENVELOPE_TYP, Action, DocumentFacts, Envelope, Part, new_envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import MAX_ANSWERS, STATUS_TYP, Answer, Outcome, Receipt, Staff, Status, StatusCode
from schemas.signing import MAX_TOKEN_BYTES, Signer, identity

log = logging.getLogger(__name__)

T = TypeVar("T")

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
        self._guard = guard
        self._clock = clock
        self._publish_timeout_s = publish_timeout_s
        line = Line(amqp_url, self._code, ssl_context, connect_timeout_s)
        self._outbox = Outbox(self._code, signer, Publisher(line, self._code, confirm_timeout_s), clock)
        self._inbox = Inbox(
            line,
            self._code,
            trust=trust,
            guard=guard,
            outbox=self._outbox,
            client=self,
            prefetch=prefetch,
            expired_too=expired_too,
            clock=clock,
        )
        self._parts = (
            PartStore(hub_url, self._code, signer, ssl_context=ssl_context, timeout_s=part_timeout_s, clock=clock)
            if hub_url is not None
            else None
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inbox.stop()
        await self._outbox.close()
        if self._parts is not None:
            await self._parts.close()

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
        await self._outbox.publish("document", token, self._publish_timeout_s if timeout_s is None else timeout_s)
        return Submitted(identity(token), token)

    async def sign(self, content: Envelope | Status) -> bytes:
        """Sign a document or a status and send nothing: for those who write it down before they submit it.

        Raises:
            ValueError: When the token would be larger than 256 KiB.
        """
        return await self._outbox.sign(content.to_json(), ENVELOPE_TYP if isinstance(content, Envelope) else STATUS_TYP)

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
            via=self._outbox.via(from_),
            to=to,
            document=document,
            status=status,
            at=at_s,
            detail=detail,
            staff=staff,
        )
        await self.submit_status(await self._outbox.sign(content.to_json(), STATUS_TYP, self._outbox.repeatable(at_s)))

    async def submit_status(self, token: bytes) -> None:
        """Publish a status that was signed before, until the broker has confirmed it.

        Raises:
            BrokerError: As `submit`.
        """
        await self._outbox.publish("status", token, self._publish_timeout_s)

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
        return _Stream(self._inbox.take)

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Iterate over documents only; letters are acknowledged unread. Raises as `arrivals`."""
        return _Stream(self._next_delivery)

    def letters(self) -> AsyncIterator[Letter]:
        """Iterate over letters only; documents stay in the queue and come again later. Raises as `arrivals`.

        For waiting for an answer. Documents fill the prefetch meanwhile, so this is no way to serve a queue.
        """
        return _Stream(self._inbox.take_letter)

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
        """Answer several deliveries alike, in few messages: those of one sender in one receipt. Otherwise as `receipt`."""
        at = int(self._clock().timestamp())
        replies = [
            Reply(
                delivery.recipient,
                delivery.envelope.from_,
                Answer(delivery=str(delivery.delivery_id), outcome=outcome, at=at, code=code, detail=detail),
            )
            for delivery in deliveries
            if self._inbox.holds(delivery.delivery_id)
        ]
        await self._mark(replies)
        await self._answer(replies)

    async def keep(self, delivery: Delivery) -> None:
        """Acknowledge the message of a delivery without a receipt: the application has written it down.

        It is answered with `reply` later. Until then the axis sends it again from time to time, and each duplicate
        comes up as a delivery that is `interrupted`, to be kept once more.
        """
        if self._inbox.holds(delivery.delivery_id):
            self._inbox.acknowledge(delivery.delivery_id)

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
        await self._outbox.send_receipts(map(self._receipt_for, _by_sender(replies)), self._publish_timeout_s)

    async def acknowledge(self, letter: Letter) -> None:
        """Mark a letter as handed over, and acknowledge its message when that was the last letter in it.

        It may be read twice when the process dies at once.
        """
        if self._inbox.holds(letter.delivery_id):
            self._guard.settle_letter(letter.delivery_id, self._clock())
            self._inbox.acknowledge(letter.delivery_id)

    async def give_back(self, letter: Letter) -> None:
        """Let the axis send a letter again later, and with it those that came in the same message, when all are settled."""
        self._inbox.put_aside(letter.delivery_id)

    def leave_open(self, delivery_id: DeliveryId) -> None:
        """Put what was not answered back into `arrivals()`; it can still be answered before it comes again."""
        self._inbox.leave_open(delivery_id)

    async def _mark(self, replies: Sequence[Reply]) -> None:
        """Let the guard know: what failed comes again and is handed over again, everything else is done with."""
        failed = [reply.answer.delivery_id for reply in replies if reply.answer.outcome == "failed"]
        done = {
            reply.answer.delivery_id: HandedOver(self._receipt_for([reply]).to_json())
            for reply in replies
            if reply.answer.outcome != "failed"
        }
        if failed:
            await self._guard.release(failed)
        if done:
            await self._guard.settle(done, self._clock())

    async def _answer(self, replies: Sequence[Reply]) -> None:
        with self._left_open_in_trouble([reply.answer.delivery_id for reply in replies]):
            bundles = await self._outbox.tie_receipts(map(self._receipt_for, _by_sender(replies)))
        await asyncio.gather(*(self._send_answers(receipts, body) for receipts, body in bundles))

    async def _send_answers(self, receipts: Sequence[Receipt], body: bytes) -> None:
        """Publish what travels in one message, acknowledge what it answers."""
        delivery_ids = [answer.delivery_id for receipt in receipts for answer in receipt.answers]
        with self._left_open_in_trouble(delivery_ids):
            await self._outbox.publish("receipt", body, self._publish_timeout_s)
        for delivery_id in delivery_ids:
            self._inbox.acknowledge(delivery_id)

    @contextmanager
    def _left_open_in_trouble(self, delivery_ids: Sequence[DeliveryId]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for delivery_id in delivery_ids:
                self.leave_open(delivery_id)
            raise

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
        via = self._outbox.via(from_)
        return await self.submit(
            new_envelope(
                from_=from_ or self._code, via=via, to=to, doc=doc, now_s=now_s, action=action, ref=ref, parts=parts
            )
        )

    def _receipt_for(self, batch: Sequence[Reply]) -> Receipt:
        """Write one receipt for what `_by_sender` puts together."""
        return self._outbox.receipt(batch[0].recipient, batch[0].sender, [reply.answer for reply in batch])

    async def _next_delivery(self) -> Delivery | None:
        while not isinstance(arrival := await self._inbox.take(), Delivery | None):
            if isinstance(arrival, Letter):
                log.info("letter.unread delivery_id=%s", arrival.delivery_id)
                await self.acknowledge(arrival)
        return arrival


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
