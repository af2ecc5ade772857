"""Asks the hub about agencies, over HTTP, with a grant signed by our own key; changes nothing anywhere."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx2
from pydantic import ValidationError

from adapters.errors import HubError
from schemas.capabilities import Capabilities
from schemas.grant import GRANT_TYP, MAX_GRANT_AGE_S, Grant
from schemas.identifiers import AgencyCode
from schemas.problem_details import read_problem_details
from schemas.signing import Signer, sign


@dataclass(frozen=True, slots=True)
class HubClock:
    """What the hub's clock says, as its answers tell it: in whole seconds.

    Attributes:
        ahead_s: How far our clock is ahead of it, seconds; negative when it is behind.
        doubt_s: By how much that may be wrong, seconds.
    """

    ahead_s: float
    doubt_s: float


class Inquiry:
    """Questions of one agency or platform. Tasks may share it.

    Args:
        hub_url: Root of the hub's HTTP API.
        code: Code of the agency or platform that signs.
        signer: Its key.
        ssl_context: Authorities, and for mutual TLS the client certificate; the system's by default.
        timeout_s: How long an answer may take, seconds.
        clock: The present, aware.
    """

    def __init__(
        self,
        hub_url: str,
        code: AgencyCode,
        signer: Signer,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = 15.0,
        clock: Callable[[], datetime],
    ) -> None:
        self._url = hub_url.rstrip("/")
        self._code = code
        self._signer = signer
        self._clock = clock
        self._http = httpx2.AsyncClient(
            verify=ssl_context or True, timeout=timeout_s, headers={"User-Agent": "truc-agency"}
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def capabilities(self, agency: AgencyCode, *, asker: AgencyCode) -> Capabilities:
        """Ask what an agency can take.

        Args:
            agency: Which one.
            asker: In whose name: our own, or that of an agency that the platform speaks for.

        Raises:
            HubError: When the hub does not answer, or refuses to.
        """
        headers = {"Authorization": f"Bearer {await self._grant(asker)}"}
        try:
            response = await self._http.get(f"{self._url}/v1/agencies/{agency}", headers=headers)
        except httpx2.TransportError as error:
            found = f"{type(error).__name__} {error}".rstrip()
            raise HubError(found, found, place=self._url) from error
        if response.is_success:
            try:
                return Capabilities.model_validate_json(response.content)
            except ValidationError as error:
                raise HubError("no such answer", "không phải câu trả lời", place=self._url, code="A121") from error
        problem = read_problem_details(response.content)
        if problem is None:
            found = f"HTTP {response.status_code}"
            raise HubError(found, found, place=self._url, code="E901" if response.is_server_error else "A121")
        raise HubError(problem.en, problem.vi, place=self._url, code=problem.code)

    async def _grant(self, asker: AgencyCode) -> str:
        now_s = int(self._clock().timestamp())
        via = None if asker == self._code else self._code
        grant = Grant(from_=asker, via=via, act="ask", until=now_s + MAX_GRANT_AGE_S)
        token = await asyncio.to_thread(sign, grant.to_json(), typ=GRANT_TYP, signer=self._signer, now_s=now_s)
        return token.decode()


async def look(
    hub_url: str, *, ssl_context: ssl.SSLContext | None, timeout_s: float, clock: Callable[[], datetime]
) -> HubClock | None:
    """Look whether it is the hub that answers, without a grant; gives its clock when the answer tells it.

    Raises:
        HubError: When nobody answers, or somebody else.
    """
    place = hub_url.rstrip("/")
    asked_at = clock()
    async with httpx2.AsyncClient(verify=ssl_context or True, timeout=timeout_s) as http:
        try:
            response = await http.get(f"{place}/v1/openapi.json", headers={"User-Agent": "truc-agency"})
        except httpx2.TransportError as error:
            found = f"{type(error).__name__} {error}".rstrip()
            raise HubError(found, found, place=place) from error
    answered_at = clock()
    if not _describes_hub(response):
        raise HubError("something else answers", "máy chủ khác trả lời", place=place, code="A121")
    return clock_of(response.headers.get("Date", ""), asked_at, answered_at)


def clock_of(date: str, asked_at: datetime, answered_at: datetime) -> HubClock | None:
    """Compare our clock with the `Date` of an answer; `None` when there is none that can be read."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    took_s = (answered_at - asked_at).total_seconds()
    # The fraction of a second is cut off, and the server may write it down only once a second.
    ahead_s = (asked_at - theirs).total_seconds() + took_s / 2 - 1
    return HubClock(ahead_s, 1 + took_s / 2)


def _describes_hub(response: httpx2.Response) -> bool:
    """Tell whether an answer is the description of the hub's API; a gateway knows no such uploads."""
    try:
        return response.is_success and "patch" in response.json()["paths"]["/v1/parts/{sha256}"]
    except (ValueError, LookupError, TypeError):
        return False
