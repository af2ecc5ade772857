"""How long a document takes at a steady rate; prints a table, and one line of JSON last.

`python -m tests.bench.latency --per-s 100 --seconds 30`: the whole path, as in `full_path`, but documents are sent at
planned moments, at random around the rate, whatever has become of those before them; every time counts from the planned
moment, so that a hub or a sender that stalls does not hide what waited. For each delivery:

- *submitted*: the sender's client has the broker's confirm;
- *taken*: intake has the document in hand (`accepted_at`);
- *in the queue*: the broker has confirmed it in the recipient's queue. The moment is that of the ledger's `routed` event,
  which dispatch reads from the clock when the confirms of its whole batch are in: never too early. Where the confirm was lost,
  the moment of the receipt;
- *arrived*: the recipient's client has proven it and hands it over;
- *received*: the hub has the recipient's signed receipt in its hands (`received` event; again read before it commits).

Sender, hub and recipients read the clock of the same machine, and the ledger is asked when all is over, so nothing is
disturbed by being looked at. Who sends does so in a process of its own. The recipients, which in a country have machines of
their own, work in another one with what the hub, its servers and the senders leave of the CPU: together they kept a single
process so busy that documents waited in it for longer than in the hub. So *arrived* and *received* say how late 95 agencies
are that share a part of a core, and the points before them what the hub does.

The endpoints of this machine write their guard files to one disk, each row flushed, which in a country would be 95 disks;
`--guards /dev/shm` takes them off it. The first seconds are not counted: connections, statements and pages become warm in
them.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from hub.installation import Installation
from hub.store.audit import audit
from hub.store.pool import open_pool
from tests.bench.full_path import (
    HUB,
    agency_processes,
    cpu_by_process,
    go,
    hub_process,
    parted_sides,
    planned_moments,
    results,
)
from tests.bench.stage import Stage, percentiles, stage
from tests.bench.workload import DOCUMENTS, nation, plan

_WARM_S = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--per-s", type=float, default=100.0, help="documents a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, after a warm-up of 3 seconds")
    parser.add_argument("--hub", nargs="+", default=list(HUB), help="loops of each process of the hub")
    parser.add_argument("--guards", type=Path, help="where the agencies' guard files lie, such as /dev/shm")
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.guards) as guards:
        report = measure(options.per_s, options.seconds, options.hub, Path(guards) if options.guards else None)
    _show(report)
    print(json.dumps(report))
    return 0


def measure(per_s: float, seconds: float, hub: Sequence[str] = HUB, guards: Path | None = None) -> dict[str, Any]:
    """Send at a rate for a while and say how long each delivery took to each point of its way."""
    people = nation()
    documents = plan(people, share=per_s * (seconds + _WARM_S) / DOCUMENTS)
    at_s = planned_moments(per_s, len(documents))
    with stage(people.file) as on, ExitStack() as ending:
        for loops in hub:
            ending.enter_context(hub_process(on.installation, on.folder, loops.split(",")))
        shares = parted_sides(on.installation)
        sides = agency_processes(on.installation, on.folder, people, documents, shares, 2, ending, at_s, guards)
        before = cpu_by_process()
        go(sides)
        cpu = {name: used - before.get(name, 0.0) for name, used in cpu_by_process().items()}
        senders_saw, recipients_saw = results(on.folder)
        passed = asyncio.run(moments_of(on.installation))
        holds = asyncio.run(_audited(on))
    cpu["senders"], cpu["recipients"] = senders_saw["cpu_s"], recipients_saw["cpu_s"]
    saw = recipients_saw | {name: senders_saw[name] for name in ("sent_at", "confirmed_at")}
    return {
        "per_s": per_s,
        "seconds": seconds,
        "documents": len(documents),
        "ms": _figures(saw, passed),
        "cpu_share": {name: round(used / saw["total_s"], 3) for name, used in sorted(cpu.items())},
        "finished": saw["finished"],
        "twice": saw["twice"],
        "audit": holds,
    }


def _figures(saw: Mapping[str, Any], moments: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    warm = min(saw["sent_at"].values()) + _WARM_S
    delays: dict[str, list[float]] = {}
    for row in moments:
        document_id = row["document_id"]
        sent = saw["sent_at"][document_id]
        if sent < warm:
            continue
        passed = {
            "submitted": saw["confirmed_at"][document_id],
            "taken": row["accepted_at"],
            "in_the_queue": row["routed_at"],
            "arrived": saw["arrived_at"][row["delivery_id"]],
            "received": row["received_at"],
        }
        for point, at in passed.items():
            delays.setdefault(point, []).append(at - sent)
    return {point: percentiles(values) for point, values in delays.items()}


_MOMENTS = """
SELECT
    encode(document_id, 'hex') AS document_id,
    delivery_id::text AS delivery_id,
    extract(epoch FROM accepted_at)::float AS accepted_at,
    extract(epoch FROM coalesce(routed_at, received_at))::float AS routed_at,
    extract(epoch FROM received_at)::float AS received_at
FROM documents
JOIN deliveries ON object_id = document_id
JOIN (
    SELECT
        delivery_id,
        min(at) FILTER (WHERE state = 'routed') AS routed_at,
        min(at) FILTER (WHERE state = 'received') AS received_at
    FROM ledger
    WHERE state IN ('routed', 'received')
    GROUP BY delivery_id
) AS passed USING (delivery_id)
"""


async def moments_of(installation: Installation) -> list[Mapping[str, Any]]:
    """Ask the ledger when each delivery of a document first came so far, seconds since 1970."""
    connection = await asyncpg.connect(installation.settings["database_url"])
    try:
        return [dict(row) for row in await connection.fetch(_MOMENTS)]
    finally:
        await connection.close()


async def _audited(on: Stage) -> bool:
    async with open_pool(on.installation.settings["database_url"]) as pool:
        return (await audit(pool, identities=None)).holds


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(f"ms at {report['per_s']:g} documents a second", "p50", "p95", "p99", "p99.9")
    for point, figures in report["ms"].items():
        table.add_row(point.replace("_", " "), *(f"{value:.1f}" for value in figures.values()))
    Console(highlight=False, width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
