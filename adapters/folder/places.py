"""The folders, and all that is done in them: every file is there as a whole or not at all, and moves by renaming.

Names in outbox are somebody else's: any bytes but a slash, of any length. From them names are made that can be written
down, shown, and made longer by what lies beside a packet.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from adapters.errors import FileUnusable, Unusable
from adapters.folder.reasons import Language, Reason, json_bytes

FOLDERS: Final = ("outbox", "sending", "sent", "failed", "arriving", "inbox", "unpacked")

_UNFINISHED: Final = (".tmp", ".part")
_MAX_NAME_BYTES: Final = 160
"""What lies beside a packet has its name and more, and file systems take 255 bytes."""

_BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was taken from outbox and lies in sending.

    Attributes:
        path: Where it is.
        name: Its name, as it can be written down.
        mtime_s: When it was last written, seconds since 1970 UTC.
        length: Its size in bytes.
    """

    path: Path
    name: str
    mtime_s: int
    length: int


class Places:
    """The folders of one adapter; one process works in them.

    Args:
        root: The folder that they lie in.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.outbox, self.sending, self.sent, self.failed, self.arriving, self.inbox, self.unpacked = (
            root / name for name in FOLDERS
        )
        self.spool = root / ".spool"
        self._seen: dict[str, tuple[tuple[int, int, int], float]] = {}

    def open(self) -> None:
        """Make what is missing.

        Raises:
            Unusable: A101 when that cannot be done, or the folders are not all of one file system.
        """
        paths = [self._root / name for name in FOLDERS]
        try:
            for path in paths:
                path.mkdir(parents=True, exist_ok=True)
            self.empty(self.spool)  # what a process that died had unpacked
            devices = {path.stat().st_dev for path in paths}
        except (OSError, FileUnusable) as error:
            raise Unusable(str(error), f"không dùng được: {error}", place=f"folder {self._root}") from error
        if len(devices) > 1:
            raise Unusable(
                "its folders lie on several file systems, so that nothing can be renamed",
                "các thư mục con phải cùng nằm trên một hệ thống tệp",
                place=f"folder {self._root}",
            )

    def take(self, *, settle_s: float, most: int, most_bytes: int) -> Sequence[Taken]:
        """Take what lies ready: what an earlier process or turn has left in sending, then outbox, oldest first.

        Left where they are: files that were written to a moment ago, hidden ones, `.tmp` and `.part`, folders, links,
        and a file whose name is still under way. One file is always taken, however large.

        Raises:
            FileUnusable: When a folder cannot be read.
        """
        with translated(self.outbox):
            under_way = _files(self.sending)
            names = {file.name for file in under_way}
            found = [file for file in _files(self.outbox) if _is_offered(file) and file.name not in names]
            ready = [file for file in found if self._is_settled(file, settle_s)]
            waiting = [*sorted(under_way, key=_age), *sorted(ready, key=_age)]
            taken = [self._claim(file) for file in _within(waiting, most, most_bytes)]
            return [each for each in taken if each is not None]

    def _claim(self, file: "_File") -> Taken | None:
        path = self.sending / file.name
        try:
            file.path.rename(path)
        except FileNotFoundError:  # whoever put it there has taken it away again
            return None
        self._seen.pop(file.name, None)
        return Taken(path, plain_name(file.name), int(file.status.st_mtime), file.status.st_size)

    def _is_settled(self, file: "_File", settle_s: float) -> bool:
        """Tell whether a file has stayed as it is for long enough, by its own time or, where that lies, by ours."""
        if time.time() - file.status.st_mtime >= settle_s:
            return True
        looks = (file.status.st_size, file.status.st_mtime_ns, file.status.st_ino)
        before, since = self._seen.get(file.name, (None, 0.0))
        if before == looks:
            return time.monotonic() - since >= settle_s
        self._seen[file.name] = (looks, time.monotonic())
        return False

    def move(self, source: Path, target: Path) -> None:
        """Rename a file or folder, and have that on disk; what is not there was moved before.

        Raises:
            FileUnusable: When it cannot be done.
        """
        with translated(target):
            try:
                source.rename(target)
            except FileNotFoundError:
                if source.parent.is_dir() and target.parent.is_dir():
                    return
                raise
            _sync(source.parent)
            _sync(target.parent)

    def write(self, target: Path, data: bytes) -> None:
        """Write a file that is there as a whole and on disk, or not at all; its folder is made where it is missing.

        Raises:
            FileUnusable: When it cannot be done.
        """
        with translated(target):
            target.parent.mkdir(exist_ok=True)
            part = target.with_name(f".{target.name}.tmp")
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(target)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            _sync(target.parent)

    def write_json(self, target: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file as `write` does."""
        self.write(target, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())

    def read_json(self, file: Path) -> dict[str, Any] | None:
        """Read what `write_json` has written; nothing where nobody has.

        Raises:
            FileUnusable: When it cannot be read.
        """
        with translated(file):
            try:
                found = json.loads(file.read_bytes())
            except (FileNotFoundError, ValueError):
                return None
        return found if isinstance(found, dict) else None

    def explain(self, name: str, reason: Reason, language: Language) -> None:
        """Write a reason in failed, first for software and then for people.

        Raises:
            FileUnusable: When it cannot be done.
        """
        self.write(self.failed / f"{name}.reason.json", json_bytes(reason))
        self.write(self.failed / f"{name}.reason.txt", reason.as_text(language).encode())

    def name_in_failed(self, name: str, sha256: str | None) -> str:
        """Find the name for a packet in failed: a free one, or the one that these very bytes have there already."""
        for candidate in _numbered(name):
            owner = _owner(self.failed / f"{candidate}.reason.json")
            if owner == sha256 and owner is not None:
                return candidate
            if owner is None and not (self.failed / candidate).exists():
                return candidate
        raise AssertionError("there is always a next number")

    def remove(self, folder: Path) -> None:
        """Remove a folder with all that is in it, if it is there."""
        shutil.rmtree(folder, ignore_errors=True)

    def empty(self, folder: Path) -> None:
        """Remove a folder with all that is in it, and make it anew.

        Raises:
            FileUnusable: When it cannot be done.
        """
        with translated(folder):
            self.remove(folder)
            folder.mkdir(exist_ok=True)


def plain_name(name: str, *, most_bytes: int = _MAX_NAME_BYTES) -> str:
    """Make a name that can be written down, shown and made longer; two different ones may become the same."""
    text = name.encode("utf-8", "replace").decode()
    text = "".join(each if each.isprintable() and each not in "/\\" else "_" for each in text)
    path = PurePath(text)
    stem, suffix = (path.stem, path.suffix) if len(path.suffix) <= 20 else (text, "")
    room = most_bytes - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + suffix


def with_mark(name: str, mark: str) -> str:
    """Put a mark between a name and its extension."""
    path = PurePath(name)
    return f"{path.stem}-{mark}{path.suffix}"


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a file that is no link, but no more of it than shows that it is too large.

    Raises:
        FileUnusable: When it cannot be read.
    """
    with translated(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most_bytes + 1)


def digest_of(path: Path) -> str:
    """Compute the SHA-256 of a file of any size; raises `FileUnusable`."""
    with translated(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Make an error of ours of what the operating system says."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(path)
        shown = place.encode("utf-8", "replace").decode()
        raise FileUnusable(reason, f"không dùng được tệp: {reason}", place=shown) from error


@dataclass(frozen=True, slots=True)
class _File:
    """A file that was seen, and how it looked."""

    path: Path
    status: os.stat_result

    @property
    def name(self) -> str:
        return self.path.name


def _files(folder: Path) -> list[_File]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found.append(_File(Path(entry.path), entry.stat(follow_symlinks=False)))
    return found


def _is_offered(file: _File) -> bool:
    return not file.name.startswith(".") and not file.name.lower().endswith(_UNFINISHED)


def _age(file: _File) -> tuple[int, str]:
    return file.status.st_mtime_ns, file.name


def _within(files: Sequence[_File], most: int, most_bytes: int) -> Sequence[_File]:
    total = 0
    for number, file in enumerate(files):
        total += file.status.st_size
        if number == most or (number and total > most_bytes):
            return files[:number]
    return files


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in range(2, 1_000_000):
        yield with_mark(name, str(number))


def _owner(reason_file: Path) -> str | None:
    """Give the digest of the packet that a reason is about; nothing when there is none, or nobody can say."""
    try:
        with reason_file.open("rb") as file:
            found = json.loads(file.read(_BLOCK_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return "?"
    return str(found.get("sha256")) if isinstance(found, dict) else "?"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
