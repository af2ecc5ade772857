"""The revisions that this version of the hub knows; without Alembic, which every process would otherwise import."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSIONS: Final = Path(__file__).parent / "versions"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database stands.

    Attributes:
        applied: Revisions that are applied, oldest first.
        pending: Revisions that are missing, oldest first.
        changed: Applied revisions whose file is another one today.
        unknown: Applied revisions that this version of the hub does not know.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    changed: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether the tables are exactly those of this version."""
        return not (self.pending or self.changed or self.unknown)


def head_revision() -> str:
    """Name the revision that this version of the hub needs."""
    return known_revisions()[-1]


@functools.cache
def known_revisions() -> tuple[str, ...]:
    """Name all revisions, oldest first: their numbers are their order, which Alembic is told once more."""
    return tuple(sorted(file.stem.removeprefix("v") for file in VERSIONS.glob("v*.sql")))


def file_of(revision: str) -> Path:
    """Say where the SQL of a revision is."""
    return VERSIONS / f"v{revision}.sql"


def sha256_of(revision: str) -> str:
    """Give the digest of the SQL of a revision, in hex."""
    return hashlib.sha256(file_of(revision).read_bytes()).hexdigest()
