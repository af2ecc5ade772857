"""How rows are read, locked and written alike in every method of the store."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from hub.core.delivery import Delivery
from hub.core.ladder import Standing
from hub.store.pool import Connection
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId

DELIVERY_COLUMNS: Final = (
    "delivery_id, object_id, typ, sender, recipient, state, attempts, expires_at, progress, request"
)


def delivery_of(row: asyncpg.Record) -> Delivery:
    """Read the `DELIVERY_COLUMNS` of a row."""
    return Delivery(
        delivery_id=row["delivery_id"],
        object_id=DocumentId(row["object_id"].hex()),
        typ=row["typ"],
        sender=AgencyCode(row["sender"]),
        recipient=AgencyCode(row["recipient"]),
        state=row["state"],
        attempts=row["attempts"],
        expires_at=row["expires_at"],
        standing=Standing(row["progress"], row["request"]),
    )


def bytes_of(row: str) -> str:
    """Write the query for the `token` of a row with `object_id` and `stored_at`.

    A look into one month for each row. A join would be planned by what the planner expects of all months together.
    """
    same = f"signed_objects.object_id = {row}.object_id AND signed_objects.stored_at = {row}.stored_at"
    return f"SELECT token FROM signed_objects WHERE {same} OFFSET 0"  # noqa: S608 - of a constant


# Locks deliveries in the order of their ids, so that two transactions never wait for each other.
_LOCK_DELIVERIES: Final = f"""
SELECT {DELIVERY_COLUMNS}
FROM deliveries
WHERE delivery_id = ANY($1::uuid[])
ORDER BY delivery_id
FOR UPDATE
"""  # noqa: S608 - a constant


async def lock_deliveries(connection: Connection, ids: Iterable[DeliveryId]) -> dict[DeliveryId, Delivery]:
    """Lock deliveries until the end of the transaction; those that do not exist are left out."""
    wanted = list(ids)
    if not wanted:
        return {}
    rows = await connection.fetch(_LOCK_DELIVERIES, wanted)
    return {delivery.delivery_id: delivery for delivery in map(delivery_of, rows)}


def columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Turn rows into one array for each column, as `unnest` takes them; there must be a row."""
    return [list(column) for column in zip(*rows, strict=True)]


def to_bytes(object_id: DocumentId) -> bytes:
    """Write an identity as the tables keep it."""
    return bytes.fromhex(object_id)


def to_datetime(seconds: int) -> datetime:
    """Write a moment of the wire as the tables keep it."""
    return datetime.fromtimestamp(seconds, UTC)
