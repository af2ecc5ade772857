"""Takes back what the broker put aside in `truc.dead`: record, acknowledge.

The safety net has two kinds of catch. A delivery that a recipient's software gave back or died over too often is a
failed attempt like any other. A submission that the hub itself took many times and never settled is parked for a
person; it never blocks the queue that it came from.

| effect                    | if the process dies after it                                       |
|---------------------------|--------------------------------------------------------------------|
| `inbox.take`              | the broker hands the batch out again                               |
| `ledger.record_returns`   | handed out again; a delivery that is pending is not failed twice   |
| `inbox.acknowledge`       | –                                                                  |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from hub.core.delivery import Delivery, Transition
from hub.core.policy import Policy
from hub.core.settlement import settle_returned
from hub.core.submission import Return, Submission
from hub.core.trouble import Unstorable
from hub.core.verdict import Park
from hub.telemetry import report
from schemas.identifiers import DeliveryId
from schemas.refusal import Problem


class Batch(Protocol):
    """Returns that were taken together, and can only be acknowledged together."""

    @property
    def returns(self) -> Sequence[Return]:
        """The messages, oldest first; empty when none came in time."""


class Inbox(Protocol):
    """The queue `truc.dead`."""

    async def take(self) -> Batch:
        """Wait a moment for returns."""

    async def acknowledge(self, batch: Batch) -> None:
        """Settle all of a batch."""

    async def release(self) -> None:
        """Give back everything that is not settled."""


class Ledger(Protocol):
    """The ledger, as far as returns need it."""

    async def record_returns(
        self,
        returned: Sequence[DeliveryId],
        parked: Sequence[Park],
        settle: Callable[[Delivery], Transition | None],
        now: datetime,
    ) -> None:
        """Write a batch in one transaction."""


@dataclass(frozen=True, slots=True)
class Returns:
    """The loop, one turn at a time."""

    inbox: Inbox
    ledger: Ledger
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Record one batch; returns how many messages were settled.

        Raises:
            Trouble: When something does not answer. Nothing of the batch is settled; all of it comes again.
        """
        batch = await self.inbox.take()
        if not batch.returns:
            return 0
        now = self.clock()
        parked = [_poison(item.submission) for item in batch.returns if item.delivery_id is None]
        try:
            await self._record(batch.returns, now)
        except Exception:
            await self.inbox.release()
            raise
        await self.inbox.acknowledge(batch)
        report.returns(len(batch.returns) - len(parked), parked)
        return len(batch.returns)

    async def _record(self, returns: Sequence[Return], now: datetime) -> None:
        try:
            await self._write(returns, now)
        except Unstorable:
            for item in returns:
                await self._record_one(item, now)

    async def _record_one(self, item: Return, now: datetime) -> None:
        """Record one message; what the database cannot hold is parked as bare bytes."""
        try:
            await self._write([item], now)
        except Unstorable:
            bare = replace(item.submission, routing_key="", message_id=None)
            await self._write([Return(bare, None)], now)

    async def _write(self, returns: Sequence[Return], now: datetime) -> None:
        how = {item.delivery_id: item.how for item in returns}
        await self.ledger.record_returns(
            [item.delivery_id for item in returns if item.delivery_id is not None],
            [_poison(item.submission) for item in returns if item.delivery_id is None],
            lambda delivery: settle_returned(delivery, self.policy, now, how=how[delivery.delivery_id]),
            now,
        )


def _poison(submission: Submission) -> Park:
    return Park(submission, (Problem("E903"),), tell=None)
