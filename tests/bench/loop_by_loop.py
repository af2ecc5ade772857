"""Each loop of the hub by itself, with everything that it needs prepared; prints one JSON object.

`python -m tests.bench.loop_by_loop --documents 5000`: documents wait in `truc.intake` and intake takes them in; their
deliveries wait in the ledger and dispatch hands them over; a receipt for each waits in `truc.receipts`; the receipts wait
in the ledger and go on to their senders. What is counted: items a second, and CPU microseconds for an item by process.
With `--routers 1 2 4`, each loop once in one process, once in two, once in four that share the work.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiormq
import asyncpg
from pamqp.commands import Basic

from adapters.signer import load_signer
from hub.installation import Installation
from schemas.addresses import SUBMIT, submit_key
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Signer, new_envelope
from schemas.identifiers import AgencyCode, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import KeySigner, identity, sign
from tests.bench.full_path import cpu_by_process, hub_processes
from tests.bench.stage import stage
from tests.bench.workload import DOCUMENTS, nation, plan

_AT_ONCE = 256
_IN_STATE = "SELECT count(*) FROM deliveries WHERE state = $1 AND typ = $2"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--profile", help="py-spy this loop into .truc/profile.txt")
    parser.add_argument("--routers", type=int, nargs="+", default=[1], help="processes that share a loop")
    options = parser.parse_args()
    reports = {
        f"{routers} routers": measure(options.documents, options.profile, routers) for routers in options.routers
    }
    print(json.dumps(reports if len(reports) > 1 else next(iter(reports.values()))))
    return 0


def measure(documents: int, profile: str | None = None, routers: int = 1) -> dict[str, Any]:
    """Give each loop of a hub its work in turn, and say what it made of it."""
    people = nation()
    with stage(people.file) as on:
        bench = Bench(on.installation, on.folder, profile, routers=routers)
        bench.prepare(plan(people, share=documents / DOCUMENTS))
        return bench.run()


class Bench:
    """Work for each loop of one hub.

    Args:
        installation: The hub.
        folder: For its logs.
        profile: Loop whose stacks are sampled, if any.
        impersonator_url: A broker user that may publish in the name of others, where there are too many to connect.
        routers: Processes that share a loop.
    """

    def __init__(
        self,
        installation: Installation,
        folder: Path,
        profile: str | None = None,
        impersonator_url: str | None = None,
        routers: int = 1,
    ) -> None:
        self.routers = routers
        self.impersonator_url = impersonator_url
        self.installation = installation
        self.folder = folder
        self.profile = profile
        self.documents: list[tuple[str, bytes]] = []
        self.receipts: list[tuple[str, bytes]] = []
        self.deliveries = 0

    def prepare(self, planned: Sequence[Any]) -> None:
        """Sign every document, and a receipt for each of its deliveries."""
        endpoint = {agency.code: agency.endpoint for agency in self.installation.directory.agencies.values()}
        signers = {
            code: load_signer(account.key_file, account.certificate_file)
            for code, account in self.installation.accounts.items()
        }
        now_s = int(time.time())
        for number, item in enumerate(planned, 1):
            user = endpoint[item.sender]
            assert user is not None
            token = _document(item, number, user, signers[user], now_s)
            self.documents.append((user, token))
            for recipient in item.recipients:
                answering = endpoint[recipient]
                assert answering is not None
                answer = Answer(delivery=str(delivery_id_of(identity(token), recipient)), outcome="received", at=now_s)
                receipt = Receipt(
                    from_=recipient,
                    via=None if answering == recipient else answering,
                    to=item.sender,
                    answers=(answer,),
                )
                self.receipts.append(
                    (answering, sign(receipt.to_json(), typ=RECEIPT_TYP, signer=signers[answering], now_s=now_s))
                )
        self.deliveries = len(self.receipts)

    def run(self) -> dict[str, Any]:
        report: dict[str, Any] = {"documents": len(self.documents), "deliveries": self.deliveries, **self.hand_over()}
        self.publish("receipt", self.receipts)
        report["receipts"] = self.phase("receipts", self.deliveries, _IN_STATE, "received", ENVELOPE_TYP)
        report["letters"] = self.phase("dispatch", self.deliveries, _IN_STATE, "routed", RECEIPT_TYP)
        return report

    def hand_over(self) -> dict[str, Any]:
        """Have all documents taken in and handed over."""
        self.publish("document", self.documents)
        intake = self.phase("intake", len(self.documents), "SELECT count(*) FROM documents")
        return {
            "intake": intake,
            "dispatch": self.phase("dispatch", self.deliveries, _IN_STATE, "routed", ENVELOPE_TYP),
        }

    def phase(self, loop: str, items: int, query: str, *arguments: str) -> dict[str, Any]:
        """Let one loop run until a query counts as many items; says how many a second, and what one costs."""
        before = cpu_by_process()
        with ExitStack() as ending:
            hubs = ending.enter_context(hub_processes(self.installation, self.folder, [[loop]] * self.routers))
            started = cpu_by_process()
            with _profiler(hubs[0], wanted=self.profile == loop):
                measured, seconds = asyncio.run(self._until(items, query, *arguments))
            cpu = {name: used - started.get(name, before.get(name, 0.0)) for name, used in cpu_by_process().items()}
        return {
            "per_s": round(measured / seconds),
            "cpu_us": {name: round(1e6 * used / measured) for name, used in sorted(cpu.items()) if used > 0},
        }

    async def _until(self, items: int, query: str, *arguments: str) -> tuple[int, float]:
        """Wait until as many are done; returns how many were done meanwhile, and in how many seconds."""
        connection = await asyncpg.connect(self.installation.settings["database_url"])
        began = time.monotonic()
        try:
            already = await connection.fetchval(query, *arguments)
            while await connection.fetchval(query, *arguments) < items:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)
        finally:
            await connection.close()
        return max(1, items - already), time.monotonic() - began

    def publish(self, lane: Any, tokens: Sequence[tuple[str, bytes]]) -> None:
        """Let tokens wait for the hub, each from the broker user beside it."""
        asyncio.run(self._publish(lane, tokens))

    async def _publish(self, lane: Any, tokens: Sequence[tuple[str, bytes]]) -> None:
        if self.impersonator_url is not None:
            await _publish(self.impersonator_url, lane, tokens)
            return
        for user in sorted({user for user, _ in tokens}):
            url = self.installation.accounts[AgencyCode(user)].amqp_url
            await _publish(url, lane, [(owner, token) for owner, token in tokens if owner == user])


async def _publish(url: str, lane: Any, tokens: Sequence[tuple[str, bytes]]) -> None:
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    for start in range(0, len(tokens), _AT_ONCE):
        await asyncio.gather(
            *(
                channel.basic_publish(
                    token,
                    exchange=SUBMIT,
                    routing_key=submit_key(lane, user),
                    properties=Basic.Properties(delivery_mode=2, user_id=user, correlation_id=identity(token)),
                    wait=False,
                )
                for user, token in tokens[start : start + _AT_ONCE]
            )
        )
    await connection.close()


def _document(item: Any, number: int, user: str, signer: KeySigner, now_s: int) -> bytes:
    envelope = new_envelope(
        from_=item.sender,
        via=None if user == item.sender else user,
        to=item.recipients,
        now_s=now_s,
        doc=DocumentFacts(
            number=str(number),
            notation="UBND-VP",
            kind="Công văn",
            subject="Về việc triển khai kết nối, liên thông văn bản điện tử " + "x" * item.remark_characters,
            issued_on=time.strftime("%Y-%m-%d", time.gmtime(now_s)),
            signer=Signer(name="Nguyễn Văn An", position="Chánh Văn phòng"),
        ),
    )
    return sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=signer, now_s=now_s)


@contextmanager
def _profiler(pid: int, *, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    profiler = subprocess.Popen(
        ["py-spy", "record", "-p", str(pid), "-r", "400", "--gil", "-f", "raw", "-o", ".truc/profile.txt"],
        stdout=subprocess.DEVNULL,
    )
    yield
    profiler.send_signal(2)
    profiler.wait()


if __name__ == "__main__":
    sys.exit(main())
