"""Compares what the ledger promises with the clock: receipts that did not come, lifetimes that end, recipients held.

| effect               | if the process dies after it                             |
|----------------------|----------------------------------------------------------|
| `ledger.resettle`    | –  (one transaction for each batch: select, settle)      |
| `ledger.warn`        | –  (the same: select, write the notices, mark)           |
| `ledger.tend`        | –  (one transaction for each recipient: look, let go)    |
| `ledger.make_months` | –  (one transaction; what is there is not made again)    |

The broker may lose a message that it confirmed; the ledger still knows that it is owed, so it is sent again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from hub.core.breaker import Tended, is_suspended
from hub.core.delivery import Delivery, Transition
from hub.core.letter import Letter
from hub.core.policy import Policy
from hub.core.settlement import settle_expired, settle_overdue, warn_of_end
from hub.telemetry import report
from schemas.checks.directory import Directory
from schemas.identifiers import AgencyCode
from schemas.signing import Signer

Deadline = Literal["overdue", "expired"]
"""`overdue`: routed, and the time for its receipt has passed. `expired`: not settled at the end of its lifetime."""


class Ledger(Protocol):
    """The ledger, as far as reconciling needs it."""

    async def resettle(self, deadline: Deadline, settle: Callable[[Delivery], Transition], now: datetime) -> int:
        """Settle a batch of deliveries past a deadline in one transaction; returns how many there were."""

    async def warn(self, write: Callable[[Delivery], Letter], now: datetime) -> int:
        """Warn the senders of a batch of deliveries whose lifetime ends soon, each once; returns how many."""

    async def tend(self, is_suspended: Callable[[AgencyCode], bool], now: datetime) -> Sequence[Tended]:
        """See to one recipient whose time has come: send a probe, drain, close; returns what was done, if anything."""

    async def make_months(self, now: datetime) -> int:
        """Make room for the coming months, looked at once a day; returns how many were missing."""


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The loop, one turn at a time."""

    ledger: Ledger
    directories: Directories
    signer: Signer
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Settle one batch of each deadline, see to months and recipients; returns how much has changed.

        Raises:
            Trouble: When something does not answer. Deadlines need no directory and are settled without one.
        """
        now = self.clock()
        expired = await self._resettle("expired", lambda delivery: settle_expired(delivery, self.signer, now), now)
        overdue = await self._resettle("overdue", lambda delivery: settle_overdue(delivery, self.policy, now), now)
        warned = await self.ledger.warn(lambda delivery: warn_of_end(delivery, self.signer, now), now)
        report.months_made(await self.ledger.make_months(now))
        return expired + overdue + warned + await self._tend(now)

    async def _resettle(self, deadline: Deadline, settle: Callable[[Delivery], Transition], now: datetime) -> int:
        settled: list[Transition] = []

        def remember(delivery: Delivery) -> Transition:
            settled.append(settle(delivery))
            return settled[-1]

        count = await self.ledger.resettle(deadline, remember, now)
        report.resettled(deadline, settled)
        return count

    async def _tend(self, now: datetime) -> int:
        directory = self.directories.current()

        count = 0
        while tended := await self.ledger.tend(lambda code: is_suspended(code, directory), now):
            report.tended(tended)
            count += len(tended)
        return count
