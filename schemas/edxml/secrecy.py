"""Does a packet declare a state secret? The axis carries none (QĐ 28/2018/QĐ-TTg), and edXML has no field for it.

A level is declared where it stands as a marking: alone, in brackets, behind "độ mật:", or set off at the beginning or
the end of the subject. The syllable within a sentence ("bảo mật", "mật khẩu", "danh mục bí mật nhà nước độ Tối mật")
declares nothing.
"""

import re
import unicodedata
from typing import Final

_LEVEL: Final = r"(?:tuyệt\s+mật|tối\s+mật|mật)"
_HIGH: Final = r"(?:tuyệt\s+mật|tối\s+mật)"
_BEFORE: Final = r"(?:(?:mức\s+)?độ\s+(?:bảo\s+)?mật\s*:?\s*|(?:văn\s+bản|tài\s+liệu|lưu\s+hành|phạm\s+vi)\s+)"

_MARKINGS: Final = (
    re.compile(rf"\A\W*{_BEFORE}?{_LEVEL}\W*\Z", re.IGNORECASE),
    re.compile(rf"[(\[{{<«*]\s*(?:độ\s+)?{_LEVEL}\s*[)\]}}>»*]", re.IGNORECASE),
    re.compile(rf"\bđộ\s+mật\s*[:=-]\s*{_LEVEL}\b", re.IGNORECASE),
    re.compile(rf"\A\W*{_HIGH}\s*[-–—:|/.;,]", re.IGNORECASE),
    re.compile(rf"[-–—|]\s*{_HIGH}\W*\Z", re.IGNORECASE),
    re.compile(r"\A\W*(?:MẬT\s*[-–—:|/.]|[Mm]ật\s*:)"),
)
_SET_OFF_AT_THE_END: Final = re.compile(r"[-–—|/.;]\s*MẬT\W*\Z")
"""In a subject written in capitals throughout it is a word like any other."""

_IN_SPHERE: Final = re.compile(rf"\b{_HIGH}\b|\A(?:toi\s+mat|tuyet\s+mat)\Z", re.IGNORECASE)
_MOST_CHARACTERS: Final = 4000


def declares_secret(text: str | None) -> bool:
    """Tell whether a subject bears the marking of a state secret: Mật, Tối mật, Tuyệt mật."""
    composed = unicodedata.normalize("NFC", text or "")[:_MOST_CHARACTERS]
    if any(marking.search(composed) for marking in _MARKINGS):
        return True
    return composed != composed.upper() and _SET_OFF_AT_THE_END.search(composed) is not None


def sphere_declares_secret(text: str | None) -> bool:
    """Tell the same of a `SphereOfPromulgation`, which is no sentence: the two higher levels count wherever they stand."""
    composed = unicodedata.normalize("NFC", text or "")[:_MOST_CHARACTERS].strip()
    return declares_secret(composed) or _IN_SPHERE.search(composed) is not None
