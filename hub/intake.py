"""Takes submissions in: decide, one transaction, acknowledge. Nothing else, in this order.

| effect                          | if the process dies after it                                      |
|---------------------------------|-------------------------------------------------------------------|
| `inbox.take`                    | the broker hands the batch out again                              |
| decide, off the event loop      | the same                                                          |
| `ledger.record`                 | handed out again; every insert conflicts; nothing happens twice   |
| `ledger.record` of objections   | the same                                                          |
| `inbox.acknowledge`             | –                                                                 |

A batch with many broadcasts is decided and recorded a part at a time, so that no transaction owes more than about
`MAX_DELIVERIES`, and so that a document which recalls, updates or replaces another one of the batch comes after it. It is
still acknowledged as a whole, at the end.

To record a broadcast to thousands takes a second, and nobody else's documents shall wait for it: it is set aside while
the others of its batch are recorded, and a second loop of the same process (`turn_aside`) goes through the same effects
for it while the first one takes the next batch. What recalls, updates or replaces a broadcast that is set aside follows
it there. Until then its batch is not acknowledged, so that a process that dies forgets nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Final, Protocol

from hub.core.decide import decide_all
from hub.core.letter import Decision, notice_of
from hub.core.policy import Policy
from hub.core.submission import Submission
from hub.core.trouble import Unstorable
from hub.core.verdict import Accept, Objection, Park, Refuse, Verdict
from hub.telemetry import report
from schemas.checks.directory import Directory
from schemas.identifiers import DocumentId
from schemas.refusal import Problem
from schemas.signing import Signer

MAX_DELIVERIES: Final = 10_000
"""New deliveries after which a transaction takes no further document. A document with more of them has one to itself.

Two hundred broadcasts to twenty thousand agencies each, in one transaction, would fill the memory, last longer than a
statement may, and come again until the broker puts all of them aside.
"""


class Batch(Protocol):
    """Submissions that were taken together, and can only be acknowledged together."""

    @property
    def submissions(self) -> Sequence[Submission]:
        """The arrivals, oldest first; empty when none came in time."""


class Inbox(Protocol):
    """The queue `truc.intake`."""

    async def take(self) -> Batch:
        """Wait a moment for submissions."""

    async def acknowledge(self, batch: Batch) -> None:
        """Settle all of a batch."""

    async def release(self) -> None:
        """Give back everything that is not settled."""


class Ledger(Protocol):
    """The ledger, as far as intake needs it."""

    async def record(self, decisions: Sequence[Decision], now: datetime) -> Sequence[Objection]:
        """Write a batch in one transaction; what is known already changes nothing.

        A document is known to those that refer to it once it stands in the ledger, not within its own batch.

        Returns:
            The documents that were not written because of what only the ledger can know: their sender used the id
            before for other bytes, has not sent what they refer to, or has not uploaded a part.
        """


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


@dataclass(frozen=True, slots=True)
class Left:
    """A document that is set aside. Its long list of recipients is not kept, it is decided about again."""

    document_id: DocumentId
    submission: Submission


@dataclass(slots=True)
class Aside:
    """What was taken and waits for the second loop.

    Attributes:
        least: Recipients from which on a document is set aside; to record a thousand takes a tenth of a second.
        waiting: Batches of which the rest is recorded, with the documents that are left of each.
        in_work: The documents that the second loop records just now.
    """

    least: int = 1_000
    waiting: deque[tuple[Batch, Sequence[Left]]] = field(default_factory=deque)
    in_work: Sequence[Left] = ()

    def rule(self, left: Sequence[Left]) -> Callable[[Accept], bool]:
        """Give the rule by which a document is set aside, or follows one that is: also one that is `left` of its batch."""
        before = {item.document_id for item in chain(self.in_work, *(rest for _, rest in self.waiting))}

        def sets_aside(accept: Accept) -> bool:
            refs = accept.envelope.ref
            follows = not before.isdisjoint(refs) or any(item.document_id in refs for item in left)
            return follows or len(accept.addressees) >= self.least

        return sets_aside


@dataclass(frozen=True, slots=True)
class Intake:
    """The loop, one turn at a time. With `aside`, somebody must turn `turn_aside` beside it."""

    inbox: Inbox
    ledger: Ledger
    directories: Directories
    signer: Signer
    policy: Policy
    clock: Callable[[], datetime]
    aside: Aside | None = None

    async def turn(self) -> int:
        """Take one batch in; returns how many submissions were settled.

        Raises:
            Trouble: When something does not answer. Nothing of the batch is settled; all of it comes again.
        """
        self.directories.current()  # a stale directory must not even take
        batch = await self.inbox.take()
        if not batch.submissions:
            return 0
        left = await self._record_or_release(batch.submissions, self.aside)
        if self.aside is not None and left:
            self.aside.waiting.append((batch, left))
        else:
            await self.inbox.acknowledge(batch)
        return len(batch.submissions) - len(left)

    async def turn_aside(self) -> int:
        """Take in what is set aside of one batch; returns how many submissions were settled, at once when there are none.

        Raises:
            Trouble: When something does not answer. Nothing that was taken is settled; all of it comes again.
        """
        if self.aside is None or not self.aside.waiting:
            return 0
        self.directories.current()
        batch, left = self.aside.waiting.popleft()
        self.aside.in_work = left
        try:
            await self._record_or_release([item.submission for item in left])
        finally:
            self.aside.in_work = ()
        await self.inbox.acknowledge(batch)
        return len(left)

    async def _record_or_release(self, submissions: Sequence[Submission], aside: Aside | None = None) -> list[Left]:
        try:
            return await self._record(submissions, aside)
        except Exception:
            if self.aside is not None:
                self.aside.waiting.clear()  # it comes again with all the rest
            await self.inbox.release()
            raise

    async def _record(self, submissions: Sequence[Submission], aside: Aside | None = None) -> list[Left]:
        """Record all but what is to be set aside; returns that."""
        now = self.clock()
        directory = self.directories.current()
        waiting = deque(submissions)
        left: list[Left] = []
        while waiting:
            sets_aside = aside.rule(left) if aside is not None else _never
            decisions = await asyncio.to_thread(self._decide_some, waiting, left, sets_aside, directory, now)
            if decisions:
                report.verdicts(await self._write(decisions, now))
        return left

    def _decide_some(
        self,
        waiting: deque[Submission],
        left: list[Left],
        sets_aside: Callable[[Accept], bool],
        directory: Directory,
        now: datetime,
    ) -> list[Decision]:
        """Take submissions off and decide about them, until a transaction is full; some are set aside and are left."""
        decisions: list[Decision] = []
        deliveries = 0
        accepted: set[DocumentId] = set()
        while waiting and deliveries < MAX_DELIVERIES:
            [verdict] = decide_all([waiting[0]], directory, self.policy, now)
            if isinstance(verdict, Accept):
                if sets_aside(verdict):
                    left.append(Left(verdict.document_id, waiting.popleft()))
                    continue
                if not accepted.isdisjoint(verdict.envelope.ref):
                    break  # it comes into the next transaction, which finds what it refers to
                accepted.add(verdict.document_id)
                deliveries += len(verdict.addressees)
            waiting.popleft()
            decisions.append(self._decision(verdict, now))
        return decisions

    async def _write(self, decisions: Sequence[Decision], now: datetime) -> list[Verdict]:
        try:
            objections = await self.ledger.record(decisions, now)
        except Unstorable:
            objections = await self._record_singly(decisions, now)
        refusals = [_refusal(each) for each in {each.accept.document_id: each for each in objections}.values()]
        if refusals:
            await self.ledger.record([self._decision(refusal, now) for refusal in refusals], now)
        refused = {refusal.document_id for refusal in refusals}
        kept = [item.verdict for item in decisions if getattr(item.verdict, "document_id", None) not in refused]
        return [*kept, *refusals]

    def _decision(self, verdict: Verdict, now: datetime) -> Decision:
        notice = None if isinstance(verdict, Accept) else notice_of(verdict, self.signer, now)
        return Decision(verdict, notice)

    async def _record_singly(self, decisions: Sequence[Decision], now: datetime) -> list[Objection]:
        """Find the one that the database cannot hold, and park it without harming the others."""
        objections: list[Objection] = []
        for decision in decisions:
            try:
                objections.extend(await self.ledger.record([decision], now))
            except Unstorable as error:
                await self.ledger.record([Decision(_unstorable(decision.verdict, error), None)], now)
        return objections


def _never(_: Accept) -> bool:
    return False


def _submission_of(verdict: Verdict) -> Submission:
    if isinstance(verdict, Accept):
        return Submission(
            body=verdict.token,
            user=verdict.envelope.via or verdict.envelope.from_,
            routing_key="",
            redelivered=verdict.redelivered,
        )
    return verdict.submission


def _unstorable(verdict: Verdict, error: Unstorable) -> Park:
    submission = replace(_submission_of(verdict), routing_key="", message_id=None)
    return Park(submission, (Problem("E902", "", str(error)[:200], "cơ sở dữ liệu không lưu được"),), tell=None)


def _refusal(objection: Objection) -> Refuse:
    accept, envelope = objection.accept, objection.accept.envelope
    return Refuse(
        document_id=accept.document_id,
        submission=_submission_of(accept),
        signer=envelope.via or envelope.from_,
        envelope_id=envelope.id,
        problems=objection.problems,
    )
