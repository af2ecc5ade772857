"""Hands pending deliveries to the broker: claim, publish and wait for the confirms, mark. Nothing else.

What is due for a recipient that is down, suspended or held by a person is marked as held and not published. Letters that
are due for one recipient at the same moment travel in one message.

Two turns may go on at the same time. One marks what it has handed over while the other one claims and publishes; what is
claimed later is published later, so that in the queue of a recipient nothing overtakes what was due before it, unless
another process hands over too. After a failure, and after a claim that keeps from others what it leaves out, the next turn
begins when all is marked.

| effect                | if the process dies after it                          |
|-----------------------|-------------------------------------------------------|
| `deliveries.claim`    | the claim falls with the connection; claimed again    |
| `outbox.publish`      | published again, same delivery id                     |
| `claim.settle`        | –                                                     |
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from hub.core.breaker import is_probe, reason_to_hold
from hub.core.delivery import Due, Posting, Transition
from hub.core.policy import Policy
from hub.core.settlement import Handover, settle_attempt, settle_held
from hub.telemetry import report
from schemas.addresses import tier_exchange
from schemas.bundle import in_bundles, tie
from schemas.checks.directory import PLATFORM_TIER, Directory
from schemas.identifiers import AgencyCode


class Claim(Protocol):
    """Deliveries that no other process will take while this is open."""

    @property
    def due(self) -> Sequence[Due]:
        """What is to be handed over now."""

    @property
    def leaves_out(self) -> bool:
        """Whether something that is due is not among it, and is kept from others too: they would take what is behind it."""

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        """Write what became of them, all at once."""


class Deliveries(Protocol):
    """The ledger, as far as dispatch needs it."""

    def claim(self, now: datetime) -> AbstractAsyncContextManager[Claim]:
        """Claim the most urgent deliveries that are due, but few of one recipient; waits a moment when there are none."""


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
    """The loop, turn by turn.

    Attributes:
        one_at_a_time: Held by a turn from its claim until all of it is published, or until it ends.
    """

    deliveries: Deliveries
    outbox: Outbox
    directories: Directories
    policy: Policy
    clock: Callable[[], datetime]
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def turn(self) -> int:
        """Hand over one batch; returns how many deliveries were settled.

        Raises:
            Trouble: When something does not answer. What was claimed is free again.
        """
        async with self.one_at_a_time, AsyncExitStack() as ending:
            await self.outbox.ready()  # without a broker every attempt would only look like one
            directory = self.directories.current()
            claim = await ending.enter_async_context(self.deliveries.claim(self.clock()))
            if not claim.due:
                return 0
            outgoing, held = _parted(claim.due, directory)
            messages = _messages(outgoing)
            postings = [_posting(each, directory) for each in messages]
            handovers = await self.outbox.publish(postings) if postings else ()
            attempts = [(due, said) for each, said in zip(messages, handovers, strict=True) for due in each]
            if claim.leaves_out or any(said != "routed" for said in handovers):
                return await self._mark(claim, held, attempts, ending)
            beside = ending.pop_all()
        async with beside:
            return await self._mark(claim, held, attempts, beside)

    async def _mark(
        self, claim: Claim, held: Sequence[Transition], attempts: Sequence[tuple[Due, Handover]], ending: AsyncExitStack
    ) -> int:
        """Write what became of a claim and end it; returns how much it was."""
        now = self.clock()
        await claim.settle([*held, *(self._settled(due, said, now) for due, said in attempts)], now)
        await ending.aclose()  # committed, before anything is said about it
        report.held(held)
        report.handovers([(due.delivery, said) for due, said in attempts])
        return len(held) + len(attempts)

    def _settled(self, due: Due, handover: Handover, now: datetime) -> Transition:
        return settle_attempt(due.delivery, handover, self.policy, now, probe=is_probe(due.delivery, due.breaker))


def _parted(claimed: Sequence[Due], directory: Directory) -> tuple[list[Due], list[Transition]]:
    """Part what goes out from what is held because of its recipient."""
    outgoing, held = [], []
    for due in claimed:
        code = reason_to_hold(due.delivery, due.breaker, directory)
        if code is None:
            outgoing.append(due)
        else:
            held.append(settle_held(due.delivery, code))
    return outgoing, held


def _messages(outgoing: Sequence[Due]) -> list[Sequence[Due]]:
    """Put the letters of each recipient together, in their order, behind what travels alone.

    A document does, so that its recipient can give it back alone; and so does a letter after a failed attempt, so that one
    which a recipient's software dies of takes no others with it again. One that a person sends again begins anew.
    """
    alone: list[Sequence[Due]] = []
    together: dict[AgencyCode, list[Due]] = defaultdict(list)
    for due in outgoing:
        if due.delivery.wants_receipt or due.delivery.attempts:
            alone.append((due,))
        else:
            together[due.delivery.recipient].append(due)
    return [*alone, *(bundle for letters in together.values() for bundle in in_bundles(letters, lambda due: due.token))]


def _posting(message: Sequence[Due], directory: Directory) -> Posting:
    """Address a message by today's directory; one for who has left it goes where no queue can be, and is reported."""
    recipient, breaker = message[0].delivery.recipient, message[0].breaker
    tier = directory.tier_of(recipient) or PLATFORM_TIER
    body, deliveries = tie(due.token for due in message), tuple(due.delivery for due in message)
    return Posting(tier_exchange(tier), recipient, body, deliveries, apart=breaker is not None)
