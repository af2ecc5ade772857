"""The library's exceptions, translated where they leave it.

aiormq has no common root for "the broker is away": its own errors, those of the socket, and a `RuntimeError` for a
channel that is closed already. It also rejects what waits on a lost connection with a `CancelledError` although nobody
cancelled anything; only a task that was really cancelled may end as one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pamqp.exceptions import PAMQPException

from hub.core.trouble import Unavailable

BROKER_ERRORS: Final = (AMQPError, ChannelInvalidStateError, PAMQPException, OSError)
"""Everything the library raises when the broker is away or says no; `OSError` includes `TimeoutError`."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's exceptions into `Unavailable`; a real cancellation passes through."""
    try:
        yield
    except BROKER_ERRORS as error:
        raise Unavailable("broker", f"{type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise Unavailable("broker", "the connection was closed") from error


def is_cancelled() -> bool:
    """Tell whether the running task was asked to end, as opposed to awaiting something that the library cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
