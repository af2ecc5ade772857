"""An agency asks over HTTP for everything again that it had: which ones the hub lets, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from adapters.errors import HubError
from adapters.inquiry import Inquiry
from hub.core.catch_up import CatchUpLimits
from hub.core.delivery import Posting
from hub.core.settlement import Handover
from hub.dispatch import Dispatch
from hub.store import replay_orders
from hub.store.catch_up import CatchUps
from hub.store.catch_up_requests import PostgresCatchUpRequests
from hub.store.pool import open_pool
from schemas.catch_up import CatchUp
from schemas.checks.directory import Directory
from schemas.identifiers import AgencyCode
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.keys import agency_keys
from tests.parts_hub import COMMUNE, PLATFORM, PROVINCE, SENDER, THROUGH_PLATFORM, PartsHub, directory, grant, serving
from tests.replay_stage import Stage

LIMITS = CatchUpLimits(per_minute=5, max_age_s=31 * 86_400, pause_s=3600, at_once=2)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """A ledger in which three agencies have received twelve documents each."""
    async with open_pool(database_url) as pool:
        stage = Stage(pool)
        stage.directory = directory()
        await stage.accepted(12, [PROVINCE, COMMUNE, THROUGH_PLATFORM])
        await stage.exchange()
        yield stage
        await stage.check_the_books()


@pytest.fixture
async def hub(stage: Stage) -> AsyncIterator[PartsHub]:
    async with serving(
        MemoryBlobs(now), MemoryParts(), catch_ups=PostgresCatchUpRequests(stage.pool, LIMITS)
    ) as serving_hub:
        yield serving_hub


@asynccontextmanager
async def asking(hub: PartsHub, code: str) -> AsyncIterator[Inquiry]:
    inquiry = Inquiry(hub.url, AgencyCode(code), agency_keys(code).signer, timeout_s=10, clock=now)
    try:
        yield inquiry
    finally:
        await inquiry.close()


async def catch_up(hub: PartsHub, agency: str, *, by: str | None = None, ago: timedelta = timedelta(days=1)) -> CatchUp:
    async with asking(hub, by or agency) as inquiry:
        return await inquiry.catch_up(AgencyCode(agency), now() - ago)


class Queue:
    """The queues of the agencies, which take everything, or nothing."""

    def __init__(self, says: Handover = "routed") -> None:
        self.says = says
        self.postings: list[Posting] = []

    async def ready(self) -> None:
        """Answer at once."""

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        self.postings.extend(postings)
        return [self.says] * len(postings)


async def turn(stage: Stage, queue: Queue) -> int:
    """Turn the loop of replays, and what hands out of it."""
    await stage.loop().turn()
    handing_out = Dispatch(CatchUps(stage.pool, max_batch=50), queue, stage, stage.policy, lambda: stage.now)
    return await handing_out.turn()


async def run(stage: Stage, queue: Queue, turns: int = 40) -> None:
    """Turn them often enough."""
    for _ in range(turns):
        await turn(stage, queue)
        stage.now += timedelta(seconds=10)


async def test_agency_gets_its_own_deliveries_again_at_the_rate_and_sees_how_far_it_is(stage, hub):
    async with asking(hub, PROVINCE) as inquiry:
        assert await inquiry.latest_catch_up(AgencyCode(PROVINCE)) is None
        begun = await inquiry.catch_up(AgencyCode(PROVINCE), now() - timedelta(days=1))
        assert (begun.state, begun.size, begun.handed_out, begun.per_minute) == ("running", 12, 0, 5)
        queue = Queue()
        stage.now = now()
        await run(stage, queue, turns=6)
        assert len(queue.postings) == 5  # the rate of a minute
        await run(stage, queue)
        assert {posting.deliveries[0].recipient for posting in queue.postings} == {PROVINCE}
        assert len({posting.deliveries[0].delivery_id for posting in queue.postings}) == 12 == len(queue.postings)
        seen = await inquiry.latest_catch_up(AgencyCode(PROVINCE))
        assert seen is not None
        assert (seen.number, seen.state, seen.handed_out) == (begun.number, "done", 12)
    async with stage.pool.reading() as connection:
        told = await connection.fetch("SELECT event, actor FROM ledger WHERE event LIKE 'replay.%' ORDER BY event_id")
    assert [tuple(row) for row in told] == [("replay.catch-up", PROVINCE), ("replay.done", "replay")]


async def test_asked_again_it_is_the_same_and_two_requests_at_once_begin_one(stage, hub):
    first, second = await asyncio.gather(catch_up(hub, PROVINCE), catch_up(hub, PROVINCE))
    again = await catch_up(hub, PROVINCE, ago=timedelta(hours=1))

    assert first.number == second.number == again.number


async def test_platform_asks_for_those_it_receives_for_and_nobody_else(stage, hub):
    assert (await catch_up(hub, THROUGH_PLATFORM, by=PLATFORM)).size == 12
    with pytest.raises(HubError, match="E402"):
        await catch_up(hub, COMMUNE, by=PLATFORM)


async def test_mail_of_others_is_not_asked_for(stage, hub):
    since = int(now().timestamp()) - 86_400
    url = f"{hub.url}/v1/agencies/{COMMUNE}/catch-up"
    async with httpx2.AsyncClient() as http:
        headers = grant(PROVINCE, "catch-up", None, since=since)
        answer = await http.post(url, params={"since": since}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "E422")
        answer = await http.get(url, headers=grant(PROVINCE, "ask", None))
        assert (answer.status_code, answer.json()["code"]) == (403, "E422")


async def test_mandate_to_send_is_none_to_receive(stage):
    """A platform that may send for an agency, whose mail goes to the agency itself."""
    who_is_who = directory()
    own = replace(who_is_who.agencies[AgencyCode(THROUGH_PLATFORM)], endpoint=AgencyCode(THROUGH_PLATFORM))
    changed = replace(who_is_who, agencies={**who_is_who.agencies, own.code: own})
    requests = PostgresCatchUpRequests(stage.pool, LIMITS)
    async with serving(MemoryBlobs(now), MemoryParts(), who_is_who=changed, catch_ups=requests) as serving_hub:
        with pytest.raises(HubError, match="E422"):
            await catch_up(serving_hub, THROUGH_PLATFORM, by=PLATFORM)


async def test_suspended_agency_gets_nothing_again(stage):
    requests = PostgresCatchUpRequests(stage.pool, LIMITS)
    who_is_who = suspending(PROVINCE)
    async with serving(MemoryBlobs(now), MemoryParts(), who_is_who=who_is_who, catch_ups=requests) as serving_hub:
        with pytest.raises(HubError, match="E405"):
            await catch_up(serving_hub, PROVINCE)


async def test_agency_that_is_suspended_meanwhile_sees_why_it_waits_and_gets_the_rest_once_it_is_open_again(stage, hub):
    begun = await catch_up(hub, PROVINCE)
    open_again, stage.now = stage.directory, now()
    queue = Queue()
    await turn(stage, queue)
    stage.directory = suspending(PROVINCE)
    await run(stage, queue)
    assert len(queue.postings) == 1
    async with asking(hub, PROVINCE) as inquiry:
        seen = await inquiry.latest_catch_up(AgencyCode(PROVINCE))
    assert seen is not None
    assert (seen.number, seen.state, seen.handed_out, seen.not_handed_out) == (begun.number, "suspended", 1, 0)
    view = await stage.view(begun.number)
    assert (view.state, view.said) == ("paused", "agency-suspended")
    await catch_up(hub, COMMUNE)
    await catch_up(hub, THROUGH_PLATFORM, by=PLATFORM)  # the second that goes on: one that waits takes no place
    stage.directory = open_again
    await run(stage, queue)
    again = [item.deliveries[0].delivery_id for item in queue.postings if item.deliveries[0].recipient == PROVINCE]
    assert len(again) == len(set(again)) == 12
    assert (await stage.view(begun.number)).outcomes == {"handed-out": 12}
    assert await replay_events(stage, begun.number) == [
        ("replay.catch-up", PROVINCE, None),
        ("replay.paused", "replay", "agency-suspended"),
        ("replay.running", "replay", "agency-open-again"),
        ("replay.done", "replay", "all-have-an-outcome"),
    ]


async def test_what_was_released_before_a_catch_up_was_cancelled_waits_for_its_suspended_agency_too(stage, hub):
    begun = await catch_up(hub, PROVINCE)
    open_again, stage.now = stage.directory, now()
    await stage.loop().turn()
    await replay_orders.cancel(stage.pool, begun.number, actor="an", now=stage.now)
    stage.directory, queue = suspending(PROVINCE), Queue()
    await run(stage, queue)
    stage.now += timedelta(days=3)
    await run(stage, queue)
    assert queue.postings == []
    stage.directory = open_again
    await run(stage, queue)
    assert (await stage.view(begun.number)).outcomes == {"cancelled": 11, "handed-out": 1}


def suspending(code: str) -> Directory:
    """The directory, with one agency suspended."""
    who_is_who = directory()
    suspended = replace(who_is_who.agencies[AgencyCode(code)], state="suspended")
    return replace(who_is_who, agencies={**who_is_who.agencies, suspended.code: suspended})


async def replay_events(stage: Stage, number: int) -> list[tuple[str, str, str | None]]:
    async with stage.pool.reading() as connection:
        told = await connection.fetch(
            "SELECT event, actor, detail ->> 'why' AS why FROM ledger "
            "WHERE event LIKE 'replay.%' AND (detail ->> 'replay')::integer = $1 ORDER BY event_id",
            number,
        )
    return [(row["event"], row["actor"], row["why"]) for row in told]


@pytest.mark.parametrize(("act", "granted_s"), [("ask", None), ("catch-up", None), ("catch-up", 1)])
async def test_grant_is_for_this_act_and_this_moment(stage, hub, act, granted_s):
    since = int(now().timestamp()) - 86_400
    granted = None if granted_s is None else since + granted_s
    async with httpx2.AsyncClient() as http:
        headers = grant(PROVINCE, act, None, since=granted)
        url = f"{hub.url}/v1/agencies/{PROVINCE}/catch-up"
        answer = await http.post(url, params={"since": since}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "E420")


async def test_how_often_how_far_back_and_how_many_at_a_time_is_bounded(stage, hub):
    with pytest.raises(HubError, match="E424"):
        await catch_up(hub, PROVINCE, ago=timedelta(days=32))
    with pytest.raises(HubError, match="E424"):
        await catch_up(hub, PROVINCE, ago=timedelta(days=-1))
    await catch_up(hub, PROVINCE, ago=timedelta(hours=1))
    with pytest.raises(HubError, match="E423"):
        await catch_up(hub, PROVINCE, ago=timedelta(days=1))  # begins before the one that goes on
    await catch_up(hub, COMMUNE)
    with pytest.raises(HubError, match="E423"):
        await catch_up(hub, SENDER)  # two at a time
    stage.now = now()
    await run(stage, Queue())
    stage.now = now()
    assert (await catch_up(hub, SENDER)).size == 12 * 3  # the receipts of its documents


async def test_ended_one_is_followed_by_a_pause(stage, hub):
    await catch_up(hub, PROVINCE)
    stage.now = now() - timedelta(seconds=400)
    await run(stage, Queue())
    with pytest.raises(HubError, match="E423"):
        await catch_up(hub, PROVINCE)


async def test_queue_that_takes_nothing_is_tried_once_a_minute_and_given_up_after_a_day(stage, hub):
    """However long the lifetime of what was had is over."""
    begun = await catch_up(hub, PROVINCE)
    queue = Queue("not-taken")
    stage.now = now() + timedelta(days=30)
    tried_in_turns = [await turn(stage, queue) for _ in range(10)]
    assert sum(tried_in_turns) <= 5
    for _ in range(30):
        stage.now += timedelta(minutes=1)
        await turn(stage, queue)
    in_hand = {posting.deliveries[0].delivery_id for posting in queue.postings}
    assert len(in_hand) == 5, "more is released although the queue takes nothing"
    assert len(queue.postings) <= 5 * 31
    for _ in range(8):
        stage.now += timedelta(hours=12)
        await turn(stage, queue)
        stage.now += timedelta(seconds=30)
        await turn(stage, queue)
    stage.now += timedelta(minutes=2)
    await turn(stage, queue)
    async with asking(hub, PROVINCE) as inquiry:
        seen = await inquiry.latest_catch_up(AgencyCode(PROVINCE))
    assert seen is not None
    assert (seen.number, seen.state, seen.not_handed_out) == (begun.number, "cancelled", 12)
    async with stage.pool.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM replay_items WHERE outcome IS NULL") == 0
