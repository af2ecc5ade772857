"""Events and signed bytes by month: each statement of the loops looks into one; months are made ahead, none is missed."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from hub.core.trouble import Unavailable
from hub.store import catch_up, deliveries, replay
from hub.store.audit import audit
from hub.store.entries import _ADD_LETTERS, _ADD_OBJECTS
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from tests import builders as a
from tests.builders import NOW
from tests.services import ask_sql, run_sql

LAST = "SELECT max(until) FROM months"


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
async def after_the_last_month(database_url):
    """A day for which there is no month."""
    [row] = await ask_sql(database_url, LAST)
    return row["max"] + timedelta(days=3)


async def _months_looked_into(pool, query, *values):
    async with pool.transaction() as connection:
        plan = [row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {query}", *values)]
    return set(
        re.findall(r" on signed_objects_(\w+)", "\n".join(line for line in plan if "never executed" not in line))
    )


async def test_claims_and_letters_look_into_the_month_of_each_row(pool, database_url):
    """There is enough in every month for a plan that reads them all to seem cheap."""
    accept = a.accept()
    await PostgresLedger(pool).record([a.decided(accept)], NOW)
    await run_sql(
        database_url,
        f"""
        INSERT INTO signed_objects (object_id, typ, token, stored_at)
        SELECT sha256(number::text::bytea), 'truc.document.v1', 'x', '{NOW}'::timestamptz + number * interval '1 hour'
        FROM generate_series(1, 2000) AS number;
        ANALYZE signed_objects;
        INSERT INTO replays (purpose, state, selection, size, excluded, needs_second, planned_by, planned_at,
            changed_by, changed_at, mode, reason, started_by)
        VALUES ('catch-up', 'running', '{{}}', 1, 0, false, 'an', now(), 'an', now(), 'all', 'x', 'an');
        INSERT INTO dead_letters (letter_id, kind, delivery_id, code, agency, document_id, since)
        SELECT delivery_id::text, 'delivery', delivery_id, 'E807', recipient, object_id, now() FROM deliveries;
        INSERT INTO replay_items (replay_id, letter_id, kind, delivery_id, agency, code, since, position, released_at)
        SELECT replay_id, letter_id, 'delivery', delivery_id, agency, code, since, 1, now() FROM replays, dead_letters;
        """,
    )
    letters = [row["letter_id"] for row in await ask_sql(database_url, "SELECT letter_id FROM dead_letters")]
    later = NOW + timedelta(minutes=1)
    [month] = await _months_looked_into(pool, deliveries._CLAIM, later, 300)
    for query, values in (
        (deliveries._CLAIM_IN_TURN, (later, 300, "", [], 60)),
        (catch_up._CLAIM, (later, 300)),
        (replay._CANDIDATES, (letters,)),
    ):
        assert await _months_looked_into(pool, query, *values) == {month}, query
    beside = "WITH owed AS (SELECT NULL::bytea AS object_id)"
    for query in (_ADD_OBJECTS, f"{beside}, letters AS ({_ADD_LETTERS}) SELECT"):
        assert await _months_looked_into(pool, query, [bytes(32)], ["x"], [b"x"], later) <= {month}, query


async def test_where_a_month_is_missing_intake_goes_on_and_the_audit_says_so(pool, after_the_last_month):
    accept = a.accept(a.envelope(now=after_the_last_month))
    assert await PostgresLedger(pool).record([a.decided(accept)], after_the_last_month) == []
    [violation] = (await audit(pool)).violations
    assert (violation.rule, violation.count) == ("every event and every signed object lies in its month", 2)
    async with deliveries.PostgresDeliveries(pool, wait_s=0.01).claim(after_the_last_month) as claim:
        assert {due.token for due in claim.due} == {accept.token}


async def test_month_that_is_made_late_gets_what_belongs_to_it(pool, after_the_last_month):
    ledger = PostgresLedger(pool)
    accept = a.accept(a.envelope(now=after_the_last_month))
    await ledger.record([a.decided(accept)], after_the_last_month)
    assert await ledger.make_months(after_the_last_month) == 4
    assert (await audit(pool)).holds
    async with deliveries.PostgresDeliveries(pool, wait_s=0.01).claim(after_the_last_month) as claim:
        assert {due.token for due in claim.due} == {accept.token}


async def test_who_reads_everything_is_not_waited_for_and_the_next_look_is_in_minutes(pool, after_the_last_month):
    ledger = PostgresLedger(pool)
    async with pool.reading() as connection:
        await connection.fetchval("SELECT count(*) FROM ledger")
        with pytest.raises(Unavailable, match="lock timeout"):
            await ledger.make_months(after_the_last_month)
        assert await ledger.make_months(after_the_last_month) == 0
    assert await ledger.make_months(after_the_last_month + timedelta(minutes=10)) > 0


async def test_months_without_an_end_are_not_made(pool):
    async with pool.transaction() as connection:
        await connection.fetchval("SELECT make_months($1)", NOW.replace(year=9999))
        last = await connection.fetchval(LAST)
    assert last < datetime.now(UTC) + timedelta(days=800)


async def test_same_letter_written_again_in_another_month_is_kept_once(pool):
    """Two notices of one second about one document are one letter, and its delivery says that it is known."""
    notice = a.refuse()
    decision = a.decided(notice)
    ledger = PostgresLedger(pool)
    await ledger.record([decision], NOW)
    later = a.decided(a.park(tell="G22"))
    await ledger.record([type(later)(later.verdict, decision.notice)], NOW + timedelta(days=40))
    report = await audit(pool)
    assert report.violations == ()
