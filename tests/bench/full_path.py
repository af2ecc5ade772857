"""The traffic of 2019 through the whole path, nothing switched off; prints one JSON object last.

`python -m tests.bench.full_path --share 0.01`: private RabbitMQ and PostgreSQL, the hub as separate processes, every
endpoint with the real client in processes of its own. What is counted: documents and deliveries a second from the first
submission to the last receipt back at its sender, time from submission to arrival, CPU seconds by process.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psutil

from hub.dev.processes import Process, free_ports
from hub.dev.servers import Servers, run_directory
from hub.installation import Installation, install
from hub.store.audit import audit
from hub.store.pool import open_pool
from tests.bench import moments
from tests.bench.workload import Nation2019, Planned, nation, plan

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"
"""The hub's HTTP API, which nobody needs: no document here has parts."""
HUB = ("intake", "dispatch,returns,reconcile", "receipts")
"""Which loops share a process, on two cores."""
_STEP_ASIDE = ("sh", "-c", 'echo 19 2>/dev/null >/proc/self/autogroup; exec chrt --idle 0 "$@"', "sh")
"""Linux may share the CPU out to sessions first (`sched_autogroup_enabled`), and each server process of the database is one:
there a policy counts within the own session only, and the niceness of the session beside others."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=0.01, help="share of the seven months of 2019")
    parser.add_argument("--hub", nargs="+", default=list(HUB), help="loops of each process of the hub")
    parser.add_argument("--agencies", type=int, default=1, help="processes for the agencies' side")
    parser.add_argument("--window", type=int, default=200, help="documents under way to the broker at a time")
    parser.add_argument(
        "--per-s", type=float, help="documents a second, at planned moments; by default as fast as it goes"
    )
    parser.add_argument("--profile", action="store_true", help="sample every Python process into .truc/profile-*")
    options = parser.parse_args()
    how = {"per_s": options.per_s, "profile": options.profile}
    print(json.dumps(measure(options.share, options.hub, options.agencies, options.window, **how)))
    return 0


class Watch(Protocol):
    """Somebody who looks on, in the process that measures."""

    def running(self, hubs: Mapping[str, int]) -> AbstractContextManager[None]:
        """Look on while documents are under way, given the process of each part of the hub."""

    def ended(self, installation: Installation, results: Sequence[Mapping[str, Any]]) -> None:
        """Take what is wanted out of the ledger, and of what the agencies' side saw, before they are removed."""


def measure(
    share: float,
    hub: Sequence[str] = HUB,
    agencies: int = 1,
    window: int = 200,
    *,
    per_s: float | None = None,
    apart: bool = False,
    profile: bool = False,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Send a share of the documents of 2019 and say what it took.

    With `per_s`, at planned moments around that rate, whatever has become of those before; times count from the planned
    moment. With `apart`, senders have one process and recipients another one, which steps aside, whatever
    `agencies` says.
    """
    with ExitStack() as ending:
        folder = ending.enter_context(run_directory("files"))
        servers = ending.enter_context(Servers(purpose="bench"))
        people = nation()
        documents = plan(people, share=share)
        installation = asyncio.run(
            install(
                amqp_url=servers.amqp_url,
                management_url=servers.management_url,
                database_url=servers.database_url,
                hub_url=NOWHERE,
                folder=folder / "installation",
                country=people.file,
            )
        )
        hubs = [ending.enter_context(hub_process(installation, folder, loops.split(","))) for loops in hub]
        at_s = planned_moments(per_s, len(documents)) if per_s else ()
        shares = parted_sides(installation) if apart else even_sides(installation, agencies)
        sides = agency_processes(installation, folder, people, documents, shares, window, ending, at_s)
        profilers = _profilers([*hubs, *(side.pid for side in sides)]) if profile else []
        before = cpu_by_process()
        with watch.running(dict(zip(hub, hubs, strict=True))) if watch else nullcontext():
            began = time.monotonic()
            go(sides)
            seconds = time.monotonic() - began
        saw = results(folder)
        cpu = {name: round(used - before.get(name, 0.0), 2) for name, used in cpu_by_process().items()}
        cpu["agencies"] = round(sum(result["cpu_s"] for result in saw), 2)
        for profiler in profilers:
            profiler.wait()
        report = asyncio.run(_audited(installation))
        if watch:
            watch.ended(installation, saw)
    return _summary(documents, saw, seconds, cpu, report)


def planned_moments(per_s: float, count: int) -> list[float]:
    """Draw moments at random around a rate, seconds from the beginning; the same each time."""
    chance = Random(2019)
    return list(accumulate(chance.expovariate(per_s) for _ in range(count)))


@contextmanager
def hub_process(
    installation: Installation, folder: Path, loops: Sequence[str], log_level: str = "warning"
) -> Iterator[int]:
    (port,) = free_ports(1)
    environment = {**os.environ, **installation.environment, "TRUC_HTTP_PORT": str(port), "TRUC_LOG_FORMAT": "json"}
    environment |= {"TRUC_LOG_LEVEL": log_level, "PYTHONPATH": str(ROOT)}
    hub = Process(f"hub-{loops[0]}-{port}", folder, grace_s=30)
    hub.start([sys.executable, "-m", "hub", "run", *loops], environment)
    try:
        hub.wait_until(lambda: _is_ready(port), timeout_s=60)
        yield hub.pid
    finally:
        hub.stop()


@contextmanager
def hub_processes(installation: Installation, folder: Path, each: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Start several at once, so that the first has not done all the work before the last is ready."""
    starting = [hub_process(installation, folder, loops) for loops in each]
    with ExitStack() as ending:
        with ThreadPoolExecutor(len(starting)) as threads:
            pids = list(threads.map(ending.enter_context, starting))
        yield pids


def _is_ready(port: int) -> bool:
    from hub.cli.demo import _is_ready as ready

    return ready(port)


@dataclass(frozen=True, slots=True)
class Side:
    """What one process of the agencies' side does.

    Attributes:
        codes: Its endpoints.
        sends: Whether it sends their documents.
        answers: Whether it takes what comes for them, and answers it.
        steps_aside: Whether it gets only what all others leave of the CPU. With a niceness of 10 it would get a tenth, but
            whoever wakes up while it works would have to wait for the end of its time slice.
    """

    codes: Sequence[str]
    sends: bool = True
    answers: bool = True
    steps_aside: bool = False


def agency_processes(
    installation: Installation,
    folder: Path,
    people: Nation2019,
    documents: Sequence[Planned],
    sides: Sequence[Side],
    window: int,
    ending: ExitStack,
    at_s: Sequence[float] = (),
    guards: Path | None = None,
) -> list[subprocess.Popen[bytes]]:
    """Start the agencies' side; each process is ready and waits for a line on its standard input."""
    endpoint_of = {entry.code: entry.endpoint for entry in people.file.agencies}
    started = []
    for number, side in enumerate(sides):
        mine = set(side.codes)
        sent = [(index, item) for index, item in enumerate(documents) if endpoint_of[item.sender] in mine]
        to_receive = sum(endpoint_of[to] in mine for item in documents for to in item.recipients)
        to_be_answered = sum(len(item.recipients) for _, item in sent)
        own_guards = (guards or folder) / f"guards-{number}"
        own_guards.mkdir()
        config = {
            "directory_file": str(installation.directory_file.absolute()),
            "documents_file": str((folder / f"documents-{number}.jsonl").absolute()),
            "moments_file": str((folder / f"moments-{number}.txt").absolute()),
            "result_file": str((folder / f"result-{number}.json").absolute()),
            "window": window // len(sides),
            "endpoints": [_account(installation, code, own_guards) for code in side.codes],
            "answers": side.answers,
            "to_receive": to_receive if side.answers else 0,
            "to_be_answered": to_be_answered if side.answers else 0,
        }
        with Path(config["documents_file"]).open("w") as lines:
            for index, item in sent if side.sends else ():
                planned = {"at_s": at_s[index]} if at_s else {}
                document = {
                    "endpoint": endpoint_of[item.sender],
                    "from": item.sender,
                    "to": item.recipients,
                    "number": index + 1,
                    "remark": item.remark_characters,
                }
                lines.write(json.dumps(document | planned) + "\n")
        file = folder / f"agencies-{number}.json"
        file.write_text(json.dumps(config))
        process = subprocess.Popen(
            [*(_STEP_ASIDE if side.steps_aside else ()), sys.executable, "-m", "tests.bench.agencies", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=side.steps_aside,
        )
        ending.callback(process.kill)
        started.append(process)
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    return started


def even_sides(installation: Installation, processes: int) -> list[Side]:
    """Share the endpoints out to so many processes."""
    codes = sorted(installation.accounts)
    return [Side(codes[number::processes]) for number in range(processes)]


def parted_sides(installation: Installation) -> list[Side]:
    """Let one process send, and another one take what comes, which steps aside: recipients have machines of their own."""
    codes = sorted(installation.accounts)
    return [Side(codes, answers=False), Side(codes, sends=False, steps_aside=True)]


def go(sides: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let all processes of the agencies' side begin, and wait until they have ended."""
    for side in sides:
        assert side.stdin is not None
        side.stdin.write(b"go\n")
        side.stdin.flush()
    for side in sides:
        side.wait()


def results(folder: Path) -> list[dict[str, Any]]:
    """Read what each process of the agencies' side saw: its own result and its moments, as `moments.read` gives them."""
    found = []
    for file in sorted(folder.glob("result-*.json")):
        result = json.loads(file.read_bytes())
        seen = moments.read(folder / f"moments-{file.stem[7:]}.txt", result["began"], result["to_wall"])
        found.append(result | seen)
    return found


def _account(installation: Installation, code: str, guards: Path) -> dict[str, str]:
    account = next(item for key, item in installation.accounts.items() if key == code)
    return {
        "code": code,
        "amqp_url": account.amqp_url,
        "key_file": str(account.key_file),
        "certificate_file": str(account.certificate_file),
        "guard_file": str((guards / f"{code}.guard").absolute()),
    }


def _profilers(pids: Sequence[int]) -> list[subprocess.Popen[bytes]]:
    how = ["-d", "20", "-r", "250", "--gil", "-f", "raw"]
    return [
        subprocess.Popen(
            ["py-spy", "record", "-p", str(pid), *how, "-o", f".truc/profile-{pid}.txt"], stdout=subprocess.DEVNULL
        )
        for pid in pids
    ]


def cpu_by_process() -> dict[str, float]:
    """CPU seconds so far of everything below this process, by what it is."""
    used: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            name = process_name(process.cmdline(), process.name())
        except psutil.Error:
            continue
        ended = times.children_user + times.children_system if name == "postgresql" and "-D" in process.cmdline() else 0
        used[name] = used.get(name, 0.0) + times.user + times.system + ended
    return used


def process_name(command: Sequence[str], name: str) -> str:
    line = " ".join(command)
    if "hub run" in line:
        return f"hub {line.split('hub run ')[1]}"
    for part, called in (("tests.bench.agencies", "agencies"), ("beam", "rabbitmq"), ("postgres", "postgresql")):
        if part in line or part in name:
            return called
    return "other"


async def _audited(installation: Installation) -> Any:
    async with open_pool(installation.settings["database_url"]) as pool:
        return await audit(pool, identities=None)


def _summary(
    documents: Sequence[Planned],
    saw: Sequence[Mapping[str, Any]],
    seconds: float,
    cpu: Mapping[str, float],
    report: Any,
) -> dict[str, Any]:
    deliveries = sum(len(item.recipients) for item in documents)
    delays = sorted(delay for result in saw for _, delay in result["arrivals"])
    return {
        "documents": len(documents),
        "deliveries": deliveries,
        "seconds": round(seconds, 2),
        "documents_per_s": round(len(documents) / seconds, 1),
        "deliveries_per_s": round(deliveries / seconds, 1),
        "to_arrival_ms": {
            f"p{p:g}".replace(".", "_"): round(1000 * delays[int(len(delays) * p / 100)], 1) for p in (50, 95, 99, 99.9)
        },
        "cpu_us_per_document": {name: round(1e6 * used / len(documents)) for name, used in sorted(cpu.items())},
        "cpu_s": round(sum(cpu.values()), 1),
        "finished": all(result["finished"] for result in saw),
        "twice": sum(result["twice"] for result in saw),
        "rejected": sum(result["rejected"] for result in saw),
        "audit": report.holds,
    }


if __name__ == "__main__":
    sys.exit(main())
