"""Uploads and downloads over a store and a register in memory: resumed, refused, crossed, and broken off anywhere."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from hub.core.part import Progress, Upload
from hub.core.trouble import Interrupted
from hub.parts import Parts
from hub.sweep import Sweep
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from tests import builders as a
from tests.builders import SENDER
from tests.component.effects import Effectful, Effects, ProcessDied
from tests.component.memory import MemoryBlobs, MemoryLedger, MemoryParts

OTHER = AgencyCode("H31")
CONTENT = bytes(range(256)) * 10
DIGEST = hashlib.sha256(CONTENT).hexdigest()
DAY = timedelta(days=1)


@dataclass(slots=True)
class Hub:
    """The hub's parts, of which each call may be another process."""

    now: datetime = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    register: MemoryParts = field(default_factory=MemoryParts)
    blobs: MemoryBlobs = field(init=False)
    effects: Effects = field(default_factory=Effects)

    def __post_init__(self) -> None:
        self.blobs = MemoryBlobs(clock=lambda: self.now)

    def parts(self) -> Parts:
        blobs, register = (
            Effectful(thing, name, self.effects) for thing, name in ((self.blobs, "blobs"), (self.register, "register"))
        )
        return Parts(blobs, register, max_bytes=10_000, clock=lambda: self.now, chunk_bytes=1000)

    async def append(
        self, body: "AsyncIterator[bytes] | bytes", offset: int = 0, *, upload: Upload | None = None, **how: object
    ) -> Progress | Problem:
        stream = pieces(body) if isinstance(body, bytes) else body
        given = {"offset": offset, "length": len(CONTENT), "is_last": True} | how
        return await self.parts().append(upload or Upload(DIGEST, SENDER), stream, **given)

    async def progress(self, agency: AgencyCode = SENDER) -> Progress:
        return await self.parts().progress(Upload(DIGEST, agency))

    def contents(self) -> list[bytes]:
        """What is stored under the keys of finished parts."""
        return [content for key, (content, _) in self.blobs.objects.items() if key.startswith("parts/")]

    async def sweep(self) -> None:
        sweep = Sweep(self.register, self.blobs, 7 * DAY.total_seconds(), DAY.total_seconds(), lambda: self.now)
        while await sweep.turn():
            pass


async def pieces(content: bytes, size: int = 300) -> AsyncIterator[bytes]:
    for position in range(0, len(content), size):
        yield content[position : position + size]


async def broken_after(content: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(content):
        yield piece
    raise Interrupted("gone")


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def test_part_that_comes_in_one_request_is_there_once_and_nothing_else(hub: Hub):
    assert await hub.append(CONTENT) == Progress(len(CONTENT), complete=True)
    assert list(hub.blobs.objects.values()) == [(CONTENT, hub.now)]
    assert await hub.progress() == Progress(len(CONTENT), complete=True)


async def test_small_part_is_put_at_once(hub: Hub):
    small = Upload(hashlib.sha256(b"small").hexdigest(), SENDER)
    assert await hub.append(b"small", upload=small, length=5) == Progress(5, complete=True)
    assert [point for point in hub.effects.points if point.startswith("before")] == [
        "before register.find",
        "before blobs.chunks",
        "before blobs.put",
        "before register.add",
    ]


async def test_empty_part_is_a_part(hub: Hub):
    empty = Upload(hashlib.sha256(b"").hexdigest(), SENDER)
    assert await hub.append(b"", upload=empty, length=0) == Progress(0, complete=True)


@pytest.mark.parametrize("came", [1, 299, 999, 1000, 1001, 2500, 2560])
async def test_upload_that_broke_off_goes_on_where_it_was_at_another_process(hub: Hub, came: int):
    with pytest.raises(Interrupted):
        await hub.append(broken_after(CONTENT[:came]))
    assert await hub.progress() == Progress(came, complete=False)
    assert await hub.append(CONTENT[came:], came) == Progress(len(CONTENT), complete=True)
    assert hub.contents() == [CONTENT]


async def test_small_part_that_broke_off_goes_on_too(hub: Hub):
    small = Upload(hashlib.sha256(b"small").hexdigest(), SENDER)
    with pytest.raises(Interrupted):
        await hub.append(broken_after(b"sm"), upload=small, length=5)
    assert await hub.append(b"all", 2, upload=small, length=5) == Progress(5, complete=True)


async def test_part_may_come_in_several_requests_on_purpose(hub: Hub):
    assert await hub.append(CONTENT[:1500], is_last=False) == Progress(1500, complete=False)
    assert await hub.append(CONTENT[1500:2000], 1500, is_last=False) == Progress(2000, complete=False)
    assert await hub.append(CONTENT[2000:], 2000) == Progress(len(CONTENT), complete=True)
    assert hub.contents() == [CONTENT]


async def test_request_that_does_not_go_on_where_it_should_is_told_where(hub: Hub):
    await hub.append(CONTENT[:1500], is_last=False)
    for offset in (0, 1499, 1501):
        problem = await hub.append(CONTENT, offset)
        assert problem == Problem("E521", "/offset", "1500", "1500")
    assert await hub.progress() == Progress(1500, complete=False)


async def test_what_is_there_is_answered_without_reading(hub: Hub):
    await hub.append(CONTENT)
    body = broken_after(b"")
    assert await hub.append(body, 0) == Progress(len(CONTENT), complete=True)
    await body.aclose()


@pytest.mark.parametrize("size", [500, 2560])
async def test_other_bytes_than_the_digest_says_are_refused_and_leave_nothing(hub: Hub, size: int):
    upload = Upload("00" * 32, SENDER)
    problem = await hub.append(CONTENT[:size], upload=upload, length=size)
    found = hashlib.sha256(CONTENT[:size]).hexdigest()
    assert problem == Problem("E504", "/sha256", f"it is {found}", f"mã băm thực tế {found}")
    assert hub.blobs.objects == {}
    assert hub.register.kept == {}


@pytest.mark.parametrize("length", [2559, 2561, 500])
async def test_another_length_than_was_announced_is_refused_and_leaves_nothing(hub: Hub, length: int):
    problem = await hub.append(CONTENT, length=length)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.pointer) == ("E505", "/length")
    assert hub.blobs.objects == {}


async def test_part_over_the_limit_is_refused_without_reading(hub: Hub):
    body = broken_after(b"")
    problem = await hub.append(body, length=10_001)
    assert isinstance(problem, Problem)
    assert problem.code == "E520"
    await body.aclose()


async def test_part_that_another_agency_has_uploaded_must_come_again_and_is_stored_once(hub: Hub):
    """Who knows a digest only, learns nothing and gets nothing."""
    await hub.append(CONTENT)
    assert await hub.progress(OTHER) == Progress(0, complete=False)
    assert await hub.append(CONTENT, upload=Upload(DIGEST, OTHER)) == Progress(len(CONTENT), complete=True)
    assert hub.contents() == [CONTENT]


async def test_agency_cannot_spoil_the_upload_of_another(hub: Hub):
    await hub.append(CONTENT[:1000], is_last=False)
    await hub.append(b"\0" * 2000, upload=Upload(DIGEST, OTHER), is_last=False)
    assert await hub.append(CONTENT[1000:], 1000) == Progress(len(CONTENT), complete=True)
    assert hub.contents() == [CONTENT]


@pytest.mark.parametrize("others", [SENDER, OTHER])
async def test_two_uploads_of_one_part_at_a_time_store_it_once(hub: Hub, others: AgencyCode):
    async def slowly(content: bytes) -> AsyncIterator[bytes]:
        async for piece in pieces(content):
            await asyncio.sleep(0)
            yield piece

    results = await asyncio.gather(
        hub.append(slowly(CONTENT)), hub.append(slowly(CONTENT), upload=Upload(DIGEST, others))
    )
    assert results == [Progress(len(CONTENT), complete=True)] * 2
    assert hub.contents() == [CONTENT]
    assert len(hub.blobs.objects) == 1


async def test_upload_whose_chunks_are_swept_meanwhile_begins_anew(hub: Hub):
    await hub.append(CONTENT[:2000], is_last=False)

    async def swept_meanwhile() -> AsyncIterator[bytes]:
        hub.blobs.objects.clear()
        yield CONTENT[2000:]

    assert await hub.append(swept_meanwhile(), 2000) == Progress(0, complete=False)
    assert await hub.append(CONTENT) == Progress(len(CONTENT), complete=True)


async def _upload_until_done(hub: Hub) -> None:
    """What an agency does: ask, go on from there, until it is complete; a process that dies is followed by another."""
    for _ in range(10):
        try:
            reached = await hub.progress()
            if reached.complete:
                return
            await hub.append(CONTENT[reached.offset :], reached.offset)
        except ProcessDied:
            hub.effects.dead, hub.effects.die_at = False, None
    raise AssertionError("never complete")


async def test_a_death_at_any_effect_of_an_upload_loses_nothing_and_leaves_nothing_for_long():
    counted = Hub()
    await _upload_until_done(counted)
    for index, name in enumerate(counted.effects.points):
        hub = Hub(effects=Effects(die_at=index))
        await _upload_until_done(hub)
        assert hub.effects.points[index] == name
        kept = hub.register.kept[DIGEST]
        assert hub.blobs.objects[kept.object_key][0] == CONTENT, name
        hub.now += 2 * DAY
        await hub.sweep()
        assert hub.blobs.objects.keys() == {kept.object_key}, name
        assert hub.blobs.staged == [], name


async def test_kill_between_the_object_and_its_entry_leaves_an_orphan_until_the_sweep():
    probe = Hub()
    await probe.append(CONTENT)
    index = probe.effects.points.index("after blobs.put_stream")
    hub = Hub(effects=Effects(die_at=index))
    with pytest.raises(ProcessDied):
        await hub.append(CONTENT)
    assert (len(hub.contents()), hub.register.kept) == (1, {})
    hub.effects = Effects()
    assert await hub.append(b"", len(CONTENT)) == Progress(len(CONTENT), complete=True)
    assert len(hub.contents()) == 2
    hub.now += DAY
    await hub.sweep()
    assert len(hub.contents()) == 2
    hub.now += timedelta(seconds=1)
    await hub.sweep()
    assert hub.contents() == [CONTENT]


class TestSweep:
    """What is swept, and when."""

    async def test_unfinished_upload_is_swept_a_day_after_its_last_chunk(self, hub: Hub):
        await hub.append(CONTENT[:1000], is_last=False)
        hub.now += DAY
        await hub.append(CONTENT[1000:2000], 1000, is_last=False)
        hub.now += DAY
        await hub.sweep()
        assert len(hub.blobs.objects) == 2
        assert await hub.progress() == Progress(2000, complete=False)
        hub.now += timedelta(seconds=1)
        await hub.sweep()
        assert hub.blobs.objects == {}

    async def test_part_that_no_document_names_is_swept_after_a_week_and_one_that_is_named_never(self, hub: Hub):
        ledger = MemoryLedger(parts=hub.register)
        await hub.append(CONTENT)
        other = Upload(hashlib.sha256(b"other").hexdigest(), SENDER)
        await hub.append(b"other", upload=other, length=5)
        accept = a.accept(a.envelope(parts=[a.part(CONTENT)]), signed=False)
        assert await ledger.record([a.decided(accept)], hub.now) == []
        hub.now += 7 * DAY
        await hub.sweep()
        assert len(hub.contents()) == 2
        hub.now += timedelta(seconds=1)
        await hub.sweep()
        assert hub.contents() == [CONTENT]
        hub.now += 10_000 * DAY
        await hub.sweep()
        assert hub.contents() == [CONTENT]

    async def test_files_of_dead_processes_are_removed_after_a_day(self, hub: Hub):
        hub.blobs.staged.append(hub.now)
        hub.now += DAY
        await hub.sweep()
        assert len(hub.blobs.staged) == 1
        hub.now += timedelta(seconds=1)
        await hub.sweep()
        assert hub.blobs.staged == []

    async def test_turn_that_has_looked_at_something_is_followed_by_another(self, hub: Hub):
        for number in range(5):
            await hub.blobs.put(f"parts/00/{number}", b"")
        sweep = Sweep(hub.register, hub.blobs, 1, 1, lambda: hub.now)
        assert [await sweep.turn() for _ in range(4)] == [2, 2, 1, 0]
