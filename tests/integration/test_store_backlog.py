"""A hundred thousand deliveries of one recipient, pending or held: no claim and no turn reads more than it takes."""

import re
import time
from collections import Counter
from datetime import timedelta

import pytest

from hub.core.settlement import settle_attempt, settle_held
from hub.store.deliveries import _CLAIM, _CLAIM_IN_TURN, PostgresDeliveries
from hub.store.ledger import _CLAIM_EXPIRED, _CLAIM_EXPIRING, _CLAIM_HELD, _CLAIM_PROBE, PostgresLedger
from hub.store.pool import open_pool
from tests import builders as a
from tests.builders import NOW, POLICY
from tests.services import run_sql

MANY = 100_000
BUSY = "H26"
OTHERS = [f"H{number}" for number in range(30, 80)]
LATER = NOW + timedelta(minutes=5)
END = NOW + timedelta(days=5)

# Deliveries to one recipient need a document each.
_BACKLOG = f"""
INSERT INTO signed_objects (object_id, typ, token, stored_at)
SELECT sha256(number::text::bytea), 'truc.document.v1', number::text::bytea, '{NOW}' FROM generate_series(1, {MANY}) AS number;
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, urgency, expires_at, state, created_at,
    changed_at, next_attempt_at, warn_at, stored_at)
SELECT gen_random_uuid(), sha256(number::text::bytea), 'truc.document.v1', 'G22', '{BUSY}', 0,
    '{NOW + timedelta(days=7)}', %s, '{NOW}', '{NOW}', %s, '{NOW + timedelta(days=6)}', '{NOW}'
FROM generate_series(1, {MANY}) AS number;
ANALYZE deliveries;
"""
PENDING = _BACKLOG % ("'pending'", f"'{NOW}'")
HELD = _BACKLOG % ("'held'", "NULL")


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


async def _one_each(pool, recipients=OTHERS):
    accepts = [a.accept(a.envelope(to=[code]), signed=False) for code in recipients]
    await PostgresLedger(pool).record([a.decided(accept) for accept in accepts], NOW + timedelta(minutes=1))


async def _read(pool, query, *values):
    """Rows that any step of a plan has read, and the plan."""
    async with pool.transaction() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {query}", *values))
    assert "Seq Scan on deliveries" not in plan, plan
    steps = re.findall(r"actual rows=([\d.]+) loops=(\d+)", plan)
    removed = re.findall(r"Rows Removed by Filter: (\d+)", plan)
    return max([float(rows) * int(loops) for rows, loops in steps] + [float(rows) for rows in removed]), plan


async def test_first_claim_behind_a_great_backlog_has_everybody_else(pool, database_url):
    await run_sql(database_url, PENDING)
    await _one_each(pool)
    deliveries = PostgresDeliveries(pool, max_batch=300, max_share=60, wait_s=0.01)
    began = time.perf_counter()
    async with deliveries.claim(LATER) as claim:
        took_s = time.perf_counter() - began
        counts = Counter(due.delivery.recipient for due in claim.due)
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
    assert counts == {BUSY: 60} | dict.fromkeys(OTHERS, 1)
    assert took_s < 1, "a second would be a hundred times too long; this only notices a scan of everything"


async def test_a_great_backlog_that_is_to_be_held_never_fills_a_claim(pool, database_url):
    await run_sql(database_url, PENDING)
    deliveries = PostgresDeliveries(pool, max_batch=300, max_share=60, wait_s=0.01)
    held_in_all = 0
    for _ in range(5):
        await _one_each(pool)
        async with deliveries.claim(LATER) as claim:
            busy = [due.delivery for due in claim.due if due.delivery.recipient == BUSY]
            rest = [due.delivery for due in claim.due if due.delivery.recipient != BUSY]
            held = [settle_held(delivery, "E811") for delivery in busy]
            await claim.settle(held + [settle_attempt(each, "routed", POLICY, LATER) for each in rest], LATER)
        assert len(busy) <= 60
        assert len(rest) == 50
        held_in_all += len(busy)
    assert held_in_all >= 60


async def test_claims_and_turns_read_no_more_than_they_take(pool, database_url):
    await run_sql(database_url, PENDING)
    await _one_each(pool)
    for query, values, takes in (
        (_CLAIM, (LATER, 300), 300),
        (_CLAIM_IN_TURN, (LATER, 300, "", [BUSY], 60), 60),
        (_CLAIM_IN_TURN, (LATER, 300, "H55", [], 60), 120),
        (_CLAIM_EXPIRED, (END, 250), 0),
        (_CLAIM_EXPIRING, (END, 250), 0),
    ):
        read, plan = await _read(pool, query, *values)
        assert read <= takes + 2 * len(OTHERS) + 10, plan


async def test_others_in_turn_are_found_without_reading_through_the_backlog(pool, database_url):
    """Where nearly all that is pending is for one recipient, the planner expects as much for every other."""
    await run_sql(database_url, PENDING)
    for _ in range(3):
        await _one_each(pool, OTHERS * 6)
    read, plan = await _read(pool, _CLAIM_IN_TURN, LATER, 240, "", [BUSY], 60)
    assert read <= 240 + 20, plan


async def test_what_one_recipient_gets_later_is_not_read_either(pool, database_url):
    await run_sql(database_url, PENDING.replace(f"'{NOW}', '{NOW}', '{NOW}'", f"'{NOW}', '{NOW}', '{END}'"))
    await _one_each(pool)
    read, plan = await _read(pool, _CLAIM_IN_TURN, LATER, 300, "", [], 60)
    assert read <= 3 * len(OTHERS) + 20, plan


async def test_as_long_as_one_has_more_than_its_share_claims_begin_in_turn(pool, database_url, monkeypatch):
    """What stands in front is not read and locked again each time; and when it has gone, the longest waiting come first."""
    await run_sql(database_url, PENDING.replace(str(MANY), "2000"))
    deliveries = PostgresDeliveries(pool, max_batch=300, max_share=60, wait_s=0.01)
    asked = []
    original = PostgresDeliveries._claim_in_turn

    async def noticed(self, connection, now, room, without):
        asked.append(room)
        return await original(self, connection, now, room, without)

    monkeypatch.setattr(PostgresDeliveries, "_claim_in_turn", noticed)
    await _one_each(pool)
    found = []
    for _ in range(3):
        async with deliveries.claim(LATER) as claim:
            found.append(Counter(due.delivery.recipient for due in claim.due))
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
    assert found == [{BUSY: 60} | dict.fromkeys(OTHERS, 1), {BUSY: 60}, {BUSY: 60}]
    assert asked == [240, 300, 300]
    await run_sql(database_url, f"DELETE FROM deliveries WHERE recipient = '{BUSY}'")
    for _ in range(2):
        async with deliveries.claim(LATER) as claim:
            assert list(claim.due) == []
    assert asked == [240, 300, 300, 300]


async def test_what_is_urgent_comes_first_also_in_turn(pool, database_url):
    await run_sql(database_url, PENDING.replace(str(MANY), "2000"))
    await _one_each(pool)
    deliveries = PostgresDeliveries(pool, max_batch=20, max_share=2, wait_s=0.01)
    async with deliveries.claim(LATER) as claim:
        last = claim.due[-1].delivery.recipient
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
    behind, before = max(OTHERS), OTHERS[0]
    assert before <= last < behind
    for code in (behind, before):
        urgent = a.accept(a.envelope(to=[code], urgency="express"), signed=False)
        await PostgresLedger(pool).record([a.decided(urgent)], NOW + timedelta(minutes=2))
    async with deliveries.claim(LATER) as claim:
        assert {due.delivery.recipient for due in claim.due[:2]} == {behind, before}


async def test_probes_and_drains_read_no_more_than_they_take(pool, database_url):
    await run_sql(database_url, HELD)
    for query, values, takes in ((_CLAIM_PROBE, (BUSY, 1), 1), (_CLAIM_HELD, (BUSY, 100), 100)):
        read, plan = await _read(pool, query, *values)
        assert read <= takes + 10, plan


async def test_held_deliveries_are_not_even_looked_at_by_a_claim(pool, database_url):
    await run_sql(database_url, HELD)
    await _one_each(pool)
    read, plan = await _read(pool, _CLAIM, LATER, 300)
    assert read <= len(OTHERS) + 10, plan
