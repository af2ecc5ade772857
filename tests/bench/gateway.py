"""Measure the gateway over HTTP on loopback: documents handed in, deliveries listed, answers taken, a second.

    python -m tests.bench.gateway --documents 2000

Every document is signed and on disk before it is answered, every answer is on disk. No broker is needed: what is sent
and received on the other side is measured by `make bench`.
"""

import argparse
import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import uvicorn

from adapters.gateway.serve import bind
from tests.gateways import SENDER, Counter, document_for, draft, now, open_counter

AT_ONCE = 32


async def measure(name: str, count: int, work: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Do some work so many times, several at a time; says how many a second."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return {name: round(count / (time.perf_counter() - begun), 1)}


async def ask(counter: Counter, url: str, documents: int) -> dict[str, float]:
    """Play the platform."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=60) as http:
        body = json.dumps(draft(SENDER)).encode()

        async def submit(_: int) -> None:
            headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/json"}
            (await http.post("/v1/documents", content=body, headers=headers)).raise_for_status()

        figures = await measure("documents_handed_in_per_s", documents, submit)
        arrived = [document_for() for _ in range(documents)]
        begun = time.perf_counter()
        await asyncio.gather(*(counter.office.mailbox.keep(each, now()) for each in arrived))
        figures["deliveries_written_down_per_s"] = round(documents / (time.perf_counter() - begun), 1)

        begun, after, listed = time.perf_counter(), 0, []
        while items := (page := (await http.get("/v1/deliveries", params={"after": after, "limit": 500})).json())[
            "items"
        ]:
            listed += items
            after = page["next"]
        figures["deliveries_listed_per_s"] = round(len(listed) / (time.perf_counter() - begun), 1)

        async def answer(number: int) -> None:
            place = f"/v1/deliveries/{listed[number]['delivery']}/receipt"
            (await http.post(place, json={"outcome": "received"})).raise_for_status()

        return figures | await measure("answers_taken_per_s", len(listed), answer)


async def run(documents: int) -> dict[str, float]:
    """Open a gateway over a fresh folder and ask it."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        async with open_counter(Path(folder), max_waiting=10**9) as counter:
            with bind("127.0.0.1", 0) as listener:
                listener.listen()
                server = uvicorn.Server(uvicorn.Config(counter.app, log_config=None, access_log=False))
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                try:
                    return await ask(counter, f"http://127.0.0.1:{listener.getsockname()[1]}", documents)
                finally:
                    server.should_exit = True
                    await serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway")
    parser.add_argument("--documents", type=int, default=2000)
    print(json.dumps(asyncio.run(run(parser.parse_args().documents)), indent=2))
