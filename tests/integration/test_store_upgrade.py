"""Bringing a ledger that was in use to newer tables: what was there counts as before."""

import secrets
from datetime import timedelta

import asyncpg
import pytest

from hub.core.directory_change import diff
from hub.core.selection import Selection
from hub.core.settlement import settle_attempt
from hub.store.audit import audit
from hub.store.dead_letters import group_dead, list_dead
from hub.store.deliveries import PostgresDeliveries
from hub.store.directory import DirectoryStore
from hub.store.ledger import PostgresLedger
from hub.store.migrations import runner
from hub.store.migrations.revisions import VERSIONS, file_of, known_revisions, sha256_of
from hub.store.pool import open_pool
from schemas.checks.directory import snapshot
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from tests import builders as a
from tests.builders import NOW, POLICY
from tests.keys import agency_keys
from tests.services import ask_sql, run_sql, with_path

DIRECTORY = DirectoryFile(
    agencies=tuple(
        AgencyEntry(code=code, name=code, tier="ministry-province", valid_from="2020-01-01") for code in ("H01", "H26")
    ),
    platforms=(PlatformEntry(code="lgsp-h26", name="LGSP", valid_from="2020-01-01"),),
    mandates=(MandateEntry(platform="lgsp-h26", agency="H26", actions=("new",), valid_from="2020-01-01"),),
    certificates=(agency_keys("H26").entry("H26"),),
)
TABLES_OF_0008 = ("directory_agencies", "directory_platforms", "directory_mandates", "directory_certificates")
INDEXES_OF_0008 = tuple(
    f"{table}_by_{day}" for table in ("directory_agencies", "directory_mandates") for day in ("first_day", "last_day")
)
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


@pytest.fixture
async def connection_to_0007(database_url):
    """A database with a directory, as it was before the entries knew who has written them."""
    async with open_pool(database_url) as pool:
        await import_into(pool, DIRECTORY)
    connection = await asyncpg.connect(database_url)
    try:
        for table in TABLES_OF_0008:
            await connection.execute(f"ALTER TABLE {table} DROP COLUMN epoch")
        await connection.execute(f"DROP INDEX {', '.join(INDEXES_OF_0008)}")
        yield connection
    finally:
        await connection.close()


async def import_into(pool, wanted):
    store = DirectoryStore(pool)
    _, held = await store.read()
    await store.apply(diff(held, wanted), actor="an operator", source="file.json", now=NOW)


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


async def test_changes_of_a_directory_that_is_older_than_its_epochs_are_noticed(connection_to_0007, database_url):
    """Whatever was entered before is no change, whatever comes then is one."""
    await connection_to_0007.execute((VERSIONS / "v0008_directory.sql").read_text())
    renamed = DIRECTORY.agencies[1].model_copy(update={"name": "Thành phố Hà Nội"})
    revoked = agency_keys("H26").entry("H26", revoked_at=1_700_000_000)
    async with open_pool(database_url) as pool:
        store = DirectoryStore(pool)
        held = await store.snapshot(NOW)
        assert held == snapshot(DIRECTORY, epoch=1, as_of=NOW)
        await import_into(pool, DirectoryFile(agencies=(renamed,), certificates=(revoked,)))
        after = await store.snapshot(NOW, held)
    assert (after.epoch, after.agencies["H01"], after.agencies["H26"].name) == (2, held.agencies["H01"], renamed.name)
    assert [key.revoked_at_s for key in after.keys.values()] == [1_700_000_000]
    assert await connection_to_0007.fetchval("SELECT array_agg(epoch ORDER BY code) FROM directory_agencies") == [0, 2]


async def test_import_by_an_older_version_fails_instead_of_going_unnoticed(database_url):
    """It does not say under which epoch it writes, so no process would look for what it has written."""
    older = """
        INSERT INTO directory_platforms (code, name, valid_from) VALUES ('lgsp-h26', 'LGSP', '2020-01-01')
        ON CONFLICT (code, valid_from) DO UPDATE SET name = excluded.name
    """
    async with open_pool(database_url) as pool:
        await import_into(pool, DIRECTORY)
    with pytest.raises(asyncpg.NotNullViolationError, match="epoch"):
        await run_sql(database_url, older)


@pytest.fixture
async def url_of_0007(postgresql):
    """A ledger in use, of before events and bytes were kept by month: a document, received and waiting."""
    name = f"truc_used_{secrets.token_hex(6)}"
    await run_sql(postgresql, f"CREATE DATABASE {name}")
    url = with_path(postgresql, name)
    done = [revision for revision in known_revisions() if revision <= "0007_catch_up"]
    await run_sql(
        url,
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        runner._MAKE_DIGESTS,
        *(file_of(revision).read_text() for revision in done),
        *(f"INSERT INTO applied_revisions VALUES ('{each}', '{sha256_of(each)}')" for each in done),
        "INSERT INTO alembic_version VALUES ('0007_catch_up')",
    )
    yield url
    await run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


_USED = """
INSERT INTO signed_objects VALUES (decode('{document}', 'hex'), 'truc.document.v1', '{token}');
INSERT INTO signed_objects VALUES (decode('{receipt}', 'hex'), 'truc.receipt.v1', '{receipt_token}');
INSERT INTO documents
VALUES (decode('{document}', 'hex'), 'G22', '{envelope}', NULL, 'ministry-province', 'new', '{{}}', '1/VP', 'Công văn',
    'x', '2026-11-23', 0, '{at}', '{end}', '{at}', 2, 1);
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, state, expires_at, next_attempt_at, created_at,
    changed_at)
VALUES ('{first}', decode('{document}', 'hex'), 'truc.document.v1', 'G22', 'H26', 'received', '{end}', NULL, '{at}', '{at}'),
    ('{second}', decode('{document}', 'hex'), 'truc.document.v1', 'G22', 'H27', 'pending', '{end}', '{at}', '{at}', '{at}');
INSERT INTO receipts VALUES (decode('{receipt}', 'hex'), 'H26', NULL, '{at}');
INSERT INTO ledger (at, event, actor, document_id, detail)
VALUES ('{at}', 'document.accepted', 'intake', decode('{document}', 'hex'), '{{"recipients": ["H26", "H27"]}}');
INSERT INTO ledger (at, event, actor, document_id, delivery_id, state, detail)
VALUES ('{at}', 'delivery.received', 'H26', decode('{document}', 'hex'), '{first}', 'received', '{{"receipt": "{receipt}"}}');
"""


async def test_events_and_bytes_of_before_are_the_first_month_and_are_not_copied(url_of_0007):
    accept = a.accept(a.envelope(to=["H26", "H27"]))
    first, second = (accept.delivery_id(addressee) for addressee in accept.addressees)
    receipt = a.receipt(first)
    facts = {"document": accept.document_id, "token": accept.token.decode(), "envelope": accept.envelope.id}
    facts |= {"receipt": receipt.receipt_id, "receipt_token": receipt.token.decode(), "first": first, "second": second}
    await run_sql(url_of_0007, _USED.format(**facts, at=NOW, end=NOW + timedelta(days=7)))
    files = "SELECT pg_relation_filenode('{}'), pg_relation_filenode('{}')"
    before = await ask_sql(url_of_0007, files.format("ledger", "signed_objects"))
    assert "0009_months" in await runner.upgrade(url_of_0007)
    [month] = await ask_sql(url_of_0007, "SELECT events_in, bytes_in FROM months ORDER BY month LIMIT 1")
    assert await ask_sql(url_of_0007, files.format(*month)) == before
    async with open_pool(url_of_0007) as pool:
        async with PostgresDeliveries(pool, wait_s=0.01).claim(NOW) as claim:
            assert [(due.delivery.delivery_id, due.token) for due in claim.due] == [(second, accept.token)]
        await PostgresLedger(pool).record([a.decided(a.accept()), a.decided(accept)], NOW)
        report = await audit(pool, identities=None)
        assert report.violations == ()
        assert (report.documents, report.owed) == (2, 5)
    numbers = [row["event_id"] for row in await ask_sql(url_of_0007, "SELECT event_id FROM ledger ORDER BY event_id")]
    assert numbers == [1, 2, 3, 4]
