"""What every ledger does for the loop of replays; a subclass provides the fixture `store`."""

from collections.abc import Sequence
from datetime import timedelta

from hub.core.replay import Progress, Release, ReplayPace, Turn
from hub.core.settlement import settle_attempt
from hub.core.verdict import Accept
from schemas.identifiers import DeliveryId
from schemas.refusal import Problem
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS
from tests.contract.store import Event, Store

LATER = NOW + timedelta(minutes=1)
ALL = ReplayPace("all", 60, 60)


async def dead(store: Store, *to: str) -> Sequence[DeliveryId]:
    """Take a document over that its recipients refuse."""
    accept: Accept = a.accept(a.envelope(to=to or RECIPIENTS[:1]), signed=False)
    await store.ledger.record([a.decided(accept)], NOW)
    ids = [accept.delivery_id(addressee) for addressee in accept.addressees]
    await answer(store, *ids, outcome="refused")
    return ids


async def answer(store: Store, *ids: DeliveryId, outcome: str, said: str = "x") -> None:
    async with store.deliveries.claim(LATER) as claim:
        await claim.settle([settle_attempt(item.delivery, "routed", POLICY, LATER) for item in claim.due], LATER)
    rows = await store.rows()
    receipts = [
        a.receipt(key, from_=rows[key].delivery.recipient, outcome=outcome, signed=False, detail=said) for key in ids
    ]
    await store.ledger.record_answers(receipts, a.settle, LATER)


def rehearsed(candidates: Sequence[object]) -> list[Problem | None]:
    return [None] * len(candidates)


class ReplaysContract:
    """Releasing and settling."""

    async def test_released_item_is_pending_under_its_id_with_no_attempt_behind_it(self, store: Store):
        [delivery] = await dead(store)
        replay = await store.start_replay(ALL, LATER)
        assert await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER) == 1
        row = (await store.rows())[delivery]
        assert (row.delivery.state, row.delivery.attempts, row.code, row.next_attempt_at) == ("pending", 0, None, LATER)
        assert (await store.events())[-1] == Event("delivery.replayed", row.delivery.object_id, delivery, "pending")
        assert await store.outcomes(replay) == {delivery: None}

    async def test_item_whose_delivery_has_ended_has_an_outcome(self, store: Store):
        [good] = await dead(store)
        [bad] = await dead(store)
        replay = await store.start_replay(ALL, LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)
        assert await store.replays.settle(LATER) == 0
        await answer(store, good, outcome="received")
        await answer(store, bad, outcome="refused", said="y")
        assert await store.replays.settle(LATER) == 2
        assert await store.outcomes(replay) == {good: "received", bad: "dead"}
        assert await store.replays.settle(LATER) == 0

    async def test_no_more_is_released_than_allowed_in_total_and_for_each_recipient(self, store: Store):
        for _ in range(4):
            await dead(store, *RECIPIENTS[:2])
        replay = await store.start_replay(ALL, LATER)
        assert await store.replays.step(replay, lambda _: Release(1), rehearsed, LATER) == 1
        assert await store.replays.step(replay, lambda _: Release(100, per_recipient=2), rehearsed, LATER) == 3
        assert await store.replays.step(replay, lambda _: Release(100, per_recipient=2), rehearsed, LATER) == 0
        a_minute_later = LATER + timedelta(seconds=61)
        assert await store.replays.step(replay, lambda _: Release(3, per_recipient=2), rehearsed, a_minute_later) == 3

    async def test_progress_says_how_far_it_is(self, store: Store):
        for _ in range(3):
            await dead(store)
        replay = await store.start_replay(ALL, LATER)
        seen: list[Progress] = []

        def look(progress: Progress) -> Release | None:
            seen.append(progress)
            return Release(1) if len(seen) == 1 else None

        await store.replays.step(replay, look, rehearsed, LATER)
        await store.replays.step(replay, look, rehearsed, LATER)
        assert [(item.waiting, item.in_hand, list(item.watched)) for item in seen] == [(3, 0, []), (2, 1, ["unknown"])]
        assert (seen[0].state, seen[0].pace) == ("running", ALL)
        assert (seen[1].released_last_minute, seen[1].released_just_now) == (1, 1)
        assert seen[1].watched_until == LATER

    async def test_item_that_is_dead_no_longer_is_skipped(self, store: Store):
        [delivery] = await dead(store)
        replay = await store.start_replay(ALL, LATER)
        await answer(store, delivery, outcome="received")
        before = await store.rows()
        assert await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER) == 1
        assert await store.outcomes(replay) == {delivery: "skipped"}
        assert await store.rows() == before

    async def test_item_that_would_fail_today_is_skipped(self, store: Store):
        [delivery] = await dead(store)
        replay = await store.start_replay(ALL, LATER)
        refused = lambda candidates: [Problem("E404")] * len(candidates)  # noqa: E731
        assert await store.replays.step(replay, lambda _: Release(10), refused, LATER) == 1
        assert await store.outcomes(replay) == {delivery: "skipped"}
        assert (await store.rows())[delivery].delivery.state == "dead"

    async def test_replay_that_has_turned_over_is_not_open(self, store: Store):
        await dead(store)
        replay = await store.start_replay(ALL, LATER)
        assert list(await store.replays.open_replays()) == [replay]
        await store.replays.step(replay, lambda _: Turn("stopped", "why"), rehearsed, LATER)
        assert list(await store.replays.open_replays()) == []

    async def test_waiting_changes_nothing(self, store: Store):
        await dead(store)
        replay = await store.start_replay(ALL, LATER)
        before = await store.rows(), await store.events()
        assert await store.replays.step(replay, lambda _: None, rehearsed, LATER) == 0
        assert (await store.rows(), await store.events()) == before
