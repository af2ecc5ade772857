"""The report of `make bench`: everything that was sent in 2019, looked at from all sides, and what others do beside it.

`python -m tests.bench.report --share 1 --rounds 3` writes `.truc/bench/report.json` and `.truc/bench/report.html`, one
page without anything from outside, and prints one line of JSON last. In this order:

1. *rounds* pairs of a small share of the traffic through the whole path and every other way to move as many messages; the
   ratio is taken within each round, so that a machine that is slow for a while is slow for both;
2. each loop of the hub by itself, with its work prepared;
3. the share of the seven months that was asked for, watched.

`--page FILE` draws the page of an earlier report again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.bench import full_path, loop_by_loop, others
from tests.bench.page import page
from tests.bench.watch import Watching
from tests.bench.workload import RECEIVED, SENT

FOLDER: Final = Path(".truc/bench")
_ROUND_SHARE: Final = 0.006
_MESSAGES: Final = 1000
_SPANS: Final = ((0.25, 0.5), (0.65, 0.9))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="share of the seven months of 2019")
    parser.add_argument("--rounds", type=int, default=3, help="pairs with the other ways")
    parser.add_argument(
        "--loop-documents", type=int, default=3000, help="documents for each loop by itself; 0 for none"
    )
    parser.add_argument("--agencies", type=int, default=1, help="processes for the agencies' side")
    parser.add_argument("--window", type=int, default=200, help="documents under way to the broker at a time")
    parser.add_argument(
        "--per-s", type=float, help="documents a second, at planned moments; by default as fast as it goes"
    )
    parser.add_argument("--profile-s", type=float, default=20.0, help="how long stacks are sampled; 0 for not at all")
    parser.add_argument("--page", type=Path, metavar="FILE", help="only draw the page of this report")
    options = parser.parse_args()
    if options.page:
        report = json.loads(options.page.read_bytes())
    else:
        report = measure(options)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "report.html").write_text(page(report))
    print(f"{FOLDER}/report.json, {FOLDER}/report.html")
    print(json.dumps(_line(report)))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that the page shows."""
    began = time.monotonic()
    rounds = compare(options.rounds)
    loops = loop_by_loop.measure(options.loop_documents) if options.loop_documents else {}
    watching = Watching(profile_s=options.profile_s)
    how = {"agencies": options.agencies, "window": options.window, "per_s": options.per_s}
    run = full_path.measure(options.share, **how, watch=watching)
    return {
        "version": 1,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began),
        "machine": machine(),
        "share": options.share,
        "run": run,
        "samples": watching.samples,
        "steps": watching.steps,
        "ledger": watching.ledger,
        "delays": watching.delays,
        "growth": growth(watching.samples, watching.ledger, watching.delays),
        "source": {tier: {"sent": SENT[tier], "received": RECEIVED[tier]} for tier in SENT},
        "loops": loops,
        "rounds": rounds,
        "ratios": ratios(rounds),
    }


def compare(rounds: int) -> list[dict[str, Any]]:
    """Send a small share through the whole path, and as many messages in every other way, again and again."""
    return [
        {
            "ours": full_path.measure(_ROUND_SHARE),
            "others_per_s": others.measure(_MESSAGES, rounds=1)["per_s"],
        }
        for _ in range(rounds)
    ]


def ratios(rounds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Compare the whole path with each other way: least, middle and greatest ratio of all rounds.

    Ours to what counts the same thing: documents to documents, but deliveries to the messages of the shovel.
    """
    found: dict[str, list[float]] = {}
    for pair in rounds:
        for name, per_s in pair["others_per_s"].items():
            counted = "deliveries_per_s" if name == "shovel" else "documents_per_s"
            found.setdefault(name, []).append(pair["ours"][counted] / per_s)
    return {
        name: {"least": round(min(all_of), 4), "middle": round(median(all_of), 4), "most": round(max(all_of), 4)}
        for name, all_of in found.items()
    }


def growth(
    samples: Sequence[Mapping[str, Any]],
    ledger: Mapping[str, Sequence[Mapping[str, float]]],
    delays: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Compare an early span of the run with a late one: what grows with the length of the run shows here.

    The spans are those in which the deliveries from 25 to 50 and from 65 to 90 of each hundred were signed for: before,
    connections, statements and caches become warm, after, the last ones trickle in. A span in which nothing was accepted
    cannot be compared for what accepts.
    """
    early, late = (_span(samples, ledger, delays, _when(ledger["deliveries"], shares)) for shares in _SPANS)
    return {
        name: {"early": round(early[name], 1), "late": round(value, 1)} for name, value in late.items() if name in early
    }


def _when(signed_for: Sequence[Mapping[str, float]], shares: tuple[float, float]) -> tuple[float, float]:
    """Say when the shares of all deliveries had been signed for."""
    so_far = list(accumulate(row["per_s"] for row in signed_for))
    begin, end = (
        next(row["at_s"] for row, number in zip(signed_for, so_far, strict=True) if number >= share * so_far[-1])
        for share in shares
    )
    return begin, end


def _span(
    samples: Sequence[Mapping[str, Any]],
    ledger: Mapping[str, Sequence[Mapping[str, float]]],
    delays: Sequence[Mapping[str, float]],
    span: tuple[float, float],
) -> dict[str, float]:
    def within(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [row for row in rows if span[0] <= row["at_s"] <= span[1]]

    def rate(of: str) -> float:
        return sum(row["per_s"] for row in within(ledger[of])) / max(1, len(within(ledger[of])))

    seen = within(samples)
    if len(seen) < 2:
        return {}
    first, last = seen[0], seen[-1]
    took_s = last["at_s"] - first["at_s"]
    figures = {}
    for name in last["cpu_s"]:
        counted = "document" if name == "hub intake" else "delivery"
        done = took_s * rate("documents" if counted == "document" else "deliveries")
        if done > 0:
            used = last["cpu_s"][name] - first["cpu_s"].get(name, 0.0)
            written = last["written_mib"].get(name, 0.0) - first["written_mib"].get(name, 0.0)
            figures[f"{name}: CPU, µs a {counted}"] = 1e6 * used / done
            figures[f"{name}: written, KiB a {counted}"] = 1024 * written / done
    figures |= {f"{name}: memory, MiB": value for name, value in last["memory_mib"].items()}
    if within(delays):
        figures["from submission to arrival, p99, ms"] = median(row["p99"] for row in within(delays))
    return {name: value for name, value in figures.items() if value >= 0.1}


def machine() -> dict[str, Any]:
    """Say on what it was measured."""
    import psutil

    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _line(report: Mapping[str, Any]) -> dict[str, Any]:
    run, compared = report["run"], report["ratios"]
    return {
        "documents": run["documents"],
        "documents_per_s": run["documents_per_s"],
        "deliveries_per_s": run["deliveries_per_s"],
        "p99_ms": run["to_arrival_ms"]["p99"],
        "vs_naive": compared.get("naive_three_publishes", {}).get("middle"),
        "vs_shovel": compared.get("shovel", {}).get("middle"),
        "audit": run["audit"] and run["finished"] and not run["twice"],
    }


if __name__ == "__main__":
    sys.exit(main())
