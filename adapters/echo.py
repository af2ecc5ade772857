"""The echo agency: nobody's office. It answers whatever it is sent, so that others can try the whole way.

| effect                                        | if the process dies after it                                   |
|-----------------------------------------------|----------------------------------------------------------------|
| small parts are fetched, and thrown away      | the document comes again                                       |
| status 01 is confirmed, then status 03        | it comes again; the axis knows a repeated status, nobody hears |
| the receipt is marked, confirmed, then acked  | known: answered with the same receipt                          |

The receipt comes last, as it ends the delivery: after it nothing would ask for a status that is missing. Letters are
read and forgotten, and never answered, so that two of these cannot keep each other busy.
"""

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Final

from adapters.arrivals import Arrival, Delivery, Letter
from adapters.client import AgencyClient
from adapters.errors import AgencyError, NoQueue, RefusedByBroker
from schemas.receipt import StatusCode

log = logging.getLogger(__name__)

TAKERS: Final = 8
STATUSES: Final[tuple[StatusCode, ...]] = ("01", "03")

_MAX_FETCHED_BYTES: Final = 16 * 1024 * 1024
"""Larger parts are left where they are: a few bytes show as well that the way works."""

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0


async def echo(client: AgencyClient, *, fetches: bool) -> None:
    """Answer what arrives until the client is closed; what cannot be answered now comes again.

    Args:
        client: The agency, or the platform whose agencies echo.
        fetches: Whether parts are fetched first, so that the answer says that this works too.

    Raises:
        RefusedByBroker: When the broker does not let us in or does not let us read.
        NoQueue: When there is no queue for us.
    """
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            async for arrival in client.arrivals():
                await _answer(client, arrival, fetches=fetches)
                wait_s = _FIRST_WAIT_S
        except (RefusedByBroker, NoQueue):
            raise
        except AgencyError as error:
            log.warning("echo.again in %g s: %s", wait_s, error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        else:
            return


async def _answer(client: AgencyClient, arrival: Arrival, *, fetches: bool) -> None:
    match arrival:
        case Delivery():
            async with arrival:
                if fetches:
                    await _fetch(client, arrival)
                for status in STATUSES:
                    await client.status(
                        document=arrival.document_id,
                        to=arrival.envelope.from_,
                        status=status,
                        from_=arrival.recipient,
                    )
        case Letter():
            async with arrival:
                log.info("echo.letter delivery_id=%s", arrival.delivery_id)
        case _:
            log.warning("echo.rejected codes=%s", [problem.code for problem in arrival.problems])


async def _fetch(client: AgencyClient, delivery: Delivery) -> None:
    with tempfile.TemporaryDirectory(prefix="truc-echo-") as folder:
        for part in delivery.envelope.parts:
            if part.length > _MAX_FETCHED_BYTES:
                continue
            file = Path(folder) / part.sha256
            await client.fetch(delivery, part, file)
            file.unlink()
