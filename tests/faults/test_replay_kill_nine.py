"""The process of replays is killed again and again while it sends very many items, of which some fail again.

`make test-replay` does it with ten thousand items and says how long it took.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.core.directory_change import diff
from hub.core.selection import Selection
from hub.store import replay_orders
from hub.store.dead_letters import group_dead
from hub.store.directory import DirectoryStore
from hub.store.pool import open_pool
from schemas.directory_file import DirectoryFile
from tests.hub_process import HubProcess
from tests.keys import agency_keys
from tests.replay_stage import RECIPIENTS, Stage, directory_file
from tests.services import Broker

ITEMS = int(os.environ.get("TEST_REPLAY_ITEMS", "2000"))
FAILING_PERCENT = 3
DIES_WHEN_WAITING = (ITEMS, ITEMS - 1, *(ITEMS * share // 10 for share in (9, 7, 4, 1)), 0)
"""How many items still wait when the process is killed: before the first, after it, on the way, when all are out."""


@pytest.mark.timeout(600)
async def test_very_many_items_survive_kill_nine_at_every_stage(
    vhost: Broker,
    database_url: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = HubProcess(_settings(vhost, database_url, tmp_path), tmp_path / "hub.log", "replay", replay_pause_s=0.02)
    chance = random.Random(20261124)
    async with open_pool(database_url) as pool:
        stage = Stage(pool)
        await DirectoryStore(pool).apply(
            diff(DirectoryFile(), directory_file()), actor="an", source="test", now=stage.now
        )
        for _ in range(5):
            await stage.dead(ITEMS // len(RECIPIENTS) // 5, RECIPIENTS)
        stage.now = datetime.now(UTC) + timedelta(minutes=10)
        replay = await stage.plan()
        assert (await stage.view(replay)).size == ITEMS
        stage.answer = lambda delivery, _: "refused" if delivery.int % 100 < FAILING_PERCENT else "received"
        stage.now = datetime.now(UTC)
        await stage.start(replay, "one")
        deaths = list(DIES_WHEN_WAITING)
        began = time.perf_counter()
        try:
            process.start()
            while (state := (await stage.view(replay)).state) != "done":
                if state in ("paused", "stopped"):
                    await stage.start(replay, "rate", per_minute=4 * ITEMS, per_recipient=4 * ITEMS)
                await asyncio.sleep(chance.uniform(0.02, 0.1))
                waiting = (await stage.view(replay)).outcomes.get("waiting", 0)
                if deaths and waiting <= deaths[0] and "hub.started" in process.log():
                    process.kill()
                    deaths.pop(0)
                    process.log_file.unlink()
                    process.start()
                stage.now = datetime.now(UTC)
                await stage.hand_over()  # once: whoever answers for longer sees nothing of what is released meanwhile
        finally:
            process.end()
        assert len(deaths) <= 1, "it was done before it could be killed at every stage"
        view = await stage.view(replay)
        assert sum(view.outcomes.values()) == ITEMS
        failed = await replay_orders.items(pool, replay, outcomes=replay_orders.FAILED)
        assert {item.outcome for item in failed} == {"dead"}
        assert view.outcomes == {"dead": len(failed), "received": ITEMS - len(failed)}
        assert len(failed) == sum(group.count for group in await group_dead(pool, Selection()))
        assert len(stage.handed_over) == ITEMS - len(failed)
        await stage.check_the_books()
        figures = {
            "items": ITEMS,
            "kills": len(DIES_WHEN_WAITING) - len(deaths),
            "failed again": len(failed),
            "seconds": round(time.perf_counter() - began, 1),
        }
        record_testsuite_property("replay that is killed", figures)
        with capsys.disabled():
            print(f"\n{figures}")  # noqa: T201 - the figures are what the target is for


def _settings(vhost: Broker, database_url: str, folder: Path) -> SimpleNamespace:
    keys = agency_keys("hub")
    (folder / "hub.key").write_bytes(keys.private_key_pem)
    (folder / "hub.pem").write_text(keys.pem)
    return SimpleNamespace(
        environment={
            "TRUC_AMQP_URL": vhost.amqp_url,
            "TRUC_DATABASE_URL": database_url,
            "TRUC_HUB_KEY_FILE": str(folder / "hub.key"),
            "TRUC_HUB_CERTIFICATE_FILE": str(folder / "hub.pem"),
            "TRUC_LOG_FORMAT": "json",
        }
    )
