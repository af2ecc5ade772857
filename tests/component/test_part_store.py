"""The agencies' transfer of parts against the real API over a store in memory, through a line that breaks."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from adapters.errors import AgencyError, FileUnusable, PartError
from adapters.parts import PartStore
from hub.core.trouble import Unavailable
from schemas.envelope import Part
from schemas.identifiers import AgencyCode, DocumentId
from tests import builders as a
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.hub_process import eventually
from tests.keys import agency_keys
from tests.parts_hub import PROVINCE, SENDER, STRANGER, PartsHub, serving

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * 4096 * 20  # 20 MiB: three chunks
DOCUMENT = DocumentId("cd" * 32)


@dataclass(slots=True)
class Line:
    """A TCP proxy that resets connections after so many bytes of one direction, once for each entry.

    Attributes:
        cuts_up: How many bytes to let through to the hub before each reset.
        cuts_down: The same for the way back.
        connections: How many were made.
    """

    target: int
    cuts_up: list[int] = field(default_factory=list)
    cuts_down: list[int] = field(default_factory=list)
    connections: int = 0
    is_open: bool = True
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self.is_open:
            writer.transport.abort()
            return
        there, hub = await asyncio.open_connection("127.0.0.1", self.target)
        pumps = [
            asyncio.create_task(_pump(reader, hub, self.cuts_up)),
            asyncio.create_task(_pump(there, writer, self.cuts_down)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, hub):
            end.transport.abort()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cuts: list[int]) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            if cuts and passed + len(data) > cuts[0]:
                cuts.pop(0)
                return
            passed += len(data)
            writer.write(data)
            await writer.drain()


@dataclass(slots=True)
class World:
    """A hub, a line to it, and agencies at the other end."""

    hub: PartsHub
    line: Line
    register: MemoryParts
    blobs: MemoryBlobs
    stores: list[PartStore] = field(default_factory=list)

    def store(self, code: str = SENDER, **options: Any) -> PartStore:
        store = PartStore(
            self.line.url,
            AgencyCode(code),
            agency_keys(code).signer,
            **{"timeout_s": 3.0, "clock": lambda: datetime.now(UTC)} | options,
        )
        self.stores.append(store)
        return store

    async def upload(self, source: Path | bytes = CONTENT, **options: Any) -> Part:
        return await self.store(**options).upload(
            source, name="a.pdf", media_type="application/pdf", agency=AgencyCode(SENDER)
        )

    async def fetch(self, into: Path, part: Part, code: str = PROVINCE, **options: Any) -> None:
        await self.store(code, **options).fetch(DOCUMENT, part, into, agency=AgencyCode(code))

    def deliver(self, *parts: Part) -> None:
        """Have a document with these parts taken over, under the identity `DOCUMENT`."""
        accept = a.accept(a.envelope(to=(PROVINCE,), parts=parts), signed=False)
        object.__setattr__(accept, "document_id", DOCUMENT)
        self.register.name(accept)

    @property
    def stored(self) -> list[bytes]:
        return [content for content, _ in self.blobs.objects.values()]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    register, blobs = MemoryParts(), MemoryBlobs(clock=lambda: datetime.now(UTC))
    async with serving(blobs, register) as hub, Line(httpx2.URL(hub.url).port or 0) as line:
        world = World(hub, line, register, blobs)
        yield world
        for store in world.stores:
            await store.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_part_is_named_by_what_was_brought(world: World):
    part = await world.upload()
    assert part == Part(
        name="a.pdf", media_type="application/pdf", sha256=hashlib.sha256(CONTENT).hexdigest(), length=len(CONTENT)
    )
    assert world.stored == [CONTENT]


async def test_file_is_brought_and_comes_back(world: World, tmp_path: Path):
    source, into = tmp_path / "văn bản.pdf", tmp_path / "nhận.pdf"
    source.write_bytes(CONTENT)
    part = await world.upload(source)
    world.deliver(part)
    await world.fetch(into, part)
    assert into.read_bytes() == CONTENT
    assert names_in(tmp_path) == ["nhận.pdf", "văn bản.pdf"]


async def test_empty_file_comes_back_too(world: World, tmp_path: Path):
    part = await world.upload(b"")
    world.deliver(part)
    await world.fetch(tmp_path / "empty", part)
    assert (tmp_path / "empty").read_bytes() == b""


async def test_what_is_there_is_not_sent_again(world: World):
    await world.upload()
    world.line.cuts_up = [MIB]
    await world.upload()
    assert world.line.cuts_up == [MIB]


async def test_upload_goes_on_after_every_interruption_and_sends_nothing_twice(world: World):
    world.line.cuts_up = [3 * MIB, 100, 9 * MIB, MIB]
    await world.upload()
    assert world.line.cuts_up == []
    assert world.stored == [CONTENT]


async def test_upload_whose_answer_is_lost_is_found_complete(world: World):
    world.line.cuts_down = [0]
    await world.upload(b"small")
    assert world.stored == [b"small"]


async def test_fetch_goes_on_after_every_interruption(world: World, tmp_path: Path):
    part = await world.upload()
    world.deliver(part)
    world.line.cuts_down = [3 * MIB, 100, 9 * MIB, 100_000]
    await world.fetch(tmp_path / "fetched", part)
    assert world.line.cuts_down == []
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["fetched"]


async def test_fetch_after_a_death_goes_on_with_what_has_come(world: World, tmp_path: Path):
    part = await world.upload()
    world.deliver(part)
    left = tmp_path / f".fetched.{part.sha256[:16]}.part"
    left.write_bytes(CONTENT[: 15 * MIB])
    world.line.cuts_down = [6 * MIB]
    await world.fetch(tmp_path / "fetched", part)
    assert world.line.cuts_down == [6 * MIB]  # only the last 5 MiB came through
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["fetched"]


@pytest.mark.parametrize("left", [CONTENT + b"more", CONTENT], ids=["too long", "whole"])
async def test_whatever_a_dead_process_has_left_the_file_is_right(world: World, tmp_path: Path, left: bytes):
    part = await world.upload()
    world.deliver(part)
    (tmp_path / f".fetched.{part.sha256[:16]}.part").write_bytes(left)
    await world.fetch(tmp_path / "fetched", part)
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["fetched"]


async def test_wrong_bytes_are_never_given_the_name_and_the_next_fetch_is_right(world: World, tmp_path: Path):
    part = await world.upload()
    world.deliver(part)
    (tmp_path / f".fetched.{part.sha256[:16]}.part").write_bytes(b"wrong" * 1000)
    with pytest.raises(PartError, match="E504"):
        await world.fetch(tmp_path / "fetched", part)
    assert names_in(tmp_path) == []
    await world.fetch(tmp_path / "fetched", part)
    assert names_in(tmp_path) == ["fetched"]


async def test_store_that_hands_out_too_much_is_noticed(world: World, tmp_path: Path):
    part = await world.upload(b"0123456789")
    world.deliver(part)
    shorter = part.model_copy(update={"length": 9})
    with pytest.raises(PartError, match="E505"):
        await world.fetch(tmp_path / "fetched", shorter)
    assert names_in(tmp_path) == []


async def test_refusal_is_an_error_with_the_hubs_code_at_once_and_leaves_no_file(world: World, tmp_path: Path):
    part = await world.upload(b"secret")
    world.deliver(part)
    with pytest.raises(PartError, match="E421") as caught:
        await world.fetch(tmp_path / "stolen", part, STRANGER, timeout_s=60)
    assert caught.value.code.fix_vi
    assert names_in(tmp_path) == []


async def test_part_over_the_limit_is_refused_before_it_is_sent(world: World, tmp_path: Path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(world.hub.api.max_part_bytes + 1)
    world.line.cuts_up = [MIB]
    with pytest.raises(PartError, match="E520"):
        await world.upload(large)
    assert world.line.cuts_up == [MIB]


async def test_hub_that_is_away_for_a_moment_is_waited_for(world: World):
    world.line.is_open = False
    uploading = asyncio.create_task(world.upload(timeout_s=20))
    await eventually(lambda: world.line.connections >= 3, 10)
    world.line.is_open = True
    await uploading
    assert world.stored == [CONTENT]


async def test_hub_that_stays_away_is_an_error_after_the_time_without_progress(world: World, tmp_path: Path):
    world.line.is_open = False
    with pytest.raises(PartError, match="E901"):
        await world.upload(timeout_s=0.5)
    with pytest.raises(PartError, match="E901"):
        await world.fetch(tmp_path / "fetched", a.part(), timeout_s=0.5)
    assert names_in(tmp_path) == []


async def test_trouble_of_the_hub_is_waited_out(world: World, monkeypatch: pytest.MonkeyPatch):
    find, troubles = MemoryParts.find, [Unavailable("database", "away")] * 2

    async def troubled(self: MemoryParts, *given: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return await find(self, *given)

    monkeypatch.setattr(MemoryParts, "find", troubled)
    await world.upload(timeout_s=20)
    assert world.stored == [CONTENT]


async def test_somebody_else_under_the_address_is_told(world: World, tmp_path: Path):
    """Such as a web server that knows nothing of parts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        store = world.store()
        store._url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(PartError, match="A121"):
            await store.upload(b"x", name="a", media_type="text/plain", agency=AgencyCode(SENDER))


async def test_file_that_changes_while_it_is_sent_is_refused(world: World, tmp_path: Path):
    file = tmp_path / "changing"
    file.write_bytes(CONTENT)
    world.line.cuts_up = [MIB]

    class Changing(PartStore):
        async def _ask(self, *given: Any) -> Any:
            file.write_bytes(b"\0" * len(CONTENT))
            return await super()._ask(*given)

    store = Changing(
        world.line.url, AgencyCode(SENDER), agency_keys(SENDER).signer, clock=lambda: datetime.now(UTC), timeout_s=3.0
    )
    world.stores.append(store)
    with pytest.raises(PartError, match="E504"):
        await store.upload(file, name="a", media_type="text/plain", agency=AgencyCode(SENDER))
    assert world.stored == []


async def test_files_that_cannot_be_used_are_told_by_name(world: World, tmp_path: Path):
    with pytest.raises(FileUnusable, match=r"A120.*none"):
        await world.upload(tmp_path / "none")
    part = await world.upload(b"x")
    world.deliver(part)
    with pytest.raises(FileUnusable, match=r"A120.*nowhere"):
        await world.fetch(tmp_path / "nowhere" / "file", part)
    assert issubclass(FileUnusable, AgencyError)
