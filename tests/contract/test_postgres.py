"""The contracts on PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from hub.core.breaker import Breaker
from hub.store.deliveries import PostgresDeliveries
from hub.store.entries import DELIVERY_COLUMNS, delivery_of
from hub.store.ledger import PostgresLedger
from hub.store.pool import Pool, open_pool
from hub.store.recipients import BREAKER_COLUMNS, breaker_of
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from tests.contract.deliveries_contract import DeliveriesContract
from tests.contract.ledger_contract import LedgerContract
from tests.contract.recipients_contract import RecipientsContract
from tests.contract.store import Event, Row


class PostgresStore:
    """A database with the two classes that work on it."""

    def __init__(self, pool: Pool) -> None:
        self.max_batch = 250
        self.max_share = 60
        self.pool = pool
        self.ledger = PostgresLedger(pool)

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


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with open_pool(database_url) as pool:
        yield PostgresStore(pool)


class TestLedger(LedgerContract):
    pass


class TestDeliveries(DeliveriesContract):
    pass


class TestRecipients(RecipientsContract):
    pass
