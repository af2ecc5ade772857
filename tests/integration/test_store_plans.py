"""What the loops say to the database is planned by key, however little a table holds when it is planned."""

import re

import pytest

from hub.store import catch_up, deliveries, entries, ledger, parked_inbox, recipients, replay, silence
from hub.store.pool import open_pool

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (catch_up, deliveries, entries, ledger, parked_inbox, recipients, replay, silence)
    for name, value in vars(module).items()
    if isinstance(value, str) and re.match(r"\s*(SELECT|WITH|INSERT|UPDATE)\b", value)
}

A_ROW_A_MONTH = "Seq Scan on archives"


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
async def test_plan_that_is_made_while_the_ledger_is_empty_never_reads_through_a_table(database_url, statement):
    async with open_pool(database_url, by_key=True) as pool, pool.transaction() as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE statement AS {statement}")
        nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", statement)), default=0))
        plan = await connection.fetch(f"EXPLAIN EXECUTE statement{nothing and f'({nothing})'}")
    assert not [row[0] for row in plan if "Seq Scan" in row[0] and A_ROW_A_MONTH not in row[0]]
