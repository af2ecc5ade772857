"""Hands pending deliveries to the broker: claim, publish and wait for the confirms, mark. Nothing else.

| effect                | if the process dies after it                          |
|-----------------------|-------------------------------------------------------|
| `deliveries.claim`    | the claim falls with the connection; claimed again    |
| `outbox.publish`      | published again, same delivery id                     |
| `claim.settle`        | –                                                     |
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hub.core.delivery import Due, Posting, Transition
from hub.core.policy import Policy
from hub.core.settlement import Handover, settle_attempt
from hub.telemetry import report
from schemas.addresses import tier_exchange
from schemas.checks.directory import PLATFORM_TIER, Directory


class Claim(Protocol):
    """Deliveries that no other process will take while this is open."""

    @property
    def due(self) -> Sequence[Due]:
        """What is to be handed over now."""

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write what became of them, all at once."""


class Deliveries(Protocol):
    """The ledger, as far as dispatch needs it."""

    def claim(self, now: datetime) -> AbstractAsyncContextManager[Claim]:
        """Claim the most urgent deliveries that are due; waits for a moment when there are none."""


class Outbox(Protocol):
    """The way to the recipients' queues."""

    async def ready(self) -> None:
        """Return when the broker can be published to; raises `Unavailable` when not."""

    async def publish(self, postings: Sequence[Posting]) -> Sequence[Handover]:
        """Publish all and wait for every confirm; one outcome each, in order, and never an exception for one."""


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The loop, one turn at a time."""

    deliveries: Deliveries
    outbox: Outbox
    directories: Directories
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Hand over one batch; returns how many deliveries were settled.

        Raises:
            Trouble: When something does not answer. What was claimed is free again.
        """
        await self.outbox.ready()  # without a broker every attempt would only look like one
        directory = self.directories.current()
        async with self.deliveries.claim(self.clock()) as claim:
            if not claim.due:
                return 0
            handovers = await self.outbox.publish([_posting(due, directory) for due in claim.due])
            now = self.clock()
            attempted = [(due.delivery, said) for due, said in zip(claim.due, handovers, strict=True)]
            await claim.settle([settle_attempt(delivery, said, self.policy, now) for delivery, said in attempted], now)
        report.handovers(attempted)
        return len(attempted)


def _posting(due: Due, directory: Directory) -> Posting:
    """Address a delivery by today's directory; one that has left it goes where its queue cannot be, and is reported."""
    recipient = due.delivery.recipient
    tier = directory.tier_of(recipient) or PLATFORM_TIER
    return Posting(tier_exchange(tier), recipient, due.token, due.delivery)
