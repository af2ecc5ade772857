"""Records what comes back, receipts and statuses: prove, one transaction, acknowledge. Nothing else, in this order.

| effect                     | if the process dies after it                                             |
|----------------------------|--------------------------------------------------------------------------|
| `inbox.take`               | the broker hands the batch out again                                     |
| prove, off the event loop  | the same                                                                 |
| `ledger.record_answers`    | handed out again; each answer is known by its identity; nothing twice    |
| `inbox.acknowledge`        | –                                                                        |
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hub.core.decide import decide_answers
from hub.core.policy import Policy
from hub.core.settlement import Settling
from hub.core.submission import Submission
from hub.core.trouble import Unstorable
from hub.core.verdict import AnswerVerdict, Park
from hub.telemetry import report
from schemas.checks.directory import Directory
from schemas.refusal import Problem
from schemas.signing import Signer


class Batch(Protocol):
    """Submissions that were taken together, and can only be acknowledged together."""

    @property
    def submissions(self) -> Sequence[Submission]:
        """The arrivals, oldest first; empty when none came in time."""


class Inbox(Protocol):
    """The queue `truc.receipts`."""

    async def take(self) -> Batch:
        """Wait a moment for submissions."""

    async def acknowledge(self, batch: Batch) -> None:
        """Settle all of a batch."""

    async def release(self) -> None:
        """Give back everything that is not settled."""


class Ledger(Protocol):
    """The ledger, as far as receipts and statuses need it."""

    async def record_answers(self, verdicts: Sequence[AnswerVerdict], settling: Settling, now: datetime) -> None:
        """Write a batch in one transaction: lock the answered deliveries, settle, forward; known ones change nothing."""


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """The loop, one turn at a time."""

    inbox: Inbox
    ledger: Ledger
    directories: Directories
    signer: Signer
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Record one batch; returns how many submissions were settled.

        Raises:
            Trouble: When something does not answer. Nothing of the batch is settled; all of it comes again.
        """
        self.directories.current()  # a stale directory must not even take
        batch = await self.inbox.take()
        if not batch.submissions:
            return 0
        try:
            verdicts = await self._record(batch.submissions)
        except Exception:
            await self.inbox.release()
            raise
        await self.inbox.acknowledge(batch)
        report.answers(verdicts)
        return len(batch.submissions)

    async def _record(self, submissions: Sequence[Submission]) -> list[AnswerVerdict]:
        now = self.clock()
        directory = self.directories.current()
        verdicts = await asyncio.to_thread(decide_answers, submissions, directory, now)
        settling = Settling(self.policy, self.signer, now)
        try:
            await self.ledger.record_answers(verdicts, settling, now)
        except Unstorable:
            for verdict in verdicts:
                await self._record_one(verdict, settling, now)
        return verdicts

    async def _record_one(self, verdict: AnswerVerdict, settling: Settling, now: datetime) -> None:
        """Record one receipt or status; what the database cannot hold is parked as bare bytes."""
        try:
            await self.ledger.record_answers([verdict], settling, now)
        except Unstorable as error:
            bare = Submission(body=verdict.submission.body, user=None, routing_key="")
            problem = Problem("E902", "", str(error)[:200], "cơ sở dữ liệu không lưu được")
            await self.ledger.record_answers([Park(bare, (problem,), tell=None)], settling, now)
