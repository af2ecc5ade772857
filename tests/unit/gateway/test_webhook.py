"""Announcing arrivals: signed, retried, in order for each agency, and never in the way of anybody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from adapters.gateway.webhook import Webhook
from schemas.directory_file import key_record
from schemas.event import EVENT_TYP, Event
from schemas.receipt import Answer
from schemas.signing import Verified, verify
from schemas.wire import read_payload
from tests.gateways import AGENCY, OTHER, Counter, document_for, now, open_counter
from tests.hub_process import eventually
from tests.keys import agency_keys
from tests.played_hub import now_s


@dataclass
class Platform:
    """The system behind the gateway, which is told.

    Attributes:
        told: Tokens, in the order in which they were taken.
        tries: Recipients of all announcements, taken or not.
        answers: What it says next; afterwards 204.
        deaf: Recipients whose announcements it does not take.
    """

    told: list[bytes] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # the gateway was stopped between connecting and asking
            writer.close()
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        token = await reader.readexactly(length)
        recipient = event_of(token).to
        self.tries.append(recipient)
        status = self.answers.pop(0) if self.answers else b"204 No Content"
        status = b"503 Busy" if recipient in self.deaf else status
        if status.startswith(b"2"):
            self.told.append(token)
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    @property
    def events(self) -> list[Event]:
        return [event_of(token) for token in self.told]


def event_of(token: bytes) -> Event:
    record = key_record(agency_keys(AGENCY).entry(AGENCY))
    verified = verify(token, typ=EVENT_TYP, keys={record.fingerprint: record}, now_s=now_s())
    assert isinstance(verified, Verified)
    event = read_payload(Event, verified.payload)
    assert isinstance(event, Event)
    return event


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    server = await asyncio.start_server(platform.serve, "127.0.0.1", 0)
    platform.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield platform


@asynccontextmanager
async def announcing(counter: Counter, url: str, *, acknowledges: bool = False) -> AsyncIterator[None]:
    signer = agency_keys(AGENCY).signer
    webhook = Webhook(url, counter.office, signer, acknowledges=acknowledges, timeout_s=2, first_wait_s=0.05)
    task = asyncio.create_task(webhook.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def counter(tmp_path):
    async with open_counter(tmp_path, announces=True) as counter:
        yield counter


async def test_an_arrival_is_announced_signed_and_once(counter, platform):
    async with announcing(counter, platform.url):
        kept = await counter.arrive()
        await eventually(lambda: platform.told, 5)
        await asyncio.sleep(0.2)

    (event,) = platform.events
    assert (event.from_, event.to, event.kind) == (AGENCY, AGENCY, "document")
    assert (event.seq, event.delivery, event.document) == (kept.seq, str(kept.delivery_id), kept.document_id)


async def test_what_has_arrived_while_it_was_off_the_air_is_announced_at_the_next_start(counter, platform):
    kept = await counter.arrive()
    async with announcing(counter, platform.url):
        await eventually(lambda: platform.told, 5)

    assert platform.events[0].delivery == str(kept.delivery_id)


async def test_it_is_announced_until_it_is_taken_and_what_follows_waits_its_turn(counter, platform):
    platform.answers += [b"500 Oops", b"302 Found", b"404 Not Found"]
    arrived = [str((await counter.arrive()).delivery_id) for _ in range(5)]
    async with announcing(counter, platform.url):
        await eventually(lambda: len(platform.told) == 5, 10)

    assert [event.delivery for event in platform.events] == arrived
    assert len(platform.tries) == 8


async def test_one_agency_whose_events_are_not_taken_holds_up_no_other(counter, platform):
    platform.deaf.add(AGENCY)
    async with announcing(counter, platform.url):
        await counter.arrive(AGENCY)
        for _ in range(3):
            await counter.arrive(OTHER)
        await eventually(lambda: len(platform.told) == 3, 5)
        assert {event.to for event in platform.events} == {OTHER}

        platform.deaf.clear()
        await eventually(lambda: len(platform.told) == 4, 5)


async def test_polling_goes_on_while_nobody_takes_announcements(counter, platform):
    platform.deaf.add(AGENCY)
    async with announcing(counter, platform.url):
        kept = await counter.arrive()
        await eventually(lambda: platform.tries, 5)
        page = (await counter.http.get("/v1/deliveries")).json()

    assert [item["delivery"] for item in page["items"]] == [str(kept.delivery_id)]


async def test_an_address_where_nobody_listens_is_tried_again(counter, caplog):
    async with announcing(counter, "http://127.0.0.1:1/hook"):
        await counter.arrive()
        await eventually(lambda: caplog.text.count("webhook.again") >= 2, 5)


async def test_what_was_answered_meanwhile_is_not_announced(counter, platform):
    kept = await counter.arrive()
    await counter.answer(kept.delivery_id)
    other = await counter.arrive()
    async with announcing(counter, platform.url):
        await eventually(lambda: platform.told, 5)

    assert [event.delivery for event in platform.events] == [str(other.delivery_id)]


async def test_taking_an_announcement_answers_nothing(counter, platform):
    async with announcing(counter, platform.url):
        await counter.arrive()
        await eventually(lambda: platform.told, 5)
        await asyncio.sleep(0.1)

    assert await counter.office.mailbox.untold(10) == []


async def test_taking_an_announcement_answers_received_where_that_is_set_up(counter, platform):
    async with announcing(counter, platform.url, acknowledges=True):
        kept = await counter.arrive()

        async def answered() -> list[Answer]:
            return [each.answer for each in await counter.office.mailbox.untold(10)]

        await eventually(answered, 5)
        (answer,) = await answered()

    assert (answer.delivery, answer.outcome) == (str(kept.delivery_id), "received")


async def test_where_no_webhook_was_set_up_nothing_is_announced_later(tmp_path, platform):
    async with open_counter(tmp_path, announces=False) as counter:
        await counter.arrive()
    async with open_counter(tmp_path, announces=True) as counter, announcing(counter, platform.url):
        later = await counter.arrive()
        await eventually(lambda: platform.told, 5)
        await asyncio.sleep(0.1)

    assert [event.delivery for event in platform.events] == [str(later.delivery_id)]


async def test_a_document_that_comes_again_after_failed_is_announced_again(counter, platform):
    document = document_for()
    async with announcing(counter, platform.url):
        await counter.office.mailbox.keep(document, now())
        counter.office.arrived.ring()
        await eventually(lambda: len(platform.told) == 1, 5)
        await counter.answer(document.delivery_id, outcome="failed", detail="Đĩa đầy")
        await counter.office.mailbox.keep(document, now())
        counter.office.arrived.ring()
        await eventually(lambda: len(platform.told) == 2, 5)

    first, second = platform.events
    assert first.delivery == second.delivery
    assert first.seq < second.seq
