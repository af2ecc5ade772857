"""A process that works until it is told to stop."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any


async def until_told(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run everything until SIGTERM or Ctrl-C, or until one of them ends; raises what ended it."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        with stopped_by_signals() as stop:
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[asyncio.Event]:
    """Set an event at SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def log_to_stderr() -> None:
    """Write warnings of our own to stderr; what the AMQP libraries have to say is said in our words anyway."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for library in ("aiormq", "aio_pika"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
