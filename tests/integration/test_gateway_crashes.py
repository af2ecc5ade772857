"""The gateway dies at every effect, before and after it, and is started again; the broker is real, the tests play the hub.

Every effect passes one function that can stop before or after it. Nothing is listed: what the loops call is visited.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.gateway import loops
from adapters.gateway.office import Office
from adapters.mailbox import LETTERS
from schemas.addresses import INTAKE, RECEIPTS, agency_queue
from schemas.identifiers import DeliveryId, delivery_id_of
from schemas.receipt import read_receipt
from schemas.signing import identity, payload_of
from tests.gateways import Counter, draft, open_counter
from tests.played_hub import Axis, envelope, notice_to, open_axis, signed
from tests.services import Broker

EFFECTS = {
    "mailbox": ("keep", "note", "answer", "mark_told", "submit", "mark_confirmed"),
    "client": ("keep", "acknowledge", "reply", "sign", "submit"),
}


class Died(BaseException):
    """The process is gone."""


class Stopper:
    """Counts points before and after effects, and dies at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.points: list[str] = []

    def point(self, name: str) -> None:
        if self.at is not None and len(self.points) > self.at:
            raise Died(name)  # the dead do nothing any more
        self.points.append(name)
        if self.at is not None and len(self.points) > self.at:
            raise Died(name)

    def wrap(self, name: str, effect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **named: Any) -> Any:
            self.point(f"before {name}")
            result = await effect(*args, **named)
            self.point(f"after {name}")
            return result

        return wrapped


class Watched:
    """Stands before an object and lets its effects pass the stopper."""

    def __init__(self, inner: Any, name: str, stopper: Stopper) -> None:
        self._inner = inner
        self._effects = {each: stopper.wrap(f"{name}.{each}", getattr(inner, each)) for each in EFFECTS[name]}

    def __getattr__(self, name: str) -> Any:
        return self._effects[name] if name in self._effects else getattr(self._inner, name)


@pytest.fixture
async def axis(vhost: Broker, tmp_path: Path) -> AsyncIterator[Axis]:
    async with open_axis(vhost, tmp_path) as axis:
        yield axis


@asynccontextmanager
async def gateway(axis: Axis, folder: Path, stopper: Stopper) -> AsyncIterator[Counter]:
    async with open_counter(
        folder, code=axis.agency, amqp_url=axis.url(axis.agency), directory_file=axis.directory_file
    ) as counter:
        counter.office.mailbox = Watched(counter.office.mailbox, "mailbox", stopper)
        counter.office.client = Watched(counter.office.client, "client", stopper)
        yield counter


async def serve_until_nothing_is_left(axis: Axis, folder: Path) -> None:
    """Let a gateway settle what comes again, however long the broker and the machine take for it."""
    async with asyncio.timeout(30):
        while not await axis.is_empty(agency_queue(axis.agency)):
            async with gateway(axis, folder, Stopper()) as counter:
                receiving = asyncio.create_task(loops.receive(counter.office))
                await asyncio.sleep(0.2)
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)


async def take_one(office: Office) -> None:
    async with asyncio.timeout(10):
        await loops.take_in(office, await anext(office.client.arrivals()))


async def answer_what_is_listed(counter: Counter) -> list[DeliveryId]:
    """Do what a platform does: list, keep, answer."""
    kept = await counter.office.arrivals(("document",), after=0, limit=10, unanswered=True)
    for each in kept:
        assert (await counter.answer(each.delivery_id)).status_code == 200
    return [each.delivery_id for each in kept]


async def until_it_dies_nowhere(
    axis: Axis, folder: Path, story: Callable[[Axis, Path, Stopper], Awaitable[None]]
) -> list[str]:
    """Live through a story once in peace, then once for every point at which it can die."""
    peace = Stopper()
    await story(axis, folder / "peace", peace)
    for at in range(len(peace.points)):
        await story(axis, folder / str(at), Stopper(at))
    return peace.points


async def a_document_arrives_and_is_answered(axis: Axis, folder: Path, stopper: Stopper) -> None:
    token = signed(envelope(axis.sender, axis.agency))
    delivery_id = delivery_id_of(identity(token), axis.agency)
    await axis.deliver(token, axis.agency)
    handed_over: list[DeliveryId] = []
    try:
        async with gateway(axis, folder, stopper) as counter:
            await take_one(counter.office)
            handed_over += await answer_what_is_listed(counter)
            await loops.publish_receipts(counter.office)
    except (Died, BaseExceptionGroup):
        async with gateway(axis, folder, Stopper()) as counter:
            receiving = asyncio.create_task(loops.receive(counter.office))
            assert await counter.office.arrivals(("document",), after=0, limit=1, wait_s=10)
            handed_over += await answer_what_is_listed(counter)
            await loops.publish_receipts(counter.office)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        await serve_until_nothing_is_left(axis, folder)  # a duplicate
    receipts = []
    while await axis.waiting(RECEIPTS):
        receipts.append(read_receipt(payload_of((await axis.take(RECEIPTS)).body)))
    answered = {answer.delivery_id for receipt in receipts for answer in receipt.answers}
    assert answered == {delivery_id}
    assert len({receipt.answers for receipt in receipts}) == 1  # repeated, it says the same
    assert set(handed_over) <= {delivery_id}
    assert await axis.is_empty(agency_queue(axis.agency))


async def a_document_is_handed_in(axis: Axis, folder: Path, stopper: Stopper) -> None:
    promised = None
    try:
        async with gateway(axis, folder, stopper) as counter:
            answer = await counter.submit(draft(axis.sender), key="k1")
            promised = answer.json().get("document")
            await loops.publish_documents(counter.office)
    except (Died, BaseExceptionGroup):
        pass
    async with gateway(axis, folder, Stopper()) as counter:
        await loops.publish_documents(counter.office)
        again = await counter.submit(draft(axis.sender), key="k1")  # in doubt the platform repeats its request
        await loops.publish_documents(counter.office)
        state = await counter.http.get(f"/v1/documents/{again.json()['document']}")
    sent = set()
    while await axis.waiting(INTAKE):
        sent.add(identity((await axis.take(INTAKE)).body))
    assert sent == {again.json()["document"]}
    assert promised in (None, again.json()["document"])
    assert state.json()["state"] == "submitted"


async def a_letter_arrives(axis: Axis, folder: Path, stopper: Stopper) -> None:
    await axis.deliver(notice_to(axis.agency), axis.agency)
    try:
        async with gateway(axis, folder, stopper) as counter:
            await take_one(counter.office)
    except (Died, BaseExceptionGroup):
        async with gateway(axis, folder, Stopper()) as counter:
            receiving = asyncio.create_task(loops.receive(counter.office))
            assert await counter.office.arrivals(LETTERS, after=0, limit=1, wait_s=10)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        await serve_until_nothing_is_left(axis, folder)
    async with gateway(axis, folder, Stopper()) as counter:
        assert len((await counter.http.get("/v1/letters")).json()["items"]) == 1
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_document_that_arrives_is_handed_over_and_answered_wherever_the_process_dies(axis, tmp_path):
    points = await until_it_dies_nowhere(axis, tmp_path, a_document_arrives_and_is_answered)

    assert points == [
        f"{when} {effect}"
        for effect in ("mailbox.keep", "client.keep", "mailbox.answer", "client.reply", "mailbox.mark_told")
        for when in ("before", "after")
    ]


async def test_a_document_that_is_handed_in_is_sent_as_one_wherever_the_process_dies(axis, tmp_path):
    points = await until_it_dies_nowhere(axis, tmp_path, a_document_is_handed_in)

    assert points == [
        f"{when} {effect}"
        for effect in ("client.sign", "mailbox.submit", "client.submit", "mailbox.mark_confirmed")
        for when in ("before", "after")
    ]


async def test_a_letter_is_kept_once_wherever_the_process_dies(axis, tmp_path):
    points = await until_it_dies_nowhere(axis, tmp_path, a_letter_arrives)

    assert points == [
        f"{when} {effect}" for effect in ("mailbox.note", "client.acknowledge") for when in ("before", "after")
    ]


async def test_a_document_answered_with_failed_comes_again_and_is_handed_over_again(axis, tmp_path):
    token = signed(envelope(axis.sender, axis.agency))
    async with gateway(axis, tmp_path / "gateway", Stopper()) as counter:
        await axis.deliver(token, axis.agency)
        await take_one(counter.office)
        (first,) = await counter.office.arrivals(("document",), after=0, limit=10)
        await counter.answer(first.delivery_id, outcome="failed", code="DIA-DAY", detail="Đĩa đầy")
        await loops.publish_receipts(counter.office)
        receipt = await axis.take_receipt()

        await axis.deliver(token, axis.agency)  # the hub sends again what failed
        await take_one(counter.office)
        (second,) = await counter.office.arrivals(("document",), after=first.seq, limit=10)
        await counter.answer(second.delivery_id)
        await loops.publish_receipts(counter.office)

    assert [(answer.outcome, answer.code, answer.detail) for answer in receipt.answers] == [
        ("failed", "DIA-DAY", "Đĩa đầy")
    ]
    assert second.delivery_id == first.delivery_id
    assert [answer.outcome for answer in (await axis.take_receipt()).answers] == ["received"]


async def test_while_nobody_answers_the_axis_may_send_again_and_nothing_doubles(axis, tmp_path):
    token = signed(envelope(axis.sender, axis.agency))
    async with gateway(axis, tmp_path / "gateway", Stopper()) as counter:
        for _ in range(3):
            await axis.deliver(token, axis.agency)
            await take_one(counter.office)
        assert len(await counter.office.arrivals(("document",), after=0, limit=10)) == 1
        assert await axis.waiting(RECEIPTS) == 0
        await answer_what_is_listed(counter)
        await loops.publish_receipts(counter.office)
        await axis.take_receipt()

        receiving = asyncio.create_task(loops.receive(counter.office))
        await axis.deliver(token, axis.agency)  # the receipt was lost: it is repeated, nothing is handed over
        await axis.take_receipt()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        assert await counter.office.mailbox.find(delivery_id_of(identity(token), axis.agency)) is not None
        assert len(await counter.office.arrivals(("document",), after=0, limit=10)) == 1
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_what_cannot_be_written_down_stays_with_the_axis(axis, tmp_path):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    async with gateway(axis, tmp_path / "gateway", Stopper()) as counter:
        counter.office.mailbox.close()
        receiving = asyncio.create_task(loops.receive(counter.office))
        await asyncio.sleep(0.5)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    await asyncio.sleep(0.3)

    assert await axis.waiting(agency_queue(axis.agency)) == 1
