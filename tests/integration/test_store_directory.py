"""The directory's tables and the snapshot that is kept of them."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from hub.core.directory_change import diff
from hub.core.trouble import Stale, Trouble
from hub.store import directory as directory_module
from hub.store.directory import DirectoryStore, SnapshotKeeper
from hub.store.pool import open_pool
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from tests.hub_process import eventually
from tests.keys import agency_keys
from tests.services import run_sql

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
H26 = AgencyEntry(
    code="H26",
    name='Ủy ban nhân dân thành phố Hà Nội, "H26" {a,b}',
    tier="ministry-province",
    endpoint="lgsp-h26",
    valid_from="2020-09-15",
)
CLOSED = AgencyEntry(
    code="H26.01",
    name="Sở cũ",
    tier="department-district",
    parent="H26",
    state="closed",
    successors=("H26", "H26.02"),
    valid_from="2020-09-15",
    valid_to="2027-01-01",
)
FILE = DirectoryFile(
    agencies=(H26, CLOSED),
    platforms=(PlatformEntry(code="lgsp-h26", name="LGSP Hà Nội", valid_from="2020-09-15"),),
    mandates=(MandateEntry(platform="lgsp-h26", agency="H26", actions=("new", "revoke"), valid_from="2020-09-15"),),
    certificates=(agency_keys("H26").entry("H26"), agency_keys("hub").entry("hub", revoked_at=1_700_000_000)),
)


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
def store(pool):
    return DirectoryStore(pool)


async def enter(store, wanted, **options):
    _, held = await store.read()
    return await store.apply(diff(held, wanted), actor="an operator", source="file.json", now=NOW, **options)


def keeper_of(store, *, clock=lambda: NOW, max_age_s=60.0):
    return SnapshotKeeper(store, max_age_s=max_age_s, refresh_s=0.01, clock=clock)


async def test_empty_directory_has_epoch_0(store):
    assert await store.read() == (0, DirectoryFile())


async def test_what_was_entered_is_read_again(store):
    epoch = await enter(store, FILE)
    read_epoch, read = await store.read()
    assert (epoch, read_epoch) == (1, 1)
    assert read.agencies == FILE.agencies
    assert read.platforms == FILE.platforms
    assert read.mandates == FILE.mandates
    assert set(read.certificates) == set(FILE.certificates)


async def test_same_file_again_makes_no_epoch_and_no_event(store, pool):
    await enter(store, FILE)
    assert await enter(store, FILE) == 1
    async with pool.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM ledger") == 1


async def test_change_makes_an_epoch_an_event_and_keeps_what_was_before(store, pool):
    await enter(store, FILE)
    renamed = H26.model_copy(update={"name": "Thành phố Hà Nội"})
    assert await enter(store, DirectoryFile(agencies=(renamed,))) == 2
    _, held = await store.read()
    assert held.agencies == (renamed, CLOSED)
    async with pool.reading() as connection:
        event = await connection.fetchrow("SELECT * FROM ledger ORDER BY event_id DESC LIMIT 1")
        summary = await connection.fetchval("SELECT summary FROM directory_epochs WHERE epoch = 2")
    assert (event["event"], event["actor"]) == ("directory.imported", "an operator")
    assert event["detail"] == {"epoch": 2, "source": "file.json", "added": 0, "changed": 1}
    assert summary["before"]["agencies"][0]["name"] == H26.name


async def test_revoked_certificate_keeps_its_place(store):
    await enter(store, FILE)
    revoked = agency_keys("H26").entry("H26", revoked_at=1_800_000_000)
    await enter(store, DirectoryFile(certificates=(revoked,)))
    _, held = await store.read()
    assert revoked in held.certificates
    assert len(held.certificates) == 2


async def test_changes_that_were_computed_against_an_older_directory_are_not_entered(store):
    await enter(store, FILE)
    with pytest.raises(Trouble, match="epoch 1, not 0"):
        await enter(store, DirectoryFile(), expected_epoch=0)


async def test_imports_at_once_come_one_after_the_other(store):
    files = [DirectoryFile(agencies=(H26.model_copy(update={"code": f"H{n}"}),)) for n in range(10, 18)]
    epochs = await asyncio.gather(*(enter(store, file) for file in files))
    assert sorted(epochs) == list(range(1, 9))
    assert len((await store.read())[1].agencies) == 8


async def test_import_is_told_to_who_listens(store, database_url):
    connection = await asyncpg.connect(database_url)
    heard = asyncio.Queue()
    try:
        await connection.add_listener("truc_directory", lambda *told: heard.put_nowait(told[-1]))
        await enter(store, FILE)
        assert await asyncio.wait_for(heard.get(), 5) == "1"
    finally:
        await connection.close()


async def test_snapshot_is_stale_before_it_was_read(store):
    with pytest.raises(Stale, match="not read yet"):
        keeper_of(store).current()


async def test_snapshot_is_of_today(store):
    await enter(store, FILE)
    keeper = keeper_of(store)
    await keeper.refresh()
    current = keeper.current()
    assert current.epoch == 1
    assert current.agencies["H26.01"].state == "closed"
    assert {key.owner for key in current.keys.values()} == {"H26", "hub"}


async def test_snapshot_is_the_same_object_until_something_changes(store):
    await enter(store, FILE)
    keeper = keeper_of(store)
    await keeper.refresh()
    before = keeper.current()
    await keeper.refresh()
    assert keeper.current() is before
    await enter(store, DirectoryFile(agencies=(H26.model_copy(update={"name": "Khác"}),)))
    await keeper.refresh()
    assert keeper.current().agencies["H26"].name == "Khác"


async def test_snapshot_changes_with_the_day_in_vietnam(store):
    """17:00 UTC is midnight in Vietnam, where the closed agency's last entry ends."""
    await enter(store, FILE)
    midnight = datetime(2026, 12, 31, 17, 0, tzinfo=UTC)
    times = iter([midnight - timedelta(seconds=1), midnight])
    keeper = keeper_of(store, clock=lambda: next(times))
    await keeper.refresh()
    assert "H26.01" in keeper.current().agencies
    await keeper.refresh()
    assert "H26.01" not in keeper.current().agencies


async def test_keeper_goes_on_after_entries_that_it_cannot_read(store, database_url):
    """A newer version of the hub may have written them; once they are mended, nobody has to restart anything."""
    await enter(store, FILE)
    await run_sql(database_url, "UPDATE directory_agencies SET tier = 'galaxy' WHERE code = 'H26'")
    keeper = SnapshotKeeper(store, max_age_s=60, refresh_s=0.02)
    keeping = asyncio.create_task(keeper.run())
    await asyncio.sleep(0.3)
    with pytest.raises(Stale):
        keeper.current()
    await run_sql(database_url, "UPDATE directory_agencies SET tier = 'ministry-province' WHERE code = 'H26'")
    await eventually(lambda: keeper._snapshot is not None, 10)
    assert keeper.current().agencies["H26"].tier == "ministry-province"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_certificate_is_parsed_once(store, monkeypatch):
    parsed = []
    original = directory_module.key_record
    monkeypatch.setattr(directory_module, "key_record", lambda entry: parsed.append(entry.owner) or original(entry))
    await enter(store, FILE)
    keeper = keeper_of(store)
    await keeper.refresh()
    await enter(store, DirectoryFile(certificates=(agency_keys("H26").entry("H26", revoked_at=1_800_000_000),)))
    await keeper.refresh()
    assert sorted(parsed) == ["H26", "H26", "hub"]
    assert keeper.current().keys[agency_keys("H26").signer.fingerprint].revoked_at_s == 1_800_000_000


async def test_snapshot_goes_stale_while_the_database_is_away_and_recovers(own_postgresql):
    from hub.store.migrations.runner import upgrade

    await upgrade(own_postgresql.url)
    async with open_pool(own_postgresql.url, acquire_timeout_s=1) as pool:
        keeper = keeper_of(DirectoryStore(pool), max_age_s=0.5)
        running = asyncio.create_task(keeper.run())
        try:
            await _until(lambda: _is_fresh(keeper))
            own_postgresql.kill()
            await _until(lambda: not _is_fresh(keeper))
            own_postgresql.start()
            await _until(lambda: _is_fresh(keeper))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _is_fresh(keeper):
    try:
        keeper.current()
    except Stale:
        return False
    return True


async def _until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody tells when it comes true
            await asyncio.sleep(0.02)
