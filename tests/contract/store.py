"""What the contracts look at: a ledger, real or in memory, and what stands in it afterwards."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from hub import dispatch, intake, parts, receipts, reconcile, replay, returns, sweep
from hub.core.breaker import Breaker
from hub.core.delivery import Delivery
from hub.core.replay import ReplayPace
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId


class Row(NamedTuple):
    """A delivery as it stands."""

    delivery: Delivery
    code: str | None
    next_attempt_at: datetime | None
    receipt_due_at: datetime | None


class Event(NamedTuple):
    """A ledger event."""

    event: str
    document_id: DocumentId | None = None
    delivery_id: DeliveryId | None = None
    state: str | None = None
    code: str | None = None


class Ledger(intake.Ledger, receipts.Ledger, returns.Ledger, reconcile.Ledger, Protocol):
    """All that the loops need of the ledger."""


class Register(parts.Register, sweep.Register, Protocol):
    """All that uploads, downloads and the sweep need of the database."""


class Store(Protocol):
    """One ledger under test.

    A claim holds up to `max_batch` deliveries, `max_share` of one recipient, and waits a moment only when nothing is
    due.
    """

    max_batch: int
    max_share: int

    @property
    def ledger(self) -> Ledger: ...

    @property
    def parts(self) -> Register: ...

    @property
    def deliveries(self) -> dispatch.Deliveries: ...

    async def rows(self) -> Mapping[DeliveryId, Row]:
        """Every delivery."""

    async def events(self) -> Sequence[Event]:
        """Every event, oldest first."""

    async def breakers(self) -> Mapping[AgencyCode, Breaker]:
        """How it stands with every recipient of which anything is known."""

    async def parked(self) -> int:
        """How many submissions are put aside."""

    @property
    def replays(self) -> replay.Replays: ...

    async def start_replay(self, pace: ReplayPace, now: datetime) -> int:
        """Plan and start a replay of all that is dead or put aside; returns its number."""

    async def start_catch_up(self, agency: AgencyCode, now: datetime) -> int:
        """Begin to hand out again all that an agency has had; returns the number of the replay."""

    def parked_inbox(self, now: datetime) -> intake.Inbox:
        """Documents that were put aside and released."""

    @property
    def catch_ups(self) -> dispatch.Deliveries:
        """What is released of catch-ups."""

    async def outcomes(self, replay_id: int) -> Mapping[DeliveryId | str, str | None]:
        """What became of the items of a replay, by the id of their letters."""
