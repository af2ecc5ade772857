"""What renames cannot say: which packet became which document, what became of it, and what has arrived; a SQLite file.

**A packet is one document.** Its key is (From/OrganId, DocumentId, BussinessDocType, SHA-256 of its bytes). The same
packet again is the same document, whose token stands here before it is published. A new document (type 0) under the
DocumentId of another is a conflict. What the axis has refused does not count any more: corrected or not, it may come
again, and is drawn anew.

**Packets name documents by DocumentId**, the axis by identity; both directions are kept, so that statuses and the
documents that update, replace or recall others find what they mean.

Not here: the bytes of packets, which lie in the folders.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import UUID

from adapters.folder.reasons import Told
from adapters.sqlite_file import SqliteFile
from schemas.edxml.mapping import NationalId
from schemas.envelope import Action
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of

Kind = Literal["new", "revoke", "update", "replace", "status"]
"""What a packet is: a document by what it does to others (BussinessDocType 0 to 3), or a status packet."""


@dataclass(frozen=True, slots=True)
class Key:
    """What makes two packets the same: for statuses only their bytes do.

    Attributes:
        agency: Whose it is.
        national_id: Its DocumentId; for a status that of the document that it is about.
        kind: What it is.
        digest: SHA-256 of its bytes.
    """

    agency: str
    national_id: str
    kind: Kind
    digest: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token that is to be written down.

    Attributes:
        document_id: Its identity.
        token: The signed bytes.
        at: When they were signed, seconds since 1970 UTC.
        recipients: To whom a document goes.
    """

    document_id: DocumentId
    token: bytes = field(repr=False)
    at: int
    recipients: tuple[AgencyCode, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet for which a token was written down; times in seconds since 1970 UTC.

    Attributes:
        document_id: Identity of the token.
        key: The packet.
        file: Its name in sent.
        token: The signed bytes.
        drawn_at: When they were signed.
        confirmed: Whether the broker has them.
        refused: Why the axis refused them; empty while it did not.
        earlier: Identity of the token that this one was made to replace, since it had grown too old.
    """

    document_id: DocumentId
    key: Key
    file: str
    token: bytes = field(repr=False)
    drawn_at: int
    confirmed: bool
    refused: tuple[Told, ...]
    earlier: DocumentId | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A document that has been fetched.

    Attributes:
        delivery_id: Its delivery.
        document_id: Its identity.
        sender: Who has sent it.
        recipient: Which of our agencies it is for.
        national_id: What packets call it.
        action: What it does to others.
        token: The signed bytes.
        at: When it was written down, seconds since 1970 UTC.
    """

    delivery_id: DeliveryId
    document_id: DocumentId
    sender: AgencyCode
    recipient: AgencyCode
    national_id: str
    action: Action
    token: bytes = field(repr=False)
    at: int


_VERSION: Final = 2

_SCHEMA: Final = """
CREATE TABLE sent (
    seq         INTEGER PRIMARY KEY,
    document_id TEXT    NOT NULL UNIQUE,
    agency      TEXT    NOT NULL,
    national_id TEXT    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('new', 'revoke', 'update', 'replace', 'status')),
    digest      TEXT    NOT NULL,
    file        TEXT    NOT NULL,
    token       BLOB    NOT NULL,
    drawn_at    INTEGER NOT NULL,
    confirmed   INTEGER NOT NULL DEFAULT 0,
    refused     TEXT    NOT NULL DEFAULT '[]',
    standing    INTEGER NOT NULL DEFAULT 1,
    earlier     TEXT
);
CREATE INDEX sent_by_name ON sent (agency, national_id);
CREATE INDEX sent_by_digest ON sent (digest);
CREATE UNIQUE INDEX sent_by_file ON sent (file) WHERE standing = 1;
CREATE TABLE addressed (
    delivery_id TEXT PRIMARY KEY,
    document_id TEXT NOT NULL,
    recipient   TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE arrived (
    seq         INTEGER PRIMARY KEY,
    delivery_id TEXT    NOT NULL UNIQUE,
    document_id TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    recipient   TEXT    NOT NULL,
    national_id TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    token       BLOB    NOT NULL,
    at          INTEGER NOT NULL
);
CREATE INDEX arrived_by_name ON arrived (sender, national_id);
CREATE INDEX arrived_by_document ON arrived (document_id);
CREATE TABLE asked (
    seq         INTEGER PRIMARY KEY,
    sender      TEXT    NOT NULL,
    national_id TEXT    NOT NULL,
    recipient   TEXT    NOT NULL,
    document_id TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    UNIQUE (sender, national_id, recipient, document_id, at)
);
CREATE TABLE asked_before (
    earlier     TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    recipient   TEXT    NOT NULL,
    document_id TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (earlier, document_id, recipient)
) WITHOUT ROWID;
"""

_SENT: Final = """
document_id, agency, national_id, kind, digest, file, token, drawn_at, confirmed, refused, earlier
"""
_FIND: Final = f"SELECT {_SENT} FROM sent WHERE document_id = ?"  # noqa: S608 - a constant
_FIND_SAME: Final = f"""
SELECT {_SENT} FROM sent
WHERE standing = 1 AND agency = ? AND national_id = ? AND kind = ? AND digest = ?
"""  # noqa: S608 - a constant
_FIND_OTHER: Final = f"""
SELECT {_SENT} FROM sent
WHERE standing = 1 AND agency = ? AND national_id = ? AND kind = 'new' AND digest != ?
"""  # noqa: S608 - a constant
_IS_TAKEN: Final = "SELECT 1 FROM sent WHERE standing = 1 AND file = ?"
_DRAW: Final = """
INSERT INTO sent (document_id, agency, national_id, kind, digest, file, token, drawn_at, earlier)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADDRESS: Final = "INSERT INTO addressed VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_CONFIRM: Final = "UPDATE sent SET confirmed = 1 WHERE document_id = ?"
_DOUBT: Final = "UPDATE sent SET confirmed = 0 WHERE document_id = ?"
_REFUSE: Final = "UPDATE sent SET refused = ?, standing = 0 WHERE document_id = ?"
_STAND_DOWN: Final = "UPDATE sent SET standing = 0 WHERE document_id = ?"
_STAND_AGAIN: Final = "UPDATE sent SET standing = 1, confirmed = 1 WHERE document_id = ?"
_ADDRESSED: Final = "SELECT document_id, recipient FROM addressed WHERE delivery_id = ?"
_SENT_UNDER: Final = """
SELECT document_id FROM sent
WHERE agency = ? AND national_id = ? AND kind IN ('new', 'update', 'replace') AND standing = 1 ORDER BY seq DESC
"""
_ARRIVED: Final = "delivery_id, document_id, sender, recipient, national_id, action, token, at"
_FIND_ARRIVED: Final = f"SELECT {_ARRIVED} FROM arrived WHERE delivery_id = ?"  # noqa: S608 - a constant
_ARRIVED_UNDER: Final = """
SELECT document_id FROM arrived
WHERE sender = ? AND national_id = ? AND (? IS NULL OR recipient = ?) ORDER BY action = 'revoke', seq DESC
"""
_KEEP: Final = f"""
INSERT INTO arrived ({_ARRIVED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""  # noqa: S608 - a constant
_NAME_OF: Final = """
SELECT sender, national_id FROM arrived WHERE document_id = ?
UNION ALL SELECT agency, national_id FROM sent WHERE document_id = ? AND kind != 'status' LIMIT 1
"""
_ASK: Final = """
INSERT INTO asked (sender, national_id, recipient, document_id, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# What asks about a document may arrive before it, and cannot know yet by which name its sender calls that.
_ASK_BEFORE: Final = "INSERT INTO asked_before VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_ASK_AFTER: Final = """
INSERT INTO asked (sender, national_id, recipient, document_id, at)
SELECT sender, ?, recipient, document_id, at FROM asked_before WHERE earlier = ? ORDER BY at ON CONFLICT DO NOTHING
"""
_NO_LONGER_BEFORE: Final = "DELETE FROM asked_before WHERE earlier = ?"
_LAST_ASKED: Final = """
SELECT document_id FROM asked WHERE sender = ? AND national_id = ? AND recipient = ? ORDER BY seq DESC LIMIT 1
"""
_FORGET: Final = (
    "DELETE FROM addressed WHERE document_id IN (SELECT document_id FROM sent WHERE drawn_at < ? AND confirmed = 1)",
    "DELETE FROM sent WHERE drawn_at < ? AND confirmed = 1",
    "DELETE FROM arrived WHERE at < ?",
    "DELETE FROM asked WHERE at < ?",
    "DELETE FROM asked_before WHERE at < ?",
)


class Journal:
    """One open journal.

    Args:
        file: Where it lives; made when missing. Its folder must exist and keep what it is told (no tmpfs).

    Raises:
        Unusable: A107 when the file cannot be opened or another process holds it. All methods raise it too.
    """

    def __init__(self, file: Path) -> None:
        self._file = SqliteFile(file, _SCHEMA, version=_VERSION, code="A107")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is waiting and close the file; a second call changes nothing."""
        self._file.close()

    async def same(self, key: Key) -> Sent | None:
        """Find what became of this very packet, unless that was refused."""
        return await self._file.do(lambda connection: _same(connection, key))

    async def other(self, key: Key) -> Sent | None:
        """Find a new document of other bytes that has the DocumentId of this one, unless that was refused."""
        return await self._file.do(lambda connection: _other(connection, key))

    async def draw(self, key: Key, drawn: Drawn, names: Sequence[str]) -> Sent:
        """Write the token of a packet down, unless there is one, or another document has its DocumentId.

        Args:
            key: The packet.
            drawn: Its token.
            names: Names that it may bear in sent, the best first; the last is nobody else's.

        Returns:
            What stands there then: this token, the earlier one of the same packet, or the other document.
        """

        def work(connection: sqlite3.Connection) -> Sent:
            found = _same(connection, key) or _other(connection, key)
            if found is not None:
                return found
            free = (name for name in names if connection.execute(_IS_TAKEN, (name,)).fetchone() is None)
            return _insert(connection, key, drawn, next(free, names[-1]))

        return await self._file.do(work)

    async def draw_again(self, earlier: Sent, drawn: Drawn) -> Sent:
        """Write a younger token of the same envelope or status down, which takes the place of the earlier one."""

        def work(connection: sqlite3.Connection) -> Sent:
            connection.execute(_STAND_DOWN, (earlier.document_id,))
            return _insert(connection, earlier.key, drawn, earlier.file, earlier.document_id)

        return await self._file.do(work)

    async def confirm(self, document_id: DocumentId) -> None:
        """Note that the broker has a token."""
        await self._change(_CONFIRM, [(document_id,)])

    async def doubt(self, document_id: DocumentId) -> None:
        """Note that nobody knows whether a token came through."""
        await self._change(_DOUBT, [(document_id,)])

    async def refuse(self, document_id: DocumentId, problems: Sequence[Told]) -> None:
        """Note that the axis has refused a token: from now on its packet counts as never sent."""
        text = json.dumps([problem.as_json() for problem in problems], ensure_ascii=False)
        await self._change(_REFUSE, [(text, document_id)])

    async def return_to(self, earlier: DocumentId, younger: DocumentId) -> None:
        """Note that the axis has the earlier of two tokens of one envelope, and so refused the younger one."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_STAND_DOWN, (younger,))
            connection.execute(_STAND_AGAIN, (earlier,))

        await self._file.do(work)

    async def sent(self, document_id: DocumentId) -> Sent | None:
        """Find a token."""
        return await self._file.do(lambda connection: _sent(connection.execute(_FIND, (document_id,)).fetchone()))

    async def addressed(self, delivery_id: DeliveryId) -> tuple[Sent, AgencyCode] | None:
        """Find the token and the recipient of one of our own deliveries."""

        def work(connection: sqlite3.Connection) -> tuple[Sent, AgencyCode] | None:
            row = connection.execute(_ADDRESSED, (str(delivery_id),)).fetchone()
            sent = None if row is None else _sent(connection.execute(_FIND, (row[0],)).fetchone())
            return None if sent is None else (sent, AgencyCode(row[1]))

        return await self._file.do(work)

    async def identities(self, names: Collection[NationalId]) -> Mapping[NationalId, DocumentId]:
        """Find the identities of documents that packets name, as far as they passed through here: the newest of each."""

        def work(connection: sqlite3.Connection) -> dict[NationalId, DocumentId]:
            found = {name: _sent_or_arrived(connection, name) for name in names}
            return {name: identity for name, identity in found.items() if identity is not None}

        return await self._file.do(work)

    async def meant(self, name: NationalId, status: str, *, recipient: AgencyCode) -> DocumentId | None:
        """Say which document a status is about that a packet calls by the DocumentId of its sender.

        15 and 16 answer what asked last: a document that recalls, updates or replaces the one of this name, or a 13.
        """

        def work(connection: sqlite3.Connection) -> DocumentId | None:
            if status == "13":
                return _first(connection, _SENT_UNDER, (name.agency, name.document))
            if status in ("15", "16"):
                asked = _first(connection, _LAST_ASKED, (name.agency, name.document, recipient))
                if asked is not None:
                    return asked
            return _first(connection, _ARRIVED_UNDER, (name.agency, name.document, recipient, recipient))

        return await self._file.do(work)

    async def names_of(self, documents: Collection[DocumentId]) -> Mapping[DocumentId, NationalId]:
        """Say what packets call documents, as far as these passed through here."""

        def work(connection: sqlite3.Connection) -> dict[DocumentId, NationalId]:
            return _names(connection, documents)

        return await self._file.do(work)

    async def arrival(self, delivery_id: DeliveryId) -> Arrived | None:
        """Find a document that was fetched."""
        return await self._file.do(
            lambda connection: _arrived(connection.execute(_FIND_ARRIVED, (str(delivery_id),)).fetchone())
        )

    async def keep(self, arrived: Arrived, refs: Collection[DocumentId]) -> None:
        """Note that a document has been fetched, and what it asks of its recipient, unless that is known."""

        def work(connection: sqlite3.Connection) -> None:
            row = (
                str(arrived.delivery_id),
                arrived.document_id,
                arrived.sender,
                arrived.recipient,
                arrived.national_id,
                arrived.action,
                arrived.token,
                arrived.at,
            )
            connection.execute(_KEEP, row)
            connection.execute(_ASK_AFTER, (arrived.national_id, arrived.document_id))
            connection.execute(_NO_LONGER_BEFORE, (arrived.document_id,))
            if arrived.action != "new":
                _note_request(connection, arrived, refs)

        await self._file.do(work)

    async def ask(self, arrived: Arrived, at_s: int) -> None:
        """Note that its sender has asked for a document by status 13."""
        row = (arrived.sender, arrived.national_id, arrived.recipient, arrived.document_id, at_s)
        await self._change(_ASK, [row])

    async def forget(self, before: datetime) -> None:
        """Delete what was sent and arrived before a moment; keep at least the time in which statuses may come."""
        moment = int(before.timestamp())

        def work(connection: sqlite3.Connection) -> None:
            for statement in _FORGET:
                connection.execute(statement, (moment,))

        await self._file.do(work)

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)

        await self._file.do(work)


def _note_request(connection: sqlite3.Connection, arrived: Arrived, refs: Collection[DocumentId]) -> None:
    known = _names(connection, refs)
    for national_id in sorted({arrived.national_id, *(name.document for name in known.values())}):
        connection.execute(_ASK, (arrived.sender, national_id, arrived.recipient, arrived.document_id, arrived.at))
    for earlier in sorted(set(refs) - known.keys()):
        connection.execute(_ASK_BEFORE, (earlier, arrived.sender, arrived.recipient, arrived.document_id, arrived.at))


def _insert(
    connection: sqlite3.Connection, key: Key, drawn: Drawn, file: str, earlier: DocumentId | None = None
) -> Sent:
    document_id, token = drawn.document_id, drawn.token
    row = (document_id, key.agency, key.national_id, key.kind, key.digest, file, token, drawn.at, earlier)
    connection.execute(_DRAW, row)
    connection.executemany(
        _ADDRESS,
        [(str(delivery_id_of(document_id, recipient)), document_id, recipient) for recipient in drawn.recipients],
    )
    return Sent(document_id, key, file, token, drawn.at, confirmed=False, refused=(), earlier=earlier)


def _same(connection: sqlite3.Connection, key: Key) -> Sent | None:
    values = (key.agency, key.national_id, key.kind, key.digest)
    return _sent(connection.execute(_FIND_SAME, values).fetchone())


def _other(connection: sqlite3.Connection, key: Key) -> Sent | None:
    if key.kind != "new":
        return None
    return _sent(connection.execute(_FIND_OTHER, (key.agency, key.national_id, key.digest)).fetchone())


def _sent(row: Sequence[Any] | None) -> Sent | None:
    if row is None:
        return None
    document_id, agency, national_id, kind, digest, file, token, drawn_at, confirmed, refused, earlier = row
    problems = tuple(Told(**each) for each in json.loads(refused))
    key = Key(agency, national_id, kind, digest)
    return Sent(document_id, key, file, token, drawn_at, bool(confirmed), problems, earlier)


def _arrived(row: Sequence[Any] | None) -> Arrived | None:
    if row is None:
        return None
    delivery_id, *rest = row
    return Arrived(DeliveryId(UUID(delivery_id)), *rest)


def _first(connection: sqlite3.Connection, query: str, values: Sequence[Any]) -> DocumentId | None:
    row = connection.execute(query, values).fetchone()
    return None if row is None else DocumentId(row[0])


def _sent_or_arrived(connection: sqlite3.Connection, name: NationalId) -> DocumentId | None:
    values = (name.agency, name.document)
    return _first(connection, _SENT_UNDER, values) or _first(connection, _ARRIVED_UNDER, (*values, None, None))


def _names(connection: sqlite3.Connection, documents: Collection[DocumentId]) -> dict[DocumentId, NationalId]:
    found = {document: connection.execute(_NAME_OF, (document, document)).fetchone() for document in documents}
    return {document: NationalId(*row) for document, row in found.items() if row is not None}
