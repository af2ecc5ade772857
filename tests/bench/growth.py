"""Whether the hub's cost depends on how many are connected and how many the directory holds; one line of JSON last.

`python -m tests.bench.growth --countries small connected-today`: for each country a hub is set up, each of its loops is given
the same number of documents and receipts, prepared, from and to endpoints drawn from all of the country, and what an item
costs is the CPU time of each process. Beside that: how long the setting up takes, from the start of a hub's process until it
is ready, the memory of hub and broker, and how long after an import has committed a running hub decides by it, with the
CPU time that it takes until then.

| country            | queues | agencies | setting up |
|--------------------|--------|----------|------------|
| `small`            | 102    | 208      | seconds    |
| `connected-today`  | 2,204  | 110,979  | a minute   |
| `all-connected`    | 12,000 | 110,000  | minutes    |

The country at the end of the line is compared with the one at its beginning.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx2
import psutil

from hub.core.directory_change import diff
from hub.dev.country import country, shipped
from hub.store.directory import DirectoryStore
from hub.store.pool import open_pool
from schemas.checks.directory import Directory
from schemas.directory_file import DirectoryFile
from tests.bench.cluster import on_nodes
from tests.bench.full_path import hub_process, process_name
from tests.bench.loop_by_loop import Bench
from tests.bench.stage import Stage, stage
from tests.bench.watch import pss_mib
from tests.bench.workload import Planned

COUNTRIES: Final[Mapping[str, Callable[[], DirectoryFile]]] = {
    "small": lambda: country(
        shipped(), platforms=(), departments_per_unit=1, units_per_department=0, communes_per_province=0
    ),
    "connected-today": lambda: country(shipped()),
    "all-connected": lambda: country(shipped(), platforms=(), departments_per_unit=169, units_per_department=3),
}
_RECIPIENTS: Final = 3
_PATIENCE_S: Final = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--countries", nargs="+", choices=list(COUNTRIES), default=["small", "connected-today"])
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--changes", type=int, default=3, help="imports whose way into a running hub is timed")
    parser.add_argument("--nodes", type=int, default=1, help="of RabbitMQ, which make up a cluster")
    options = parser.parse_args()
    found = {}
    for name in options.countries:
        with on_nodes(options.nodes) if options.nodes > 1 else nullcontext():
            found[name] = measure(COUNTRIES[name](), options.documents, options.changes)
    for name, figures in found.items():
        print(f"{name}: {json.dumps(figures)}")
    first, last = found[options.countries[0]], found[options.countries[-1]]
    print(json.dumps({"ratios": ratios(first, last), "countries": found}))
    return 0


def measure(file: DirectoryFile, documents: int, changes: int) -> dict[str, Any]:
    """Set a hub up for a country and say what it takes to run."""
    began = time.monotonic()
    with stage(file) as on:
        set_up_s = time.monotonic() - began
        directory = on.installation.directory
        bench = Bench(on.installation, on.folder, impersonator_url=_impersonator(on))
        bench.prepare(_plan(directory, documents))
        broker_mib = _memory_mib("rabbitmq")
        began = time.monotonic()
        with hub_process(on.installation, on.folder, ["intake"], "info") as pid:
            start_s, memory_mib = time.monotonic() - began, pss_mib(pid)
            visible = [asyncio.run(_change(on, number, psutil.Process(pid))) for number in range(changes)]
            after_mib = pss_mib(pid)
        loops = bench.run()
        return {
            "queues": len(on.installation.accounts),
            "agencies": len(directory.agencies),
            "set_up_s": round(set_up_s, 1),
            "broker_mib": round(broker_mib),
            "broker_after_mib": round(_memory_mib("rabbitmq")),
            "start_s": round(start_s, 2),
            "hub_mib": round(memory_mib),
            "hub_after_changes_mib": round(after_mib),
            "change_visible_s": [round(seconds, 2) for seconds, _ in visible],
            "change_cpu_ms": [round(1000 * cpu_s) for _, cpu_s in visible],
            "loops": loops,
        }


def ratios(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, float]:
    """Compare what an item costs each loop of the hub itself, in CPU time."""
    found = {}
    for loop, figures in first["loops"].items():
        if isinstance(figures, Mapping):
            before, after = (_of_the_hub(each["loops"][loop]["cpu_us"]) for each in (first, last))
            found[loop] = round(after / before, 3) if before else 0.0
    return found


def _of_the_hub(cpu_us: Mapping[str, float]) -> float:
    return sum(us for name, us in cpu_us.items() if name.startswith("hub"))


def _plan(directory: Directory, documents: int) -> list[Planned]:
    """Draw senders and recipients from everybody who is connected."""
    chance = Random(2019)
    connected = [code for code, agency in directory.agencies.items() if agency.state == "open" and agency.endpoint]
    plan = []
    for _ in range(documents):
        sender, *to = chance.sample(connected, _RECIPIENTS + 1)
        plan.append(Planned(sender, tuple(sorted(to)), 250))
    return plan


async def _change(on: Stage, number: int, hub: psutil.Process) -> tuple[float, float]:
    """Import a new name for an agency; returns how long after the commit the running hub has it, and its CPU seconds."""
    [log] = on.folder.glob("hub-intake-*.log")
    async with open_pool(on.installation.settings["database_url"]) as pool:
        store = DirectoryStore(pool)
        _, held = await store.read()
        entry = held.agencies[-1].model_copy(update={"name": f"Đơn vị đổi tên lần {number + 1}"})
        changes = diff(held, DirectoryFile(agencies=(entry,)))
        epoch = await store.apply(changes, actor="bench", source="bench", now=datetime.now(UTC))
        committed, before = time.monotonic(), hub.cpu_times()
    while not _has_read(log, epoch):
        if time.monotonic() - committed > _PATIENCE_S:
            raise TimeoutError(f"epoch {epoch} was not read within {_PATIENCE_S:.0f} s")
        await asyncio.sleep(0.02)
    after = hub.cpu_times()
    return time.monotonic() - committed, after.user + after.system - before.user - before.system


def _has_read(log: Path, epoch: int) -> bool:
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"directory.read"' in line]
    return any(line["epoch"] == epoch for line in lines)


def _impersonator(on: Stage) -> str:
    """Make a broker user that may publish in the name of every agency; thousands of connections would measure themselves."""
    url, broker = urlsplit(on.servers.management_url), urlsplit(on.servers.amqp_url)
    password = secrets.token_urlsafe()
    root = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
    with httpx2.Client(base_url=root, auth=(url.username or "", url.password or "")) as client:
        rights = {"configure": "", "write": ".*", "read": ""}
        client.put("/api/users/bench", json={"password": password, "tags": "impersonator"}).raise_for_status()
        client.put("/api/permissions/%2F/bench", json=rights).raise_for_status()
    return urlunsplit(broker._replace(netloc=f"bench:{password}@{broker.netloc.rpartition('@')[2]}"))


def _memory_mib(name: str) -> float:
    return sum(
        pss_mib(process.pid)
        for process in psutil.Process().children(recursive=True)
        if process_name(process.cmdline(), process.name()) == name
    )


if __name__ == "__main__":
    sys.exit(main())
