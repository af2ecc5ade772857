"""One document to 12,000 agencies, each with a queue of its own, beside 50 others; prints one JSON object last.

`python -m tests.bench.broadcast`: private RabbitMQ and PostgreSQL, the hub as it runs in production. In turns, so that a
machine that is busy otherwise disturbs both alike: *quiet*, nothing but the 50 others, who get documents at a steady pace
from a real client; and *broadcast*, while a document to `children:` of a province with 12,000 communes goes out.

- how long after its submission the last of the 12,000 is in its recipient's queue;
- what the others notice: their p99 beside that of the quiet phase before, the median of all pairs;
- the CPU of the broadcast beside that of the quiet phase, by process, and the memory afterwards.

The 12,000 do not connect: what they get waits in their queues.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from itertools import chain
from statistics import median
from typing import Any

import psutil
import uvloop

from adapters.client import AgencyClient
from adapters.trust import Trust
from hub.store.audit import audit
from hub.store.pool import Pool, open_pool
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.identifiers import AgencyCode, DocumentId
from tests.bench.bystanders import Bystanders, bystanders, connected, envelope_to, figures, ratio
from tests.bench.full_path import HUB, cpu_by_process, hub_process, process_name
from tests.bench.stage import Stage, stage
from tests.bench.watch import pss_mib

SENDER, BROADCASTER, PROVINCE = AgencyCode("G22"), AgencyCode("G01"), AgencyCode("H26")
OTHERS = [AgencyCode(f"H{number}") for number in range(30, 80)]
_WARM_S = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipients", type=int, default=12_000, help="communes of the province, each with a queue")
    parser.add_argument("--per-s", type=float, default=20.0, help="documents a second for the others")
    parser.add_argument("--phase-s", type=float, default=25.0, help="measured seconds of each phase")
    parser.add_argument("--pairs", type=int, default=3, help="phases of each kind")
    options = parser.parse_args()
    with stage(_country(options.recipients)) as on, ExitStack() as ending:
        for loops in HUB:
            ending.enter_context(hub_process(on.installation, on.folder, loops.split(",")))
        print(json.dumps(uvloop.run(_measure(on, options))))
    return 0


def _country(recipients: int) -> DirectoryFile:
    top = [_agency(code, "ministry-province") for code in (SENDER, BROADCASTER, PROVINCE, *OTHERS)]
    communes = [_agency(f"{PROVINCE}.{number}", "commune", PROVINCE) for number in range(1, recipients + 1)]
    return DirectoryFile(agencies=(*top, *communes))


def _agency(code: str, tier: str, parent: str | None = None) -> AgencyEntry:
    facts = {"code": code, "name": f"Đơn vị {code}", "tier": tier, "parent": parent, "endpoint": code}
    return AgencyEntry.model_validate(facts | {"valid_from": "2025-07-01"})


async def _measure(on: Stage, options: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(on.installation.settings["database_url"]))
        others = await stack.enter_async_context(bystanders(on.installation, on.folder, SENDER, OTHERS, options.per_s))
        client = await connected(
            stack, on.installation.accounts[BROADCASTER], Trust(on.installation.directory_file), on.folder
        )
        await others.phase(_WARM_S)
        pairs, delivered_s, more_cpu_s = [], [], []
        for number in range(options.pairs):
            quiet, quiet_cpu_s = await _watched(others, options.phase_s)
            broadcast = asyncio.create_task(_broadcast(client, pool, number))
            busy, busy_cpu_s = await _watched(others, options.phase_s)
            delivered_s.append(await broadcast)
            pairs.append((quiet, busy))
            more_cpu_s.append({name: used - quiet_cpu_s.get(name, 0.0) for name, used in busy_cpu_s.items()})
        report = await audit(pool)
    return {
        "recipients": options.recipients,
        "others": len(OTHERS),
        "documents_per_s": options.per_s,
        "delivered_s": [round(seconds, 1) for seconds in delivered_s],
        "quiet_ms": figures(list(chain.from_iterable(quiet for quiet, _ in pairs))),
        "broadcast_ms": figures(list(chain.from_iterable(busy for _, busy in pairs))),
        "p99_ms_of_pairs": [[figures(phase)["p99"] for phase in pair] for pair in pairs],
        "p99_ratio": ratio(pairs, 99),
        "p50_ratio": ratio(pairs, 50),
        "cpu_us_per_delivery": {
            name: round(1e6 * median(each.get(name, 0.0) for each in more_cpu_s) / options.recipients)
            for name in sorted(more_cpu_s[0])
        },
        "memory_mib": _memory(),
        "missing": others.missing(),
        "audit": report.holds,
    }


async def _watched(others: Bystanders, seconds: float) -> tuple[list[float], Mapping[str, float]]:
    before = cpu_by_process()
    delays = await others.phase(seconds)
    return delays, {name: used - before.get(name, 0.0) for name, used in cpu_by_process().items()}


# How many of a document's deliveries have not been handed over.
_LEFT = "SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FROM deliveries WHERE object_id = $1"


async def _broadcast(client: AgencyClient, pool: Pool, number: int) -> float:
    """Send a document to all communes; returns after how many seconds the last is in its queue."""
    began = time.monotonic()
    sent = await client.submit(envelope_to([f"children:{PROVINCE}"], BROADCASTER, number))
    while await _left(pool, sent.document_id):  # noqa: ASYNC110 - other processes hand over
        await asyncio.sleep(0.25)
    return time.monotonic() - began


async def _left(pool: Pool, document_id: DocumentId) -> int:
    async with pool.reading() as connection:
        row = await connection.fetchrow(_LEFT, bytes.fromhex(document_id))
    return int(row["pending"]) if row["count"] else 1


def _memory() -> dict[str, int]:
    found: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        name = process_name(process.cmdline(), process.name())
        found[name] = found.get(name, 0.0) + pss_mib(process.pid)
    return {name: round(mib) for name, mib in sorted(found.items())}


if __name__ == "__main__":
    sys.exit(main())
