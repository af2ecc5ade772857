"""Connections, what they may do, and what becomes of a database that goes away."""

import asyncio
import time
from dataclasses import replace

import asyncpg
import pytest

from hub.core.trouble import Unavailable, Unstorable
from hub.dev.postgresql import PrivatePostgreSQL
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.migrations.runner import upgrade
from hub.store.pool import open_pool, ready
from schemas.refusal import Problem
from tests import builders as a
from tests.builders import NOW
from tests.services import run_sql, with_path


async def test_database_with_its_tables_is_ready(database_url):
    async with open_pool(database_url) as pool:
        await ready(pool)


async def test_empty_database_is_not_ready_and_says_what_to_do(postgresql, database_template):
    """The role exists in the cluster, the tables do not exist in this database."""
    await run_sql(postgresql, "CREATE DATABASE truc_empty")
    try:
        async with open_pool(with_path(postgresql, "truc_empty")) as pool:
            with pytest.raises(Unavailable, match=r"revision none.*truc db upgrade"):
                await ready(pool)
    finally:
        await run_sql(postgresql, "DROP DATABASE truc_empty WITH (FORCE)")


async def test_database_of_another_version_is_not_ready(database_url):
    await run_sql(database_url, "UPDATE alembic_version SET version_num = '9999_future'")
    async with open_pool(database_url) as pool:
        with pytest.raises(Unavailable, match="at revision 9999_future"):
            await ready(pool)


@pytest.mark.parametrize("privilege", ["UPDATE", "DELETE", "TRUNCATE"])
async def test_ledger_that_the_hub_could_rewrite_is_not_ready(database_url, privilege):
    await run_sql(database_url, f"GRANT {privilege} ON ledger TO truc_hub")
    async with open_pool(database_url) as pool:
        with pytest.raises(Unavailable, match=f"may {privilege} the ledger"):
            await ready(pool)


async def test_database_that_takes_no_changes_is_not_ready(database_url):
    """As after a failover to a standby: taking mail meanwhile would only spend the returns that it has."""
    name = database_url.rpartition("/")[2].partition("?")[0]
    await run_sql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with open_pool(database_url) as pool:
        with pytest.raises(Unavailable, match="takes no changes"):
            await ready(pool)


async def test_cluster_without_the_role_says_what_to_do(own_postgresql: PrivatePostgreSQL):
    async with open_pool(own_postgresql.url) as pool:
        with pytest.raises(Unavailable, match=r"cannot become truc_hub.*truc db upgrade"):
            await ready(pool)


async def test_nobody_listening_is_unavailable():
    async with open_pool("postgresql://nobody@127.0.0.1:1/none") as pool:
        with pytest.raises(Unavailable, match="database"):
            await ready(pool)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET actor = 'nobody'",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "DELETE FROM deliveries",
        "UPDATE deliveries SET recipient = 'H99'",
        "UPDATE documents SET subject = ''",
        "DELETE FROM documents",
        "UPDATE signed_objects SET token = ''",
        "DELETE FROM signed_objects",
        "DELETE FROM receipts",
        "DELETE FROM refusals",
        "DELETE FROM parked",
        "UPDATE parked SET body = ''",
        "CREATE TABLE another (x int)",
    ],
)
async def test_hub_can_neither_rewrite_nor_delete_what_was_accepted(database_url, statement):
    async with open_pool(database_url) as pool:
        with pytest.raises(Unavailable, match="permission denied"):
            async with pool.transaction() as connection:
                await connection.execute(statement)


async def test_session_commits_to_disk_and_is_ended_when_left_open(database_url):
    expected = {
        "role": "truc_hub",
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": "1min",
        "application_name": "truc test",
    }
    async with open_pool(database_url, application_name="truc test") as pool, pool.reading() as connection:
        assert {name: await connection.fetchval(f"SHOW {name}") for name in expected} == expected


async def test_reading_cannot_write(database_url):
    async with open_pool(database_url) as pool:
        with pytest.raises(Unavailable, match="read-only"):
            async with pool.reading() as connection:
                await connection.execute("INSERT INTO ledger (at, event, actor) VALUES (now(), 'x', 'x')")


async def test_full_pool_is_unavailable_and_not_waited_for_forever(database_url):
    async with open_pool(database_url, max_size=1, acquire_timeout_s=0.2) as pool, pool.reading():
        with pytest.raises(Unavailable, match="Timeout"):
            async with pool.reading():
                pass


async def test_statement_that_takes_too_long_is_unavailable(database_url):
    async with open_pool(database_url, command_timeout_s=0.2) as pool:
        with pytest.raises(Unavailable, match="Timeout"):
            async with pool.reading() as connection:
                await connection.fetch("SELECT pg_sleep(10)")
        await ready(pool)


def _with_key(key: str):
    park = a.park()
    return replace(park, submission=replace(park.submission, routing_key=key))


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(_with_key("document.\0"), id="NUL in a text"),
        pytest.param(_with_key("document.\ud800"), id="half a surrogate pair in a text"),
        pytest.param(replace(a.park(), problems=(Problem("E102", "", "\0"),)), id="NUL in JSON"),
        pytest.param(replace(a.park(), problems=(Problem("E102", "", "\ud800"),)), id="half a surrogate pair in JSON"),
    ],
)
async def test_value_that_the_database_refuses_is_unstorable_and_nothing_is_written(database_url, verdict):
    async with open_pool(database_url) as pool:
        ledger = PostgresLedger(pool)
        with pytest.raises(Unstorable) as caught:
            await ledger.record([a.decided(a.accept()), a.decided(verdict)], NOW)
        assert "document." not in str(caught.value), "the message must not quote the value"
        async with pool.reading() as connection:
            assert await connection.fetchval("SELECT count(*) FROM ledger") == 0


async def test_odd_text_that_the_database_can_hold_is_kept(database_url):
    odd = "﷽ \U0001f4ef e\u0301 \u202e ' \" \\ {} ,"
    async with open_pool(database_url) as pool:
        await PostgresLedger(pool).record([a.decided(a.accept(a.envelope(subject=odd)))], NOW)
        async with pool.reading() as connection:
            assert await connection.fetchval("SELECT subject FROM documents") == odd


async def _claim_and_kill(deliveries: PostgresDeliveries, server: PrivatePostgreSQL) -> None:
    async with deliveries.claim(NOW) as claim:
        assert len(claim.due) == 3
        server.kill()
        await claim.settle([], NOW)


async def test_killed_database_is_unavailable_and_everything_works_when_it_is_back(own_postgresql: PrivatePostgreSQL):
    await upgrade(own_postgresql.url)
    async with open_pool(own_postgresql.url, acquire_timeout_s=2) as pool:
        ledger, deliveries = PostgresLedger(pool), PostgresDeliveries(pool, wait_s=0.05)
        kept = a.accept()
        await ledger.record([a.decided(kept)], NOW)
        with pytest.raises(Unavailable):
            await _claim_and_kill(deliveries, own_postgresql)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await ledger.record([a.decided(a.accept())], NOW)
            with pytest.raises(Unavailable):
                async with deliveries.claim(NOW):
                    pass
        own_postgresql.start()
        await ready(pool)
        await ledger.record([a.decided(kept), a.decided(a.accept())], NOW)
        async with deliveries.claim(NOW) as claim:
            assert len(claim.due) == 6
        async with deliveries.claim(NOW.replace(year=2020)) as claim:
            assert list(claim.due) == []


async def test_pool_closes_while_a_connection_is_still_out(database_url):
    began_s = time.monotonic()
    async with open_pool(database_url, acquire_timeout_s=0.3) as pool:
        holding = pool.reading()
        await holding.__aenter__()
    assert time.monotonic() - began_s < 5
    with pytest.raises((Unavailable, asyncpg.InterfaceError)):
        await holding.__aexit__(None, None, None)


async def test_closing_ends_every_connection(database_url, postgresql):
    async with (
        open_pool(database_url, application_name="truc ending") as pool,
        PostgresDeliveries(pool, wait_s=0.01).claim(NOW),
    ):
        pass
    connection = await asyncpg.connect(postgresql)
    try:
        for _ in range(50):
            left = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'truc ending'"
            )
            if left == 0:
                break
            await asyncio.sleep(0.05)
        assert left == 0
    finally:
        await connection.close()
