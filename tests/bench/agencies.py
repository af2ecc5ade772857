"""The agencies' side of the benchmark, in a process of its own: the real client for every endpoint.

`python -m tests.bench.agencies CONFIG` prints `ready`, waits for a line on stdin, signs and sends its documents, answers
everything that arrives with signed receipts, several deliveries in one where they come together, and ends when every
receipt for its own documents is back and everything expected has arrived. Told not to answer, it takes nothing, and ends when
its documents are sent; another process then takes what comes for the same endpoints. What it saw goes into files.

Documents with a planned time are sent at that time, whatever has become of those before them, and their delays count from
it; others as fast as the window allows. Each is read from the file of documents, made and signed when it is its turn, and
nothing is kept of it, so that this process does not grow with the length of the run.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.client import AgencyClient
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Signer, new_envelope
from schemas.identifiers import AgencyCode
from schemas.receipt import Receipt
from schemas.signing import KeySigner, identity, sign
from tests.bench.moments import Moments, writing

_LINGER_S = 0.02
_TIMEOUT_S = 3600.0


@dataclass(slots=True)
class Tally:
    """How much has come back."""

    moments: Moments
    to_receive: int
    to_be_answered: int
    received: int = 0
    answered: int = 0
    rejected: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        return self.received >= self.to_receive and self.answered >= self.to_be_answered

    def delivered(self, delivery: Delivery, now: float) -> None:
        self.received += 1
        self.moments.arrived(delivery.delivery_id, now, float(delivery.envelope.doc.subject.split()[0]))


@dataclass(slots=True)
class Endpoint:
    """One agency or platform."""

    client: AgencyClient
    code: AgencyCode
    signer: KeySigner
    tally: Tally

    def draft(self, item: Mapping[str, Any], since: float) -> bytes:
        now_s = int(time.time())
        sender = item["from"]
        envelope = new_envelope(
            from_=sender,
            via=None if sender == self.code else self.code,
            to=item["to"],
            now_s=now_s,
            doc=DocumentFacts(
                number=str(item["number"]),
                notation="UBND-VP",
                kind="Công văn",
                subject=f"{since:.6f} Về việc triển khai kết nối, liên thông văn bản " + "x" * item["remark"],
                issued_on=time.strftime("%Y-%m-%d", time.gmtime(now_s)),
                signer=Signer(name="Nguyễn Văn An", position="Chánh Văn phòng"),
            ),
        )
        return sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=self.signer, now_s=now_s)

    async def submit(self, item: Mapping[str, Any], since: float) -> None:
        token = self.draft(item, since)
        document_id = identity(token)
        self.tally.moments.sent(document_id, since)
        await self.client.submit(token)
        self.tally.moments.confirmed(document_id, time.monotonic())

    async def receive(self) -> None:
        together: list[Delivery] = []
        flushing: asyncio.Task[None] | None = None

        async def flush() -> None:
            while together:
                await asyncio.sleep(_LINGER_S)
                batch, together[:] = list(together), []
                await self.client.receipts(batch)

        async for arrival in self.client.arrivals():
            now = time.monotonic()
            match arrival:
                case Delivery():
                    self.tally.delivered(arrival, now)
                    together.append(arrival)
                    if flushing is None or flushing.done():
                        flushing = asyncio.create_task(flush())
                case Letter(content=Receipt() as receipt):
                    self.tally.answered += len(receipt.answers)
                    await self.client.acknowledge(arrival)
                case Letter():
                    await self.client.acknowledge(arrival)
                case Rejected():
                    self.tally.rejected += 1
            self.tally.changed.set()


async def run(config: Mapping[str, Any], documents: Iterable[Mapping[str, Any]], moments: Moments) -> dict[str, Any]:
    tally = Tally(moments, config["to_receive"], config["to_be_answered"])
    trust = Trust(Path(config["directory_file"]))
    async with AsyncExitStack() as stack:
        endpoints: dict[str, Endpoint] = {}
        for account in config["endpoints"]:
            guard = stack.enter_context(InboxGuard(Path(account["guard_file"])))
            signer = load_signer(Path(account["key_file"]), Path(account["certificate_file"]))
            code = AgencyCode(account["code"])
            client = await stack.enter_async_context(
                AgencyClient(account["amqp_url"], code, signer, trust, guard, prefetch=500)
            )
            endpoints[code] = Endpoint(client, code, signer, tally)
        answering = endpoints.values() if config["answers"] else ()
        receiving = [asyncio.create_task(endpoint.receive()) for endpoint in answering]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        gc.collect()
        gc.freeze()  # what is here now lives to the end; each collection would go through it
        gc.set_threshold(50_000, 20, 20)  # else a tenth of the CPU goes into what is under way of 95 clients
        began, cpu_began = time.monotonic(), time.process_time()
        await _send(documents, endpoints, config["window"], began)
        sent = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                while not tally.finished:
                    await tally.changed.wait()
                    tally.changed.clear()
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
    return {
        "began": began,
        "to_wall": time.time() - time.monotonic(),
        "rejected": tally.rejected,
        "finished": tally.finished,
        "cpu_s": time.process_time() - cpu_began,
        "send_s": sent - began,
        "total_s": time.monotonic() - began,
    }


async def _send(
    documents: Iterable[Mapping[str, Any]], endpoints: Mapping[str, Endpoint], window: int, began: float
) -> None:
    """Send each document at its planned time, or else as soon as fewer than `window` are under way to the broker."""
    room = asyncio.Semaphore(window)

    def gone(_: asyncio.Task[None]) -> None:
        room.release()

    async with asyncio.TaskGroup() as tasks:
        for item in documents:
            planned = "at_s" in item
            if planned:
                since = began + item["at_s"]
                await asyncio.sleep(since - time.monotonic())
            else:
                await room.acquire()
                since = time.monotonic()
            task = tasks.create_task(endpoints[item["endpoint"]].submit(item, since))
            if not planned:
                task.add_done_callback(gone)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_bytes())
    with Path(config["documents_file"]).open() as lines, writing(Path(config["moments_file"])) as moments:
        result = uvloop.run(run(config, map(json.loads, lines), moments))
    Path(config["result_file"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
