"""The contracts on the fakes of the crash sweep; without this no fake would be believed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from hub.core.breaker import Breaker
from hub.core.replay import ReplayPace
from hub.core.submission import Submission
from schemas.addresses import agency_queue
from schemas.identifiers import AgencyCode, DeliveryId
from tests.component.memory import (
    MemoryBlobs,
    MemoryBroker,
    MemoryInbox,
    MemoryLedger,
    MemoryOutbox,
    MemoryParts,
    MemoryReplays,
)
from tests.component.memory_ways import MemoryCatchUps, MemoryParkedInbox
from tests.contract.blobs_contract import BlobsContract
from tests.contract.deliveries_contract import DeliveriesContract
from tests.contract.inbox_contract import MAX_BATCH, InboxContract
from tests.contract.ledger_contract import LedgerContract
from tests.contract.outbox_contract import EXCHANGE, OutboxContract
from tests.contract.parts_contract import PartsContract
from tests.contract.recipients_contract import RecipientsContract
from tests.contract.replays_contract import ReplaysContract, WaysContract
from tests.contract.store import Event, Row


class MemoryStore:
    """The ledger in memory, which is also its own deliveries."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(max_batch=250)
        self.deliveries = self.ledger
        self.replays = MemoryReplays(self.ledger)

    @property
    def parts(self) -> MemoryParts:
        return self.ledger.parts

    @property
    def max_batch(self) -> int:
        return self.ledger.max_batch

    @max_batch.setter
    def max_batch(self, size: int) -> None:
        self.ledger.max_batch = size

    @property
    def max_share(self) -> int:
        return self.ledger.max_share

    @max_share.setter
    def max_share(self, size: int) -> None:
        self.ledger.max_share = size

    async def breakers(self) -> Mapping[AgencyCode, Breaker]:
        return dict(self.ledger.breakers)

    async def rows(self) -> Mapping[DeliveryId, Row]:
        return {
            key: Row(row.delivery, row.code, row.next_attempt_at, row.receipt_due_at)
            for key, row in self.ledger.rows.items()
        }

    async def events(self) -> Sequence[Event]:
        return [
            Event(item.event, item.document_id, item.delivery_id, item.state, item.code) for item in self.ledger.events
        ]

    async def parked(self) -> int:
        return len(self.ledger.parked)

    async def start_replay(self, pace: ReplayPace, now: datetime) -> int:
        return self.replays.start(pace, now)

    async def start_catch_up(self, agency: AgencyCode, now: datetime) -> int:
        return self.replays.start_catch_up(agency, ReplayPace("rate", 600, 600), now)

    def parked_inbox(self, now: datetime) -> MemoryParkedInbox:
        return MemoryParkedInbox(self.replays, "document", lambda: now)

    @property
    def catch_ups(self) -> MemoryCatchUps:
        return MemoryCatchUps(self.replays)

    async def outcomes(self, replay_id: int) -> Mapping[DeliveryId | str, str | None]:
        items = self.replays.replays[replay_id].items
        return {item.delivery_id or (item.parked_id or b"").hex(): item.outcome for item in items}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestLedger(LedgerContract):
    pass


class TestDeliveries(DeliveriesContract):
    pass


class TestReplays(ReplaysContract):
    pass


class TestWays(WaysContract):
    pass


class TestParts(PartsContract):
    pass


class TestBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs(clock=lambda: datetime.now(UTC))


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


class TestRecipients(RecipientsContract):
    pass


class TestInbox(InboxContract):
    @pytest.fixture
    def inbox(self, broker: MemoryBroker) -> MemoryInbox:
        broker.bind("exchange", "key", "queue")
        return MemoryInbox(broker, "queue", max_batch=MAX_BATCH)

    @pytest.fixture
    def publish(self, broker: MemoryBroker):
        async def publish(body: bytes) -> None:
            broker.publish("exchange", Submission(body, "H26", "key"))

        return publish

    @pytest.fixture
    def restart(self, broker: MemoryBroker):
        async def restart() -> MemoryInbox:
            broker.release()
            return MemoryInbox(broker, "queue", max_batch=MAX_BATCH)

        return restart


class TestOutbox(OutboxContract):
    @pytest.fixture
    def outbox(self, broker: MemoryBroker) -> MemoryOutbox:
        return MemoryOutbox(broker)

    @pytest.fixture
    def connect(self, broker: MemoryBroker):
        async def connect(code: AgencyCode) -> None:
            broker.bind(EXCHANGE, code, agency_queue(code))

        return connect

    @pytest.fixture
    def mail(self, broker: MemoryBroker):
        async def mail(code: AgencyCode) -> list[bytes]:
            return [message.submission.body for message in broker.queues[agency_queue(code)]]

        return mail
