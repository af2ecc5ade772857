"""What has arrived for those who come for it later, and what they have handed in: a SQLite file.

```
arrival      document:  waiting ──answer──► answered ──mark_told──► told        (received, refused: final)
                           ▲                              │
                           └──── keep, after `failed` ────┘   a new number: it is listed once more, as was asked for
             letter:    a receipt, status or notice; asks for no answer

submission   waiting ──mark_confirmed──► submitted ──first word of a recipient──► accepted
                                             └───────────notice of the hub──────► refused, parked
```

**Numbers.** Every arrival gets the next number from the one writer, and nobody sees it before its commit is on disk
(`adapters.sqlite_file`). So numbers appear in their own order: who has read up to *n* and asks for what comes after
*n* misses nothing and gets nothing twice, however many read and write. A number is never used again.

**Keys.** An arrival is unique by its delivery id, a submission by its identity and by the key that its sender chose.

Not here: what is sent and received (`adapters.gateway.loops`), and what it looks like over HTTP.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast
from uuid import UUID

from adapters.arrivals import Reply
from adapters.sqlite_file import SqliteFile
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Answer, Notice, Receipt, Status

Kind = Literal["document", "receipt", "status", "notice"]
LETTERS: Final[tuple[Kind, ...]] = ("receipt", "status", "notice")

SubmissionState = Literal["waiting", "submitted", "accepted", "refused", "parked"]
"""`waiting`: written down here. `submitted`: the broker has it. `accepted`: a recipient or the hub has spoken of it as
of a document that is on its way. `refused`, `parked`: the hub turned it down, or put it aside."""

RecipientOutcome = Literal["received", "failed", "refused", "expired"]

_RANK: Final[dict[str | None, int]] = {None: 0, "failed": 1, "expired": 2, "received": 3, "refused": 3}


@dataclass(frozen=True, slots=True)
class Arrived:
    """Something that has arrived and is believed.

    Attributes:
        delivery_id: Never changes.
        kind: What it is.
        recipient: Which of our agencies it is for.
        sender: Who signed it or spoke through the signer.
        document_id: The document that it is or is about; absent for what is about several or none.
        summary: JSON of what a list shows.
        token: The signed bytes.
    """

    delivery_id: DeliveryId
    kind: Kind
    recipient: AgencyCode
    sender: AgencyCode
    document_id: DocumentId | None
    summary: str
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """An arrival as the mailbox has it, without its bytes.

    Attributes:
        seq: Its number.
        delivery_id: As in `Arrived`; so are the next five.
        arrived_at: When it was written down, seconds since 1970 UTC.
        answer: What was answered; absent while nothing was, and for letters.
        told: Whether the axis has the receipt.
    """

    seq: int
    delivery_id: DeliveryId
    kind: Kind
    recipient: AgencyCode
    sender: AgencyCode
    document_id: DocumentId | None
    summary: str
    arrived_at: int
    answer: Answer | None
    told: bool

    @property
    def reply(self) -> Reply:
        """The answer with what its receipt needs."""
        assert self.answer is not None
        return Reply(self.recipient, self.sender, self.answer)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A document that was signed and is to be written down.

    Attributes:
        document_id: Its identity.
        key: What its sender calls it, so that a repetition is known.
        request: SHA-256 of what was asked for under that key.
        sender: The agency it is from.
        national: What packets call it: unique for one sender, as a rule.
        recipients: The agencies it is for, as far as the directory here tells.
        grouped: Whether it names groups, whose members only the hub decides.
        token: The signed bytes.
    """

    document_id: DocumentId
    key: str
    request: str
    sender: AgencyCode
    national: str
    recipients: tuple[AgencyCode, ...]
    grouped: bool
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What stands under a key: which document, made of which request."""

    document_id: DocumentId
    request: str


@dataclass(frozen=True, slots=True)
class SentStatus:
    """A business status that a recipient has set; times in seconds since 1970 UTC."""

    status: str
    at: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Addressed:
    """One recipient of a submission, and what is known of it.

    Attributes:
        recipient: Its code.
        delivery_id: What the axis calls the delivery.
        outcome: What it answered, or `expired`; absent while nothing is known.
        at: When.
        code: Why, where something went wrong.
        detail: The same for people.
        statuses: The business statuses that came, oldest first.
    """

    recipient: AgencyCode
    delivery_id: DeliveryId
    outcome: RecipientOutcome | None
    at: int | None
    code: str | None
    detail: str | None
    statuses: tuple[SentStatus, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission, and what is known of it; times in seconds since 1970 UTC.

    Attributes:
        document_id: Identity of the document.
        key: What its sender calls it.
        sender: The agency it is from.
        state: Where it stands.
        created_at: When it was written down.
        confirmed_at: When the broker had it.
        problems: JSON of the hub's problems with it, one list.
        recipients: By code.
    """

    document_id: DocumentId
    key: str
    sender: AgencyCode
    state: SubmissionState
    created_at: int
    confirmed_at: int | None
    problems: str
    recipients: tuple[Addressed, ...]


_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE arrival (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL CHECK (kind IN ('document', 'receipt', 'status', 'notice')),
    recipient   TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    document_id TEXT,
    summary     TEXT    NOT NULL,
    token       BLOB    NOT NULL,
    arrived_at  INTEGER NOT NULL,
    outcome     TEXT    CHECK (outcome IN ('received', 'failed', 'refused')),
    answered_at INTEGER,
    code        TEXT,
    detail      TEXT,
    told        INTEGER NOT NULL DEFAULT 0,
    announced   INTEGER NOT NULL
);
CREATE INDEX arrival_by_kind ON arrival (kind, seq);
CREATE INDEX arrival_by_recipient ON arrival (recipient, seq);
CREATE INDEX arrival_unanswered ON arrival (seq) WHERE kind = 'document' AND outcome IS NULL;
CREATE INDEX arrival_untold ON arrival (seq) WHERE outcome IS NOT NULL AND told = 0;
CREATE INDEX arrival_unannounced ON arrival (recipient, seq) WHERE announced = 0;
CREATE TABLE submission (
    document_id  TEXT    PRIMARY KEY,
    key          TEXT    NOT NULL UNIQUE,
    request      TEXT    NOT NULL,
    sender       TEXT    NOT NULL,
    national     TEXT    NOT NULL,
    grouped      INTEGER NOT NULL,
    token        BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER,
    verdict      TEXT    CHECK (verdict IN ('accepted', 'refused', 'parked')),
    problems     TEXT    NOT NULL DEFAULT '[]'
);
CREATE INDEX submission_waiting ON submission (created_at) WHERE confirmed_at IS NULL;
CREATE INDEX submission_national ON submission (sender, national);
CREATE INDEX submission_grouped ON submission (sender) WHERE grouped = 1;
CREATE TABLE addressed (
    delivery_id TEXT PRIMARY KEY,
    document_id TEXT NOT NULL REFERENCES submission,
    recipient   TEXT NOT NULL,
    outcome     TEXT CHECK (outcome IN ('received', 'failed', 'refused', 'expired')),
    at          INTEGER,
    code        TEXT,
    detail      TEXT
) WITHOUT ROWID;
CREATE INDEX addressed_by_document ON addressed (document_id, recipient);
CREATE TABLE status (
    document_id TEXT    NOT NULL,
    recipient   TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    detail      TEXT,
    PRIMARY KEY (document_id, recipient, at, status)
) WITHOUT ROWID;
"""

_INSERT_ARRIVAL: Final = """
INSERT INTO arrival (delivery_id, kind, recipient, sender, document_id, summary, token, arrived_at, announced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_KEPT: Final = """
seq, delivery_id, kind, recipient, sender, document_id, summary, arrived_at, outcome, answered_at, code, detail, told
"""
_FIND_OUTCOME: Final = "SELECT outcome FROM arrival WHERE delivery_id = ?"
_DROP: Final = "DELETE FROM arrival WHERE delivery_id = ?"
_FIND_KEPT: Final = f"SELECT {_KEPT} FROM arrival WHERE delivery_id = ?"  # noqa: S608 - a constant
_FIND_TOKEN: Final = "SELECT token FROM arrival WHERE delivery_id = ?"  # noqa: S105 - no password
_ANSWER: Final = """
UPDATE arrival SET outcome = ?, answered_at = ?, code = ?, detail = ?, announced = 1 WHERE delivery_id = ?
"""
_UNTOLD: Final = f"""
SELECT {_KEPT} FROM arrival WHERE outcome IS NOT NULL AND told = 0 ORDER BY seq LIMIT ?
"""  # noqa: S608 - a constant
_MARK_TOLD: Final = "UPDATE arrival SET told = 1 WHERE seq = ?"
_UNANNOUNCED: Final = f"""
SELECT {_KEPT} FROM arrival
WHERE seq IN (SELECT min(seq) FROM arrival WHERE announced = 0 GROUP BY recipient) ORDER BY seq LIMIT ?
"""  # noqa: S608 - a constant
_NEXT_UNANNOUNCED: Final = f"""
SELECT {_KEPT} FROM arrival WHERE announced = 0 AND recipient = ? ORDER BY seq LIMIT 1
"""  # noqa: S608 - a constant
_MARK_ANNOUNCED: Final = "UPDATE arrival SET announced = 1 WHERE seq = ?"

_FIND_CLAIM: Final = "SELECT document_id, request FROM submission WHERE key = ?"
_COUNT_WAITING: Final = "SELECT count(*) FROM submission WHERE confirmed_at IS NULL"
_INSERT_SUBMISSION: Final = """
INSERT INTO submission (document_id, key, request, sender, national, grouped, token, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_ADDRESSED: Final = """
INSERT INTO addressed (delivery_id, document_id, recipient) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
"""
_NAMED: Final = """
SELECT document_id FROM submission WHERE sender = ? AND national = ? ORDER BY created_at DESC LIMIT 1
"""
_NATIONAL: Final = "SELECT sender, national FROM submission WHERE document_id = ?"
_WAITING: Final = """
SELECT document_id, token FROM submission WHERE confirmed_at IS NULL ORDER BY created_at LIMIT ?
"""
_MARK_CONFIRMED: Final = "UPDATE submission SET confirmed_at = ? WHERE document_id = ? AND confirmed_at IS NULL"
_FIND_SUBMISSION: Final = """
SELECT key, sender, verdict, created_at, confirmed_at, problems FROM submission WHERE document_id = ?
"""
_LIST_ADDRESSED: Final = """
SELECT recipient, delivery_id, outcome, at, code, detail FROM addressed WHERE document_id = ? ORDER BY recipient
"""
_LIST_STATUSES: Final = "SELECT recipient, status, at, detail FROM status WHERE document_id = ? ORDER BY at, status"
_FIND_ADDRESSED: Final = "SELECT document_id, outcome, at FROM addressed WHERE delivery_id = ?"
_LIST_GROUPED: Final = "SELECT document_id FROM submission WHERE grouped = 1 AND sender = ?"
_IS_GROUPED: Final = "SELECT 1 FROM submission WHERE document_id = ? AND grouped = 1"
_SET_OUTCOME: Final = "UPDATE addressed SET outcome = ?, at = ?, code = ?, detail = ? WHERE delivery_id = ?"
_ACCEPT: Final = "UPDATE submission SET verdict = 'accepted' WHERE document_id = ? AND verdict IS NULL"
_TURN_DOWN: Final = """
UPDATE submission SET verdict = ?, problems = ? WHERE document_id = ? AND (verdict IS NULL OR verdict != 'accepted')
"""
_INSERT_STATUS: Final = "INSERT INTO status VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"

_FORGET: Final = (
    "DELETE FROM arrival WHERE kind != 'document' AND arrived_at < ?",
    "DELETE FROM arrival WHERE told = 1 AND answered_at < ?",
    "DELETE FROM addressed WHERE document_id IN (SELECT document_id FROM submission WHERE confirmed_at < ?)",
    "DELETE FROM status WHERE document_id IN (SELECT document_id FROM submission WHERE confirmed_at < ?)",
    "DELETE FROM submission WHERE confirmed_at < ?",
)


class Mailbox:
    """One open mailbox.

    Args:
        file: Where it lives; made when missing. Its folder must exist and keep what it is told (no tmpfs).
        announces: Whether arrivals are to be announced to a webhook; those written down before never are.

    Raises:
        Unusable: A106 when the file cannot be opened or another process holds it. All methods raise it too.
    """

    def __init__(self, file: Path, *, announces: bool = False) -> None:
        self._file = SqliteFile(file, _SCHEMA, version=_VERSION, code="A106")
        self._announces = announces

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is waiting and close the file; a second call changes nothing."""
        self._file.close()

    async def keep(self, document: Arrived, now: datetime) -> bool:
        """Write a document down, unless it is there; tells whether it is to be handed over now."""

        def work(connection: sqlite3.Connection) -> bool:
            found = connection.execute(_FIND_OUTCOME, (str(document.delivery_id),)).fetchone()
            if found is not None and found[0] != "failed":
                return False
            connection.execute(_DROP, (str(document.delivery_id),))
            self._insert(connection, document, now)
            return True

        return await self._file.do(work)

    async def note(self, letter: Arrived, content: Receipt | Status | Notice, now: datetime) -> bool:
        """Write a letter down and what it says about our submissions; tells whether it is new."""

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(_FIND_OUTCOME, (str(letter.delivery_id),)).fetchone() is not None:
                return False
            self._insert(connection, letter, now)
            match content:
                case Receipt():
                    _apply_receipt(connection, content)
                case Status():
                    _apply_status(connection, content)
                case Notice():
                    _apply_notice(connection, content)
            return True

        return await self._file.do(work)

    async def arrivals(
        self,
        kinds: Sequence[Kind],
        *,
        after: int,
        limit: int,
        recipient: AgencyCode | None = None,
        unanswered: bool = False,
    ) -> list[Kept]:
        """List arrivals by number, from the first one after a number."""
        conditions = [f"seq > ? AND kind IN ({', '.join('?' * len(kinds))})"]
        values: list[Any] = [after, *kinds]
        if recipient is not None:
            conditions.append("recipient = ?")
            values.append(recipient)
        if unanswered:
            conditions.append("kind = 'document' AND outcome IS NULL")
        query = f"SELECT {_KEPT} FROM arrival WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT ?"  # noqa: S608 - no value is in it
        return await self._list(query, (*values, limit))

    async def find(self, delivery_id: DeliveryId) -> Kept | None:
        """Find an arrival."""
        found = await self._list(_FIND_KEPT, (str(delivery_id),))
        return found[0] if found else None

    async def token(self, delivery_id: DeliveryId) -> bytes | None:
        """Give the signed bytes of an arrival."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute(_FIND_TOKEN, (str(delivery_id),)).fetchone()
            return None if row is None else cast("bytes", row[0])

        return await self._file.do(work)

    async def answer(self, delivery_id: DeliveryId, answer: Answer) -> Kept | None:
        """Write the answer to a document down, unless one is there; gives the arrival as it is then."""

        def work(connection: sqlite3.Connection) -> Kept | None:
            row = connection.execute(_FIND_KEPT, (str(delivery_id),)).fetchone()
            if row is None or (kept := _kept(row)).answer is not None or kept.kind != "document":
                return None if row is None else _kept(row)
            values = (answer.outcome, answer.at, answer.code, answer.detail, str(delivery_id))
            connection.execute(_ANSWER, values)
            return _kept(connection.execute(_FIND_KEPT, (str(delivery_id),)).fetchone())

        return await self._file.do(work)

    async def untold(self, limit: int) -> list[Kept]:
        """List documents that are answered, but whose receipt is not known to be out."""
        return await self._list(_UNTOLD, (limit,))

    async def mark_told(self, arrivals: Sequence[Kept]) -> None:
        """Mark that the receipts of documents are out."""
        await self._change(_MARK_TOLD, [(kept.seq,) for kept in arrivals])

    async def unannounced(self, limit: int) -> list[Kept]:
        """List for each recipient the first arrival that was not announced."""
        return await self._list(_UNANNOUNCED, (limit,))

    async def next_unannounced(self, recipient: AgencyCode) -> Kept | None:
        """Find the first arrival of one recipient that was not announced."""
        found = await self._list(_NEXT_UNANNOUNCED, (recipient,))
        return found[0] if found else None

    async def mark_announced(self, kept: Kept) -> None:
        """Mark that an arrival was announced."""
        await self._change(_MARK_ANNOUNCED, [(kept.seq,)])

    async def claim(self, key: str) -> Claim | None:
        """Say what stands under a key."""
        return await self._file.do(lambda connection: _find_claim(connection, key))

    async def submit(self, drawn: Drawn, now: datetime, *, max_waiting: int) -> Claim | None:
        """Write a document down under its key, unless something stands there; says what stands there then.

        Returns:
            What stands under the key; or `None` when too many documents wait already.
        """

        def work(connection: sqlite3.Connection) -> Claim | None:
            found = _find_claim(connection, drawn.key)
            if found is not None:
                return found
            (waiting,) = connection.execute(_COUNT_WAITING).fetchone()
            if waiting >= max_waiting:
                return None
            moment = int(now.timestamp())
            row = (
                drawn.document_id,
                drawn.key,
                drawn.request,
                drawn.sender,
                drawn.national,
                drawn.grouped,
                drawn.token,
                moment,
            )
            connection.execute(_INSERT_SUBMISSION, row)
            connection.executemany(
                _INSERT_ADDRESSED,
                [
                    (str(delivery_id_of(drawn.document_id, recipient)), drawn.document_id, recipient)
                    for recipient in drawn.recipients
                ],
            )
            return Claim(drawn.document_id, drawn.request)

        return await self._file.do(work)

    async def named(self, sender: str, national: str) -> DocumentId | None:
        """Find the newest document that packets of its sender call so, among those that were handed in here."""
        return await self._file.do(lambda connection: _first_of(connection.execute(_NAMED, (sender, national))))

    async def national(self, document_id: DocumentId) -> tuple[AgencyCode, str] | None:
        """Say whose a document is and what packets call it, if it was handed in here."""
        return await self._file.do(lambda connection: connection.execute(_NATIONAL, (document_id,)).fetchone())

    async def waiting(self, limit: int) -> list[tuple[DocumentId, bytes]]:
        """List documents that the broker is not known to have, with their bytes."""
        return await self._file.do(lambda connection: connection.execute(_WAITING, (limit,)).fetchall())

    async def mark_confirmed(self, document_ids: Sequence[DocumentId], now: datetime) -> None:
        """Mark that the broker has documents."""
        moment = int(now.timestamp())
        await self._change(_MARK_CONFIRMED, [(moment, document_id) for document_id in document_ids])

    async def submission(self, document_id: DocumentId) -> Submission | None:
        """Say what is known of a submission."""
        return await self._file.do(lambda connection: _find_submission(connection, document_id))

    async def forget(self, before: datetime) -> None:
        """Delete what was done with before a moment: never a document without an answer that the axis has.

        Keep at least the greatest lifetime of a document (30 days) and the time in which a sender may repeat a key.
        """
        moment = int(before.timestamp())

        def work(connection: sqlite3.Connection) -> None:
            for statement in _FORGET:
                connection.execute(statement, (moment,))

        await self._file.do(work)

    def _insert(self, connection: sqlite3.Connection, arrived: Arrived, now: datetime) -> None:
        row = (
            str(arrived.delivery_id),
            arrived.kind,
            arrived.recipient,
            arrived.sender,
            arrived.document_id,
            arrived.summary,
            arrived.token,
            int(now.timestamp()),
            not self._announces,
        )
        connection.execute(_INSERT_ARRIVAL, row)

    async def _list(self, query: str, values: Sequence[Any]) -> list[Kept]:
        return await self._file.do(lambda connection: [_kept(row) for row in connection.execute(query, values)])

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)

        await self._file.do(work)


def _kept(row: Sequence[Any]) -> Kept:
    seq, delivery_id, kind, recipient, sender, document_id, summary, arrived_at, outcome, at, code, detail, told = row
    answer = None if outcome is None else Answer(delivery=delivery_id, outcome=outcome, at=at, code=code, detail=detail)
    identity = DeliveryId(UUID(delivery_id))
    return Kept(seq, identity, kind, recipient, sender, document_id, summary, arrived_at, answer, bool(told))


def _first_of(cursor: sqlite3.Cursor) -> Any:
    row = cursor.fetchone()
    return None if row is None else row[0]


def _find_claim(connection: sqlite3.Connection, key: str) -> Claim | None:
    row = connection.execute(_FIND_CLAIM, (key,)).fetchone()
    return None if row is None else Claim(*row)


def _find_submission(connection: sqlite3.Connection, document_id: DocumentId) -> Submission | None:
    row = connection.execute(_FIND_SUBMISSION, (document_id,)).fetchone()
    if row is None:
        return None
    key, sender, verdict, created_at, confirmed_at, problems = row
    state: SubmissionState = verdict or ("waiting" if confirmed_at is None else "submitted")
    statuses: dict[str, list[SentStatus]] = {}
    for recipient, *facts in connection.execute(_LIST_STATUSES, (document_id,)):
        statuses.setdefault(recipient, []).append(SentStatus(*facts))
    recipients = tuple(
        Addressed(
            recipient, DeliveryId(UUID(delivery_id)), outcome, at, code, detail, tuple(statuses.get(recipient, ()))
        )
        for recipient, delivery_id, outcome, at, code, detail in connection.execute(_LIST_ADDRESSED, (document_id,))
    )
    return Submission(document_id, key, sender, state, created_at, confirmed_at, problems, recipients)


def _apply_receipt(connection: sqlite3.Connection, receipt: Receipt) -> None:
    for answer in receipt.answers:
        delivery_id = answer.delivery_id
        if connection.execute(_FIND_ADDRESSED, (str(delivery_id),)).fetchone() is None and receipt.to is not None:
            _find_member(connection, receipt.to, receipt.from_, delivery_id)
        _set_outcome(connection, delivery_id, (answer.outcome, answer.at, answer.code, answer.detail))


def _apply_status(connection: sqlite3.Connection, status: Status) -> None:
    """Add a status to a submission; one about a document of others is a letter and no more."""
    if _addressed(connection, status.document, status.from_) is not None:
        connection.execute(_INSERT_STATUS, (status.document, status.from_, status.at, status.status, status.detail))
        connection.execute(_ACCEPT, (status.document,))


def _apply_notice(connection: sqlite3.Connection, notice: Notice) -> None:
    if notice.document is None:
        return
    match notice.kind:
        case "refused" | "parked":
            problems = json.dumps([problem.model_dump() for problem in notice.problems], ensure_ascii=False)
            connection.execute(_TURN_DOWN, (notice.kind, problems, notice.document))
        case "expiring":  # so it is under way; the letter itself says for whom it gets late
            connection.execute(_ACCEPT, (notice.document,))
        case "expired":
            _apply_expiry(connection, notice.document, notice)


def _apply_expiry(connection: sqlite3.Connection, document_id: DocumentId, notice: Notice) -> None:
    if notice.recipient is None:
        return
    delivery_id = _addressed(connection, document_id, notice.recipient)
    if delivery_id is not None:
        first = notice.problems[0]
        _set_outcome(connection, delivery_id, ("expired", notice.at, first.code, first.vi[:500]))


def _find_member(
    connection: sqlite3.Connection, sender: AgencyCode, recipient: AgencyCode, delivery_id: DeliveryId
) -> None:
    """Find out which document to a group a receipt is about, and add the member that the directory here lacked."""
    for (document_id,) in connection.execute(_LIST_GROUPED, (sender,)).fetchall():
        if delivery_id_of(document_id, recipient) == delivery_id:
            connection.execute(_INSERT_ADDRESSED, (str(delivery_id), document_id, recipient))
            return


def _addressed(connection: sqlite3.Connection, document_id: DocumentId, recipient: AgencyCode) -> DeliveryId | None:
    """Name our delivery to a recipient, adding a member of a group that the directory here lacked."""
    delivery_id = delivery_id_of(document_id, recipient)
    if connection.execute(_IS_GROUPED, (document_id,)).fetchone() is not None:
        connection.execute(_INSERT_ADDRESSED, (str(delivery_id), document_id, recipient))
    found = connection.execute(_FIND_ADDRESSED, (str(delivery_id),)).fetchone()
    return None if found is None else delivery_id


def _set_outcome(
    connection: sqlite3.Connection,
    delivery_id: DeliveryId,
    told: tuple[RecipientOutcome, int, str | None, str | None],
) -> None:
    """Note what became of a delivery; letters may come twice and out of order, so only what says more counts."""
    found = connection.execute(_FIND_ADDRESSED, (str(delivery_id),)).fetchone()
    if found is None:
        return
    document_id, known, known_at = found
    outcome, at, _, _ = told
    if says_more(known, known_at, outcome, at):
        connection.execute(_SET_OUTCOME, (*told, str(delivery_id)))
    connection.execute(_ACCEPT, (document_id,))


def says_more(known: str | None, known_at: int | None, outcome: str, at: int) -> bool:
    """Tell whether an outcome replaces the known one: of two failures the later, of two final ones the first."""
    if _RANK[outcome] != _RANK[known]:
        return _RANK[outcome] > _RANK[known]
    return outcome == "failed" and at > (known_at or 0)
