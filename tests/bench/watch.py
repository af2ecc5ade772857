"""Looks on while documents go through: CPU, memory and bytes written by process, sizes on disk, samples of the hub's stacks.

Counters of processes that end meanwhile, such as the backends of PostgreSQL, are kept as the last look found them; who lives
for less than the time between two looks is not seen. Memory is the proportional share (PSS), as PostgreSQL's processes have
most of theirs in common.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg
import psutil

from hub.installation import Installation
from tests.bench.full_path import ROOT, process_name

_BUCKETS: Final = 60
_REST: Final = 50
"""The next sample is put off for so many times the CPU time that the last one took: the kernel counts pages for it, a tenth
of a second with a gigabyte of them, and what is looked at needs the CPU itself. Short runs have few samples."""
_STEPS: Final = (
    ("cryptography", "verify signatures"),
    ("schemas/signing", "verify signatures"),
    ("asyncpg", "speak to PostgreSQL"),
    ("hub/store", "prepare and read rows"),
    ("hub/telemetry", "log and count"),
    ("structlog", "log and count"),
    ("hub/broker", "speak AMQP"),
    ("aio_pika", "speak AMQP"),
    ("aiormq", "speak AMQP"),
    ("pamqp", "speak AMQP"),
    ("schemas/", "read and check what is signed"),
    ("pydantic", "read and check what is signed"),
    ("hub/core", "decide and settle"),
    ("hub/", "loops"),
)
"""What a stack is counted as: the first of these that stands in a frame's path, from the innermost frame outward."""


@dataclass(slots=True)
class Watching:
    """One run that is looked at.

    Attributes:
        every_s: Between two samples, at least; see `_REST`.
        profile_s: How long the stacks of the hub's processes are sampled; 0 for not at all.
        slice_s: Of which length the slices of time are that delays and the ledger are told by; a sixtieth of the run, at
            least a second, when `None`.
        samples: What was seen, oldest first.
        steps: Share of each step in the time that each process of the hub holds Python's lock, which is nearly its CPU.
        ledger: What the ledger says: documents and deliveries in each slice of time, and the table of `truc stats`.
        delays: Delays to arrival in each slice of time.
    """

    every_s: float = 1.0
    profile_s: float = 8.0
    slice_s: float | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    delays: list[dict[str, float]] = field(default_factory=list)
    _counted: dict[int, tuple[str, float, int]] = field(default_factory=dict)
    _began: float = 0.0
    _began_wall: float = 0.0

    @contextmanager
    def running(self, hubs: Mapping[str, int]) -> Iterator[None]:
        """Sample in a thread until the end."""
        over = threading.Event()
        self._began, self._began_wall = time.monotonic(), time.time()
        self._sample()
        zero = self._totals()

        def look() -> None:
            rest_s = self.every_s
            while not over.wait(rest_s):
                began = time.thread_time()
                self._sample()
                rest_s = max(self.every_s, _REST * (time.thread_time() - began))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            with _profiled(hubs, self.profile_s) as steps:
                yield
        finally:
            over.set()
            thread.join()
            self._sample()
        self.steps = steps
        for sample in self.samples:
            for counter in ("cpu_s", "written_mib"):
                sample[counter] = {
                    name: round(value - zero[counter].get(name, 0.0), 3) for name, value in sample[counter].items()
                }

    def ended(self, installation: Installation, results: Sequence[Mapping[str, Any]]) -> None:
        """Ask the ledger, and slice what the agencies' side saw."""
        seconds = self.samples[-1]["at_s"]
        slice_s = self.slice_s or max(1.0, seconds / _BUCKETS)
        self.delays = by_slice(chain.from_iterable(result["arrivals"] for result in results), slice_s)
        self.ledger = asyncio.run(_ledger(installation.settings["database_url"], self._began_wall, slice_s))
        environment = {**os.environ, **installation.environment, "PYTHONPATH": str(ROOT)}
        stats = [sys.executable, "-m", "hub", "stats", "show", "--json"]
        shown = subprocess.run(stats, env=environment, check=True, capture_output=True)
        self.ledger["stats"] = json.loads(shown.stdout)

    def _sample(self) -> None:
        memory: Counter[str] = Counter()
        folders: dict[str, Path] = {}
        for process in psutil.Process().children(recursive=True):
            try:
                command = process.cmdline()
                name = process_name(command, process.name())
                times, pid = process.cpu_times(), process.pid
                written = process.io_counters().write_bytes
                memory[name] += pss_mib(pid)  # type: ignore[assignment]
                if name == "rabbitmq":
                    folders[name] = Path(process.cwd()) / "mnesia"
                elif "-D" in command:
                    folders[name] = Path(command[command.index("-D") + 1])
            except (psutil.Error, OSError):
                continue
            self._counted[pid] = (name, times.user + times.system, written)
        totals = self._totals()
        self.samples.append(
            {
                "at_s": round(time.monotonic() - self._began, 2),
                **totals,
                "memory_mib": {name: round(mib, 1) for name, mib in memory.items() if name != "other"},
                "disk_mib": {name: round(_size(folder) / 2**20, 1) for name, folder in folders.items()},
            }
        )

    def _totals(self) -> dict[str, Counter[str]]:
        cpu: Counter[str] = Counter()
        written: Counter[str] = Counter()
        for name, seconds, size in self._counted.values():
            if name != "other":
                cpu[name] += seconds  # type: ignore[assignment]
                written[name] += size / 2**20  # type: ignore[assignment]
        return {"cpu_s": cpu, "written_mib": written}


def pss_mib(pid: int) -> float:
    """Memory of a process, with its share of what it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _size(folder: Path) -> int:
    """Bytes that a folder occupies on disk; files that vanish meanwhile are left out."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(path) / name).stat().st_blocks * 512
            except OSError:
                continue
    return size


def by_slice(delays: Iterable[tuple[float, float]], slice_s: float) -> list[dict[str, float]]:
    """Tell delays by slice of time.

    Args:
        delays: When each ended, seconds since the beginning, and how long it was, seconds.
        slice_s: How long a slice is.

    Returns:
        The middle of each slice as `at_s`, with p50, p95 and p99 in ms.
    """
    sliced: dict[int, list[float]] = defaultdict(list)
    for at, delay in delays:
        sliced[int(at / slice_s)].append(delay)
    return [{"at_s": round((index + 0.5) * slice_s, 1), **_three(sliced[index])} for index in sorted(sliced)]


def _three(delays: Sequence[float]) -> dict[str, float]:
    ordered = sorted(delays)
    return {f"p{p}": round(1000 * ordered[int(len(ordered) * p / 100)], 1) for p in (50, 95, 99)}


# How much was accepted, and signed for, in each slice of time.
_ACCEPTED: Final = """
SELECT floor(extract(epoch FROM accepted_at - to_timestamp($1)) / $2)::int AS slice, count(*) AS number
FROM documents
GROUP BY slice
ORDER BY slice
"""
_RECEIVED: Final = """
SELECT floor(extract(epoch FROM at - to_timestamp($1)) / $2)::int AS slice, count(*) AS number
FROM ledger
WHERE state = 'received'
GROUP BY slice
ORDER BY slice
"""


async def _ledger(database_url: str, began: float, slice_s: float) -> dict[str, Any]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = {
            name: await connection.fetch(query, began, slice_s)
            for name, query in (("documents", _ACCEPTED), ("deliveries", _RECEIVED))
        }
    finally:
        await connection.close()
    return {
        name: [
            {"at_s": round((row["slice"] + 0.5) * slice_s, 1), "per_s": round(row["number"] / slice_s, 1)} for row in of
        ]
        for name, of in rows.items()
    }


@contextmanager
def _profiled(hubs: Mapping[str, int], seconds: float) -> Iterator[dict[str, dict[str, float]]]:
    """Sample the stacks of the hub's processes; where that is not allowed, the shares stay empty."""
    steps: dict[str, dict[str, float]] = {}
    if not seconds:
        yield steps
        return
    with TemporaryDirectory() as folder:
        how = [
            "-d",
            f"{seconds:.0f}",
            "-r",
            "100",
            "--gil",
            "-f",
            "raw",
        ]  # py-spy takes a waiting uvloop for a busy one
        profilers = {
            name: subprocess.Popen(
                [Path(sys.executable).with_name("py-spy"), "record", "-p", str(pid), *how, "-o", f"{folder}/{pid}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, pid in hubs.items()
        }
        yield steps
        for name, profiler in profilers.items():
            profiler.wait()
            stacks = Path(folder) / str(hubs[name])
            if stacks.exists():
                steps[name] = shares(stacks.read_text())


def shares(stacks: str) -> dict[str, float]:
    """Give each step its share of the samples; `frame;frame;… count` on each line, outermost frame first."""
    counted: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        counted[_step(stack.split(";"))] += int(count)
    total = counted.total() or 1
    return {step: round(count / total, 3) for step, count in counted.most_common()}


def _step(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for part, step in _STEPS:
            if part in frame:
                return step
    return "event loop"
