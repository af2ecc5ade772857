"""What arrives for an agency, and the answers to it."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from adapters.trust import Problems
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import Answer, Notice, Outcome, Receipt, Status


class Client(Protocol):
    """Where what has arrived is answered: the client that it came to."""

    async def receipt(
        self, delivery: "Delivery", outcome: Outcome = "received", *, code: str | None = None, detail: str | None = None
    ) -> None:
        """Answer a delivery."""

    async def acknowledge(self, letter: "Letter") -> None:
        """Mark a letter as read."""

    async def give_back(self, letter: "Letter") -> None:
        """Let the axis send a letter again later."""

    def leave_open(self, delivery_id: DeliveryId) -> None:
        """Let it come up again, unanswered."""


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
    _client: Client = field(repr=False)

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
    _client: Client = field(repr=False)

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
