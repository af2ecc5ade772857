"""Turns what obstore raises into the trouble that the hub knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from hub.core.trouble import Gone, Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Translate everything that a use of the store may raise.

    Raises:
        Gone: When an object is not there any more.
        Unavailable: When the store does not answer, is full, or does not let us in.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise Gone("an object is not there any more") from error
    except (BaseError, OSError, ValueError) as error:  # ValueError: a range behind the end of an object
        # The first line says it; the rest quotes requests with their headers.
        raise Unavailable("blobs", f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}") from error
