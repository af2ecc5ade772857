"""The process: opens what the folder adapter needs and carries packets both ways until it is told to stop."""

import asyncio
import contextlib
import logging
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

from adapters.cli.wiring import client_of
from adapters.errors import AgencyError, NoQueue, RefusedByBroker, Unusable
from adapters.folder.drafting import Examiners
from adapters.folder.incoming import Incoming
from adapters.folder.journal import Journal
from adapters.folder.outgoing import Outgoing
from adapters.folder.places import Places
from adapters.inbox_guard import InboxGuard
from adapters.service import until_told
from adapters.settings import AgencySettings
from adapters.trust import Trust
from schemas.identifiers import AgencyCode

log = logging.getLogger(__name__)

_TAKERS: Final = 8
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_FORGET_EVERY_S: Final = 3600.0
_SAY_EVERY_S: Final = 60.0
_QUIET_S: Final = 3.0
"""When nothing has arrived for so long, nothing is waiting."""


class Complaints:
    """Says what does not work, each code once a minute however often and at however many files it is met."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def say(self, error: AgencyError) -> None:
        """Say an error, unless its code was said a moment ago."""
        code, now = error.code.code, time.monotonic()
        if now - self._said.get(code, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said[code] = now
            log.warning("folder.waiting %s / %s / %s", error, error.vi, error.code.fix_vi)


async def run(settings: AgencySettings, *, once: bool = False, expired_too: bool = False) -> None:
    """Carry packets until SIGTERM or Ctrl-C; or once what waits on either side.

    Args:
        settings: Of the agency or platform.
        once: Whether to end when nothing waits any more.
        expired_too: Whether to take documents whose lifetime is over.

    Raises:
        Unusable: When something of our own cannot be used.
        BrokerError: When the broker does not let us in, or has no queue for us; with `once`, for any trouble.
    """
    async with AsyncExitStack() as stack:
        outgoing, incoming = await _open(settings, stack, expired_too=expired_too)
        if once:
            await _once(outgoing, incoming)
            return
        complaints = Complaints()
        work = [
            _send(outgoing, settings.folder_poll_s, complaints),
            *(_take(incoming, complaints) for _ in range(_TAKERS)),
            _forget(outgoing.journal, settings.folder_journal_days, complaints),
        ]
        await until_told(work)


async def _open(settings: AgencySettings, stack: AsyncExitStack, *, expired_too: bool) -> tuple[Outgoing, Incoming]:
    if settings.folder is None:
        raise Unusable("not set", "chưa đặt", place="folder")
    if settings.hub_url is None:
        raise Unusable(
            "needed for the parts of packets, and not set", "cần để chuyển tệp nhưng chưa đặt", place="hub_url"
        )
    places = Places(settings.folder)
    guard = stack.enter_context(InboxGuard(settings.guard_file))
    journal = stack.enter_context(Journal(settings.folder_journal_file))  # its lock keeps a second adapter out
    places.open()
    await guard.forget(datetime.now(UTC) - timedelta(days=settings.guard_days))
    client = await stack.enter_async_context(client_of(settings, guard, expired_too=expired_too))
    code = AgencyCode(settings.code)
    outgoing = Outgoing(
        client=client,
        code=code,
        journal=journal,
        places=places,
        examiners=Examiners(Trust(settings.directory_file), code, lambda: datetime.now(UTC)),
        clock=lambda: datetime.now(UTC),
        language=settings.language,
        settle_s=settings.folder_settle_s,
    )
    return outgoing, Incoming(outgoing, sends_arrival=settings.folder_sends_arrival)


async def _once(outgoing: Outgoing, incoming: Incoming) -> None:
    while await outgoing.turn():
        pass
    arrivals = outgoing.client.arrivals()
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(_QUIET_S):
                arrival = await anext(arrivals)
            await incoming.take_in(arrival)
    while await outgoing.turn():  # what a notice has sent back
        pass


async def _send(outgoing: Outgoing, poll_s: float, complaints: Complaints) -> None:
    """Take turns: at once while there is something, after a pause when not, ever later in trouble; never ends."""
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            busy = await outgoing.turn()
        except AgencyError as error:
            complaints.say(error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            continue
        wait_s = _FIRST_WAIT_S
        if not busy:
            await asyncio.sleep(poll_s)


async def _take(incoming: Incoming, complaints: Complaints) -> None:
    """Take what arrives until the client is closed; what cannot be laid down waits with the axis.

    Raises:
        RefusedByBroker: When the broker does not let us in or does not let us read.
        NoQueue: When there is no queue for us.
    """
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            async for arrival in incoming.outgoing.client.arrivals():
                await incoming.take_in(arrival)
                wait_s = _FIRST_WAIT_S
        except (RefusedByBroker, NoQueue):
            raise
        except AgencyError as error:
            complaints.say(error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        else:
            return


async def _forget(journal: Journal, days: int, complaints: Complaints) -> None:
    while True:
        try:
            await journal.forget(datetime.now(UTC) - timedelta(days=days))
        except Unusable as error:
            complaints.say(error)
        await asyncio.sleep(_FORGET_EVERY_S)
