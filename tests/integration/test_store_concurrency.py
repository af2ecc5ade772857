"""Several processes at once on one ledger."""

import asyncio
import time
from collections import Counter

import asyncpg
import pytest

from hub.core.settlement import settle_attempt, settle_overdue
from hub.core.trouble import Unavailable
from hub.store.audit import audit
from hub.store.deliveries import _CLAIM, PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


async def route_all(pool):
    async with PostgresDeliveries(pool, max_batch=10_000, wait_s=0.01).claim(NOW) as claim:
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)


async def test_dispatchers_never_claim_the_same_delivery(pool):
    accepts = [a.accept(signed=False) for _ in range(60)]
    await PostgresLedger(pool).record([a.decided(accept) for accept in accepts], NOW)
    taken: Counter[object] = Counter()

    async def dispatch():
        deliveries = PostgresDeliveries(pool, max_batch=7, wait_s=0.01)
        while True:
            async with deliveries.claim(NOW) as claim:
                if not claim.due:
                    return
                taken.update(due.delivery.delivery_id for due in claim.due)
                await asyncio.sleep(0)
                await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)

    await asyncio.gather(*(dispatch() for _ in range(5)))
    assert len(taken) == 180
    assert set(taken.values()) == {1}


async def test_same_documents_taken_in_at_once_in_opposite_order(pool):
    ledger = PostgresLedger(pool)
    batch = [a.decided(a.accept(signed=False)) for _ in range(100)]
    for _ in range(5):
        results = await asyncio.gather(*(ledger.record(batch[:: 1 - 2 * (n % 2)], NOW) for n in range(6)))
        assert results == [[]] * 6
    assert (await audit(pool)).owed == 300


async def test_conflicting_documents_taken_in_at_once_in_opposite_order(pool):
    """The keys that clash are sorted, so the two wait for each other in one direction only."""
    ledger = PostgresLedger(pool)
    contents = [a.envelope() for _ in range(50)]
    one = [a.decided(a.accept(content, signed=False)) for content in contents]
    other = [
        a.decided(a.accept(content.model_copy(update={"expires": content.expires + 1}), signed=False))
        for content in reversed(contents)
    ]
    conflicts = await asyncio.gather(*(ledger.record(batch, NOW) for batch in (one, other) * 3))
    assert sum(len(each) for each in conflicts) == 150
    report = await audit(pool)
    assert (report.documents, report.holds) == (50, True)


async def test_receipts_recorded_at_once_in_opposite_order(pool):
    ledger = PostgresLedger(pool)
    accepts = [a.accept(signed=False) for _ in range(50)]
    await ledger.record([a.decided(accept) for accept in accepts], NOW)
    await route_all(pool)
    answers = [a.receipt(accept.delivery_id(accept.addressees[0]), signed=False) for accept in accepts]
    again = [
        a.receipt(accept.delivery_id(accept.addressees[0]), signed=False, code="X") for accept in reversed(accepts)
    ]
    batches = (answers, again, answers[::-1], again[::-1])
    await asyncio.gather(*(ledger.record_answers(batch, a.settle, NOW) for batch in batches))
    report = await audit(pool)
    assert (report.by_state["received"], report.holds) == (50, True)


async def test_reconcilers_share_what_is_overdue(pool):
    ledger = PostgresLedger(pool, batch_size=20)
    await ledger.record([a.decided(a.accept(signed=False)) for _ in range(40)], NOW)
    await route_all(pool)
    late = NOW.replace(hour=12)

    async def reconcile():
        total = 0
        while settled := await ledger.resettle(
            "overdue", lambda delivery: settle_overdue(delivery, POLICY, late), late
        ):
            total += settled
        return total

    assert sum(await asyncio.gather(*(reconcile() for _ in range(4)))) == 120
    assert (await audit(pool)).holds


async def test_claim_of_a_dispatcher_whose_connection_is_cut_is_free(pool, database_url):
    await PostgresLedger(pool).record([a.decided(a.accept())], NOW)
    deliveries = PostgresDeliveries(pool, wait_s=0.01)
    with pytest.raises(Unavailable):
        await _claim_and_be_cut(deliveries, database_url)
    async with deliveries.claim(NOW) as claim:
        assert len(claim.due) == 3


async def test_cancelled_claim_is_free(pool):
    await PostgresLedger(pool).record([a.decided(a.accept())], NOW)
    deliveries = PostgresDeliveries(pool, wait_s=0.01)
    holding = asyncio.Event()

    async def hold():
        async with deliveries.claim(NOW):
            holding.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await holding.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with deliveries.claim(NOW) as claim:
        assert len(claim.due) == 3


async def test_new_document_ends_the_wait_of_an_empty_claim(pool):
    deliveries = PostgresDeliveries(pool, wait_s=30)
    await _claim_nothing(deliveries)  # begins to listen
    began_s = time.monotonic()
    waiting = asyncio.create_task(_claim_nothing(deliveries))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await PostgresLedger(pool).record([a.decided(a.accept())], NOW)
    await waiting
    assert time.monotonic() - began_s < 5


async def test_bell_heals_when_its_connection_is_cut(pool, database_url):
    deliveries = PostgresDeliveries(pool, wait_s=0.05)
    await _claim_nothing(deliveries)
    await _cut_others(database_url)
    for _ in range(3):
        await _claim_nothing(deliveries)
    deliveries._wait_s = 30
    waiting = asyncio.create_task(_claim_nothing(deliveries))
    await asyncio.sleep(0.2)
    await PostgresLedger(pool).record([a.decided(a.accept())], NOW)
    async with asyncio.timeout(5):
        await waiting


async def test_claim_reads_no_more_of_the_index_than_it_takes(pool):
    """A great many that wait for later attempts, at every urgency, must not slow down an empty claim."""
    ledger = PostgresLedger(pool)
    later = NOW.replace(hour=23)
    for urgency in ("normal", "express"):
        accept = a.accept(a.envelope(to=RECIPIENTS, urgency=urgency), signed=False)
        await ledger.record([a.decided(accept)], later)
    async with pool.transaction() as connection:
        await connection.execute(
            """
            INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, urgency, expires_at, state,
                created_at, changed_at, next_attempt_at, stored_at)
            SELECT gen_random_uuid(), object_id, typ, sender, recipient || '.' || number, urgency, expires_at, state,
                created_at, changed_at, next_attempt_at, stored_at
            FROM deliveries, generate_series(1, 2000) AS number
            """
        )
    async with pool.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        explained = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {_CLAIM}", NOW, 250)
    plan = "\n".join(row[0] for row in explained)
    assert "deliveries_pending" in plan, plan
    assert "Rows Removed" not in plan, plan


async def _claim_and_be_cut(deliveries, url):
    async with deliveries.claim(NOW) as claim:
        await _cut_others(url)
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)


async def _claim_nothing(deliveries):
    async with deliveries.claim(NOW.replace(year=2020)) as claim:
        assert list(claim.due) == []


async def _cut_others(url):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    await asyncio.sleep(0.1)
