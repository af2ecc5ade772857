"""How the audit reads a ledger that has grown: never all of it for each delivery."""

import json

import pytest

from hub.store.audit import _COUNT, _WITHOUT_NESTED_LOOPS, MAX_LISTED, RULES
from hub.store.pool import open_pool
from tests.builders import NOW
from tests.services import run_sql

DELIVERIES = 100_000

# The documents are of no interest, nor is which of them each delivery is about.
_HISTORY = f"""
SET session_replication_role = replica;
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, expires_at, state, created_at, changed_at, stored_at)
SELECT gen_random_uuid(), sha256('1'), 'truc.document.v1', 'G22', 'H' || number, '{NOW}', 'received', '{NOW}', '{NOW}', '{NOW}'
FROM generate_series(1, {DELIVERIES}) AS number;
INSERT INTO ledger (at, event, actor, document_id, delivery_id, state)
SELECT '{NOW}', 'delivery.' || passed, 'test', object_id, delivery_id, passed
FROM deliveries
CROSS JOIN unnest(ARRAY['routed', 'received']) AS passed;
ANALYZE deliveries;
"""

# As autovacuum does: month by month, never the ledger as a whole.
_ANALYSE = """
DO $$
DECLARE month regclass;
BEGIN
    FOR month IN SELECT relid FROM pg_partition_tree('ledger') WHERE isleaf LOOP
        EXECUTE format('ANALYZE %s', month);
    END LOOP;
END $$
"""


@pytest.fixture
async def connection(database_url):
    await run_sql(database_url, _HISTORY, _ANALYSE)
    async with open_pool(database_url) as pool, pool.reading() as connection:
        yield connection


def _goes_through_all_events_for_each(step) -> bool:
    looped = step["Node Type"] == "Nested Loop" and '"Alias": "last"' in json.dumps(step["Plans"])
    return looped or any(map(_goes_through_all_events_for_each, step.get("Plans", ())))


async def _slow_rules(connection) -> set[str]:
    slow = set()
    for rule, query in RULES.items():
        plan = await connection.fetchval("EXPLAIN (FORMAT JSON) " + _COUNT.format(query=query, limit=MAX_LISTED))
        if _goes_through_all_events_for_each(json.loads(plan)[0]["Plan"]):
            slow.add(rule)
    return slow


async def test_no_rule_goes_through_all_events_for_each_delivery(connection):
    if connection.get_server_version().major < 16:
        assert await _slow_rules(connection), "the planner does not do so by itself any more: the setting is of no use"
    await connection.execute(_WITHOUT_NESTED_LOOPS)
    assert await _slow_rules(connection) == set()
