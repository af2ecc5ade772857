"""The file of a month that has moved out of the ledger, and the manifest beside it. No database here.

```
truc-2026-11.sql.gz    a script for psql: the signed objects and the events, as tables of a schema truc_2026_11
truc-2026-11.json      the manifest: how much there is of what, and the digests by which that is checked
```

The manifest is written last. A file without one is not finished; a file with one was read back from the disk before.
"""

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.core.trouble import Trouble
from schemas.signing import identity

Table = Literal["signed_objects", "ledger"]

_COLUMNS: Final[Mapping[Table, str]] = {
    "signed_objects": "object_id text, stored_at timestamptz, typ text, token text",
    "ledger": "event_id bigint, at timestamptz, event text, actor text, document_id text, delivery_id uuid, code text,"
    " state text, detail jsonb",
}
_END: Final = b"\\.\n"
_LEVEL: Final = 1
"""Of compression: a third of the time that the usual level takes, for a file that is a seventh larger."""

Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Content(_Model):
    """What the file has of one table.

    Attributes:
        rows: How many rows.
        sha256: Digest of all of them, as PostgreSQL's COPY writes them.
    """

    rows: Count
    sha256: str


class Manifest(_Model):
    """What a month had in it when it moved out.

    Attributes:
        version: Of this format.
        month: Such as `2026-11`.
        since: Its first moment; absent for the first month of a ledger, which reaches back to the beginning.
        until: The first moment behind it.
        file: Name of the file, which lies beside the manifest.
        bytes: Its length.
        sha256: Its digest.
        tables: What is in it.
        first_event, last_event: Numbers of its first and last event; absent where there is none.
        documents: Documents accepted in the month.
        owed: Recipients of them and of what was redirected in it, by its events.
        deliveries: Deliveries of these documents.
        documents_by_tier: The documents, by the sender's tier.
        deliveries_by_tier: Their deliveries, by the recipient's tier and the state in which they were.
        letters_by_state: Deliveries of receipts, statuses and notices of the month, by state.
        events: Events, by kind.
        revision: Of the tables that it was taken from.
        written_at: When.
        actor, reason: By whom and why.
    """

    version: Literal[1] = 1
    month: str
    since: datetime | None
    until: datetime
    file: str
    bytes: Count
    sha256: str
    tables: Mapping[Table, Content]
    first_event: int | None
    last_event: int | None
    documents: Count
    owed: Count
    deliveries: Count
    documents_by_tier: Mapping[str, Count]
    deliveries_by_tier: Mapping[str, Mapping[str, Count]]
    letters_by_state: Mapping[str, Count]
    events: Mapping[str, Count]
    revision: str
    written_at: datetime
    actor: str
    reason: str


Fault = Literal["manifest", "missing", "unreadable", "bytes", "sha256", "rows", "content", "identity", "events"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file.

    Attributes:
        fault: Which kind: no manifest, no file, not to be read, another length, other bytes, another number of rows,
            other rows, a signed object that is not the one of its identity, events outside the range.
        about: Where.
    """

    fault: Fault
    about: str


class ArchiveWriter:
    """A file that is being written, compressed; it has another name until it is complete.

    Args:
        folder: Where to.
        month: Which month it is about.
    """

    def __init__(self, folder: Path, month: date) -> None:
        self.path = file_of(folder, month)
        self._schema = f"truc_{month:%Y_%m}"
        self._unfinished = self.path.with_suffix(".unfinished")
        with _writing(self.path):
            self._file = _open_new(self._unfinished)
        self._packing = zlib.compressobj(_LEVEL, wbits=31)
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._rows = 0
        self._rows_digest = hashlib.sha256()
        self._put(f"-- Trục {month:%Y-%m}\nCREATE SCHEMA {self._schema};\n".encode())

    def begin(self, table: Table) -> None:
        """Begin with the rows of a table."""
        self._rows, self._rows_digest = 0, hashlib.sha256()
        name = f"{self._schema}.{table}"
        self._put(f"CREATE TABLE {name} ({_COLUMNS[table]});\nCOPY {name} FROM stdin;\n".encode())

    def write(self, rows: bytes) -> None:
        """Write a piece of the rows, as COPY gives them; it may end within one."""
        self._rows += rows.count(b"\n")
        self._rows_digest.update(rows)
        self._put(rows)

    def end(self) -> Content:
        """End the rows of a table; returns what there is of it."""
        self._put(_END)
        return Content(rows=self._rows, sha256=self._rows_digest.hexdigest())

    def finish(self) -> tuple[int, str]:
        """Let the complete file be on the disk under its name; returns its length and digest."""
        self._keep(self._packing.flush())
        with _writing(self.path):
            _name(self._file, self._unfinished, self.path)
        return self._bytes, self._digest.hexdigest()

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _put(self, content: bytes) -> None:
        self._keep(self._packing.compress(content))

    def _keep(self, packed: bytes) -> None:
        with _writing(self.path):
            self._file.write(packed)
        self._digest.update(packed)
        self._bytes += len(packed)


def file_of(folder: Path, month: date) -> Path:
    """Say what the file of a month is called."""
    return folder / f"truc-{month:%Y-%m}.sql.gz"


def manifest_of(path: Path) -> Path:
    """Say what the manifest of a file is called; a manifest is its own."""
    return path if path.suffix == ".json" else path.with_name(path.name.removesuffix(".sql.gz") + ".json")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Let the manifest be on the disk, whole or not at all."""
    path = manifest_of(folder / manifest.file)
    unfinished = path.with_suffix(".unfinished")
    with _writing(path), _open_new(unfinished) as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        _name(file, unfinished, path)


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest of a file; `None` when there is none that can be read."""
    try:
        return Manifest.model_validate_json(manifest_of(path).read_bytes())
    except (OSError, ValidationError):
        return None


def check(folder: Path, manifest: Manifest) -> list[Finding]:
    """Read a file from the disk and compare it with its manifest; returns what is wrong, nothing when all is well.

    Every signed object's identity is computed again, so this takes minutes for a month of millions.
    """
    path = folder / manifest.file
    if not path.is_file():
        return [Finding("missing", str(path))]
    with path.open("rb") as file:
        packed = _Digesting(file)
        reading = _Reading(manifest)
        try:
            with gzip.GzipFile(fileobj=io.BufferedReader(packed, 2**20)) as lines:
                reading.read(lines)
        except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: a row that is none
            return [Finding("unreadable", f"{manifest.file}: {error}")]
    findings = reading.findings()
    if packed.bytes != manifest.bytes:
        findings.append(Finding("bytes", f"{packed.bytes} instead of {manifest.bytes}"))
    if packed.digest.hexdigest() != manifest.sha256:
        findings.append(Finding("sha256", manifest.file))
    return findings


class _Digesting(io.RawIOBase):
    """Passes a file on and computes its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        piece = self._file.read(len(view))
        view[: len(piece)] = piece
        self.digest.update(piece)
        self.bytes += len(piece)
        return len(piece)


class _Reading:
    """What is found while the lines of a file go by."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._found: dict[str, Content] = {}
        self._wrong: list[Finding] = []
        self._first: int | None = None
        self._last: int | None = None

    def read(self, lines: gzip.GzipFile) -> None:
        prefix = f"COPY truc_{self._manifest.month.replace('-', '_')}."
        for line in lines:
            if line.startswith(prefix.encode()):
                table = line.decode().removeprefix(prefix).removesuffix(" FROM stdin;\n")
                self._found[table] = self._read_rows(table, _rows(lines))

    def findings(self) -> list[Finding]:
        found = list(self._wrong)
        for table, content in self._manifest.tables.items():
            there = self._found.get(table)
            if there is None or there.rows != content.rows:
                found.append(Finding("rows", f"{table}: {there.rows if there else 0} instead of {content.rows}"))
            elif there.sha256 != content.sha256:
                found.append(Finding("content", table))
        said = self._manifest.first_event, self._manifest.last_event
        if (self._first, self._last) != said:
            found.append(Finding("events", f"{self._first} to {self._last} instead of {said[0]} to {said[1]}"))
        return found

    def _read_rows(self, table: str, rows: Iterator[bytes]) -> Content:
        count, digest = 0, hashlib.sha256()
        look = self._look_at_object if table == "signed_objects" else self._look_at_event
        for row in rows:
            count += 1
            digest.update(row)
            look(row)
        return Content(rows=count, sha256=digest.hexdigest())

    def _look_at_object(self, row: bytes) -> None:
        object_id, _, _, token = row.rstrip(b"\n").split(b"\t")
        if identity(_unescaped(token)) != object_id.decode():
            self._wrong.append(Finding("identity", object_id.decode()))

    def _look_at_event(self, row: bytes) -> None:
        event_id = int(row.partition(b"\t")[0])
        self._first = event_id if self._first is None else min(self._first, event_id)
        self._last = event_id if self._last is None else max(self._last, event_id)


def _rows(lines: gzip.GzipFile) -> Iterator[bytes]:
    for line in lines:
        if line == _END:
            return
        yield line
    raise EOFError("it ends within a table")


_ESCAPED: Final = re.compile(rb"\\([0-3][0-7]{2}|[\\bfnrtv])")
_PLAIN: Final = {b"\\": b"\\", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _unescaped(token: bytes) -> bytes:
    """Read bytes of which both `encode(…, 'escape')` and COPY have escaped those that are no plain characters."""
    if b"\\" not in token:
        return token
    copied = token.replace(b"\\\\", b"\\")
    return _ESCAPED.sub(lambda escaped: _PLAIN.get(escaped[1]) or bytes([int(escaped[1], 8)]), copied)


def _open_new(path: Path) -> IO[bytes]:
    """Begin a file that only its owner reads: it has what agencies wrote to each other."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _name(file: IO[bytes], unfinished: Path, path: Path) -> None:
    """Let a complete file be on the disk, and then its name."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}; nothing was dropped") from error
