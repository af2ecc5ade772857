"""The files of a packet: out of base64 and ZIP with bounded memory, and into them.

An attachment holds either the file itself or a ZIP with the file as its one entry; its declared type does not say
which, so the bytes decide. A ZIP of several entries is the file itself (a `.docx` is one), and so is a ZIP of one entry
whose name says `.zip` unless the entry is one too. Names come from the packet, never from a ZIP.

A ZIP is judged by its directory before anything is unpacked (a bomb is a promise that its directory makes), then read
once in chunks for digest and length: a few megabytes are held at a time, and what does not keep the promise is refused. Archives inside the file's own archive are refused: nobody behind us could look into them within bounds.
"""

import hashlib
import io
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Final

from schemas.edxml.names import check_names, display_name
from schemas.edxml.packet import ENCODED, Attachment, ManifestEntry, Packet
from schemas.edxml.reader import bare_id
from schemas.envelope import Part
from schemas.refusal import Problem

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 512 * 1024 * 1024
MAX_ENTRIES: Final = 4096
MAX_RATIO: Final = 100
_MAX_DIRECTORY_BYTES: Final = 1024 * 1024
"""A million entries of a ZIP cost a gigabyte before anybody can count them; this many bytes hold `MAX_ENTRIES`."""

_RATIO_COUNTS_FROM: Final = 16 * 1024 * 1024
"""A small file may be packed as tight as it likes."""

_END_BYTES: Final = 22
_MAX_COMMENT_BYTES: Final = 65_535

_CHUNK_BYTES: Final = 64 * 1024
_ZIP_BEGINS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ARCHIVES: Final = frozenset({".zip", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz", ".tar", ".jar", ".cab", ".iso"})
_ENCRYPTED: Final = 0x1
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""What `zipfile` raises for a damaged archive."""

_MEDIA_TYPES: Final = {
    ".pdf": "application/pdf",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".ppt": "application/vnd.ms-powerpoint",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".rtf": "application/rtf",
    ".txt": "text/plain",
    ".xml": "application/xml",
    ".edxml": "application/xml",
    ".zip": "application/zip",
    ".rar": "application/vnd.rar",
    ".7z": "application/x-7z-compressed",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
_ZIPPED: Final = "application/zip"


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that is still packed; `part` describes it unpacked.

    Attributes:
        part: Its name, type, digest and length, as an envelope lists it.
        content: The file, or the ZIP that holds it.
        entry: Whether `content` is such a ZIP.
    """

    part: Part
    content: bytes
    entry: bool

    def chunks(self) -> Iterator[bytes]:
        """Unpack chunk by chunk: the very bytes whose digest is in `part`."""
        with _opened(self.content, self.entry) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def files(packet: Packet) -> tuple[tuple[PackedFile, ...], tuple[Problem, ...]]:
    """Find the files of a packet, in the order of its attachments.

    Returns:
        The files, and every problem: E508 for names, E511 for archives, E512 for damaged ones. Nothing may be stored
        when there is one.
    """
    listed = {bare_id(entry.content_id): entry for entry in packet.manifest}
    placed = [
        (f"/edXML/{ENCODED}/Attachment[{number}]", attachment, listed.get(bare_id(attachment.content_id)))
        for number, attachment in enumerate(packet.attachments, 1)
    ]
    problems = list(check_names((f"{place}/AttachmentName", _name_of(each, entry)) for place, each, entry in placed))
    named_badly = bool(problems)
    found = []
    total = 0
    for place, attachment, entry in placed:
        name = display_name(_name_of(attachment, entry))
        examined = _examined(f"{place}/ContentTransferEncoded", name, attachment.content)
        if isinstance(examined, Problem):
            problems.append(examined)
            continue
        digest, length, packed = examined
        total += length
        if total > MAX_TOTAL_BYTES:
            problems.append(_beyond(place, f"{total} bytes in all", f"tổng cộng {total} byte"))
            break
        if not named_badly:
            part = Part(name=name, media_type=_media_type_of(name, attachment, entry), sha256=digest, length=length)
            found.append(PackedFile(part, attachment.content, packed))
    return ((), tuple(problems)) if problems else (tuple(found), ())


def pack(name: str, data: bytes, media_type: str) -> tuple[ManifestEntry, Attachment]:
    """Pack a file as the standard has it: a ZIP of one entry; the same file gives the same bytes."""
    digest = hashlib.sha256(data).digest()
    entry = zipfile.ZipInfo(f"{uuid.UUID(bytes=digest[:16], version=4)}{PurePosixPath(name).suffix}")
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(entry, data)
    content_id = f"cid:{uuid.UUID(bytes=hashlib.sha256(name.encode() + digest).digest()[:16], version=4)}"
    return (
        ManifestEntry(content_id=content_id, media_type=media_type, name=name),
        Attachment(content_id=content_id, name=name, media_type=_ZIPPED, content=memory.getvalue()),
    )


def is_one_entry_zip(content: bytes) -> bool:
    """Tell whether bytes are a ZIP of exactly one entry."""
    if _directory_is_huge(io.BytesIO(content)):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return len(archive.infolist()) == 1
    except _DAMAGED:
        return False


def _name_of(attachment: Attachment, entry: ManifestEntry | None) -> str:
    return attachment.name or (entry.name if entry is not None else None) or ""


def _media_type_of(name: str, attachment: Attachment, entry: ManifestEntry | None) -> str:
    """Trust the name before the declared type: producers write `application/zip` for what is in the ZIP, and worse."""
    known = _MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())
    declared = (entry.media_type if entry is not None else None) or attachment.media_type
    if known is not None or declared is None or declared == _ZIPPED or not declared.isprintable():
        return known or "application/octet-stream"
    return declared[:127]


def _examined(place: str, name: str, content: bytes) -> tuple[str, int, bool] | Problem:
    """Judge a file and read it once; gives its digest, its length, and whether it is the entry of a ZIP."""
    try:
        packed = _packed(place, name, content)
        if isinstance(packed, Problem):
            return packed
        return *_digest_of(content, packed), packed
    except _DAMAGED as error:
        return _damaged(place, error)


def _packed(place: str, name: str, content: bytes) -> bool | Problem:
    """Tell whether the file is the entry of a ZIP, and judge every archive that has to do with it."""
    if not content.startswith(_ZIP_BEGINS):
        return False
    if _directory_is_huge(io.BytesIO(content)):
        return _beyond(place, *_TOO_MANY)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        wrapper = _is_wrapper(archive, name)
        problem = _judged(archive, place, len(content), wrapper=wrapper)
    if problem is None and wrapper:
        problem = _judged_inside(content, place)
    return wrapper if problem is None else problem


def _is_wrapper(archive: zipfile.ZipFile, name: str) -> bool:
    entries = archive.infolist()
    if len(entries) != 1 or entries[0].filename.endswith("/"):
        return False
    return not name.lower().endswith(".zip") or entries[0].filename.lower().endswith(".zip")


def _judged(archive: zipfile.ZipFile, place: str, packed_bytes: int, *, wrapper: bool) -> Problem | None:
    """Judge an archive by its directory."""
    entries = archive.infolist()
    length = sum(each.file_size for each in entries)
    if len(entries) > MAX_ENTRIES:
        return _beyond(place, f"{len(entries)} entries", f"{len(entries)} mục")
    if length > MAX_FILE_BYTES:
        return _beyond(place, f"{length} bytes unpacked", f"giải nén ra {length} byte")
    if length > _RATIO_COUNTS_FROM and length > MAX_RATIO * packed_bytes:
        ratio = length // packed_bytes
        return _beyond(place, f"packed {ratio} to 1", f"nén {ratio} lần")
    if _overlap(entries):
        return _beyond(place, "entries overlap", "các mục chồng lên nhau")
    judged = (_judged_entry(each, place, wrapper=wrapper) for each in entries)
    return next((problem for problem in judged if problem is not None), None)


def _judged_entry(entry: zipfile.ZipInfo, place: str, *, wrapper: bool) -> Problem | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return _beyond(place, "a symbolic link", "chứa liên kết tượng trưng (symlink)")
    if _leads_out(entry.filename):
        shown = ascii(entry.filename[:80])[1:-1]
        english, vietnamese = (
            f"the ZIP holds {shown}, a path that leads out",
            f"tệp nén chứa {shown}, đường dẫn ra ngoài",
        )
        return Problem("E508", place, english, vietnamese)
    if wrapper and (entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS):
        return _beyond(place, "encrypted, or packed by an unusual method", "đặt mật khẩu hoặc nén kiểu lạ")
    if not wrapper and PurePosixPath(entry.filename).suffix.lower() in _ARCHIVES:
        return _beyond(place, "an archive within an archive", "tệp nén lồng trong tệp nén")
    return None


def _directory_is_huge(file: IO[bytes]) -> bool:
    """Look at the end record of a ZIP, as `zipfile` finds it, before that reads the whole directory into memory."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(length - _MAX_COMMENT_BYTES - _END_BYTES, 0))
    tail = file.read()
    file.seek(0)
    end = len(tail) - _END_BYTES
    if end < 0 or not tail.startswith(b"PK\x05\x06", end) or not tail.endswith(b"\0\0"):
        end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + _END_BYTES:
        return False  # no ZIP; `zipfile` says so
    entries, size = struct.unpack_from("<HL", tail, end + 10)
    long_form = tail.startswith(b"PK\x06\x07", end - 20) if end >= 20 else False
    return long_form or entries > MAX_ENTRIES or size > _MAX_DIRECTORY_BYTES


def _judged_inside(content: bytes, place: str) -> Problem | None:
    """Judge an archive that is the one entry of a wrapper, without unpacking it into memory."""
    with _opened(content, entry=True) as file:
        if not file.read(4).startswith(_ZIP_BEGINS):
            return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        length = archive.infolist()[0].file_size
        # Going back in a packed file means unpacking it again from its beginning: some passes, each of them bounded.
        with archive.open(archive.infolist()[0]) as file:
            if _directory_is_huge(file):
                return _beyond(place, *_TOO_MANY)
            with zipfile.ZipFile(file) as inner:
                return _judged(inner, place, length, wrapper=False)


def _digest_of(content: bytes, packed: bool) -> tuple[str, int]:
    sha256, length = hashlib.sha256(), 0
    with _opened(content, packed) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            length += len(chunk)
    if packed and length != _promised(content):  # longer ones `zipfile` finds by itself
        raise zipfile.BadZipFile("shorter than its directory says")
    return sha256.hexdigest(), length


def _promised(content: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.infolist()[0].file_size


@contextmanager
def _opened(content: bytes, entry: bool) -> Iterator[IO[bytes]]:
    if not entry:
        yield io.BytesIO(content)
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(archive.infolist()[0]) as file:
        yield file


def _overlap(entries: list[zipfile.ZipInfo]) -> bool:
    end = 0
    for each in sorted(entries, key=lambda entry: entry.header_offset):
        if each.header_offset < end:
            return True
        end = each.header_offset + 30 + each.compress_size
    return False


def _leads_out(name: str) -> bool:
    return name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in name.split("/") or "\0" in name


_TOO_MANY: Final = (f"more than {MAX_ENTRIES} entries", f"quá {MAX_ENTRIES} mục")


def _beyond(place: str, english: str, vietnamese: str) -> Problem:
    return Problem("E511", place, english, vietnamese)


def _damaged(place: str, error: Exception) -> Problem:
    return Problem(
        "E512", place, f"a damaged ZIP: {str(error)[:120]}", "tệp nén bị hỏng, không mở được; gửi lại tệp gốc"
    )
