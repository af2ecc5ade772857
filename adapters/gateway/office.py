"""What requests and loops share: the client, the mailbox, the directory, and the bells by which they wake each other."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from adapters.arrivals import Delivery
from adapters.client import AgencyClient
from adapters.errors import Unusable
from adapters.gateway.index import DirectoryIndex
from adapters.gateway.problems import Refusal
from adapters.inquiry import Inquiry
from adapters.mailbox import Kept, Kind, Mailbox
from schemas.addresses import submit_key
from schemas.checks.address import Addressee
from schemas.checks.examine import examine
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, is_platform_code

_MAX_PACKETS: Final = 2
_UNBOUNDED: Final = 2**31
"""The bound on recipients is the hub's to know."""


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
        inquiry: Asks the hub about agencies; absent without `hub_url`.
        packets: Room for packets, each of which takes a few times its size in memory.
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
    inquiry: Inquiry | None = None
    packets: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MAX_PACKETS))
    arrived: Bell = field(default_factory=Bell)
    drawn: Bell = field(default_factory=Bell)
    answered: Bell = field(default_factory=Bell)
    closing: bool = False

    @property
    def is_platform(self) -> bool:
        """Whether it connects for several agencies."""
        return is_platform_code(self.code)

    def examine(self, envelope: Envelope, place: Callable[[str], str] = str) -> tuple[Addressee, ...]:
        """Ask the checks of the hub beforehand, as far as the directory here can answer them; off the event loop.

        Args:
            envelope: What is to be sent.
            place: Where what an envelope points to stands in what was handed in.

        Raises:
            Refusal: When the hub would refuse it.
        """
        addressees, problems = examine(
            envelope,
            signer=self.code,
            signed_at_s=envelope.created,
            user=self.code,
            routing_key=submit_key("document", self.code),
            directory=self.index.today().directory,
            max_recipients=_UNBOUNDED,
            now=self.clock(),
        )
        if problems:
            raise Refusal(422, *(replace(problem, pointer=place(problem.pointer)) for problem in problems))
        return addressees

    def asker(self) -> AgencyCode:
        """Say in whose name the hub is asked: our own, or that of any agency that the platform connects.

        Raises:
            Unusable: A103 when the directory names none.
        """
        if not self.is_platform:
            return self.code
        directory = self.index.today().directory
        for agency in directory.agencies.values():
            if agency.endpoint == self.code:
                return agency.code
        raise Unusable(f"{self.code} connects nobody", f"{self.code} không kết nối cho đơn vị nào", code="A103")

    def delivery_of(self, kept: Kept, envelope: Envelope, token: bytes) -> Delivery:
        """Give the client a delivery back that it has handed over before."""
        assert kept.document_id is not None
        return self.client.delivery(kept.delivery_id, kept.document_id, kept.recipient, envelope, token)

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
