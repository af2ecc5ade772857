"""The directory of today, to be looked up and searched, with and without the signs of Vietnamese."""

import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

from cryptography import x509

from adapters.examination import certificates_of
from adapters.trust import Trust, View
from schemas.checks.directory import Agency, Directory, snapshot
from schemas.directory_file import VIETNAM


@dataclass(frozen=True, slots=True)
class _Name:
    """An agency under the texts by which it is found."""

    agency: Agency
    exact: str
    folded: str


@dataclass(frozen=True)
class Index:
    """One reading of the directory, as of one day.

    Attributes:
        view: What it was made of.
        day: The day in Vietnam.
        directory: Who is who on that day.
    """

    view: View
    day: date
    directory: Directory

    @cached_property
    def certificates(self) -> Mapping[str, Sequence[x509.Certificate]]:
        """Certificates that are not revoked, by owner."""
        return certificates_of(self.view.file, datetime.now(UTC))

    @cached_property
    def _names(self) -> Sequence[_Name]:
        agencies = sorted(self.directory.agencies.values(), key=lambda agency: agency.code)
        return [_Name(agency, _exact(agency.name), fold(agency.name)) for agency in agencies]

    def search(self, words: str, *, tier: str | None = None, limit: int) -> list[Agency]:
        """Find agencies whose name holds all words in any order, or whose code begins with them.

        Words without signs find every name that reads so without signs; a name that has the words as they were
        written comes before those that only read alike, a short name before a long one.
        """
        code, exact, folded = words.strip().upper(), _exact(words), fold(words).split()
        if not folded:
            return []
        found = [
            name
            for name in self._names
            if (tier is None or name.agency.tier == tier)
            and (name.agency.code.startswith(code) or all(each in name.folded for each in folded))
        ]
        found.sort(key=lambda name: (name.agency.code != code, exact not in name.exact, len(name.exact)))
        return [name.agency for name in found[:limit]]


class DirectoryIndex:
    """Gives the index of today; made anew when the file or the day changes. May be shared by threads.

    Args:
        trust: The directory file.
        clock: The present, aware.
    """

    def __init__(self, trust: Trust, clock: Callable[[], datetime]) -> None:
        self._trust = trust
        self._clock = clock
        self._lock = threading.Lock()
        self._index: Index | None = None

    def today(self) -> Index:
        """Give the index; takes a moment when it must be made, so call it off the event loop.

        Raises:
            Unusable: A103 when the file could never be read.
        """
        with self._lock:
            view, now = self._trust.view(), self._clock()
            day = now.astimezone(VIETNAM).date()
            if self._index is None or self._index.view is not view or self._index.day != day:
                self._index = Index(view, day, snapshot(view.file, epoch=0, as_of=now, keys=view.keys.values()))
            return self._index


def fold(text: str) -> str:
    """Take the signs off: lower case, no accents, `d` for `đ`, composed and decomposed alike."""
    bare = "".join(each for each in unicodedata.normalize("NFD", text) if not unicodedata.combining(each))
    return " ".join(bare.casefold().replace("đ", "d").split())


def _exact(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
