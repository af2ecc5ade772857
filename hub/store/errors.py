"""Turns what asyncpg and the operating system raise into the two troubles that the loops know.

"The database is away" has no common root in asyncpg: server errors, protocol errors, a closed connection and a refused
socket are four families. What the database refuses because of the value itself is told apart, since trying the same
again cannot help there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from hub.core.trouble import Unavailable, Unstorable

_REFUSED_VALUE: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
_AWAY: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@contextmanager
def translated() -> Iterator[None]:
    """Translate everything that a use of the database may raise.

    The text names the kind of error and never the value: PostgreSQL quotes values, and they are content of documents.

    Raises:
        Unstorable: When a value cannot be stored, such as a text with NUL.
        Unavailable: When the database does not answer, answers too late, or is not what the hub needs.
    """
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise Unavailable("database", "its tables are not there: run `truc db upgrade`") from error
    except _REFUSED_VALUE as error:
        raise Unstorable(f"{type(error).__name__} ({error.sqlstate})") from error
    except _AWAY as error:
        # asyncpg reports a value that it cannot encode as an InterfaceError that is a ValueError as well.
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            raise Unstorable(type(error).__name__) from error
        raise Unavailable("database", f"{type(error).__name__}: {error}".rstrip(": ")) from error
