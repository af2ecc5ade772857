"""One document to twelve thousand recipients, on the real ledger: others are not delayed, and the memory is bounded."""

import asyncio
import time
import tracemalloc
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

import pytest

from hub.core.decide import decide
from hub.core.policy import Pace, Policy
from hub.core.settlement import settle_attempt
from hub.core.submission import Submission
from hub.core.verdict import Accept, Refuse
from hub.intake import Aside, Intake
from hub.store.audit import audit
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from schemas.signing import sign
from tests import builders as a
from tests.builders import NOW, POLICY, SENDER
from tests.component.memory import Batch, Message
from tests.keys import make_certificate

RECIPIENTS = 12_000
MAX_MEMORY_BYTES = 64 * 1024**2
BATCH = 300

KEY = make_certificate(SENDER, not_before=NOW - timedelta(days=1))


@pytest.fixture(scope="module")
def country() -> Directory:
    """A ministry, one province, twenty departments of it, and six hundred communes below each of these."""
    open_since = {"valid_from": "2025-07-01"}
    agencies = [
        AgencyEntry(code=SENDER, name="Bộ", tier="ministry-province", endpoint=SENDER, **open_since),
        AgencyEntry(code="H26", name="Tỉnh", tier="ministry-province", endpoint="H26", **open_since),
    ]
    for department in range(20):
        parent = f"H26.{department}"
        agencies.append(
            AgencyEntry(code=parent, name="Sở", tier="department-district", parent="H26", endpoint=parent, **open_since)
        )
        agencies += [
            AgencyEntry(
                code=f"{parent}.{commune}",
                name="Xã",
                tier="commune",
                parent=parent,
                endpoint=f"{parent}.{commune}",
                **open_since,
            )
            for commune in range(RECIPIENTS // 20)
        ]
    file = DirectoryFile(agencies=tuple(agencies), certificates=(KEY.entry(SENDER),))
    return snapshot(file, epoch=1, as_of=NOW)


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


def submission(*to: str) -> Submission:
    payload = a.envelope(to=to).to_json()
    token = sign(payload, typ=ENVELOPE_TYP, signer=KEY.signer, now_s=int(NOW.timestamp()))
    return Submission(token, SENDER, f"document.{SENDER}")


class Batches:
    """An inbox that hands some batches out, each once."""

    def __init__(self, *batches: Sequence[Submission]) -> None:
        self.waiting = deque(batches)
        self.acknowledged: list[bytes] = []

    async def take(self) -> Batch:
        return Batch([Message(item) for item in self.waiting.popleft()])

    async def acknowledge(self, batch: Batch) -> None:
        self.acknowledged += [item.body for item in batch.submissions]

    async def release(self) -> None:
        raise AssertionError("nothing is given back")


class Current:
    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def current(self) -> Directory:
        return self.directory


async def take_in(pool, country: Directory, *submissions: Submission, at=NOW) -> None:
    intake = Intake(Batches(submissions), PostgresLedger(pool), Current(country), KEY.signer, POLICY, clock=lambda: at)
    assert await intake.turn() == len(submissions)


@pytest.mark.parametrize(
    ("group", "members"),
    [("tier:commune", RECIPIENTS), ("children:H26", 20), ("descendants:H26", RECIPIENTS + 20), ("children:H26.7", 600)],
)
async def test_group_is_written_to_the_ledger_as_the_directory_had_it_at_acceptance(pool, country, group, members):
    await take_in(pool, country, submission(group))

    async with pool.reading() as connection:
        written = await connection.fetchval(
            "SELECT detail -> 'recipients' FROM ledger WHERE event = 'document.accepted'"
        )
        delivered = await connection.fetchval("SELECT array_agg(recipient ORDER BY recipient) FROM deliveries")
    assert len(set(written)) == len(written) == members
    assert written == sorted(country.agencies.keys() & set(written))
    assert sorted(delivered) == sorted(written)
    assert (await audit(pool)).holds


@pytest.mark.parametrize(
    ("allowed", "accepted"), [({}, False), ({SENDER: RECIPIENTS}, True), ({AgencyCode("H26"): RECIPIENTS}, False)]
)
def test_sender_has_a_bound_of_its_own(country, allowed, accepted):
    policy = Policy(max_recipients=1000, max_recipients_by_sender=allowed)

    verdict = decide(submission("tier:commune"), country, policy, NOW)

    assert isinstance(verdict, Accept if accepted else Refuse)
    if isinstance(verdict, Refuse):
        assert [(problem.code, problem.pointer) for problem in verdict.problems] == [("E406", "/to")]


async def test_document_that_comes_after_a_broadcast_is_handed_over_before_most_of_it(pool, country):
    await take_in(pool, country, submission("tier:commune"))
    later = NOW + timedelta(seconds=1)
    await take_in(pool, country, submission("H26"), at=later)
    deliveries = PostgresDeliveries(pool, max_batch=BATCH, wait_s=0.01)

    handed_over: list[str] = []
    while "H26" not in handed_over:
        async with deliveries.claim(later) as claim:
            handed_over += [due.delivery.recipient for due in claim.due]
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, later) for due in claim.due], later)

    pace = Pace()
    assert len(handed_over) <= pace.at_once + pace.per_s + BATCH


async def test_documents_beside_and_behind_a_broadcast_are_taken_in_before_it_and_while_it_is(pool, country):
    broadcast, beside, behind = submission("tier:commune"), submission("H26"), submission("H26")
    inbox = Batches([broadcast, beside], [behind])
    ledger = PostgresLedger(pool)
    intake = Intake(inbox, ledger, Current(country), KEY.signer, POLICY, clock=lambda: NOW, aside=Aside())

    assert await intake.turn() == 1
    assert not inbox.acknowledged
    taking_the_broadcast = asyncio.create_task(intake.turn_aside())
    await asyncio.sleep(0)
    assert await intake.turn() == 1
    assert not taking_the_broadcast.done()
    assert inbox.acknowledged == [behind.body]
    assert await taking_the_broadcast == 1
    assert inbox.acknowledged == [behind.body, broadcast.body, beside.body]
    assert await intake.turn_aside() == 0
    async with pool.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM deliveries") == RECIPIENTS + 2
    assert (await audit(pool)).holds


async def test_broadcast_is_handed_over_to_everybody_at_its_pace(pool, country):
    await take_in(pool, country, submission("tier:commune"))
    deliveries = PostgresDeliveries(pool, max_batch=BATCH, wait_s=0.01)
    pace = Pace()
    seconds = (RECIPIENTS - pace.at_once) / pace.per_s

    handed_over: set[str] = set()
    for second in range(int(seconds) + 2):
        now = NOW + timedelta(seconds=second)
        before = len(handed_over)
        while True:
            async with deliveries.claim(now) as claim:
                if not claim.due:
                    break
                handed_over |= {due.delivery.recipient for due in claim.due}
                await claim.settle([settle_attempt(due.delivery, "routed", POLICY, now) for due in claim.due], now)
        assert len(handed_over) - before <= max(pace.at_once, pace.per_s)
    assert len(handed_over) == RECIPIENTS


async def test_memory_of_taking_in_and_handing_over_a_broadcast_is_bounded(pool, country, record_testsuite_property):
    deliveries = PostgresDeliveries(pool, max_batch=BATCH, wait_s=0.01)
    wanted = submission("tier:commune")
    tracemalloc.start()
    began = time.monotonic()
    try:
        await take_in(pool, country, wanted)
        took_s = time.monotonic() - began
        later = NOW + timedelta(minutes=1)
        async with deliveries.claim(later) as claim:
            assert len(claim.due) == BATCH
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, later) for due in claim.due], later)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    record_testsuite_property("peak memory of a broadcast, bytes", peak)
    record_testsuite_property("seconds to take in a broadcast, traced", round(took_s, 2))
    assert peak < MAX_MEMORY_BYTES


async def test_several_broadcasts_in_one_batch_are_taken_in_one_after_the_other(pool, country):
    await take_in(pool, country, *(submission("tier:commune") for _ in range(3)), submission("H26"))

    async with pool.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM deliveries") == 3 * RECIPIENTS + 1
