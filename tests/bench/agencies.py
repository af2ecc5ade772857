"""The agencies' side of the benchmark, in a process of its own: the real client for every endpoint.

`python -m tests.bench.agencies CONFIG` signs its documents, prints `ready`, waits for a line on stdin, sends them all,
answers everything that arrives with signed receipts, several deliveries in one where they come together, and ends when
every receipt for its own documents is back and everything expected has arrived. What it saw goes into a file.

Documents with a planned time are sent at that time, whatever has become of those before them, and their delays count from
it; others as fast as the window allows.
"""

import asyncio
import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from adapters.client import AgencyClient, Delivery, Letter, Rejected
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Signer, new_envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Receipt
from schemas.signing import KeySigner, identity, sign

_LINGER_S = 0.02
_TIMEOUT_S = 3600.0


@dataclass(slots=True)
class Tally:
    """What has come back, and how long it took."""

    to_receive: int
    to_be_answered: int
    sent_at: dict[DocumentId, float] = field(default_factory=dict)
    confirmed_at: dict[DocumentId, float] = field(default_factory=dict)
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    receipt_s: list[float] = field(default_factory=list)
    handed_over: dict[Any, float] = field(default_factory=dict)
    twice: int = 0
    rejected: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        return len(self.handed_over) >= self.to_receive and len(self.receipt_s) >= self.to_be_answered

    def delivered(self, delivery: Delivery, now: float) -> None:
        if delivery.delivery_id in self.handed_over:
            self.twice += 1
        self.handed_over[delivery.delivery_id] = now
        # Sender and recipient may be in different processes of one machine, which share the monotonic clock.
        self.arrivals.append((now, now - float(delivery.envelope.doc.subject.split()[0])))

    def answered(self, receipt: Receipt, now: float, sent_of: Mapping[str, float]) -> None:
        for answer in receipt.answers:
            self.receipt_s.append(now - sent_of.get(answer.delivery, now))


@dataclass(slots=True)
class Endpoint:
    """One agency or platform with the documents that it sends."""

    client: AgencyClient
    code: AgencyCode
    signer: KeySigner
    documents: Sequence[Mapping[str, Any]]
    tally: Tally
    window: asyncio.Semaphore

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

    async def send(self, began: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for item in self.documents:
                if "at_s" in item:
                    await asyncio.sleep(began + item["at_s"] - time.monotonic())
                else:
                    await self.window.acquire()
                tasks.create_task(self._submit(item, began))

    async def _submit(self, item: Mapping[str, Any], began: float) -> None:
        try:
            since = began + item["at_s"] if "at_s" in item else time.monotonic()
            token = self.draft(item, since)
            document_id = identity(token)
            self.tally.sent_at[document_id] = since
            await self.client.submit(token)
            self.tally.confirmed_at[document_id] = time.monotonic()
        finally:
            if "at_s" not in item:
                self.window.release()

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
                    self.tally.answered(receipt, now, {})
                    await self.client.acknowledge(arrival)
                case Letter():
                    await self.client.acknowledge(arrival)
                case Rejected():
                    self.tally.rejected += 1
            self.tally.changed.set()


async def run(config: Mapping[str, Any]) -> dict[str, Any]:
    tally = Tally(config["to_receive"], sum(len(item["to"]) for item in config["documents"]))
    window = asyncio.Semaphore(config["window"])
    trust = Trust(Path(config["directory_file"]))
    by_endpoint: dict[str, list[Any]] = defaultdict(list)
    for item in config["documents"]:
        by_endpoint[item["endpoint"]].append(item)
    async with AsyncExitStack() as stack:
        endpoints = []
        for account in config["endpoints"]:
            guard = stack.enter_context(InboxGuard(Path(account["guard_file"])))
            signer = load_signer(Path(account["key_file"]), Path(account["certificate_file"]))
            client = await stack.enter_async_context(
                AgencyClient(account["amqp_url"], account["code"], signer, trust, guard, prefetch=500)
            )
            documents = by_endpoint[account["code"]]
            endpoints.append(Endpoint(client, AgencyCode(account["code"]), signer, documents, tally, window))
        receiving = [asyncio.create_task(endpoint.receive()) for endpoint in endpoints]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        gc.collect()
        gc.freeze()  # the plan is large and lives to the end; each collection would go through it
        began, cpu_began = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for endpoint in endpoints:
                tasks.create_task(endpoint.send(began))
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
        "sent": len(tally.sent_at),
        "received": len(tally.handed_over),
        "answered": len(tally.receipt_s),
        "twice": tally.twice,
        "rejected": tally.rejected,
        "finished": tally.finished,
        "cpu_s": time.process_time() - cpu_began,
        "send_s": sent - began,
        "total_s": time.monotonic() - began,
        "delivery_s": sorted(delay for _, delay in tally.arrivals),
        "arrivals": [(round(now - began, 3), round(delay, 4)) for now, delay in tally.arrivals],
        **(_by_id(tally) if config.get("by_id") else {}),
    }


def _by_id(tally: Tally) -> dict[str, Any]:
    """When each document and delivery passed, by the clock on the wall, which the hub's ledger goes by as well."""
    to_wall = time.time() - time.monotonic()
    moments = {"sent_at": tally.sent_at, "confirmed_at": tally.confirmed_at, "arrived_at": tally.handed_over}
    return {name: {str(key): at + to_wall for key, at in of.items()} for name, of in moments.items()}


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_bytes())
    Path(config["result_file"]).write_text(json.dumps(uvloop.run(run(config))))


if __name__ == "__main__":
    main()
