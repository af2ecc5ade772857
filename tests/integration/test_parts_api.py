"""The API for parts over HTTP, on a real database, with a directory and with S3 behind it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub.blobs.store import BlobStore
from hub.core.part import CHUNK_BYTES
from hub.core.trouble import Unavailable
from hub.store.ledger import PostgresLedger
from hub.store.parts import PostgresParts
from hub.store.pool import Pool, open_pool
from hub.sweep import Sweep
from hub.telemetry.health import Health
from hub.web.app import create_app
from schemas.identifiers import AgencyCode, DocumentId
from tests import builders as a
from tests.contract.blobs_contract import keys
from tests.parts_hub import COMMUNE, PLATFORM, PROVINCE, SENDER, STRANGER, THROUGH_PLATFORM, PartsHub, grant, serving
from tests.s3 import S3, some_s3

SMALL = b"%PDF-1.7 nh\xe1\xbb\x8f"
LARGE = bytes(range(256)) * 4096 * 20 + b"end"  # 20 MiB and a little: three chunks


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with some_s3() as s3:
        yield s3


@pytest.fixture(params=["directory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    if request.param == "directory":
        return BlobStore((tmp_path / "blobs").as_uri())
    s3 = request.getfixturevalue("s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return BlobStore(s3.fresh_url())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url) as pool:
        yield pool


@dataclass(slots=True)
class Asking:
    """Somebody who asks a hub over HTTP."""

    hub: PartsHub
    pool: Pool
    blobs: BlobStore
    http: httpx2.AsyncClient

    async def upload(self, content: bytes, agency: str = SENDER, offset: int = 0, **changes: Any) -> httpx2.Response:
        sha256 = changes.pop("sha256", digest(content))
        headers = {
            **grant(agency, "upload", sha256, signer=changes.pop("signer", None)),
            "Upload-Offset": str(offset),
            "Upload-Length": str(changes.pop("length", len(content))),
            "Upload-Complete": changes.pop("complete", "?1"),
        }
        assert not changes
        return await self.http.patch(self.hub.address(sha256), headers=headers, content=content[offset:])

    async def ask(self, content: bytes, agency: str = SENDER) -> httpx2.Response:
        sha256 = digest(content)
        return await self.http.head(self.hub.address(sha256), headers=grant(agency, "upload", sha256))

    async def fetch(self, content: bytes, document: DocumentId, agency: str, **how: Any) -> httpx2.Response:
        sha256 = digest(content)
        headers = grant(agency, "fetch", sha256, document, signer=how.pop("signer", None)) | how
        return await self.http.get(self.hub.address(sha256), params={"document": document}, headers=headers)

    async def send(self, content: bytes, to: tuple[str, ...] = (PROVINCE, COMMUNE), **changes: Any) -> DocumentId:
        """Upload a part and have a document with it taken over."""
        assert (await self.upload(content)).status_code == 204
        accept = a.accept(a.envelope(to=to, parts=[a.part(content)], **changes), signed=False)
        assert await PostgresLedger(self.pool).record([a.decided(accept)], datetime.now(UTC)) == []
        return accept.document_id


@pytest.fixture
async def asking(blobs: BlobStore, pool: Pool) -> AsyncIterator[Asking]:
    async with serving(blobs, PostgresParts(pool)) as hub, httpx2.AsyncClient(timeout=60) as http:
        yield Asking(hub, pool, blobs, http)


def told(response: httpx2.Response) -> tuple[int, str, str]:
    """Status, code and place of an answer that tells a problem, in both languages."""
    assert response.headers["content-type"] == "application/problem+json"
    members = response.json()
    assert members["status"] == response.status_code
    assert members["en"]
    assert members["vi"]
    assert members["side"]
    assert members["retryable"] in (True, False)
    assert "Traceback" not in response.text
    return response.status_code, members["code"], members["pointer"]


def upload_state(response: httpx2.Response) -> tuple[int, str, str]:
    return response.status_code, response.headers["Upload-Offset"], response.headers["Upload-Complete"]


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_part_goes_up_and_comes_down_for_each_recipient_and_is_stored_once(asking: Asking, content: bytes):
    assert upload_state(await asking.ask(content)) == (204, "0", "?0")
    document = await asking.send(content)
    assert upload_state(await asking.ask(content)) == (204, str(len(content)), "?1")
    for agency in (PROVINCE, COMMUNE, SENDER):
        response = await asking.fetch(content, document, agency)
        assert (response.status_code, response.content) == (200, content)
        assert response.headers["ETag"] == f'"{digest(content)}"'
    assert len(await keys(asking.blobs)) == 1


async def test_range_of_a_part_is_read(asking: Asking):
    document = await asking.send(LARGE)
    response = await asking.fetch(LARGE, document, PROVINCE, Range=f"bytes={CHUNK_BYTES - 2}-{CHUNK_BYTES + 1}")
    assert (response.status_code, response.content) == (206, LARGE[CHUNK_BYTES - 2 : CHUNK_BYTES + 2])
    assert response.headers["Content-Range"] == f"bytes {CHUNK_BYTES - 2}-{CHUNK_BYTES + 1}/{len(LARGE)}"
    behind = await asking.fetch(LARGE, document, PROVINCE, Range=f"bytes={len(LARGE)}-")
    assert told(behind) == (416, "E522", "/Range")
    assert behind.headers["Content-Range"] == f"bytes */{len(LARGE)}"


async def test_interrupted_upload_goes_on_where_it_was(asking: Asking):
    """A connection that is cut in the middle of the second chunk: all that has come stays."""
    sha256, came = digest(LARGE), CHUNK_BYTES + 1_000_000
    lines = {
        "Host": "hub",
        **grant(SENDER, "upload", sha256),
        "Upload-Offset": "0",
        "Upload-Length": str(len(LARGE)),
        "Upload-Complete": "?1",
        "Content-Length": str(len(LARGE)),
    }
    head = f"PATCH /v1/parts/{sha256} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    _, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(asking.hub.url).port)
    writer.write(head.encode() + b"\r\n" + LARGE[:came])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    state: tuple[int, str, str] = (0, "", "")
    async with asyncio.timeout(30):
        while state[1] != str(came):
            state = upload_state(await asking.ask(LARGE))
            await asyncio.sleep(0.02)
    assert upload_state(await asking.upload(LARGE, offset=came)) == (204, str(len(LARGE)), "?1")
    assert len(await keys(asking.blobs)) == 1


async def test_e521_upload_that_goes_on_in_the_wrong_place_is_told_the_right_one(asking: Asking):
    first = LARGE[:1000]
    half = await asking.upload(first, sha256=digest(LARGE), length=len(LARGE), complete="?0")
    assert upload_state(half) == (204, "1000", "?0")
    response = await asking.upload(b"few", sha256=digest(LARGE), length=len(LARGE))
    assert told(response) == (409, "E521", "/offset")
    assert response.headers["Upload-Offset"] == "1000"


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_e504_other_bytes_than_the_digest_are_refused_and_not_kept(asking: Asking, content: bytes):
    assert told(await asking.upload(content, sha256="00" * 32)) == (422, "E504", "/sha256")
    assert await keys(asking.blobs) == []


@pytest.mark.parametrize("wrong_by", [-1, 1])
async def test_e505_another_length_than_announced_is_refused_and_not_kept(asking: Asking, wrong_by: int):
    assert told(await asking.upload(SMALL, length=len(SMALL) + wrong_by)) == (422, "E505", "/length")
    assert await keys(asking.blobs) == []


async def test_e520_part_over_the_limit_is_refused_before_it_is_read(asking: Asking):
    sha256 = digest(SMALL)
    headers = {
        **grant(SENDER, "upload", sha256),
        "Upload-Offset": "0",
        "Upload-Length": str(asking.hub.api.max_part_bytes + 1),
        "Upload-Complete": "?1",
    }
    status, head = await _without_a_body(asking, "PATCH", sha256, headers)
    assert status == 413
    assert b"E520" in head


async def test_unproven_body_is_not_read(asking: Asking):
    """The answer is there although not one byte of the body was sent."""
    status, answer = await _without_a_body(asking, "PATCH", digest(SMALL), {"Authorization": "Bearer a.b.c"})
    assert status == 401
    assert b"E103" in answer


async def _without_a_body(asking: Asking, method: str, sha256: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Announce a large body, send nothing of it, and read the answer until the hub closes the connection."""
    lines = {"Host": "hub", "Content-Length": "1000000000", **headers}
    head = f"{method} /v1/parts/{sha256} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in lines.items()
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(asking.hub.url).port)
    writer.write(head.encode() + b"\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (dict, 401, "E102"),
        (lambda: {"Authorization": "Basic dTpw"}, 401, "E102"),
        (lambda: {"Authorization": "Bearer nonsense"}, 401, "E102"),
        (lambda: {"Authorization": "Bearer " + "a" * 9000}, 401, "E101"),
        (lambda: grant(SENDER, "upload", "00" * 32), 403, "E420"),
        (lambda: grant(SENDER, "fetch", "ab" * 32, "cd" * 32), 403, "E420"),
        (lambda: grant(SENDER, "upload", "ab" * 32, iat=-301), 401, "E605"),
        (lambda: grant(SENDER, "upload", "ab" * 32, signer=STRANGER, via=None), 403, "E401"),
        (lambda: grant(PROVINCE, "upload", "ab" * 32, signer=PLATFORM), 403, "E402"),
    ],
    ids=[
        "no grant",
        "other scheme",
        "no token",
        "long token",
        "other part",
        "other act",
        "old grant",
        "in the name of another",
        "no mandate",
    ],
)
async def test_who_has_not_proven_to_may_not_ask(
    asking: Asking, headers: Callable[[], dict[str, str]], status: int, code: str
):
    address = asking.hub.address("ab" * 32)
    upload = {"Upload-Offset": "0", "Upload-Length": "1", "Upload-Complete": "?1"}
    response = await asking.http.patch(address, headers=headers() | upload, content=b"x")
    assert told(response)[:2] == (status, code)
    head = await asking.http.head(address, headers=headers())
    assert (head.status_code, head.headers["Truc-Code"]) == (status, code)
    assert ("WWW-Authenticate" in head.headers) == (status == 401)


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"Upload-Length": "1", "Upload-Complete": "?1"}, "/Upload-Offset"),
        ({"Upload-Offset": "-1", "Upload-Length": "1", "Upload-Complete": "?1"}, "/Upload-Offset"),
        ({"Upload-Offset": "0", "Upload-Length": "many", "Upload-Complete": "?1"}, "/Upload-Length"),
        ({"Upload-Offset": "0", "Upload-Length": "1", "Upload-Complete": "yes"}, "/Upload-Complete"),
    ],
)
async def test_e522_request_with_a_wrong_header_is_told_which(asking: Asking, headers: dict[str, str], pointer: str):
    sha256 = "ab" * 32
    response = await asking.http.patch(
        asking.hub.address(sha256), headers=grant(SENDER, "upload", sha256) | headers, content=b"x"
    )
    assert told(response) == (400, "E522", pointer)


async def test_what_is_not_there_is_told_with_a_code_too(asking: Asking):
    assert told(await asking.http.get(f"{asking.hub.url}/v1/elsewhere"))[:2] == (404, "E522")
    assert told(await asking.http.put(asking.hub.address("ab" * 32)))[:2] == (405, "E522")


async def test_e421_stranger_and_wrong_document_get_the_same_answer(asking: Asking):
    document = await asking.send(SMALL)
    other = await asking.send(LARGE)
    unknown = DocumentId("ef" * 32)
    assert told(await asking.fetch(SMALL, document, STRANGER)) == (403, "E421", "/document")
    assert told(await asking.fetch(SMALL, other, PROVINCE)) == (403, "E421", "/document")
    assert told(await asking.fetch(SMALL, unknown, PROVINCE)) == (403, "E421", "/document")


async def test_platform_fetches_for_the_agency_whose_mail_it_receives_and_for_no_other(asking: Asking):
    document = await asking.send(SMALL, to=(THROUGH_PLATFORM, PROVINCE))
    response = await asking.fetch(SMALL, document, THROUGH_PLATFORM, signer=PLATFORM)
    assert (response.status_code, response.content) == (200, SMALL)
    assert told(await asking.fetch(SMALL, document, PROVINCE, signer=PLATFORM))[:2] == (403, "E402")


async def test_e904_more_transfers_than_places_are_sent_away_for_a_moment(blobs: BlobStore, pool: Pool):
    async with (
        serving(blobs, PostgresParts(pool), uploads=1, downloads=1) as hub,
        httpx2.AsyncClient(timeout=30) as http,
    ):
        asking = Asking(hub, pool, blobs, http)
        document = await asking.send(SMALL)
        async with hub.api.uploads.place(), hub.api.downloads.place():
            busy = await asking.upload(b"another")
            assert told(busy)[:2] == (503, "E904")
            assert int(busy.headers["Retry-After"]) > 0
            assert told(await asking.fetch(SMALL, document, PROVINCE))[:2] == (503, "E904")
        assert (await asking.upload(b"another")).status_code == 204
        assert (await asking.fetch(SMALL, document, PROVINCE)).content == SMALL


async def test_e905_and_e901_failures_of_the_hub_are_told_without_a_trace(
    blobs: BlobStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    async with serving(blobs, PostgresParts(pool)) as hub, httpx2.AsyncClient(timeout=30) as http:
        asking = Asking(hub, pool, blobs, http)
        for error, expected in ((Unavailable("blobs", "away"), (503, "E901")), (KeyError("x"), (500, "E905"))):

            async def fail(*_: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(PostgresParts, "find", fail)
            assert told(await asking.upload(SMALL))[:2] == expected


async def test_two_uploads_of_one_part_at_a_time_store_it_once(asking: Asking):
    answers = await asyncio.gather(
        *(asking.upload(content, agency) for agency in (SENDER, PROVINCE) for content in (LARGE, LARGE, SMALL, SMALL)),
        return_exceptions=True,
    )
    for answer in answers:
        # Who is turned away while still sending may find the connection closed before the answer has come.
        assert isinstance(answer, httpx2.TransportError) or answer.status_code in {204, 409}, answer
    for agency in (SENDER, PROVINCE):
        for content in (LARGE, SMALL):
            state = upload_state(await asking.ask(content, agency))
            assert state == (204, str(len(content)), "?1"), (agency, len(content))
    sweep = Sweep(
        PostgresParts(asking.pool), asking.blobs, 7 * 86400, 86400, lambda: datetime.now(UTC) + timedelta(days=2)
    )
    while await sweep.turn():
        pass
    assert len(await keys(asking.blobs)) == 2


async def test_sweep_keeps_what_a_document_names_and_removes_the_rest(asking: Asking):
    document = await asking.send(SMALL)
    await asking.upload(b"nobody names it")
    await asking.upload(LARGE[:1000], sha256=digest(LARGE), length=len(LARGE), complete="?0")
    await asking.blobs.put("parts/00/orphan", b"x")
    in_a_month = lambda: datetime.now(UTC) + timedelta(days=30)  # noqa: E731
    sweep = Sweep(PostgresParts(asking.pool), asking.blobs, 7 * 86400, 86400, in_a_month)
    while await sweep.turn():
        pass
    assert len(await keys(asking.blobs)) == 1
    assert (await asking.fetch(SMALL, document, PROVINCE)).content == SMALL


async def test_sweep_removes_nothing_before_its_time(asking: Asking):
    await asking.send(SMALL)
    await asking.upload(b"nobody names it")
    await asking.upload(LARGE[:1000], sha256=digest(LARGE), length=len(LARGE), complete="?0")
    await asking.blobs.put("parts/00/orphan", b"x")
    before = await keys(asking.blobs)
    sweep = Sweep(
        PostgresParts(asking.pool), asking.blobs, 7 * 86400, 86400, lambda: datetime.now(UTC) + timedelta(hours=23)
    )
    while await sweep.turn():
        pass
    assert await keys(asking.blobs) == before


async def test_part_that_a_document_is_taking_is_not_swept_and_one_that_is_swept_is_missed(pool: Pool):
    """The two transactions cross: whichever locks the part first has it."""
    register, ledger = PostgresParts(pool), PostgresLedger(pool)
    accept = a.accept(a.envelope(parts=[a.part()]), signed=False)
    for _ in range(20):
        await register.add(a.kept(), AgencyCode(SENDER), a.NOW)
        forgotten, objections = await asyncio.gather(
            register.forget(a.NOW + timedelta(seconds=1)), ledger.record([a.decided(accept)], a.NOW)
        )
        assert bool(forgotten) == bool(objections)
        if not objections:
            break
        assert [problem.code for problem in objections[0].problems] == ["E503"]


async def test_api_is_described_and_absent_where_it_is_not_served(asking: Asking):
    described = (await asking.http.get(f"{asking.hub.url}/v1/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert described["paths"].keys() == {
        "/v1/parts/{sha256}",
        "/v1/agencies/{code}",
        "/v1/agencies/{code}/catch-up",
    }
    assert described["paths"]["/v1/parts/{sha256}"].keys() == {"head", "patch", "get"}
    without = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=create_app(Health())), base_url="http://hub")
    async with without:
        assert (await without.get("/v1/openapi.json")).status_code == 404
        assert (await without.head(f"/v1/parts/{'ab' * 32}")).status_code == 404
