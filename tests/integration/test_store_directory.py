"""The directory's tables and the snapshot that is kept of them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import chain
from random import Random
from types import SimpleNamespace

import pytest

from hub.core.directory_change import diff
from hub.core.trouble import Stale, Trouble
from hub.settings import Settings
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


async def test_entries_know_the_epoch_that_has_written_them_last(store, pool):
    await enter(store, FILE)
    revoked = agency_keys("H26").entry("H26", revoked_at=1_800_000_000)
    platform = FILE.platforms[0].model_copy(update={"name": "Khác"})
    mandate = FILE.mandates[0].model_copy(update={"actions": ("new",)})
    wanted = DirectoryFile(
        agencies=(H26, CLOSED.model_copy(update={"valid_to": "2027-02-01"})),
        platforms=(platform,),
        mandates=(mandate,),
        certificates=(revoked,),
    )
    await enter(store, wanted)
    async with pool.reading() as connection:
        agencies = dict(await connection.fetch("SELECT code, epoch FROM directory_agencies"))
        certificates = dict(await connection.fetch("SELECT owner, epoch FROM directory_certificates"))
        assert await connection.fetchval("SELECT epoch FROM directory_platforms") == 2
        assert await connection.fetchval("SELECT epoch FROM directory_mandates") == 2
    assert agencies == {"H26": 1, "H26.01": 2}
    assert certificates == {"hub": 1, "H26": 2}


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


def count_unreadable(monkeypatch) -> list[str]:
    """Collect how often a keeper says that it cannot read the directory."""
    said: list[str] = []

    def ignore(*_arguments, **_options) -> None:
        """Everything else that it says."""

    monkeypatch.setattr(directory_module, "_log", SimpleNamespace(exception=said.append, info=ignore, warning=ignore))
    return said


async def test_keeper_goes_on_after_entries_that_it_cannot_read(store, database_url, monkeypatch):
    """A newer version of the hub may have written them; once they are mended, nobody has to restart anything."""
    await enter(store, FILE)
    await run_sql(database_url, "UPDATE directory_agencies SET tier = 'galaxy' WHERE code = 'H26'")
    keeper = SnapshotKeeper(store, max_age_s=60, refresh_s=0.02)
    unread = count_unreadable(monkeypatch)
    keeping = asyncio.create_task(keeper.run())
    await eventually(lambda: len(unread) >= 2, 10)
    with pytest.raises(Stale):
        keeper.current()
    await run_sql(database_url, "UPDATE directory_agencies SET tier = 'ministry-province' WHERE code = 'H26'")
    await eventually(lambda: keeper._snapshot is not None, 10)
    assert keeper.current().agencies["H26"].tier == "ministry-province"
    await run_sql(
        database_url,
        "UPDATE directory_agencies SET tier = 'galaxy', epoch = 2 WHERE code = 'H26'",
        "INSERT INTO directory_epochs (imported_at, actor, source, summary) VALUES (now(), '', '', '{}')",
    )
    unread.clear()
    await eventually(lambda: len(unread) >= 2, 10)
    assert keeper.current().epoch == 1
    await run_sql(database_url, "UPDATE directory_agencies SET tier = 'ministry-province' WHERE code = 'H26'")
    await eventually(lambda: keeper.current().epoch == 2, 10)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_next_snapshot_reads_and_parses_the_change_only(store, monkeypatch):
    """All entries of an agency come with the one that has changed; nobody else comes with it."""
    await enter(store, FILE)
    keeper = keeper_of(store)
    await keeper.refresh()
    read = []
    original = directory_module._file
    monkeypatch.setattr(directory_module, "_file", lambda *rows: read.append(original(*rows)) or read[-1])
    later = CLOSED.model_copy(update={"valid_from": "2027-01-01", "valid_to": None})
    await enter(store, DirectoryFile(agencies=(later,)))
    del read[:]
    await keeper.refresh()
    assert merged(read) == DirectoryFile(agencies=(CLOSED, later))

    await enter(store, DirectoryFile(certificates=(agency_keys("H26").entry("H26", revoked_at=1_800_000_000),)))
    del read[:]
    before = keeper.current()
    await keeper.refresh()
    assert merged(read) == DirectoryFile(certificates=(agency_keys("H26").entry("H26", revoked_at=1_800_000_000),))
    assert keeper.current().keys[agency_keys("H26").signer.fingerprint].revoked_at_s == 1_800_000_000
    assert before.keys[agency_keys("H26").signer.fingerprint].revoked_at_s is None


def merged(files):
    """One file of the pieces that were read."""
    kinds = ("agencies", "platforms", "mandates", "certificates")
    return DirectoryFile(**{kind: tuple(chain(*(getattr(file, kind) for file in files))) for kind in kinds})


@pytest.mark.parametrize("seed", range(3))
async def test_snapshot_of_changes_is_the_snapshot_of_everything(store, seed, monkeypatch):
    """Imports and days in any order; agencies are read in pieces, across which their entries must not be torn."""
    monkeypatch.setattr(directory_module, "_PIECE", 2)
    chance = Random(seed)
    held, seen = await store.snapshot(NOW), set()
    for _ in range(25):
        if chance.random() < 0.7:
            await enter(store, any_file(chance))
        now = NOW + timedelta(days=chance.randrange(8), hours=chance.randrange(24))
        held = await store.snapshot(now, held)
        assert held == await store.snapshot(now)
        seen |= {*held.agencies, *held.platforms, *held.mandates, *held.keys}
    assert len(seen) > 5


def any_file(chance):
    """A few entries whose days lie around `NOW`."""
    codes, platforms = ["H01", "H01.1", "H01.2", "H02"], ["lgsp-a", "lgsp-b"]

    def period():
        first, last = chance.randint(22, 31), chance.choice([None, *range(22, 31)])
        return {"valid_from": f"2026-11-{min(first, 30)}", "valid_to": last and f"2026-11-{last}"}

    def agency():
        return {
            "code": chance.choice(codes),
            "name": chance.choice(["Một", "Hai"]),
            "tier": "commune",
            "parent": chance.choice([None, *codes]),
            "endpoint": chance.choice([None, *platforms]),
            **period(),
        }

    def mandate():
        actions = chance.choice([["new"], ["new", "revoke"]])
        return {"platform": chance.choice(platforms), "agency": chance.choice(codes), "actions": actions, **period()}

    def certificate():
        keys = agency_keys(chance.choice(["H26", "hub"]))
        return keys.entry(chance.choice(codes), revoked_at=chance.choice([None, 1_700_000_000])).model_dump()

    def platform():
        return {"code": chance.choice(platforms), "name": chance.choice(["A", "B"]), **period()}

    kinds = {"agencies": agency, "platforms": platform, "mandates": mandate, "certificates": certificate}
    some = {kind: [one() for _ in range(chance.randrange(3))] for kind, one in kinds.items()}
    return DirectoryFile.model_validate_json(json.dumps(some))


async def test_clock_that_is_set_back_brings_back_who_was_there(store):
    await enter(store, FILE)
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    held = await store.snapshot(new_year)
    assert "H26.01" not in held.agencies
    assert "H26.01" in (await store.snapshot(NOW, held)).agencies


async def test_database_that_does_not_know_what_is_held_is_read_as_a_whole(store, database_url):
    """It was restored from a copy that lacks the last import, and there was another import since."""
    await enter(store, FILE)
    await enter(store, DirectoryFile(agencies=(H26.model_copy(update={"name": "Lost"}),)))
    held = await store.snapshot(NOW)
    await run_sql(
        database_url,
        "DELETE FROM directory_epochs WHERE epoch = 2",
        f"UPDATE directory_agencies SET epoch = 1, name = '{H26.name}' WHERE code = 'H26'",
    )
    await enter(store, DirectoryFile(agencies=(CLOSED.model_copy(update={"name": "Khác"}),)))
    current = await store.snapshot(NOW, held)
    assert (current.epoch, current.agencies["H26"].name, current.agencies["H26.01"].name) == (3, H26.name, "Khác")


async def test_change_is_decided_by_within_a_second(store, database_url):
    async with open_pool(database_url) as pool:
        settings = Settings()
        keeper = SnapshotKeeper(
            DirectoryStore(pool), max_age_s=settings.directory_max_age_s, refresh_s=settings.directory_refresh_s
        )
        await keeper.refresh()
        looked_at = keeper._confirmed_at_s
        keeping = asyncio.create_task(keeper.run())
        await eventually(lambda: keeper._confirmed_at_s > looked_at, 1)  # it has just looked
        await enter(store, FILE)
        await eventually(lambda: "H26" in keeper.current().agencies, 1)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


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
