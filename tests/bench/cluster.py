"""What a cluster of three RabbitMQ nodes costs beside a single one; prints one JSON object last.

`python -m tests.bench.cluster --documents 1500`: each loop of the hub by itself, as in `loop_by_loop`, on one node and on
three that are on this machine as well, in turns. Every queue has a member on each node and is confirmed by a majority of
them. All three share the cores of this machine, so what tells is the CPU time for an item, not the rate.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from hub.dev.cluster import cluster
from hub.dev.servers import run_directory
from tests.bench import loop_by_loop

_TICK_S = 60
LOOPS = ("intake", "dispatch", "receipts", "letters")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--nodes", type=int, default=3, help="of the cluster that is compared with a single node")
    parser.add_argument("--rounds", type=int, default=2, help="runs on each")
    options = parser.parse_args()
    found: dict[int, list[Mapping[str, Any]]] = {1: [], options.nodes: []}
    for _ in range(options.rounds):
        for nodes, reports in found.items():
            reports.append(measure(nodes, options.documents))
    middle = {f"{nodes} nodes": middle_of(reports) for nodes, reports in found.items()}
    print(json.dumps({"documents": options.documents, "rounds": options.rounds, **middle}))
    return 0


def measure(nodes: int, documents: int) -> dict[str, Any]:
    """Run each loop on a cluster of its own."""
    with on_nodes(nodes):
        return loop_by_loop.measure(documents)


@contextmanager
def on_nodes(nodes: int) -> Iterator[None]:
    """Let what is measured meanwhile take place on a new cluster, and not on a node of its own."""
    with run_directory("nodes") as folder, cluster(folder, nodes, tick_s=_TICK_S) as members:
        os.environ |= {"TRUC_AMQP_URL": members[0].amqp_url, "TRUC_AMQP_MANAGEMENT_URL": members[0].management_url}
        try:
            yield
        finally:
            del os.environ["TRUC_AMQP_URL"], os.environ["TRUC_AMQP_MANAGEMENT_URL"]


def middle_of(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The middle of all rounds: items a second, and CPU microseconds for an item by process."""
    return {
        loop: {
            "per_s": median(report[loop]["per_s"] for report in reports),
            "cpu_us": {
                name: median(report[loop]["cpu_us"].get(name, 0) for report in reports)
                for name in reports[0][loop]["cpu_us"]
            },
        }
        for loop in LOOPS
    }


if __name__ == "__main__":
    sys.exit(main())
