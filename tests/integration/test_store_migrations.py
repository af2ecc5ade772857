"""Bringing the tables to their revision."""

import asyncio
import secrets

import asyncpg
import pytest

from hub.core.trouble import Trouble, Unavailable
from hub.store.migrations import runner
from hub.store.migrations.revisions import head_revision
from hub.store.migrations.runner import status, upgrade
from tests.services import run_sql, with_path

REVISIONS = tuple(script.revision for script in reversed(list(runner._scripts().walk_revisions())))
HEAD = REVISIONS[-1]


@pytest.fixture
async def empty_urls(postgresql):
    names = [f"truc_empty_{secrets.token_hex(4)}" for _ in range(3)]
    for name in names:
        await run_sql(postgresql, f"CREATE DATABASE {name}")
    yield [with_path(postgresql, name) for name in names]
    for name in names:
        await run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


async def test_empty_database_is_brought_to_the_head(empty_urls):
    url = empty_urls[0]
    assert (await status(url)).pending == REVISIONS
    assert await upgrade(url) == list(REVISIONS)
    after = await status(url)
    assert (after.applied, after.is_current) == (REVISIONS, True)
    assert head_revision() == HEAD


async def test_upgrade_of_a_database_at_the_head_does_nothing(database_url):
    assert await upgrade(database_url) == []


async def test_status_changes_nothing(empty_urls, postgresql):
    await status(empty_urls[0])
    connection = await asyncpg.connect(empty_urls[0])
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()


async def test_replicas_that_start_together_migrate_once(empty_urls):
    applied = await asyncio.gather(*(upgrade(empty_urls[0]) for _ in range(6)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 0, len(REVISIONS)]


async def test_several_databases_of_one_cluster_migrate_at_once(own_postgresql):
    """The role belongs to the cluster, so all of them want to make it."""
    urls = [own_postgresql.create_database(f"truc_{number}") for number in range(6)]
    assert await asyncio.gather(*(upgrade(url) for url in urls)) == [list(REVISIONS)] * 6


async def test_owner_who_is_no_superuser_can_migrate_and_the_hub_can_use_the_same_login(own_postgresql):
    await run_sql(
        own_postgresql.url, "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'x'", "CREATE DATABASE own OWNER owner"
    )
    url = own_postgresql.url_of("own").replace("//truc:", "//owner:")
    url = url[: url.index(":", 13) + 1] + "x" + url[url.index("@") :]
    assert await upgrade(url) == list(REVISIONS)
    from hub.store.pool import open_pool, ready

    async with open_pool(url) as pool:
        await ready(pool)


async def test_migration_that_fails_leaves_nothing(empty_urls, monkeypatch, tmp_path):
    (tmp_path / f"v{HEAD}.sql").write_text("CREATE TABLE half (x int); SELECT 1 / 0;")
    right = runner.file_of
    monkeypatch.setattr(
        runner, "file_of", lambda revision: tmp_path / f"v{HEAD}.sql" if revision == HEAD else right(revision)
    )
    with pytest.raises(Trouble):
        await upgrade(empty_urls[0])
    monkeypatch.undo()
    assert (await status(empty_urls[0])).pending == REVISIONS
    assert await upgrade(empty_urls[0]) == list(REVISIONS)


async def test_file_that_was_changed_after_it_was_applied_is_noticed(database_url):
    await run_sql(database_url, "UPDATE applied_revisions SET sha256 = 'another'")
    assert (await status(database_url)).changed == REVISIONS
    with pytest.raises(Trouble, match=f"changed after they were applied: {', '.join(REVISIONS)}"):
        await upgrade(database_url)


async def test_tables_of_a_newer_version_are_left_alone(database_url):
    await run_sql(database_url, "INSERT INTO applied_revisions VALUES ('9999_future', '')")
    with pytest.raises(Trouble, match="unknown to this version: 9999_future"):
        await upgrade(database_url)


async def test_database_that_is_away_is_unavailable():
    with pytest.raises(Unavailable):
        await status("postgresql://nobody@127.0.0.1:1/none")
