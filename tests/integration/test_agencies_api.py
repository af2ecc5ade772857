"""What the hub says about agencies over HTTP, and to whom; that it counts right is the store's to show."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest

from adapters.errors import HubError
from adapters.inquiry import Inquiry
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.keys import agency_keys
from tests.parts_hub import COMMUNE, MAX_BYTES, PLATFORM, SENDER, STRANGER, THROUGH_PLATFORM, PartsHub, grant, serving


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def hub() -> AsyncIterator[PartsHub]:
    async with serving(MemoryBlobs(now), MemoryParts()) as hub:
        yield hub


async def ask(hub_url: str, about: str, *, asker: str = SENDER, code: str = SENDER, signer: str | None = None):
    inquiry = Inquiry(hub_url, AgencyCode(code), agency_keys(signer or code).signer, timeout_s=5, clock=now)
    try:
        return await inquiry.capabilities(AgencyCode(about), asker=AgencyCode(asker))
    finally:
        await inquiry.close()


async def test_an_agency_learns_what_another_can_take(hub):
    found = await ask(hub.url, COMMUNE)

    assert (found.code, found.state, found.connected) == (COMMUNE, "open", True)
    assert (found.formats, found.max_part_bytes, found.silent_since) == ((ENVELOPE_TYP,), MAX_BYTES, None)


async def test_a_platform_asks_in_the_name_of_its_agency(hub):
    found = await ask(hub.url, COMMUNE, asker=THROUGH_PLATFORM, code=PLATFORM)

    assert found.code == COMMUNE


@pytest.mark.parametrize(
    ("about", "given", "expected"),
    [
        ("H99", {}, "E404"),
        (COMMUNE, {"asker": STRANGER, "code": PLATFORM}, "E402"),
        (COMMUNE, {"signer": STRANGER}, "E401"),
    ],
)
async def test_who_is_unknown_or_pretends_to_be_another_gets_a_code(hub, about, given, expected):
    with pytest.raises(HubError, match=expected):
        await ask(hub.url, about, **given)


@pytest.mark.parametrize(("act", "status", "code"), [("upload", 403, "E420"), ("fetch", 403, "E420")])
async def test_a_grant_for_something_else_does_not_do(hub, act, status, code):
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{hub.url}/v1/agencies/{COMMUNE}", headers=grant(SENDER, act, "0" * 64))

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_nobody_asks_without_a_grant(hub):
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{hub.url}/v1/agencies/{COMMUNE}")

    assert answer.status_code == 401


async def test_a_hub_that_is_not_there_is_told_as_that():
    with pytest.raises(HubError, match="E901"):
        await ask("http://127.0.0.1:1", COMMUNE)
