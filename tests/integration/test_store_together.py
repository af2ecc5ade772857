"""Several statements sent as one, and what a transaction writes that way."""

from dataclasses import replace
from datetime import timedelta

import pytest

from hub.core.letter import Letter
from hub.core.settlement import settle_held
from hub.store.deliveries import PostgresDeliveries
from hub.store.entries import SLICE, Entries
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from hub.store.rows import lock_deliveries
from hub.store.together import Together
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP
from schemas.signing import identity
from tests import builders as a
from tests.builders import NOW, RECIPIENTS, SENDER
from tests.services import ask_sql


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


async def test_each_statement_has_its_own_arguments_and_its_rows_can_be_named_by_those_behind_it(pool):
    together = Together()
    together.add("first", "SELECT number FROM unnest($1::int[]) AS number WHERE number > $2", [1, 2, 3], 1)
    together.add("second", "SELECT number * $1::int AS number FROM first", 10)
    together.answer("counted", "(SELECT count(*) FROM first)")
    together.answer("found", "ARRAY(SELECT number FROM second WHERE number <> $1 ORDER BY number)", 20)
    async with pool.transaction() as connection:
        assert await together.run(connection) == {"counted": 2, "found": [30]}


async def test_statements_change_rows_although_nothing_is_asked(pool, database_url):
    together = Together()
    together.add("known", "INSERT INTO recipients (recipient) SELECT unnest($1::text[])", [SENDER])
    async with pool.transaction() as connection:
        assert await together.run(connection) == {}
    assert await ask_sql(database_url, "SELECT recipient FROM recipients") == [(SENDER,)]


async def test_nothing_to_run_is_not_sent():
    assert await Together().run(None) == {}


async def test_letter_is_kept_whichever_statement_its_delivery_is_part_of(pool, database_url):
    letters = [_letter(str(number).encode()) for number in range(SLICE + 1)]
    entries = Entries(NOW)
    for letter in letters:
        entries.post(letter)
    async with pool.transaction() as connection:
        await entries.write(connection)
    [row] = await ask_sql(
        database_url,
        "SELECT count(*), count(signed_objects.object_id) FROM deliveries LEFT JOIN signed_objects USING (object_id)",
    )
    assert tuple(row) == (len(letters), len(letters))


async def test_letter_that_was_posted_before_is_not_kept_again(pool, database_url):
    for later_s in (0, 1):
        entries = Entries(NOW + timedelta(seconds=later_s))
        entries.post(_letter(b"the same"))
        async with pool.transaction() as connection:
            await entries.write(connection)
    assert await ask_sql(database_url, "SELECT stored_at FROM signed_objects") == [(NOW,)]


async def test_delivery_that_is_changed_without_being_locked_undoes_the_transaction(pool, database_url):
    accept = a.accept()
    await PostgresLedger(pool).record([a.decided(accept)], NOW)
    async with pool.transaction() as connection:
        [delivery, *_] = (await lock_deliveries(connection, map(accept.delivery_id, accept.addressees))).values()
    entries = Entries(NOW)
    entries.change(settle_held(replace(delivery, state="routed"), "E811"), "dispatch")
    entries.post(_letter(b"about it"))
    with pytest.raises(AssertionError, match="0 of 1 deliveries changed"):
        async with pool.transaction() as connection:
            await entries.write(connection)
    [counts] = await ask_sql(
        database_url,
        "SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM signed_objects), (SELECT count(*) FROM deliveries)",
    )
    assert tuple(counts) == (1, 1, len(accept.addressees))


async def test_few_changes_or_letters_are_not_planned_each_time(database_url):
    """A plan for a single call is made five times, to see what it would be worth."""
    async with open_pool(database_url, max_size=1, by_key=True) as pool:
        ledger, deliveries = PostgresLedger(pool), PostgresDeliveries(pool, max_batch=1, wait_s=0.01)
        for number in range(8):
            await ledger.record([a.decided(a.accept(a.envelope(to=RECIPIENTS[:1])))], NOW)
            async with deliveries.claim(NOW) as claim:
                changes = [settle_held(due.delivery, "E811") for due in claim.due]
                await claim.settle(changes, NOW)
            entries = Entries(NOW)
            entries.post(_letter(str(number).encode()))
            async with pool.transaction() as connection:
                await entries.write(connection)
                plans = await connection.fetch(PLANS)
    assert {(row["statement"], row["custom_plans"]) for row in plans} >= {("changed", 5), ("owed, letters", 5)}, plans


PLANS = """
SELECT
    array_to_string(ARRAY(SELECT match[1] FROM regexp_matches(statement, '(\\w+) AS \\(\\s*(?:UPDATE|INSERT)', 'g') AS match
        WHERE match[1] IN ('changed', 'owed', 'letters')), ', ') AS statement,
    custom_plans, generic_plans
FROM pg_prepared_statements
WHERE generic_plans + custom_plans > 5
"""


def _letter(token: bytes) -> Letter:
    return Letter(
        object_id=identity(token),
        typ=RECEIPT_TYP,
        token=token,
        from_=AgencyCode(RECIPIENTS[0]),
        to=AgencyCode(SENDER),
        expires_at=NOW + timedelta(days=30),
    )
