"""What every ledger does for the loop of replays; a subclass provides the fixture `store`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from hub.core.replay import SUSPENDED, Progress, Release, ReplayPace, Turn
from hub.core.settlement import settle_attempt, settle_held
from hub.core.verdict import Accept
from schemas.identifiers import AgencyCode, DeliveryId
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

    async def test_item_without_a_queue_is_failing_though_one_attempt_is_all_and_it_counts_none(self, store: Store):
        await dead(store)
        replay = await store.start_replay(ALL, LATER)
        await store.replays.step(replay, lambda _: Release(1), rehearsed, LATER)
        once = replace(POLICY, max_attempts=1)
        async with store.deliveries.claim(LATER) as claim:
            await claim.settle([settle_attempt(due.delivery, "unroutable", once, LATER) for due in claim.due], LATER)
        seen: list[Progress] = []
        await store.replays.step(replay, seen.append, rehearsed, LATER)
        assert list(seen[0].watched) == ["failing"]

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


class WaysContract:
    """How what replays release goes in and out again."""

    async def test_submission_that_was_put_aside_is_taken_until_it_has_an_outcome(self, store: Store):
        await store.ledger.record([a.decided(a.park(a.accept(signed=False).token))], NOW)
        replay = await store.start_replay(ALL, LATER)
        inbox = store.parked_inbox(LATER)
        assert list((await inbox.take()).submissions) == []  # not released
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)
        batch = await inbox.take()
        [submission] = batch.submissions
        assert (submission.redelivered, submission.put_aside_at) == (True, NOW)
        await inbox.release()
        assert list((await inbox.take()).submissions) == [submission]
        await inbox.acknowledge(batch)
        assert list((await store.outcomes(replay)).values()) == ["parked"]
        assert list((await inbox.take()).submissions) == []

    async def test_outcome_of_a_submission_is_what_the_ledger_says_of_it_now(self, store: Store):
        accept = a.accept(signed=False)
        await store.ledger.record([a.decided(a.park(accept.token))], NOW)
        replay = await store.start_replay(ALL, LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)
        inbox = store.parked_inbox(LATER)
        batch = await inbox.take()
        await store.ledger.record([a.decided(accept)], LATER)
        await inbox.acknowledge(batch)
        await inbox.acknowledge(batch)  # after a death in between
        assert list((await store.outcomes(replay)).values()) == ["accepted"]
        assert [event.event for event in await store.events()].count("submission.replayed") == 1

    async def test_catch_up_hands_out_what_was_had_and_leaves_every_delivery_as_it_is(self, store: Store):
        [delivery] = await had(store)
        before = await store.rows()
        replay = await store.start_catch_up(AgencyCode(RECIPIENTS[0]), LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)
        async with store.catch_ups.claim(LATER) as claim:
            assert [due.delivery.delivery_id for due in claim.due] == [delivery]
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
        assert await store.outcomes(replay) == {delivery: "handed-out"}
        assert await store.rows() == before
        assert (await store.events())[-1].event == "delivery.handed-out-again"

    async def test_catch_up_that_dies_within_a_claim_is_claimed_again(self, store: Store):
        [delivery] = await had(store)
        replay = await store.start_catch_up(AgencyCode(RECIPIENTS[0]), LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)

        async def die() -> None:
            async with store.catch_ups.claim(LATER) as claim:
                await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await die()
        assert await store.outcomes(replay) == {delivery: None}
        async with store.catch_ups.claim(LATER) as claim:
            assert [due.delivery.delivery_id for due in claim.due] == [delivery]

    async def test_what_the_queue_does_not_take_is_tried_a_minute_later_and_given_up_after_a_day(self, store: Store):
        [delivery] = await had(store)
        replay = await store.start_catch_up(AgencyCode(RECIPIENTS[0]), LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)

        async def tried(moment: datetime) -> int:
            async with store.catch_ups.claim(moment) as claim:
                await claim.settle(
                    [settle_attempt(due.delivery, "not-taken", POLICY, moment) for due in claim.due], moment
                )
                return len(claim.due)

        minute = timedelta(minutes=1)
        tries = [await tried(LATER + wait) for wait in (minute * 0, minute / 2, minute, timedelta(days=1))]
        assert tries == [1, 0, 1, 1]
        assert await store.outcomes(replay) == {delivery: "expired"}
        assert await tried(LATER + timedelta(days=2)) == 0

    async def test_what_a_suspended_agency_had_waits_a_minute_at_a_time_and_is_never_given_up(self, store: Store):
        [delivery] = await had(store)
        before = await store.rows()
        replay = await store.start_catch_up(AgencyCode(RECIPIENTS[0]), LATER)
        await store.replays.step(replay, lambda _: Release(10), rehearsed, LATER)

        async def tried(moment: datetime) -> int:
            async with store.catch_ups.claim(moment) as claim:
                await claim.settle([settle_held(due.delivery, "E812") for due in claim.due], moment)
                return len(claim.due)

        minute, day = timedelta(minutes=1), timedelta(days=1)
        tries = [await tried(LATER + wait) for wait in (minute * 0, minute / 2, minute, 2 * day)]
        assert tries == [1, 0, 1, 1]
        assert await store.outcomes(replay) == {delivery: None}
        async with store.catch_ups.claim(LATER + 2 * day + minute) as claim:
            again = [settle_attempt(due.delivery, "not-taken", POLICY, LATER) for due in claim.due]
            await claim.settle(again, LATER + 2 * day + minute)
        assert await store.outcomes(replay) == {delivery: None}, "its day begins when it is open again"
        assert await store.rows() == before

    async def test_catch_up_of_a_suspended_agency_is_looked_at_and_one_that_a_person_paused_is_not(self, store: Store):
        await had(store)
        replay = await store.start_catch_up(AgencyCode(RECIPIENTS[0]), LATER)
        seen: list[Progress] = []
        await store.replays.step(replay, lambda _: Turn("paused", SUSPENDED), rehearsed, LATER)
        assert list(await store.replays.open_replays()) == [replay]
        await store.replays.step(replay, seen.append, rehearsed, LATER)
        assert (seen[0].state, seen[0].said, seen[0].agency) == ("paused", SUSPENDED, RECIPIENTS[0])
        await store.replays.step(replay, lambda _: Turn("paused", "by-a-person"), rehearsed, LATER)
        assert list(await store.replays.open_replays()) == []


async def had(store: Store) -> Sequence[DeliveryId]:
    """Let the first recipient receive a document."""
    accept: Accept = a.accept(a.envelope(to=RECIPIENTS[:1]), signed=False)
    await store.ledger.record([a.decided(accept)], NOW)
    ids = [accept.delivery_id(addressee) for addressee in accept.addressees]
    await answer(store, *ids, outcome="received")
    return ids
