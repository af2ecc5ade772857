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

Every change is on disk before the call returns (WAL, synchronous=FULL); changes that wait together share one commit.
The file belongs to one process: a second one is refused, since two cannot know what the other has in hand.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from adapters.errors import Unusable
from schemas.identifiers import DeliveryId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What is kept about a delivery that was handed over.

    Attributes:
        receipt: Payload of a receipt that answers this delivery alone; `None` for what asks for no receipt.
    """

    receipt: bytes | None


Found = Literal["fresh", "interrupted"] | HandedOver
"""What `begin` finds: never seen, left half-way by an earlier process, or handed over."""

_MAX_SHARED_COMMIT: Final = 256
_BUSY_TIMEOUT_S: Final = 2.0
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


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]


class InboxGuard:
    """One open guard file, with a thread of its own so that waiting for the disk stops nobody else.

    Args:
        file: Where it lives; made when missing. Its folder must exist and keep what it is told (no tmpfs).

    Raises:
        Unusable: A104 when the file cannot be opened or another process holds it.
    """

    def __init__(self, file: Path) -> None:
        self._place = str(file)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        try:
            self._connection = _open(self._place)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._thread = threading.Thread(target=self._run, name="inbox-guard", daemon=True)
        self._thread.start()

    @classmethod
    def unsafe_in_memory(cls) -> Self:
        """Open one that forgets everything at the end of the process: for tests and for trying out."""
        return cls(Path(":memory:"))

    async def begin(self, delivery_id: DeliveryId, now: datetime) -> Found:
        """Begin to hand a delivery over, unless that was done; the row is durable when this returns."""

        def work(connection: sqlite3.Connection) -> Found:
            found = _find(connection, delivery_id)
            if found is not None:
                return found
            connection.execute(_BEGIN, (str(delivery_id), int(now.timestamp())))
            return "fresh"

        return await self._do(work)

    async def find(self, delivery_id: DeliveryId) -> Found | None:
        """Tell what is kept about a delivery; changes nothing."""
        return await self._do(lambda connection: _find(connection, delivery_id))

    async def settle(self, done: Mapping[DeliveryId, HandedOver], now: datetime) -> None:
        """Mark deliveries as handed over, with the receipt that every duplicate will get."""
        moment = int(now.timestamp())
        rows = [(str(delivery_id), handed_over.receipt, moment) for delivery_id, handed_over in done.items()]
        await self._change(_SETTLE, rows)

    async def release(self, delivery_ids: Sequence[DeliveryId]) -> None:
        """Forget that deliveries were begun or handed over: the next arrival is handed over like a new one."""
        rows = [(str(delivery_id),) for delivery_id in delivery_ids]
        await self._change(_RELEASE, rows)

    async def forget(self, before: datetime) -> int:
        """Delete what was handed over before a moment; returns how many rows.

        Keep at least the greatest lifetime of a document (30 days) and the time in which the axis may replay it.
        """
        moment = int(before.timestamp())
        return await self._do(lambda connection: connection.execute(_FORGET, (moment,)).rowcount)

    def close(self) -> None:
        """Finish what is waiting and close the file; a second call changes nothing."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:  # a cursor must never leave the thread
            connection.executemany(statement, rows)

        await self._do(work)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._thread.is_alive():
            raise Unusable("it is closed", "đã đóng", place=self._place, code="A104")
        job = _Job(work, Future())
        self._jobs.put(job)
        result: T = await asyncio.wrap_future(job.done)
        return result

    def _run(self) -> None:
        with contextlib.closing(self._connection):
            while (job := self._jobs.get()) is not None:
                jobs, last = self._gather(job)
                self._commit(jobs)
                if last:
                    break

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """Take what waits already; tells whether the end was among it."""
        jobs = [first]
        with contextlib.suppress(Empty):
            while len(jobs) < _MAX_SHARED_COMMIT:
                job = self._jobs.get_nowait()
                if job is None:
                    return jobs, True
                jobs.append(job)
        return jobs, False

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """Do all jobs in one transaction; nobody hears of a result before it is on disk."""
        wanted = [job for job in jobs if job.done.set_running_or_notify_cancel()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [job.work(self._connection) for job in wanted]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            for job in wanted:
                job.done.set_exception(self._unusable(error))
            return
        for job, result in zip(wanted, results, strict=True):
            job.done.set_result(result)

    def _unusable(self, error: Exception) -> Unusable:
        return Unusable(str(error), f"SQLite báo: {error}", place=self._place, code="A104")


def _find(connection: sqlite3.Connection, delivery_id: DeliveryId) -> Found | None:
    row = connection.execute(_FIND, (str(delivery_id),)).fetchone()
    if row is None:
        return None
    state, receipt = row
    return "interrupted" if state == "handing over" else HandedOver(receipt)


def _open(place: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        place,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are begun and ended by hand
        check_same_thread=False,  # opened here, so that the caller hears of trouble; used by the thread alone
    )
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        _make_table(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_table(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == _VERSION:
        return
    if version != 0:
        raise sqlite3.DatabaseError(f"written by another version of this program ({version})")
    for statement in _SCHEMA.split(";")[:-1]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")
