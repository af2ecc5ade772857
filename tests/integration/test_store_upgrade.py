"""Bringing a ledger that was in use to newer tables: what was there counts as before."""

import secrets

import asyncpg
import pytest

from hub.core.selection import Selection
from hub.core.settlement import settle_attempt
from hub.store.audit import audit
from hub.store.dead_letters import group_dead, list_dead
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.migrations.revisions import VERSIONS
from hub.store.pool import open_pool
from tests import builders as a
from tests.builders import NOW, POLICY
from tests.services import run_sql, with_path

TABLES_OF_0004 = ("replay_items", "replays", "dead_assignees", "dead_notes", "dead_groups", "dead_letters")


@pytest.fixture
async def used_url(postgresql, database_template):
    """A ledger with a dead delivery and a parked submission, as it was before there were dead letters in a table."""
    name = f"truc_used_{secrets.token_hex(6)}"
    await run_sql(postgresql, f"CREATE DATABASE {name} TEMPLATE {database_template}")
    url = with_path(postgresql, name)
    async with open_pool(url) as pool:
        ledger = PostgresLedger(pool)
        accept = a.accept()
        await ledger.record([a.decided(accept), a.decided(a.park())], NOW)
        async with PostgresDeliveries(pool, wait_s=0.01).claim(NOW) as claim:
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)
        refusal = a.receipt(accept.delivery_id(accept.addressees[0]), outcome="refused")
        await ledger.record_answers([refusal], a.settle, NOW)
    await run_sql(
        url,
        f"DROP TABLE {', '.join(TABLES_OF_0004)}; DROP FUNCTION count_new_letters, count_changed_letters;"
        " DROP INDEX documents_taking_back, deliveries_handed_out, receipts_by_recipient;",
    )
    yield url
    await run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


async def test_what_was_dead_before_is_a_dead_letter(used_url):
    connection = await asyncpg.connect(used_url)
    try:
        await connection.execute((VERSIONS / "v0004_replay.sql").read_text())
    finally:
        await connection.close()
    async with open_pool(used_url) as pool:
        assert {letter.code for letter in await list_dead(pool, Selection())} == {"E102", "E808"}
        assert {group.name: group.count for group in await group_dead(pool, Selection())} == {
            "E102@G22": 1,
            "E808@H26": 1,
        }
        assert (await audit(pool)).holds
