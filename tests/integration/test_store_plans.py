"""What the loops say to the database is planned by key, however little a table holds when it is planned."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hub.store import catch_up, deliveries, entries, ledger, parked_inbox, recipients, replay, rows, silence
from hub.store.pool import open_pool

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (catch_up, deliveries, entries, ledger, parked_inbox, recipients, replay, rows, silence)
    for name, value in vars(module).items()
    if isinstance(value, str) and re.match(r"\s*(SELECT|WITH|INSERT|UPDATE)\b", value)
}
STATEMENTS["entries._ADD_LETTERS"] = f"""
WITH owed AS (SELECT NULL::bytea AS object_id), letters AS ({STATEMENTS["entries._ADD_LETTERS"]}) SELECT
"""
STATEMENTS["recipients.CONCERNED"] = f"SELECT {recipients.CONCERNED}"

A_ROW_A_MONTH = "archives"


def reads_all(node: dict[str, Any]) -> bool:
    """Say whether a step of a plan goes through a table: outside an index, or to see which blocks hold a moment."""
    if node["Node Type"] == "Seq Scan":
        return node["Relation Name"] != A_ROW_A_MONTH
    return "by_month" in node.get("Index Name", "")


def steps(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from steps(child)


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
async def test_plan_that_is_made_while_the_ledger_is_empty_never_reads_through_a_table(database_url, statement):
    async with open_pool(database_url, by_key=True) as pool, pool.transaction() as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE statement AS {statement}")
        nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", statement)), default=0))
        explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE statement{nothing and f'({nothing})'}")
    (plan,) = json.loads(explained)
    assert not [step for step in steps(plan["Plan"]) if reads_all(step)]
