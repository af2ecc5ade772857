"""What requests and loops share: the client, the mailbox, the directory, and the bells by which they wake each other."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from adapters.client import AgencyClient
from adapters.gateway.index import DirectoryIndex
from adapters.mailbox import Kept, Kind, Mailbox
from schemas.identifiers import AgencyCode, is_platform_code


class Bell:
    """Wakes everybody who listens; who listened before looking misses nothing."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """Give what will be set at the next ring."""
        return self._rung

    def ring(self) -> None:
        """Wake everybody who listens now."""
        self._rung.set()
        self._rung = asyncio.Event()


@dataclass(slots=True, eq=False)
class Office:
    """One gateway at work.

    Attributes:
        client: The way to the axis.
        code: Code of the agency or platform that connects.
        mailbox: What has arrived and was handed in.
        index: The directory.
        spool: Folder for parts on their way; emptied at the start.
        clock: The present, aware.
        max_waiting: Most documents that may wait for the broker.
        max_part_bytes: Largest part that is taken.
        arrived: Rings when something has arrived.
        drawn: Rings when a document was written down.
        answered: Rings when an answer was written down.
        closing: Whether the gateway is about to end, so that nobody should wait any longer.
    """

    client: AgencyClient
    code: AgencyCode
    mailbox: Mailbox
    index: DirectoryIndex
    spool: Path
    clock: Callable[[], datetime]
    max_waiting: int = 10_000
    max_part_bytes: int = 2**30
    arrived: Bell = field(default_factory=Bell)
    drawn: Bell = field(default_factory=Bell)
    answered: Bell = field(default_factory=Bell)
    closing: bool = False

    @property
    def is_platform(self) -> bool:
        """Whether it connects for several agencies."""
        return is_platform_code(self.code)

    async def arrivals(
        self,
        kinds: Sequence[Kind],
        *,
        after: int,
        limit: int,
        wait_s: float = 0,
        recipient: AgencyCode | None = None,
        unanswered: bool = False,
    ) -> list[Kept]:
        """List arrivals after a number; where there are none, wait for one.

        Raises:
            Unusable: When the mailbox cannot be used.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while True:
            rung = self.arrived.listen()
            found = await self.mailbox.arrivals(
                kinds, after=after, limit=limit, recipient=recipient, unanswered=unanswered
            )
            left_s = end - loop.time()
            if found or left_s <= 0 or self.closing:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await rung.wait()

    def close(self) -> None:
        """Let nobody wait any longer."""
        self.closing = True
        for bell in (self.arrived, self.drawn, self.answered):
            bell.ring()
