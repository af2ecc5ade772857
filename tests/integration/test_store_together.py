"""Several statements sent as one, and what a transaction writes that way."""

from datetime import timedelta

import pytest

from hub.core.letter import Letter
from hub.store.entries import SLICE, Entries
from hub.store.pool import open_pool
from hub.store.together import Together
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP
from schemas.signing import identity
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


def _letter(token: bytes) -> Letter:
    return Letter(
        object_id=identity(token),
        typ=RECEIPT_TYP,
        token=token,
        from_=AgencyCode(RECIPIENTS[0]),
        to=AgencyCode(SENDER),
        expires_at=NOW + timedelta(days=30),
    )
