"""What the gateway does without being asked: takes what arrives, sends what was written down, forgets what is old.

Every loop goes on through trouble: what it could not do is still written down or still in the queue. The order of
effects stands in `adapters.gateway`.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.errors import AgencyError, Unusable
from adapters.gateway.office import Bell, Office
from adapters.mailbox import Arrived, Kind
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Notice, Receipt, Status

log = logging.getLogger(__name__)

_TAKERS: Final = 16
_BATCH: Final = 256
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_FORGET_EVERY_S: Final = 3600.0


async def receive(office: Office) -> None:
    """Take what arrives until the client is closed; several at a time share the commits of the mailbox.

    Raises:
        RefusedByBroker: In a group, when the broker does not let us in or does not let us read.
        NoQueue: In a group, when there is no queue for us.
    """
    async with asyncio.TaskGroup() as takers:
        for _ in range(_TAKERS):
            takers.create_task(_take(office))


async def send_documents(office: Office) -> None:
    """Publish what was handed in, again and again until it is confirmed; never ends."""
    await _serve(office.drawn, lambda: publish_documents(office))


async def send_receipts(office: Office) -> None:
    """Publish the receipts of what was answered, again and again until they are confirmed; never ends."""
    await _serve(office.answered, lambda: publish_receipts(office))


async def forget(office: Office, days: int) -> None:
    """Delete what is old and done with, every hour; never ends."""
    while True:
        try:
            await office.mailbox.forget(office.clock() - timedelta(days=days))
        except Unusable as error:
            log.warning("mailbox.forget: %s", error)
        await asyncio.sleep(_FORGET_EVERY_S)


async def take_in(office: Office, arrival: Delivery | Letter | Rejected) -> None:
    """Write an arrival down, then acknowledge its message.

    Raises:
        Unusable: When mailbox or guard cannot be used; the arrival comes again.
    """
    if isinstance(arrival, Rejected):
        return  # the client has logged it and told the axis
    try:
        if isinstance(arrival, Delivery):
            fresh = await office.mailbox.keep(_document(arrival), office.clock())
            await office.client.keep(arrival)
        else:
            fresh = await office.mailbox.note(_letter(arrival), arrival.content, office.clock())
            await office.client.acknowledge(arrival)
    except BaseException:
        office.client.leave_open(arrival.delivery_id)
        raise
    if fresh:
        office.arrived.ring()


async def publish_documents(office: Office) -> bool:
    """Publish a batch of what waits; tells whether there was anything.

    Raises:
        BrokerError: When not all of it was confirmed; the rest still waits.
        Unusable: When the mailbox cannot be used.
    """
    waiting = await office.mailbox.waiting(_BATCH)
    results = await asyncio.gather(*(office.client.submit(token) for _, token in waiting), return_exceptions=True)
    confirmed = [
        document_id
        for (document_id, _), result in zip(waiting, results, strict=True)
        if not isinstance(result, BaseException)
    ]
    if confirmed:
        await office.mailbox.mark_confirmed(confirmed, office.clock())
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return bool(waiting)


async def publish_receipts(office: Office) -> bool:
    """Publish the receipts of a batch of what was answered; tells whether there was anything.

    Raises:
        BrokerError: When not all of it was confirmed; all of it is sent again.
        Unusable: When mailbox or guard cannot be used.
    """
    untold = await office.mailbox.untold(_BATCH)
    if untold:
        await office.client.reply([kept.reply for kept in untold])
        await office.mailbox.mark_told(untold)
    return bool(untold)


async def _take(office: Office) -> None:
    while True:
        try:
            async for arrival in office.client.arrivals():
                await take_in(office, arrival)
        except Unusable as error:
            log.error("arrivals.stopped for %s s: %s", _LONGEST_WAIT_S / 10, error)  # noqa: TRY400 - says it all
            await asyncio.sleep(_LONGEST_WAIT_S / 10)
        else:
            return


async def _serve(bell: Bell, turn: Callable[[], Awaitable[bool]]) -> None:
    """Take turns: at once while there is something, at the next ring when not, ever later in trouble."""
    wait_s = _FIRST_WAIT_S
    while True:
        rung = bell.listen()
        try:
            busy = await turn()
        except AgencyError as error:
            log.warning("send.again in %s s: %s", wait_s, error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            continue
        wait_s = _FIRST_WAIT_S
        if not busy:
            await rung.wait()


def _document(delivery: Delivery) -> Arrived:
    envelope = delivery.envelope
    return Arrived(
        delivery.delivery_id,
        "document",
        delivery.recipient,
        envelope.from_,
        delivery.document_id,
        json.dumps(_summary(envelope), ensure_ascii=False),
        delivery.token,
    )


def _summary(envelope: Envelope) -> dict[str, Any]:
    doc = envelope.doc
    return {
        "number": doc.printed_number,
        "kind": doc.kind,
        "subject": doc.subject,
        "issued_on": doc.issued_on,
        "urgency": doc.urgency,
        "action": envelope.action,
        "expires": envelope.expires,
        "parts": len(envelope.parts),
    }


def _letter(letter: Letter) -> Arrived:
    kind, document_id = _about(letter)
    content = letter.content
    summary = content.to_json().decode()
    return Arrived(
        letter.delivery_id, kind, letter.recipient, AgencyCode(content.from_), document_id, summary, letter.token
    )


def _about(letter: Letter) -> tuple[Kind, DocumentId | None]:
    """Say what a letter is, and which document it is about; a receipt may answer many."""
    match letter.content:
        case Receipt():
            return "receipt", None
        case Status(document=document):
            return "status", document
        case Notice(document=document):
            return "notice", document
