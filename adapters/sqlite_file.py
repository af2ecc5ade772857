"""A small SQLite file that keeps what it is told: one writer, and nobody hears of a change before it is on disk.

Every change is durable before the call returns (WAL, synchronous=FULL); changes that wait together share one commit,
in the order in which they came. Reading passes through the same thread, so that nobody ever sees what is not yet on
disk. The file belongs to one process: a second one is refused, since two cannot know what the other has in hand.

What nobody waits for goes along with the next change, or follows within a second.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from adapters.errors import Unusable

T = TypeVar("T")

_MAX_SHARED_COMMIT: Final = 256
_MAX_LATER: Final = 64
_LATER_S: Final = 1.0
_BUSY_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]


class SqliteFile:
    """One open file, with a thread of its own so that waiting for the disk stops nobody else.

    Args:
        file: Where it lives; made when missing. Its folder must exist and keep what it is told (no tmpfs).
        schema: Statements that make the tables of a new file.
        version: Of those tables; a file of another version is refused.
        code: What is said when the file cannot be used.

    Raises:
        Unusable: When the file cannot be opened or another process holds it.
    """

    def __init__(self, file: Path, schema: str, *, version: int, code: str) -> None:
        self._place = str(file)
        self._code = code
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._later: list[_Job] = []
        try:
            self._connection = _open(self._place, schema, version)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._thread = threading.Thread(target=self._run, name=f"sqlite {file.name}", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work inside a transaction and wait until it is on disk.

        Args:
            work: Gives plain values, never a cursor: that must not leave the thread. An exception in it undoes the
                work of all who share the commit, so what can be foreseen is a value.

        Raises:
            Unusable: When the file is closed, or the work or its commit failed; nothing is changed then.
        """
        if not self._thread.is_alive():
            raise Unusable("it is closed", "đã đóng", place=self._place, code=self._code)
        job = _Job(work, Future())
        self._start_later()
        self._jobs.put(job)
        result: T = await asyncio.wrap_future(job.done)
        return result

    def do_later(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do some work within a second, and before anything that is asked for after it; nobody hears how it went."""
        self._later.append(_Job(work, Future()))
        if len(self._later) >= _MAX_LATER:
            self._start_later()
        elif len(self._later) == 1:
            asyncio.get_running_loop().call_later(_LATER_S, self._start_later)

    def close(self) -> None:
        """Finish what is waiting and close the file; a second call changes nothing."""
        if self._thread.is_alive():
            self._start_later()
            self._jobs.put(None)
            self._thread.join()

    def _start_later(self) -> None:
        for job in self._later:
            self._jobs.put(job)
        self._later.clear()

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
        return Unusable(str(error), f"SQLite báo: {error}", place=self._place, code=self._code)


def _open(place: str, schema: str, version: int) -> sqlite3.Connection:
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
        _make_tables(connection, schema, version)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection, schema: str, version: int) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == version:
        return
    if found != 0:
        raise sqlite3.DatabaseError(f"written by another version of this program ({found})")
    for statement in schema.split(";")[:-1]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
