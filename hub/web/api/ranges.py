"""One range of bytes in a request (RFC 9110, section 14); more than one is answered with the whole."""

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)


def byte_range(header: str | None, length: int) -> tuple[int, int] | None:
    """Give begin and end of what is asked for; the whole for a header that is absent or not understood.

    Returns:
        `None` when nothing of the range is there.
    """
    found = _RANGE.fullmatch(header) if header else None
    if found is None or found.groups() == ("", ""):
        return 0, length
    first, last = found.groups()
    if not first:
        return (max(0, length - int(last)), length) if int(last) and length else None
    begin, end = int(first), min(int(last) + 1, length) if last else length
    if last and int(last) < begin:
        return 0, length
    return (begin, end) if begin < length else None
