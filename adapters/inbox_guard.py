"""Hands each delivery over once: a small SQLite file that remembers delivery ids across crashes and restarts.

```
            begin                    settle (received, refused)
(no row) ─────────► handing over ───────────────────────────────► handed over, with the receipt
    ▲                    │
    └────────────────────┘
      release (failed: the hub sends it again later)
```

What a second arrival of the same delivery finds:

| row            | meaning                                                       | the client                          |
|----------------|---------------------------------------------------------------|-------------------------------------|
| none           | never seen, or given back with `failed`                       | hands it over                       |
| `handing over` | the process died between the two: **nobody here knows** whether the application finished | hands it over, marked `interrupted` |
| `handed over`  | done                                                          | repeats the same receipt, nothing else |

The middle row is the one window that cannot be closed from here: between the application's own effect and our mark lies
a moment that two separate stores never share. The application closes it by keeping the delivery id, which never
changes, in the same transaction or under the same file name as its effect; then handing over twice changes nothing. One
that cannot do so looks at `interrupted`, which is false for every delivery that was certainly not handed over before.

Every change is on disk before the call returns, but for letters, which may be read twice: their marks follow together.
The file belongs to one process (`adapters.sqlite_file`).
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from adapters.sqlite_file import SqliteFile
from schemas.identifiers import DeliveryId


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What is kept about a delivery that was handed over.

    Attributes:
        receipt: Payload of a receipt that answers this delivery alone; `None` for what asks for no receipt.
    """

    receipt: bytes | None


Found = Literal["fresh", "interrupted"] | HandedOver
"""What `begin` finds: never seen, left half-way by an earlier process, or handed over."""

_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE delivery (
    delivery_id TEXT    PRIMARY KEY,
    state       TEXT    NOT NULL CHECK (state IN ('handing over', 'handed over')),
    receipt     BLOB,
    changed_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX delivery_by_age ON delivery (changed_at) WHERE state = 'handed over';
"""

_FIND: Final = "SELECT state, receipt FROM delivery WHERE delivery_id = ?"
_BEGIN: Final = "INSERT INTO delivery VALUES (?, 'handing over', NULL, ?)"
_SETTLE: Final = """
INSERT INTO delivery VALUES (?, 'handed over', ?, ?)
ON CONFLICT (delivery_id) DO UPDATE SET state = excluded.state, receipt = excluded.receipt, changed_at = excluded.changed_at
"""
_RELEASE: Final = "DELETE FROM delivery WHERE delivery_id = ?"
_FORGET: Final = "DELETE FROM delivery WHERE state = 'handed over' AND changed_at < ?"


class InboxGuard:
    """One open guard file.

    Args:
        file: Where it lives; made when missing. Its folder must exist and keep what it is told (no tmpfs).

    Raises:
        Unusable: A104 when the file cannot be opened or another process holds it.
    """

    def __init__(self, file: Path) -> None:
        self._file = SqliteFile(file, _SCHEMA, version=_VERSION, code="A104")

    @classmethod
    def unsafe_in_memory(cls) -> Self:
        """Open one that forgets everything at the end of the process: for tests and for trying out."""
        return cls(Path(":memory:"))

    async def begin(self, delivery_id: DeliveryId, now: datetime) -> Found:
        """Begin to hand one delivery over; as `begin_all`."""
        return (await self.begin_all([delivery_id], now))[0]

    async def begin_all(
        self, delivery_ids: Sequence[DeliveryId], now: datetime, *, only_find: Collection[DeliveryId] = ()
    ) -> list[Found]:
        """Begin to hand deliveries over, except those for which that was done; the rows are durable when this returns.

        Args:
            delivery_ids: Which.
            now: The present.
            only_find: Those of them of which nothing is written down now: letters, which may be read twice.

        Returns:
            What was found for each, in the order given.
        """
        moment = int(now.timestamp())

        def begin(connection: sqlite3.Connection, delivery_id: DeliveryId) -> Found:
            found = _find(connection, delivery_id)
            if found is None and delivery_id not in only_find:
                connection.execute(_BEGIN, (str(delivery_id), moment))
            return found or "fresh"

        return await self._file.do(lambda connection: [begin(connection, each) for each in delivery_ids])

    async def find(self, delivery_id: DeliveryId) -> Found | None:
        """Tell what is kept about a delivery; changes nothing."""
        return await self._file.do(lambda connection: _find(connection, delivery_id))

    async def settle(self, done: Mapping[DeliveryId, HandedOver], now: datetime) -> None:
        """Mark deliveries as handed over, with the receipt that every duplicate will get."""
        moment = int(now.timestamp())
        rows = [(str(delivery_id), handed_over.receipt, moment) for delivery_id, handed_over in done.items()]
        await self._change(_SETTLE, rows)

    def settle_letter(self, delivery_id: DeliveryId, now: datetime) -> None:
        """Mark a letter as read, within a second: whoever dies before that reads it twice if it comes again."""
        row = (str(delivery_id), None, int(now.timestamp()))
        self._file.do_later(lambda connection: connection.execute(_SETTLE, row))

    async def release(self, delivery_ids: Sequence[DeliveryId]) -> None:
        """Forget that deliveries were begun or handed over: the next arrival is handed over like a new one."""
        rows = [(str(delivery_id),) for delivery_id in delivery_ids]
        await self._change(_RELEASE, rows)

    async def forget(self, before: datetime) -> int:
        """Delete what was handed over before a moment; returns how many rows.

        Keep at least the greatest lifetime of a document (30 days) and the time in which the axis may replay it.
        """
        moment = int(before.timestamp())
        return await self._file.do(lambda connection: connection.execute(_FORGET, (moment,)).rowcount)

    def close(self) -> None:
        """Finish what is waiting and close the file; a second call changes nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:  # a cursor must never leave the thread
            connection.executemany(statement, rows)

        await self._file.do(work)


def _find(connection: sqlite3.Connection, delivery_id: DeliveryId) -> Found | None:
    row = connection.execute(_FIND, (str(delivery_id),)).fetchone()
    if row is None:
        return None
    state, receipt = row
    return "interrupted" if state == "handing over" else HandedOver(receipt)
