"""Announces what has arrived to a URL of the platform: signed, retried, in order for each of its agencies.

| effect                                        | if the process dies after it                              |
|-----------------------------------------------|-----------------------------------------------------------|
| 1 the event is posted, the platform says 2xx  | posted again: the same delivery, the same number          |
| 2 `mailbox.answer`, where that is configured  | posted again; the answer stands                           |
| 3 `mailbox.mark_announced`                    | –                                                         |

An announcement is a hint: asking for what has arrived works without it, and nothing waits for it. Each agency has a
lane of its own, so that one whose events are not taken holds up no other; a lane ends when there is nothing left.
"""

import asyncio
import contextlib
import logging
import random
from typing import Final

import httpx2

from adapters.errors import Unusable
from adapters.gateway.office import Office
from adapters.mailbox import Kept
from schemas.event import EVENT_TYP, Event
from schemas.identifiers import AgencyCode
from schemas.receipt import Answer
from schemas.signing import Signer, sign

log = logging.getLogger(__name__)

_MAX_LANES: Final = 2000
_MAX_POSTS: Final = 8
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 300.0


class Webhook:
    """One webhook.

    Args:
        url: Where to.
        office: Whose arrivals; its mailbox must have been opened as one that announces.
        signer: The key of the agency or platform.
        acknowledges: Whether taking an announcement also answers the document with `received`.
        timeout_s: How long one announcement may take.
        first_wait_s: How long to wait after the first failure; doubles up to five minutes.
    """

    def __init__(
        self,
        url: str,
        office: Office,
        signer: Signer,
        *,
        acknowledges: bool,
        timeout_s: float,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        self._url = url
        self._office = office
        self._signer = signer
        self._acknowledges = acknowledges
        self._first_wait_s = first_wait_s
        self._room = asyncio.Semaphore(_MAX_POSTS)
        self._lanes: dict[AgencyCode, asyncio.Task[None]] = {}
        self._http = httpx2.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False)

    async def run(self) -> None:
        """Announce until cancelled."""
        async with self._http, asyncio.TaskGroup() as lanes:
            while True:
                rung = self._office.arrived.listen()
                for kept in await self._first_ones():
                    if kept.recipient not in self._lanes:
                        self._open_lane(lanes, kept)
                await rung.wait()

    async def _first_ones(self) -> list[Kept]:
        try:
            return await self._office.mailbox.unannounced(_MAX_LANES)
        except Unusable as error:
            log.warning("webhook.waiting: %s", error)
            await asyncio.sleep(self._first_wait_s)
            return []

    def _open_lane(self, lanes: asyncio.TaskGroup, first: Kept) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            del self._lanes[first.recipient]
            self._office.arrived.ring()  # what has arrived while the lane was ending has nobody else to see it

        task = self._lanes[first.recipient] = lanes.create_task(self._announce_all(first))
        task.add_done_callback(ended)

    async def _announce_all(self, first: Kept) -> None:
        """Announce one agency's arrivals one after the other; in trouble with the mailbox the lane is opened anew."""
        kept: Kept | None = first
        with contextlib.suppress(Unusable):
            while kept is not None:
                await self._insist(kept)
                kept = await self._office.mailbox.next_unannounced(first.recipient)

    async def _insist(self, kept: Kept) -> None:
        """Announce an arrival until it is taken."""
        wait_s = self._first_wait_s
        while True:
            try:
                trouble = await self._announce(kept)
            except Unusable as error:
                trouble = str(error)
            if trouble is None:
                return
            log.warning("webhook.again in %.0f s delivery_id=%s: %s", wait_s, kept.delivery_id, trouble)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _announce(self, kept: Kept) -> str | None:
        """Announce an arrival once; tells what went wrong."""
        async with self._room:
            trouble = await self._post(await self._sign(kept))
        if trouble is None:
            if self._acknowledges and kept.kind == "document":
                at = int(self._office.clock().timestamp())
                answer = Answer(delivery=str(kept.delivery_id), outcome="received", at=at)
                await self._office.mailbox.answer(kept.delivery_id, answer)
                self._office.answered.ring()
            await self._office.mailbox.mark_announced(kept)
        return trouble

    async def _sign(self, kept: Kept) -> bytes:
        event = Event(
            from_=self._office.code,
            to=kept.recipient,
            seq=kept.seq,
            delivery=str(kept.delivery_id),
            kind=kept.kind,
            document=kept.document_id,
            at=kept.arrived_at,
        )
        now_s = int(self._office.clock().timestamp())
        return await asyncio.to_thread(sign, event.to_json(), typ=EVENT_TYP, signer=self._signer, now_s=now_s)

    async def _post(self, token: bytes) -> str | None:
        try:
            # The answer's body is not read: its status says all, and it may be endless.
            async with self._http.stream(
                "POST", self._url, content=token, headers={"Content-Type": "application/jose"}
            ) as response:
                return None if response.is_success else f"HTTP {response.status_code}"
        except (httpx2.HTTPError, OSError) as error:
            return str(error) or type(error).__name__
