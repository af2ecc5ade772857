"""The contracts on PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from hub.core.breaker import Breaker
from hub.core.replay import ReplayPace
from hub.core.selection import Selection
from hub.store import replay_orders
from hub.store.catch_up import CatchUps
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.parked_inbox import ParkedInbox
from hub.store.parts import PostgresParts
from hub.store.pool import Pool, open_pool
from hub.store.recipients import BREAKER_COLUMNS, breaker_of
from hub.store.replay import PostgresReplays
from hub.store.rows import DELIVERY_COLUMNS, delivery_of
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from tests.contract.deliveries_contract import DeliveriesContract
from tests.contract.ledger_contract import LedgerContract
from tests.contract.parts_contract import PartsContract
from tests.contract.recipients_contract import RecipientsContract
from tests.contract.replays_contract import ReplaysContract, WaysContract
from tests.contract.store import Event, Row


class PostgresStore:
    """A database with the two classes that work on it."""

    def __init__(self, pool: Pool) -> None:
        self.max_batch = 250
        self.max_share = 60
        self.pool = pool
        self.ledger = PostgresLedger(pool)
        self.replays = PostgresReplays(pool)
        self.parts = PostgresParts(pool)

    @property
    def deliveries(self) -> PostgresDeliveries:
        return PostgresDeliveries(self.pool, max_batch=self.max_batch, max_share=self.max_share, wait_s=0.01)

    async def breakers(self) -> Mapping[AgencyCode, Breaker]:
        async with self.pool.reading() as connection:
            rows = await connection.fetch(f"SELECT {BREAKER_COLUMNS} FROM recipients")
        return {AgencyCode(row["recipient"]): breaker_of(row) for row in rows}

    async def rows(self) -> Mapping[DeliveryId, Row]:
        query = f"SELECT {DELIVERY_COLUMNS}, code, next_attempt_at, receipt_due_at FROM deliveries"
        async with self.pool.reading() as connection:
            return {
                row["delivery_id"]: Row(delivery_of(row), row["code"], row["next_attempt_at"], row["receipt_due_at"])
                for row in await connection.fetch(query)
            }

    async def events(self) -> Sequence[Event]:
        query = "SELECT event, document_id, delivery_id, state, code FROM ledger ORDER BY event_id"
        async with self.pool.reading() as connection:
            return [
                Event(
                    row["event"],
                    row["document_id"] and DocumentId(row["document_id"].hex()),
                    row["delivery_id"],
                    row["state"],
                    row["code"],
                )
                for row in await connection.fetch(query)
            ]

    async def parked(self) -> int:
        async with self.pool.reading() as connection:
            return await connection.fetchval("SELECT count(*) FROM parked")

    async def start_replay(self, pace: ReplayPace, now: datetime) -> int:
        replay_id = await replay_orders.plan(
            self.pool,
            Selection(until=now + timedelta(seconds=1)),
            rehearse=lambda candidates: [None] * len(candidates),
            needs_second=lambda _recipients, _size: False,
            actor="an",
            now=now + timedelta(seconds=1),
        )
        await replay_orders.start(self.pool, replay_id, pace, "đã sửa", actor="an", now=now)
        return replay_id

    async def start_catch_up(self, agency: AgencyCode, now: datetime) -> int:
        began = now - timedelta(days=1)
        order = {"per_minute": 600, "reason": "hỏng đĩa", "actor": "an", "now": now}
        return await replay_orders.catch_up(self.pool, agency, began, **order)

    def parked_inbox(self, now: datetime) -> ParkedInbox:
        return ParkedInbox(self.pool, "document", max_batch=50, clock=lambda: now)

    @property
    def catch_ups(self) -> CatchUps:
        return CatchUps(self.pool, max_batch=50)

    async def outcomes(self, replay_id: int) -> Mapping[DeliveryId | str, str | None]:
        items = await replay_orders.items(self.pool, replay_id)
        return {DeliveryId(UUID(key)) if "-" in (key := item.letter_id) else key: item.outcome for item in items}


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with open_pool(database_url, by_key=True) as pool:
        yield PostgresStore(pool)


class TestLedger(LedgerContract):
    pass


class TestDeliveries(DeliveriesContract):
    pass


class TestReplays(ReplaysContract):
    pass


class TestWays(WaysContract):
    pass


class TestRecipients(RecipientsContract):
    pass


class TestParts(PartsContract):
    pass
