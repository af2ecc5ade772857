"""What each scrape of `/metrics` counts, however long the ledger has grown."""

import json
from datetime import timedelta

import pytest

from hub.store.pool import open_pool
from hub.store.statistics import _UNFINISHED, Unfinished, unfinished
from tests.builders import NOW
from tests.services import run_sql

SETTLED, UNFINISHED = 100_000, 400

# One document to very many recipients: 100 deliveries in each unfinished state, half of the receipts late.
_HISTORY = f"""
SET session_replication_role = replica;  -- the document itself is of no interest
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, expires_at, state, code, created_at, changed_at,
    stored_at, next_attempt_at, receipt_due_at)
SELECT gen_random_uuid(), sha256('1'), 'truc.document.v1', 'G22', 'H' || number, '{NOW + timedelta(days=7)}', state,
    'E807', '{NOW}', '{NOW}', '{NOW}', CASE state WHEN 'pending' THEN timestamptz '{NOW}' END,
    CASE state WHEN 'routed' THEN timestamptz '{NOW}' + (number % 2) * interval '1 hour' END
FROM generate_series(1, {SETTLED + UNFINISHED}) AS number
CROSS JOIN LATERAL (SELECT CASE WHEN number > {UNFINISHED} THEN 'received'
    ELSE (ARRAY['pending', 'routed', 'held', 'dead'])[1 + number / 2 % 4] END AS state) AS states;
"""


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, by_key=True) as pool:
        yield pool


async def _read(pool):
    """How many rows of deliveries the plan has read, by kind of step."""
    read = {}

    def look(step):
        if step.get("Relation Name", "").startswith("deliveries"):
            rows = (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"]
            read[step["Node Type"]] = read.get(step["Node Type"], 0) + rows
        for below in step.get("Plans", ()):
            look(below)

    async with pool.reading() as connection:
        explained = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {_UNFINISHED}", NOW + timedelta(minutes=1)
        )
    look((json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"])
    return read


async def test_scrape_reads_what_is_unfinished_and_nothing_of_the_history(pool, database_url):
    await run_sql(database_url, _HISTORY)
    for statistics in ("none so far", "fresh"):
        if statistics == "fresh":
            await run_sql(database_url, "VACUUM ANALYZE deliveries")
        read = await _read(pool)
        assert not read.get("Seq Scan", 0), read
        assert 350 <= sum(read.values()) <= UNFINISHED, read
    assert await unfinished(pool, NOW + timedelta(minutes=1)) == Unfinished(
        pending=100, routed=100, overdue=50, held=100, dead=0
    )
