import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.errors import Unusable
from adapters.inbox_guard import HandedOver, InboxGuard
from schemas.identifiers import DeliveryId
from tests.hub_process import eventually

NOW = datetime(2026, 7, 1, 9, 0, tzinfo=UTC)


def new_id() -> DeliveryId:
    return DeliveryId(uuid.uuid4())


def receipted(delivery_id: DeliveryId) -> HandedOver:
    return HandedOver(b"receipt for " + delivery_id.bytes)


@pytest.fixture
def guard_file(tmp_path: Path) -> Path:
    return tmp_path / "guard.db"


async def test_a_new_delivery_is_fresh(guard_file):
    with InboxGuard(guard_file) as guard:
        assert await guard.begin(new_id(), NOW) == "fresh"


async def test_a_delivery_handed_over_gives_its_receipt_to_every_later_arrival(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        await guard.begin(delivery_id, NOW)
        await guard.settle({delivery_id: receipted(delivery_id)}, NOW)

        assert await guard.begin(delivery_id, NOW) == receipted(delivery_id)
        assert await guard.find(delivery_id) == receipted(delivery_id)


async def test_what_asks_for_no_receipt_is_handed_over_once_all_the_same(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        await guard.begin(delivery_id, NOW)
        await guard.settle({delivery_id: HandedOver(None)}, NOW)

        assert await guard.begin(delivery_id, NOW) == HandedOver(None)


async def test_letters_that_were_read_are_known_at_once_and_after_the_end(guard_file):
    first, second = new_id(), new_id()
    with InboxGuard(guard_file) as guard:
        guard.settle_letter(first, NOW)
        assert await guard.begin_all([first, second], NOW, only_find=[first, second]) == [HandedOver(None), "fresh"]
        guard.settle_letter(second, NOW)
    with InboxGuard(guard_file) as guard:
        assert await guard.find(first) == await guard.find(second) == HandedOver(None)


async def test_letters_that_were_read_are_written_down_though_nothing_follows(guard_file, monkeypatch):
    monkeypatch.setattr("adapters.sqlite_file._LATER_S", 0.01)
    many = {new_id() for _ in range(100)}
    with InboxGuard(guard_file) as guard:
        for delivery_id in many:
            guard.settle_letter(delivery_id, NOW)
        await eventually(lambda: found_after_a_crash(guard_file) == many, 5, "not all are on the disk")


def found_after_a_crash(guard_file: Path) -> set[DeliveryId]:
    """The deliveries that another process would find if this one died now."""
    with tempfile.TemporaryDirectory() as folder:
        for file in guard_file.parent.glob(guard_file.name + "*"):
            shutil.copy(file, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / guard_file.name)) as connection:
            rows = connection.execute("SELECT delivery_id FROM delivery WHERE state = 'handed over'").fetchall()
    return {DeliveryId(uuid.UUID(text)) for (text,) in rows}


async def test_looking_changes_nothing(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        assert await guard.find(delivery_id) is None
        assert await guard.begin(delivery_id, NOW) == "fresh"
        assert await guard.find(delivery_id) == "interrupted"


async def test_the_receipt_survives_a_restart(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        await guard.settle({delivery_id: receipted(delivery_id)}, NOW)

    with InboxGuard(guard_file) as guard:
        assert await guard.begin(delivery_id, NOW) == receipted(delivery_id)


async def test_a_delivery_given_back_is_fresh_again(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        await guard.begin(delivery_id, NOW)
        await guard.release([delivery_id])

        assert await guard.begin(delivery_id, NOW) == "fresh"


async def test_forgetting_spares_recent_ones_and_everything_in_hand(guard_file):
    old, recent, in_hand = new_id(), new_id(), new_id()
    with InboxGuard(guard_file) as guard:
        await guard.settle({old: receipted(old)}, NOW - timedelta(days=61))
        await guard.settle({recent: receipted(recent)}, NOW)
        await guard.begin(in_hand, NOW - timedelta(days=61))

        assert await guard.forget(NOW - timedelta(days=60)) == 1
        assert await guard.begin(old, NOW) == "fresh"
        assert await guard.begin(recent, NOW) == receipted(recent)
        assert await guard.begin(in_hand, NOW) == "interrupted"


async def test_many_changes_at_once_are_all_kept(guard_file):
    ids = [new_id() for _ in range(1000)]
    with InboxGuard(guard_file) as guard:
        assert await asyncio.gather(*(guard.begin(each, NOW) for each in ids)) == ["fresh"] * 1000
        await asyncio.gather(*(guard.settle({each: receipted(each)}, NOW) for each in ids))

    with InboxGuard(guard_file) as guard:
        assert await asyncio.gather(*(guard.find(each) for each in ids)) == [receipted(each) for each in ids]


async def test_of_two_at_once_one_is_fresh(guard_file):
    delivery_id = new_id()
    with InboxGuard(guard_file) as guard:
        found = await asyncio.gather(*(guard.begin(delivery_id, NOW) for _ in range(20)))

    assert found.count("fresh") == 1


async def test_a_cancelled_caller_harms_nobody_else(guard_file):
    with InboxGuard(guard_file) as guard:
        tasks = [asyncio.create_task(guard.begin(new_id(), NOW)) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)

    assert results[1::2] == ["fresh"] * 25


def test_a_second_process_is_refused(guard_file):
    with InboxGuard(guard_file), pytest.raises(Unusable) as caught:
        InboxGuard(guard_file)

    assert caught.value.code.code == "A104"


def test_a_file_that_is_no_database_is_refused(guard_file):
    guard_file.write_bytes(b"not a database, certainly not" * 100)

    with pytest.raises(Unusable, match="A104"):
        InboxGuard(guard_file)


async def test_a_closed_guard_says_so(guard_file):
    guard = InboxGuard(guard_file)
    guard.close()
    guard.close()

    with pytest.raises(Unusable, match="closed"):
        await guard.begin(new_id(), NOW)


CRASH = """
import asyncio, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from adapters.inbox_guard import HandedOver, InboxGuard

async def main(file, delivery_id, stop_after):
    now = datetime.now(UTC)
    guard = InboxGuard(Path(file))
    for step in ("begin", "settle"):
        if step == "begin":
            await guard.begin(uuid.UUID(delivery_id), now)
        else:
            await guard.settle({uuid.UUID(delivery_id): HandedOver(b"receipt")}, now)
        if step == stop_after:
            print("ready", flush=True)
            await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(("died_after", "expected"), [("begin", "interrupted"), ("settle", HandedOver(b"receipt"))])
async def test_what_a_killed_process_had_marked_is_known_to_the_next(guard_file, died_after, expected):
    delivery_id = new_id()
    kill_after(guard_file, delivery_id, died_after)

    with InboxGuard(guard_file) as guard:
        assert await guard.begin(delivery_id, NOW) == expected


def kill_after(guard_file: Path, delivery_id: DeliveryId, step: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(guard_file), str(delivery_id), step],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
