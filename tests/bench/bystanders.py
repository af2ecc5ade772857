"""Agencies that go on with their work while something is done to the hub, and what they notice of it.

One sender gives documents to many recipients in turn, at a steady pace, all with the real client in this process; the
time counts from submission to handing over.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from adapters.client import AgencyClient
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from hub.installation import Account, Installation
from schemas.envelope import DocumentFacts, Envelope, Signer, new_envelope
from schemas.identifiers import AgencyCode


class Bystanders:
    """A sender and its recipients.

    Args:
        client: Of the sender.
        sender: Who it is.
        recipients: Who is written to, in turn.
        per_s: Documents a second.
    """

    def __init__(
        self, client: AgencyClient, sender: AgencyCode, recipients: Sequence[AgencyCode], per_s: float
    ) -> None:
        self._client = client
        self._sender = sender
        self._recipients = recipients
        self._per_s = per_s
        self._sent: dict[Any, float] = {}
        self._delays: list[float] = []
        self._arrived = asyncio.Event()
        self._number = 0

    async def phase(self, seconds: float) -> list[float]:
        """Send at a steady pace for a while; returns the delays of what was sent in it, when all of it has arrived."""
        self._delays = []
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < end:
                tasks.create_task(self._send())
                await asyncio.sleep(random.expovariate(self._per_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await self._arrived.wait()
        return self._delays

    async def _send(self) -> None:
        self._number += 1
        to = self._recipients[self._number % len(self._recipients)]
        began = time.monotonic()
        envelope = envelope_to([to], self._sender, self._number)
        self._sent[envelope.id] = began
        self._arrived.clear()
        await self._client.submit(envelope)

    async def listen(self, client: AgencyClient) -> None:
        """Be a recipient."""
        async for delivery in client.deliveries():
            began = self._sent.pop(delivery.envelope.id, None)
            if began is not None:
                self._delays.append(time.monotonic() - began)
            if not self._sent:
                self._arrived.set()
            async with delivery:
                pass

    def missing(self) -> int:
        """Count what was sent and has not arrived."""
        return len(self._sent)


@asynccontextmanager
async def bystanders(
    installation: Installation, folder: Path, sender: AgencyCode, recipients: Sequence[AgencyCode], per_s: float
) -> AsyncIterator[Bystanders]:
    """Connect a sender and its recipients."""
    trust = Trust(installation.directory_file)
    async with AsyncExitStack() as stack:
        clients = [await connected(stack, installation.accounts[code], trust, folder) for code in (sender, *recipients)]
        others = Bystanders(clients[0], sender, recipients, per_s)
        listening = [asyncio.create_task(others.listen(client)) for client in clients[1:]]
        listening.append(asyncio.create_task(_read_letters(clients[0])))
        yield others
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


async def connected(stack: AsyncExitStack, account: Account, trust: Trust, folder: Path) -> AgencyClient:
    """Connect an account until the stack ends."""
    guard = stack.enter_context(InboxGuard(folder / f"{account.code}.guard"))
    signer = load_signer(account.key_file, account.certificate_file)
    return await stack.enter_async_context(AgencyClient(account.amqp_url, account.code, signer, trust, guard))


async def _read_letters(client: AgencyClient) -> None:
    async for arrival in client.arrivals():
        async with arrival:  # type: ignore[union-attr]
            pass


def envelope_to(to: Sequence[str], sender: AgencyCode, number: int) -> Envelope:
    """Write the envelope of an ordinary document."""
    facts = DocumentFacts(
        number=str(number + 1),
        notation="VPCP-TTĐT",
        kind="Công văn",
        subject="Về việc kết nối, liên thông các hệ thống quản lý văn bản và điều hành",
        issued_on=(datetime.now(UTC) + timedelta(hours=7)).date().isoformat(),
        signer=Signer(name="Nguyễn Văn An"),
    )
    return new_envelope(from_=sender, to=to, doc=facts, now_s=int(time.time()))


def ratio(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], percent: int) -> float:
    """The median of the pairs, as a burst of work elsewhere on the machine falls into one phase of one pair."""
    return round(median(percentile(busy, percent) / percentile(idle, percent) for idle, busy in pairs), 3)


def percentile(delays: Sequence[float], percent: int) -> float:
    """Give a percentile, in the unit of the values."""
    ordered = sorted(delays)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def figures(delays: Sequence[float]) -> dict[str, float]:
    """Describe delays in seconds, in milliseconds."""
    return {f"p{percent}": round(1000 * percentile(delays, percent), 1) for percent in (50, 95, 99)} if delays else {}
