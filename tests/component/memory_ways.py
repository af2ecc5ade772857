"""The two ways by which replays go in and out again, in memory: what was put aside, and what is caught up on."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from hub.core.delivery import Due, Transition
from hub.core.submission import Submission
from schemas.identifiers import identity_of
from tests.component.memory import Event, MemoryItem, MemoryReplays


@dataclass(slots=True)
class MemoryParkedBatch:
    """Submissions that were released together."""

    submissions: list[Submission]
    items: list[MemoryItem]


@dataclass(slots=True)
class MemoryParkedInbox:
    """One lane of the submissions that replays have released."""

    replays: MemoryReplays
    lane: Literal["document", "answer"]
    clock: Callable[[], datetime]

    async def take(self) -> MemoryParkedBatch:
        items = [
            item
            for item in self.replays.released("dead-letters", self.clock())
            if item.parked_id is not None and self._lane_of(item) == self.lane
        ]
        return MemoryParkedBatch([self.replays.put_aside(item.parked_id or b"") for item in items], items)

    async def acknowledge(self, batch: object) -> None:
        assert isinstance(batch, MemoryParkedBatch)
        ledger = self.replays.ledger
        for item, submission in zip(batch.items, batch.submissions, strict=True):
            object_id = identity_of(submission.body[: submission.body.rfind(b".")])
            if item.outcome is not None:
                continue
            known = object_id in ledger.documents or object_id in ledger.receipts or object_id in ledger.statuses
            item.outcome = "accepted" if known else "refused" if object_id in ledger.refusals else "parked"
            ledger.events.append(Event("submission.replayed", object_id))

    async def release(self) -> None:
        """Give nothing back: what was taken was only read."""

    def _lane_of(self, item: MemoryItem) -> str:
        submission = self.replays.put_aside(item.parked_id or b"")
        return "answer" if submission.routing_key.startswith(("receipt", "status")) else "document"


@dataclass(slots=True)
class MemoryCatchUpClaim:
    """Items of catch-ups; what is settled is written when the claim ends well."""

    replays: MemoryReplays
    items: dict[str, MemoryItem]
    due: list[Due]
    leaves_out: bool = False
    settled: list[tuple[Sequence[Transition], datetime]] = field(default_factory=list)

    async def settle(self, transitions: Sequence[Transition], now: datetime) -> None:
        self.settled.append((transitions, now))

    def commit(self) -> None:
        for transitions, now in self.settled:
            for transition in transitions:
                self._settle(transition, now)

    def _settle(self, transition: Transition, now: datetime) -> None:
        delivery = transition.delivery
        item = self.items[str(delivery.delivery_id)]
        if transition.state == "routed":
            item.outcome = "handed-out"
            event = Event("delivery.handed-out-again", delivery.object_id, delivery.delivery_id)
            self.replays.ledger.events.append(event)
        elif transition.state == "held":
            item.released_at, item.next_attempt_at = now, now + timedelta(minutes=1)
        elif item.released_at is not None and item.released_at <= now - timedelta(days=1):
            item.outcome = "expired"
        else:
            item.next_attempt_at = now + timedelta(minutes=1)


@dataclass(slots=True)
class MemoryCatchUps:
    """The released items of catch-ups."""

    replays: MemoryReplays

    @asynccontextmanager
    async def claim(self, now: datetime) -> AsyncIterator[MemoryCatchUpClaim]:
        items = {str(item.delivery_id): item for item in self.replays.released("catch-up", now)}
        rows = [self.replays.ledger.rows[item.delivery_id] for item in items.values() if item.delivery_id]
        claim = MemoryCatchUpClaim(self.replays, items, [Due(row.delivery, row.token) for row in rows])
        yield claim
        claim.commit()
