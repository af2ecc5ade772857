"""Two turns of dispatch side by side on the real ledger: everything once, and for each recipient in the order in which it came."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from hub.core.delivery import Posting
from hub.core.settlement import Handover
from hub.dispatch import Dispatch
from hub.store.deliveries import PostgresDeliveries
from hub.store.pool import open_pool
from tests.replay_stage import RECIPIENTS, Stage

HERE, THERE = RECIPIENTS[:2]


@pytest.fixture
async def stage(database_url):
    async with open_pool(database_url, by_key=True) as pool:
        yield Stage(pool)


class Outbox:
    """A broker that takes everything, and meanwhile one more document comes in."""

    def __init__(self, stage: Stage, more: int) -> None:
        self._stage = stage
        self._more = more
        self.taken: list[tuple[str, str]] = []

    async def ready(self) -> None:
        return

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        self.taken += [(posting.routing_key, posting.object_id) for posting in postings]
        if self._more:
            self._more -= 1
            await come_in(self._stage, HERE)
        return ["routed"] * len(postings)


async def come_in(stage: Stage, recipient: str) -> None:
    """Let a document come in, a moment after the last one."""
    stage.now += timedelta(milliseconds=1)
    await stage.accepted(1, [recipient])


@pytest.mark.parametrize(
    ("documents", "max_batch"),
    [
        pytest.param(60, 300, id="a few"),
        pytest.param(130, 300, id="its share"),
        pytest.param(130, 90, id="a claim full"),
    ],
)
async def test_nothing_overtakes_and_nothing_goes_out_twice(stage, documents, max_batch):
    for _ in range(documents):
        await come_in(stage, HERE)
    await come_in(stage, THERE)
    outbox = Outbox(stage, more=20)
    deliveries = PostgresDeliveries(stage.pool, max_batch=max_batch, max_share=20, wait_s=0.01)
    dispatch = Dispatch(deliveries, outbox, stage, stage.policy, lambda: stage.now)

    async def keep_turning() -> None:
        while len(outbox.taken) < documents + 21:
            await dispatch.turn()

    async with asyncio.timeout(30):
        await asyncio.gather(keep_turning(), keep_turning())
    async with stage.pool.reading() as connection:
        rows = await connection.fetch("SELECT encode(document_id, 'hex') AS id FROM documents ORDER BY accepted_at")
    came, went = [row["id"] for row in rows], [document for _, document in outbox.taken]
    assert sorted(went) == sorted(came)
    here = [document for recipient, document in outbox.taken if recipient == HERE]
    assert here == [document for document in came if document in set(here)]


@pytest.mark.parametrize(("documents", "leaves_out"), [(20, False), (21, True)])
async def test_a_claim_tells_whether_it_keeps_something_from_others(stage, documents, leaves_out):
    await stage.accepted(documents, [HERE])
    async with PostgresDeliveries(stage.pool, max_share=20, wait_s=0.01).claim(stage.now) as claim:
        assert (len(claim.due), claim.leaves_out) == (20, leaves_out)
