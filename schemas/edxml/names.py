"""Names of attachments: which may become the name of a file.

A name is shown and stored in composed form (NFC), so that what a Mac writes (NFD) is the same name. Nothing else is
changed: a name that could do harm as a file name anywhere is refused, never repaired, because a repaired name may meet
another one. The name as it was written stays in the bytes of the packet.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from schemas.envelope import FILE_NAME_PATTERN
from schemas.refusal import Problem

_MAX_NAME_BYTES: Final = 255
"""What file systems take."""

_NAME: Final = re.compile(FILE_NAME_PATTERN[1:-1])
_WINDOWS_CHARACTERS: Final = re.compile(r'[<>:"|?*]')
_WINDOWS_DEVICE: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE
)


def display_name(name: str) -> str:
    """Compose a name; the letters stay the same."""
    return unicodedata.normalize("NFC", name)


def unsafe(name: str) -> tuple[str, str] | None:
    """Say in English and Vietnamese why a name may not become a file's, or nothing."""
    return next((reason for is_so, reason in _REASONS if is_so(name)), None)


def check_names(names: Iterable[tuple[str, str]]) -> tuple[Problem, ...]:
    """Check the names of one packet, each given with its place: safe each, and different where case does not count."""
    problems = []
    seen: set[str] = set()
    for place, name in names:
        shown = ascii(name[:80])[1:-1]
        reason = unsafe(display_name(name))
        folded = display_name(name).casefold()
        if reason is not None:
            problems.append(Problem("E508", place, f"{shown}: {reason[0]}", f"{shown}: {reason[1]}"))
        elif folded in seen:
            problems.append(Problem("E508", place, f"{name}: two files of this name", f"{name}: hai tệp trùng tên"))
        seen.add(folded)
    return tuple(problems)


_REASONS: Final[Sequence[tuple[Callable[[str], object], tuple[str, str]]]] = (
    (lambda name: not name, ("no name", "thiếu tên tệp")),
    (
        lambda name: len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES,
        (f"longer than {_MAX_NAME_BYTES} bytes", f"dài quá {_MAX_NAME_BYTES} byte"),
    ),
    (
        lambda name: "/" in name or "\\" in name or name in (".", ".."),
        ("a path, not a name", "là đường dẫn, không phải tên tệp"),
    ),
    (
        lambda name: _NAME.fullmatch(name) is None,
        (
            "control characters, or ones that turn the direction of writing",
            "chứa ký tự điều khiển hoặc đổi chiều chữ",
        ),
    ),
    (
        lambda name: _WINDOWS_CHARACTERS.search(name) or name.endswith((".", " ")),
        (
            'one of < > : " | ? *, or a dot or blank at the end',
            'chứa < > : " | ? *, hoặc kết thúc bằng dấu chấm, dấu cách',
        ),
    ),
    (_WINDOWS_DEVICE.fullmatch, ("the name of a device in Windows", "trùng tên thiết bị của Windows")),
)
