"""A backlog of 100,000 documents for one agency that comes back, beside 50 others; prints one JSON object last.

`python -m tests.bench.backlog`: private RabbitMQ and PostgreSQL, the hub as it runs in production, real clients. The 50
others get documents at a steady pace. Measured is the time from submission to handing over, at their side only:

- *quiet*: nothing but them; then the backlog is written into the ledger, by the hub's own way, while its agency is held;
- *holding*: the backlog is found due and held, as after the failure of its agency;
- then, in turns so that a machine that is busy otherwise disturbs both alike: *waiting*, the backlog lies there held, and
  *draining*, a person has released it and its agency takes and answers what comes. The ratio of their p99 is the result,
  the median of all pairs.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import uvloop

from adapters.arrivals import Delivery
from adapters.client import AgencyClient
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from hub.core.letter import Decision
from hub.core.settlement import settle_held
from hub.core.verdict import Accept
from hub.dev.servers import Servers, run_directory
from hub.installation import Installation, install
from hub.store.audit import audit
from hub.store.deliveries import PostgresDeliveries
from hub.store.holds import hold_recipient, release_recipient
from hub.store.ledger import PostgresLedger
from hub.store.pool import Pool, open_pool
from schemas.checks.address import Addressee
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from schemas.signing import KeySigner, identity, sign
from tests.bench.bystanders import bystanders, envelope_to, figures, percentile, ratio
from tests.bench.full_path import HUB, NOWHERE, hub_process
from tests.services import run_sql

ROOT = Path(__file__).parents[2]
SENDER, OTHER_SENDER, BUSY = AgencyCode("G22"), AgencyCode("G01"), AgencyCode("H26")
OTHERS = [AgencyCode(f"H{number}") for number in range(30, 80)]
_HOLDING_S = 40.0
_RAMP_S = 6.0
"""Of a draining phase, which is not measured: the drain begins small each time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backlog", type=int, default=100_000, help="documents for the one agency")
    parser.add_argument("--per-s", type=float, default=20.0, help="documents a second for the others")
    parser.add_argument("--phase-s", type=float, default=14.0, help="measured seconds of each phase")
    parser.add_argument("--pairs", type=int, default=5, help="phases of each kind")
    parser.add_argument("--answer", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        uvloop.run(answer(json.loads(Path(options.answer).read_bytes())))
        return 0
    print(json.dumps(measure(options.backlog, options.per_s, options.phase_s, options.pairs)))
    return 0


def measure(backlog: int, per_s: float, phase_s: float, pairs: int) -> dict[str, Any]:
    """Run all phases and say what the others noticed."""
    with ExitStack() as ending:
        folder = ending.enter_context(run_directory("files"))
        servers = ending.enter_context(Servers(purpose="bench"))
        installation = asyncio.run(
            install(
                amqp_url=servers.amqp_url,
                management_url=servers.management_url,
                database_url=servers.database_url,
                hub_url=NOWHERE,
                folder=folder / "installation",
                country=_country(),
            )
        )
        for loops in HUB:
            ending.enter_context(hub_process(installation, folder, loops.split(",")))
        return uvloop.run(_measure(installation, folder, (backlog, per_s, phase_s, pairs)))


def _country() -> DirectoryFile:
    agencies = tuple(
        AgencyEntry(code=code, name=f"Đơn vị {code}", tier="ministry-province", endpoint=code, valid_from="2025-07-01")
        for code in (SENDER, OTHER_SENDER, BUSY, *OTHERS)
    )
    return DirectoryFile(agencies=agencies)


async def _measure(installation: Installation, folder: Path, sizes: tuple[int, float, float, int]) -> dict[str, Any]:
    backlog, per_s, phase_s, pairs = sizes
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(installation.settings["database_url"]))
        others = await stack.enter_async_context(bystanders(installation, folder, SENDER, OTHERS, per_s))
        quiet = await others.phase(phase_s)
        await hold_recipient(pool, BUSY, "bench", "paused", datetime.now(UTC))
        await _write_backlog(pool, installation, backlog)
        began = time.monotonic()
        holding: list[float] = []
        before = await _count(pool, "held")
        while await _count(pool, "pending") > 0 and time.monotonic() - began < _HOLDING_S:
            holding += await others.phase(5)
        held_per_s = (await _count(pool, "held") - before) / (time.monotonic() - began)
        await _hold_the_rest(pool)
        stack.enter_context(_answering(installation, folder))
        # What the writing of the backlog itself has left to be done is no part of what is compared.
        await run_sql(installation.settings["database_url"], "VACUUM (ANALYZE) deliveries", "CHECKPOINT")
        waiting: list[list[float]] = []
        draining: list[list[float]] = []
        drained_s = 0.0
        for _ in range(pairs):
            waiting.append(await others.phase(phase_s))
            began = time.monotonic()
            await release_recipient(pool, BUSY, "bench", "measured", datetime.now(UTC))
            await others.phase(_RAMP_S)
            draining.append(await others.phase(phase_s))
            drained_s += time.monotonic() - began
            await hold_recipient(pool, BUSY, "bench", "paused", datetime.now(UTC))
            await others.phase(2)
        drained, left = await _count(pool, "received"), await _count(pool, "held")
        report = await audit(pool)
    pairs_of = list(zip(waiting, draining, strict=True))
    all_waiting, all_draining = [list(chain.from_iterable(phases)) for phases in (waiting, draining)]
    return {
        "backlog": backlog,
        "others": len(OTHERS),
        "documents_per_s": per_s,
        "quiet_ms": figures(quiet),
        "holding_ms": figures(holding),
        "held_per_s": round(held_per_s),
        "waiting_ms": figures(all_waiting),
        "draining_ms": figures(all_draining),
        "drained_per_s": round(drained / drained_s, 1),
        "left": left,
        "p99_ratio": ratio(pairs_of, 99),
        "p50_ratio": ratio(pairs_of, 50),
        "p99_ratio_of_all": round(percentile(all_draining, 99) / percentile(all_waiting, 99), 3),
        "samples": [len(all_waiting), len(all_draining)],
        "missing": others.missing(),
        "audit": report.holds,
    }


async def _hold_the_rest(pool: Pool) -> None:
    """Do what dispatch would still be doing for a while, so that the comparison is about the drain alone."""
    deliveries = PostgresDeliveries(pool, max_batch=2000, max_share=2000, wait_s=0.01)
    while await _count(pool, "pending") > 0:
        now = datetime.now(UTC)
        async with deliveries.claim(now) as claim:
            held = [settle_held(due.delivery, "E813") for due in claim.due if due.delivery.recipient == BUSY]
            if claim.due:
                await claim.settle(held, now)
        await asyncio.sleep(0.2)  # as long as a recipient rests after a claim


@contextmanager
def _answering(installation: Installation, folder: Path) -> Iterator[None]:
    """Start the agency of the backlog, in a process of its own so that its work does not slow the measuring one."""
    account = installation.accounts[BUSY]
    config = {
        "code": account.code,
        "amqp_url": account.amqp_url,
        "key_file": str(account.key_file),
        "certificate_file": str(account.certificate_file),
        "directory_file": str(installation.directory_file.absolute()),
        "guard_file": str((folder / "busy.guard").absolute()),
    }
    file = folder / "busy.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "tests.bench.backlog", "--answer", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()


async def answer(config: dict[str, Any]) -> None:
    """Be the agency that comes back: take, answer, several in one receipt where they come together."""
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(InboxGuard(Path(config["guard_file"])))
        signer = load_signer(Path(config["key_file"]), Path(config["certificate_file"]))
        trust = Trust(Path(config["directory_file"]))
        client = await stack.enter_async_context(
            AgencyClient(config["amqp_url"], config["code"], signer, trust, guard, prefetch=200)
        )
        together: list[Delivery] = []

        async def flush() -> None:
            while True:
                await asyncio.sleep(0.05)
                batch, together[:] = list(together), []
                if batch:
                    await client.receipts(batch)

        flushing = asyncio.create_task(flush())
        print("ready", flush=True)
        async for delivery in client.deliveries():
            together += [delivery]
        flushing.cancel()


async def _write_backlog(pool: Pool, installation: Installation, count: int) -> None:
    account = installation.accounts[OTHER_SENDER]
    signer = load_signer(account.key_file, account.certificate_file)
    ledger = PostgresLedger(pool)
    for start in range(0, count, 500):
        accepts = [_accept(signer, number) for number in range(start, min(start + 500, count))]
        await ledger.record([Decision(accept, None) for accept in accepts], datetime.now(UTC))


def _accept(signer: KeySigner, number: int) -> Accept:
    envelope = envelope_to([BUSY], OTHER_SENDER, number)
    token = sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=signer, now_s=int(time.time()))
    addressees = (Addressee(BUSY, "ministry-province"),)
    return Accept(identity(token), token, envelope, "ministry-province", addressees, 1)


_COUNT = "SELECT count(*) FROM deliveries WHERE recipient = $1 AND state = $2 AND typ = 'truc.document.v1'"


async def _count(pool: Pool, state: str) -> int:
    async with pool.reading() as connection:
        return int(await connection.fetchval(_COUNT, BUSY, state))


if __name__ == "__main__":
    sys.exit(main())
