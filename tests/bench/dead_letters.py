"""Measures what an operator waits for: a million dead letters listed and grouped, ten thousand items sent again.

Prints one JSON object. Times are milliseconds, the middle one of several runs; the database is a private one.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.core.selection import read_selection
from hub.dev.postgresql import PrivatePostgreSQL
from hub.store.dead_letters import group_dead, list_dead
from hub.store.migrations.runner import upgrade
from hub.store.pool import Pool, open_pool
from hub.telemetry.log import configure
from tests.replay_stage import RECIPIENTS, Stage

LETTERS = 1_000_000
ITEMS = 10_000
RUNS = 9

# Letters of 3,000 recipients and 300 senders over 90 days, a fifth of them dismissed. They refer to no deliveries: what
# is measured reads the letters alone, but for the reasons of the one page that is shown.
_FILL = """
ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_delivery_id_fkey;
INSERT INTO dead_letters (letter_id, kind, delivery_id, state, code, agency, sender, tier, document_id, since)
SELECT id::text, 'delivery', id, CASE WHEN random() < 0.2 THEN 'dismissed' ELSE 'open' END,
    (ARRAY['E804', 'E805', 'E807', 'E808'])[1 + floor(random() * 4)::integer],
    'H' || (10 + number % 60) || '.' || number % 3000, 'G' || (10 + number % 90) || '.' || number % 300,
    (ARRAY['commune', 'department-district', 'ministry-province'])[1 + number % 3],
    sha256(number::text::bytea), now() - random() * interval '90 days'
FROM (SELECT gen_random_uuid() AS id, number FROM generate_series(1, $1::integer) AS number) AS made
"""

_LISTS = (
    "",
    "state=dismissed",
    "code=E807",
    "side=recipient",
    "agency=H26.2356",
    "sender=G22.192",
    "tier=commune",
    "since=7d",
    "E807@H26.2356",
    "sender=G22.192 tier=commune since=30d",
    f"document={'0' * 64}",
)
_GROUPS = (
    "",
    "state=dismissed",
    "code=E807",
    "side=recipient",
    "agency=H26.2356",
    "sender=G22.192",
    "since=1d",
    "since=7d",
    "tier=commune",
)


async def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="truc-bench-") as folder:
        server = PrivatePostgreSQL(Path(folder) / "postgresql")
        server.start()
        try:
            await upgrade(server.url)
            async with open_pool(server.url, command_timeout_s=600) as pool:
                replay = await _replay(pool)
            await _fill(server.url)
            async with open_pool(server.url, command_timeout_s=600) as pool:
                return {"letters": LETTERS, **await _lists(pool), "replay": replay}
        finally:
            server.remove()


async def _fill(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, command_timeout=900)
    try:
        alter, _, insert = _FILL.partition(";")
        await connection.execute(alter)
        await connection.execute(insert, LETTERS)
        await connection.execute("VACUUM ANALYZE dead_letters")
        await connection.execute("VACUUM ANALYZE dead_groups")
    finally:
        await connection.close()


async def _lists(pool: Pool) -> dict[str, Any]:
    now = datetime.now(UTC)
    listed, grouped = {}, {}
    for text in _LISTS:
        selection = read_selection(text.split(), now)
        listed[text or "everything"] = await _ms(lambda chosen=selection: list_dead(pool, chosen, 100))
    for text in _GROUPS:
        selection = read_selection(text.split(), now)
        grouped[text or "everything"] = await _ms(lambda chosen=selection: group_dead(pool, chosen, 100))
    return {"list_ms": listed, "group_ms": grouped}


async def _ms(work: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 1)


async def _replay(pool: Pool) -> dict[str, float]:
    """Plan and release ten thousand items, all of which arrive."""
    stage = Stage(pool)
    for _ in range(5):
        await stage.dead(ITEMS // len(RECIPIENTS) // 5, RECIPIENTS)
    began = time.perf_counter()
    replay = await stage.plan()
    planned_s = time.perf_counter() - began
    await stage.start(replay)
    loop, turning_s, settling_s = stage.loop(), 0.0, 0.0
    while (await stage.view(replay)).state != "done":
        began = time.perf_counter()
        await loop.turn()
        turning_s += time.perf_counter() - began
        began = time.perf_counter()
        await stage.exchange()
        settling_s += time.perf_counter() - began
        stage.now += timedelta(seconds=1)
    return {
        "items": ITEMS,
        "plan_s": round(planned_s, 2),
        "release_and_settle_s": round(turning_s, 2),
        "items_a_second": round(ITEMS / turning_s),
        "recipients_s": round(settling_s, 2),
    }


if __name__ == "__main__":
    configure("error", "json")  # stdout is for the figures
    sys.stdout.write(json.dumps(asyncio.run(main()), indent=2) + "\n")
