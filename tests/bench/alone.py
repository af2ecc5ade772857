"""The hub on its own, all of its loops at the same time, beside RabbitMQ's shovel; prints one line of JSON last.

`python -m tests.bench.alone --documents 6000 --rounds 3`: what agencies do was done before. So many documents wait in
`truc.intake`, and in `truc.receipts` a receipt for each delivery of so many others, which were taken in and handed over
before. The hub's processes start together and are done when all of the former are taken in and handed over, and all
receipts are recorded and passed on: what so many documents are for a hub from their submission to the receipts at their
sender.

Documents a second are those taken in; the receipts are those of the earlier ones, which are as many. A message is what is
signed and handed over: a copy for each recipient and a receipt to the sender, where letters that share one count singly. The
hub's seconds are those between the first and the last event of the ledger, so without the start of its processes; those of the
shovel, which checks nothing, begin when it is asked for, and it moves more messages, so that its start hardly counts.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

import asyncpg

from schemas.envelope import ENVELOPE_TYP
from tests.bench import others
from tests.bench.full_path import HUB, hub_processes
from tests.bench.loop_by_loop import Bench
from tests.bench.stage import stage
from tests.bench.workload import DOCUMENTS, nation, plan

_TOKENS: Final = 6000
"""For the shovel, which moves each of them ten times."""
_PATIENCE_S: Final = 300
_LOOK_S: Final = 0.5
"""How often the ledger is asked whether all is done. The time is taken from its events, so it may be asked rarely."""

_DONE: Final = """
SELECT count(*) FROM deliveries WHERE state = 'routed' OR typ = $1 AND state = 'received'
"""
_TOOK_S: Final = "SELECT extract(epoch FROM max(at) - min(at))::float FROM ledger WHERE at >= $1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hub", nargs="+", default=list(HUB), help="loops of each process of the hub")
    options = parser.parse_args()
    rounds = [_round(options.documents, options.hub) for _ in range(options.rounds)]
    ratios = [each["vs_shovel"] for each in rounds]
    vs_shovel = {"least": min(ratios), "middle": median(ratios), "most": max(ratios)}
    print(json.dumps({"hub": options.hub, "vs_shovel": vs_shovel, "rounds": rounds}))
    return 0


def measure(documents: int, hub: Sequence[str] = HUB) -> dict[str, Any]:
    """Give all loops of a hub their work at once, and say how fast they were."""
    people = nation()
    planned = plan(people, share=2 * documents / DOCUMENTS)
    with stage(people.file) as on, ExitStack() as ending:
        earlier, new = (Bench(on.installation, on.folder) for _ in range(2))
        earlier.prepare(planned[:documents])
        new.prepare(planned[documents:])
        earlier.hand_over()
        earlier.publish("receipt", earlier.receipts)
        new.publish("document", new.documents)
        began = datetime.now(UTC)
        ending.enter_context(hub_processes(on.installation, on.folder, [loops.split(",") for loops in hub]))
        messages = new.deliveries + earlier.deliveries
        deliveries = earlier.deliveries + messages
        seconds = asyncio.run(_until_done(on.installation.settings["database_url"], deliveries, began))
    return {
        "documents_per_s": round(len(new.documents) / seconds),
        "messages_per_s": round(messages / seconds),
    }


def _round(documents: int, hub: Sequence[str]) -> dict[str, Any]:
    ours = measure(documents, hub)
    shovel_per_s = others.measure(_TOKENS, rounds=1, ways=("shovel",))["per_s"]["shovel"]
    return {**ours, "shovel_per_s": shovel_per_s, "vs_shovel": round(ours["messages_per_s"] / shovel_per_s, 4)}


async def _until_done(database_url: str, deliveries: int, began: datetime) -> float:
    """Wait until so many deliveries, letters among them, are where they belong; returns how long that took, seconds."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while await connection.fetchval(_DONE, ENVELOPE_TYP) < deliveries:  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(_LOOK_S)
        return float(await connection.fetchval(_TOOK_S, began))
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
