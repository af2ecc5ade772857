"""Compares what the ledger promises with the clock: receipts that did not come, lifetimes that ended.

| effect               | if the process dies after it                             |
|----------------------|----------------------------------------------------------|
| `ledger.resettle`    | –  (one transaction for each batch: select, settle)      |

The broker may lose a message that it confirmed; the ledger still knows that it is owed, so it is sent again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from hub.core.delivery import Delivery, Transition
from hub.core.policy import Policy
from hub.core.settlement import settle_expired, settle_overdue
from hub.telemetry import report
from schemas.signing import Signer

Deadline = Literal["overdue", "expired"]
"""`overdue`: routed, and the time for its receipt has passed. `expired`: not settled at the end of its lifetime."""


class Ledger(Protocol):
    """The ledger, as far as reconciling needs it."""

    async def resettle(self, deadline: Deadline, settle: Callable[[Delivery], Transition], now: datetime) -> int:
        """Settle a batch of deliveries past a deadline in one transaction; returns how many there were."""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The loop, one turn at a time."""

    ledger: Ledger
    signer: Signer
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Settle one batch of each deadline; returns how many deliveries changed.

        Raises:
            Trouble: When the database does not answer.
        """
        now = self.clock()
        return await self._resettle("expired", lambda delivery: settle_expired(delivery, self.signer, now), now) + (
            await self._resettle("overdue", lambda delivery: settle_overdue(delivery, self.policy, now), now)
        )

    async def _resettle(self, deadline: Deadline, settle: Callable[[Delivery], Transition], now: datetime) -> int:
        settled: list[Transition] = []

        def remember(delivery: Delivery) -> Transition:
            settled.append(settle(delivery))
            return settled[-1]

        count = await self.ledger.resettle(deadline, remember, now)
        report.resettled(deadline, settled)
        return count
