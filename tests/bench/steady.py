"""Whether memory and delays stay flat in a long run at a steady rate; prints one line of JSON last.

`python -m tests.bench.steady --minutes 30 --per-s 40`: the whole path, as in `full_path`, documents sent at planned moments
around the rate, every ten seconds a look at the memory (PSS) of each process of the hub, of broker, database and the
agencies' side, where senders and recipients have a process each, as in `latency`. Said at the end:

- the delay from the planned moment to the recipient's queue, which is that of senders, broker and hub, and to arrival, which
  says how busy one process is with all recipients of a country, by minute;
- a straight line through each memory and through p50 and p99 of the minutes, by least squares. The first fifth of the run is
  left out: connections, statements, pages and buffers become warm in it;
- the CPU of each process, in cores;
- whether everything arrived, once, and whether the ledger adds up.

PostgreSQL fills its shared buffers until they are full, 128 MiB here, in longer than a fifth of a short run.
"""

import argparse
import asyncio
import json
import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import linear_regression
from typing import Any, Final

from hub.installation import Installation
from tests.bench import full_path
from tests.bench.latency import moments_of
from tests.bench.watch import Watching, by_slice
from tests.bench.workload import DOCUMENTS

_SAMPLES_EVERY_S: Final = 10.0
_SLICE_S: Final = 60.0
_WARM_SHARE: Final = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the run")
    parser.add_argument("--per-s", type=float, default=40.0, help="documents a second")
    parser.add_argument("--hub", nargs="+", default=list(full_path.HUB), help="loops of each process of the hub")
    options = parser.parse_args()
    report = measure(options.minutes, options.per_s, options.hub)
    _show(report)
    print(json.dumps(report))
    return 0


@dataclass(slots=True)
class _Watch:
    """The usual one, which also asks when each delivery was in its recipient's queue.

    Attributes:
        queued: Delays to there by minute.
    """

    watching: Watching
    queued: list[dict[str, float]] = field(default_factory=list)

    def running(self, hubs: Mapping[str, int]) -> AbstractContextManager[None]:
        return self.watching.running(hubs)

    def ended(self, installation: Installation, results: Sequence[Mapping[str, Any]]) -> None:
        self.watching.ended(installation, results)
        began = min(result["began"] + result["to_wall"] for result in results)
        sent_at = ChainMap(*(result["sent_at"] for result in results))
        passed = asyncio.run(moments_of(installation))
        self.queued = by_slice(
            ((row["routed_at"] - began, row["routed_at"] - sent_at[row["document_id"]]) for row in passed), _SLICE_S
        )


def measure(minutes: float, per_s: float, hub: Sequence[str] = full_path.HUB) -> dict[str, Any]:
    """Send at a rate for some minutes and say what grows."""
    watching = Watching(every_s=_SAMPLES_EVERY_S, profile_s=0, slice_s=_SLICE_S)
    watch = _Watch(watching)
    run = full_path.measure(60 * minutes * per_s / DOCUMENTS, hub, per_s=per_s, apart=True, watch=watch)
    samples = [sample for sample in watching.samples if sample["at_s"] <= 60 * minutes]
    delays = {
        point: [row for row in rows if row["at_s"] <= 60 * minutes]
        for point, rows in (("in_the_queue", watch.queued), ("arrived", watching.delays))
    }
    return {
        "minutes": minutes,
        "per_s": per_s,
        "documents": run["documents"],
        "deliveries": run["deliveries"],
        "to_arrival_ms": run["to_arrival_ms"],
        "by_minute_ms": {
            point: {name: [row[name] for row in rows] for name in ("p50", "p99")} for point, rows in delays.items()
        },
        "line_ms": {
            f"{name} {point}": line([(row["at_s"], row[name]) for row in rows], 60 * minutes)
            for point, rows in delays.items()
            for name in ("p50", "p99")
        },
        "memory_line_mib": {
            name: line(
                [(at["at_s"], at["memory_mib"][name]) for at in samples if name in at["memory_mib"]], 60 * minutes
            )
            for name in sorted(samples[-1]["memory_mib"])
        },
        "cores": {name: round(used / run["seconds"], 3) for name, used in sorted(samples[-1]["cpu_s"].items())},
        "samples": [{"at_s": sample["at_s"], **sample["memory_mib"]} for sample in samples],
        "received_once": run["finished"] and not run["twice"],
        "audit": run["audit"],
    }


def line(points: Sequence[tuple[float, float]], length_s: float) -> dict[str, float]:
    """Lay a straight line through what was seen after the first fifth of a run.

    Args:
        points: Seconds since the beginning, and what was seen then.
        length_s: How long the run took.

    Returns:
        The values of the line where it begins and at the end of the run, and by how much it rises in an hour; empty when
        fewer than two points are left.
    """
    begin_s = _WARM_SHARE * length_s
    warm = [point for point in points if point[0] >= begin_s]
    if len(warm) < 2:
        return {}
    slope, intercept = linear_regression(*zip(*warm, strict=True))
    ends = {name: round(intercept + slope * at_s, 1) for name, at_s in (("first", begin_s), ("last", length_s))}
    return {**ends, "per_hour": round(3600 * slope, 1)}


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    lines = {f"{name}, MiB": of for name, of in report["memory_line_mib"].items()}
    table = Table(
        f"{report['minutes']:g} minutes at {report['per_s']:g} documents a second", "first", "last", "an hour"
    )
    delays = {f"{name.replace('_', ' ')}, ms": of for name, of in report["line_ms"].items()}
    for name, of in {**lines, **delays}.items():
        table.add_row(name, *(f"{value:.1f}" for value in of.values()))
    Console(highlight=False, width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
