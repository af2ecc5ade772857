"""Replays on a real ledger: what is planned, how it is released, what becomes of it, whatever comes between."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from hub.core.policy import Retry
from hub.core.replay import Release
from hub.core.selection import Selection
from hub.core.settlement import settle_overdue
from hub.core.trouble import Conflict
from hub.dispatch import Dispatch
from hub.intake import Intake
from hub.store import replay_orders
from hub.store.catch_up import CatchUps
from hub.store.dead_letters import assign, dismiss, group_dead, list_dead, note, restore, show
from hub.store.ledger import parked_id_of
from hub.store.parked_inbox import ParkedInbox
from hub.store.pool import open_pool
from hub.store.replay import PostgresReplays
from schemas.checks.directory import snapshot
from schemas.directory_file import AgencyEntry
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId
from schemas.signing import identity, sign
from tests import builders as a
from tests.keys import agency_keys, make_certificate
from tests.replay_stage import NOW, RECIPIENTS, SENDER, Stage, directory_file
from tests.services import run_sql

A, B, C = RECIPIENTS[:3]


@pytest.fixture
async def stage(database_url):
    async with open_pool(database_url) as pool:
        stage = Stage(pool)
        yield stage
        await stage.check_the_books()


async def test_mended_recipient_gets_what_it_refused_one_first_then_the_rest(stage):
    await stage.dead(10)
    replay = await stage.plan()
    assert await stage.start(replay, "one") == "running"
    assert await stage.run(replay) == "paused"
    tried = await stage.view(replay)
    assert (tried.said, tried.outcomes) == ("the-one-arrived", {"received": 1, "waiting": 29})
    await stage.start(replay, "rate", per_minute=600, per_recipient=600)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).outcomes == {"received": 30}
    assert len(stage.handed_over) == 30
    assert await list_dead(stage.pool, Selection()) == []


async def test_replay_has_a_row_for_each_selected_letter_whatever_becomes_of_it(stage):
    await stage.dead(10)
    [received, dead] = await list_dead(stage.pool, Selection(), 2)
    await stage.ledger.record_answers(
        [a.receipt(_id(received), from_=received.agency, now=stage.now)], a.settle, stage.now
    )
    stage.handed_over[_id(received)] += 1
    replay = await stage.plan()
    view = await stage.view(replay)
    assert (view.size, view.excluded) == (29, 0)
    stage.answer = lambda delivery, _: "refused" if delivery == _id(dead) else "received"
    await stage.start(replay)
    assert await stage.run(replay) == "done"
    items = await replay_orders.items(stage.pool, replay)
    assert len(items) == 29
    assert [item.letter_id for item in items if item.outcome == "dead"] == [dead.id]
    assert [
        item.letter_id for item in await replay_orders.items(stage.pool, replay, outcomes=replay_orders.FAILED)
    ] == [dead.id]


def _id(letter):
    return DeliveryId(UUID(letter.id))


async def test_plan_leaves_out_what_must_not_be_sent_and_says_why(stage):
    recalled, replaced, kept = await stage.accepted(3, [A])
    await stage.accepted(1, [B])
    stage.answer = lambda *_: "refused"
    await stage.exchange()
    for earlier, action in ((recalled, "revoke"), (replaced, "replace")):
        taking_back = a.envelope(to=[C], now=stage.now).model_copy(
            update={"action": action, "ref": (earlier.document_id,)}
        )
        await stage.ledger.record([a.decided(a.accept(taking_back))], stage.now)
    stage.now += timedelta(minutes=1)
    stage.directory = snapshot(directory_file(without=[B]), epoch=2, as_of=NOW)
    view = await stage.view(await stage.plan())
    assert view.reasons == {"recalled": 1, "replaced": 1, "refused-today E404": 1}
    assert (view.size, view.excluded, view.by_code) == (1, 3, {"E808": 1})
    [item] = [item for item in await replay_orders.items(stage.pool, view.replay_id) if item.outcome is None]
    assert item.letter_id == str(kept.delivery_id(kept.addressees[0]))
    stage.answer = lambda *_: "received"
    await stage.exchange()


async def test_what_is_recalled_or_answered_after_the_plan_is_left_out_at_the_last_moment(stage):
    recalled, answered = await stage.accepted(2, [A])
    [delivery] = [accept.delivery_id(accept.addressees[0]) for accept in (answered,)]
    stage.answer = lambda *_: "refused"
    await stage.exchange()
    stage.now += timedelta(minutes=1)
    replay = await stage.plan()
    assert (await stage.view(replay)).size == 2
    revoke = a.envelope(to=[C], now=stage.now).model_copy(update={"action": "revoke", "ref": (recalled.document_id,)})
    await stage.ledger.record([a.decided(a.accept(revoke))], stage.now)
    await stage.ledger.record_answers([a.receipt(delivery, from_=A, now=stage.now)], a.settle, stage.now)
    stage.handed_over[delivery] += 1
    stage.answer = lambda *_: "received"
    await stage.start(replay)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).reasons == {"is-received": 1, "recalled": 1}


async def test_certificate_of_the_signer_that_expired_meanwhile_keeps_no_accepted_document_back(stage):
    """The hub proved it at acceptance, and recipients ask only whether it was in force when it signed."""
    short = make_certificate(SENDER, lifetime=timedelta(hours=2))
    stage.directory = snapshot(directory_file(certificate=short.entry(SENDER)), epoch=2, as_of=NOW)
    content = a.envelope(to=[A], now=NOW)
    token = sign(content.to_json(), typ=ENVELOPE_TYP, signer=short.signer, now_s=int(NOW.timestamp()))
    accept = replace(a.accept(content), token=token, document_id=identity(token))
    await stage.ledger.record([a.decided(accept)], stage.now)
    stage.answer = lambda *_: "refused"
    await stage.exchange()
    stage.answer = lambda *_: "received"
    stage.now += timedelta(days=2)
    replay = await stage.plan()
    assert (await stage.view(replay)).excluded == 0
    await stage.start(replay)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).outcomes == {"received": 1}


async def test_document_whose_lifetime_is_over_is_left_out_as_its_sender_chose(stage):
    await stage.dead(1, [A])
    stage.now += timedelta(days=10)
    assert (await stage.view(await stage.plan())).reasons == {"lifetime-over": 1}


async def test_replay_that_only_fails_again_stops_by_itself_and_harms_no_more_than_twenty(stage):
    await stage.dead(100)
    stage.answer = lambda *_: "refused"
    replay = await stage.plan()
    await stage.start(replay)
    assert await stage.run(replay) == "stopped"
    view = await stage.view(replay)
    assert view.outcomes == {"dead": 20, "waiting": 280}
    assert view.said == "20-of-20-failed-again"
    assert [item.code for item in await list_dead(stage.pool, Selection(), 1000)] == ["E808"] * 300
    stage.answer = lambda *_: "received"
    await replay_orders.resume(stage.pool, replay, actor="bình", now=stage.now)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).outcomes == {"dead": 20, "received": 280}


async def test_silent_recipient_neither_fails_nor_stops_a_replay(stage):
    await stage.dead(30)
    stage.answer = lambda _, recipient: None if recipient == A else "received"
    replay = await stage.plan()
    await stage.start(replay)
    assert await stage.run(replay, turns=400) == "running"
    assert (await stage.view(replay)).outcomes == {"received": 60, "in-hand": 30}


async def test_rate_holds_in_total_and_for_each_recipient(stage):
    await stage.dead(40, [A])
    await stage.dead(40, [B, C])
    replay = await stage.plan()
    await stage.start(replay, "rate", per_minute=30, per_recipient=12)
    began = stage.now
    await stage.run(replay, turns=119)
    async with stage.pool.reading() as connection:
        rows = await connection.fetch("SELECT agency, released_at FROM replay_items WHERE released_at IS NOT NULL")
    for minute in (began + timedelta(seconds=offset) for offset in range(60)):
        within = [row["agency"] for row in rows if minute <= row["released_at"] < minute + timedelta(seconds=60)]
        assert len(within) <= 30
        assert max(map(within.count, (A, B, C))) <= 12
    assert 54 <= len(rows) <= 60
    await replay_orders.cancel(stage.pool, replay, actor="an", now=stage.now)


async def test_two_operators_who_plan_the_same_at_once_share_no_item(stage):
    await stage.dead(100)
    first, second = await asyncio.gather(stage.plan(by="an"), stage.plan(by="bình"))
    views = [await stage.view(number) for number in (first, second)]
    assert [view.size + view.excluded for view in views] == [300, 300]
    assert sum(view.size for view in views) == 300
    loser = min(views, key=lambda view: view.size)
    assert loser.reasons == {"in-another-replay": loser.excluded}
    for number in (first, second):
        await stage.start(number)
    await asyncio.gather(*(stage.loop().turn() for _ in range(4)))
    for number in (first, second):
        assert await stage.run(number) == "done"
    assert len(stage.handed_over) == 300


async def test_several_processes_turn_one_replay_and_release_each_item_once(stage):
    await stage.dead(200)
    replay = await stage.plan()
    await stage.start(replay)
    loops = [stage.loop() for _ in range(4)]
    while (await stage.view(replay)).state == "running":
        await asyncio.gather(*(loop.turn() for loop in loops))
        await stage.exchange()
        stage.now += timedelta(seconds=1)
    assert (await stage.view(replay)).outcomes == {"received": 600}


async def test_new_failures_do_not_come_into_a_replay_that_runs(stage):
    await stage.dead(40)
    replay = await stage.plan()
    await stage.start(replay)
    await stage.loop().turn()
    fresh = await stage.dead(5)
    assert await stage.run(replay) == "done"
    view = await stage.view(replay)
    assert view.size == 120
    assert sum(view.outcomes.values()) == 120
    left = {letter.id for letter in await list_dead(stage.pool, Selection(), 1000)}
    assert left >= {str(item) for item in fresh}


async def test_cancelled_half_way_what_was_released_goes_on_and_the_rest_stays_dead(stage):
    await stage.dead(100)
    replay = await stage.plan()
    await stage.start(replay)
    await stage.loop().turn()
    await replay_orders.cancel(stage.pool, replay, actor="an", now=stage.now)
    assert (await stage.view(replay)).outcomes == {"cancelled": 280, "in-hand": 20}
    await stage.exchange()
    await stage.loop().turn()
    assert (await stage.view(replay)).outcomes == {"cancelled": 280, "received": 20}
    assert len(await list_dead(stage.pool, Selection(), 1000)) == 280
    again = await stage.plan()
    assert (await stage.view(again)).size == 280
    with pytest.raises(Conflict):
        await replay_orders.resume(stage.pool, replay, actor="an", now=stage.now)


async def test_paused_replay_releases_nothing_until_it_is_resumed(stage):
    await stage.dead(40)
    replay = await stage.plan()
    await stage.start(replay)
    await stage.loop().turn()
    await replay_orders.pause(stage.pool, replay, actor="an", now=stage.now)
    await stage.exchange()
    for _ in range(3):
        await stage.loop().turn()
    assert (await stage.view(replay)).outcomes == {"received": 20, "waiting": 100}
    await replay_orders.resume(stage.pool, replay, actor="an", now=stage.now)
    assert await stage.run(replay) == "done"


async def test_large_replay_waits_for_a_second_person(stage, database_url):
    await stage.dead(4)
    replay = await stage.plan(by="an", above=10)
    assert await stage.start(replay) == "awaiting-second"
    await stage.loop().turn()
    assert (await stage.view(replay)).outcomes == {"waiting": 12}
    with pytest.raises(Conflict, match="somebody else"):
        await replay_orders.confirm(stage.pool, replay, actor="an", now=stage.now)
    with pytest.raises(asyncpg.CheckViolationError):
        await run_sql(database_url, "UPDATE replays SET state = 'running', confirmed_by = 'an'")
    with pytest.raises(asyncpg.CheckViolationError):
        await run_sql(database_url, "UPDATE replays SET state = 'running'")
    await replay_orders.confirm(stage.pool, replay, actor="bình", now=stage.now)
    assert await stage.run(replay) == "done"


async def test_replay_across_ministries_waits_for_a_second_person(stage):
    await stage.dead(1, [A, SENDER])
    replay = await stage.plan()
    assert await stage.start(replay) == "awaiting-second"


async def test_plan_that_nobody_starts_ends_by_itself_and_frees_its_items(stage):
    await stage.dead(1)
    replay = await stage.plan()
    stage.now += timedelta(hours=25)
    await stage.loop().turn()
    view = await stage.view(replay)
    assert (view.state, view.said, view.outcomes) == ("cancelled", "not-started", {"cancelled": 3})


async def test_nothing_selected_plans_nothing(stage):
    with pytest.raises(Conflict, match="no dead letter"):
        await stage.plan()
    assert await replay_orders.latest(stage.pool) == []


async def test_dismissed_after_the_plan_is_not_sent(stage):
    await stage.dead(1, [A])
    replay = await stage.plan()
    assert await dismiss(stage.pool, Selection(), "đã gửi giấy", actor="an", now=stage.now) == 1
    await stage.start(replay)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).reasons == {"letter-dismissed": 1}


async def test_plan_warns_of_recipients_that_were_not_heard_of_since_their_mail_died(stage):
    await stage.dead(1, [A])
    [silent] = await stage.accepted(1, [B])
    stage.answer = lambda *_: None
    await stage.exchange()
    stage.now += timedelta(hours=1)
    once = replace(stage.policy, retry_by_recipient={B: Retry(max_attempts=1)})
    await stage.ledger.resettle("overdue", lambda item: settle_overdue(item, once, stage.now), stage.now)
    stage.now += timedelta(hours=1)
    view = await stage.view(await stage.plan())
    assert {item.agency: (item.count, item.silent) for item in view.recipients} == {A: (1, False), B: (1, True)}
    assert view.by_code == {"E804": 1, "E808": 1}
    assert silent.addressees[0].code == B


async def test_plan_that_dies_half_way_is_no_plan(stage):
    await stage.dead(1)

    def die(_candidates):
        raise SystemExit

    order = replay_orders.plan(
        stage.pool,
        Selection(),
        rehearse=die,
        needs_second=lambda *_: False,
        actor="an",
        now=stage.now,
    )
    with pytest.raises(SystemExit):
        await order
    assert await replay_orders.latest(stage.pool) == []
    assert (await stage.view(await stage.plan())).size == 3


async def test_agency_that_lost_its_disk_gets_again_what_it_had_and_the_ledger_says_what_it_said(stage):
    await stage.accepted(30, [A, B])
    await stage.exchange()
    before = await _states(stage.pool)
    began = stage.now - timedelta(days=1)
    order = {"per_minute": 600, "reason": "hỏng đĩa", "actor": A}
    replay = await replay_orders.catch_up(stage.pool, AgencyCode(A), began, now=stage.now, **order)
    again = await replay_orders.catch_up(stage.pool, AgencyCode(A), began, now=stage.now, **order)
    assert (await stage.view(again)).reasons == {"in-another-replay": 30}
    tries = []

    class Outbox:
        async def ready(self):
            return

        async def publish(self, postings):
            tries.extend(posting.deliveries[0].delivery_id for posting in postings)
            return [
                "routed" if tries.count(posting.deliveries[0].delivery_id) > 1 else "not-taken" for posting in postings
            ]

    handing_out = Dispatch(CatchUps(stage.pool, max_batch=7), Outbox(), stage, stage.policy, lambda: stage.now)
    while (await stage.view(replay)).state == "running":
        await stage.loop().turn()
        await handing_out.turn()
        stage.now += timedelta(seconds=1)
    assert (await stage.view(replay)).outcomes == {"handed-out": 30}
    assert len(tries) == 60
    assert await _states(stage.pool) == before
    await stage.loop().turn()
    assert (await stage.view(again)).state == "done"


async def _states(pool):
    async with pool.reading() as connection:
        rows = await connection.fetch("SELECT * FROM deliveries WHERE typ = 'truc.document.v1' ORDER BY delivery_id")
        return [dict(row) for row in rows]


async def test_submission_that_was_put_aside_is_taken_over_once_its_certificate_is_known(stage):
    """Decided again by today's directory; its signature is as old as it was when it was put aside."""
    accept = a.accept(a.envelope(to=[A], now=stage.now))
    other = a.accept(a.envelope(to=[A], now=stage.now))
    late = a.park(accept.token, code="E201", tell=SENDER)
    still = a.park(b"no token at all", code="E102")
    sent_again = a.park(other.token, code="E201")
    await stage.ledger.record([a.decided(verdict) for verdict in (late, still, sent_again, other)], stage.now)
    stage.now += timedelta(days=2)
    replay = await stage.plan()
    view = await stage.view(replay)
    assert view.reasons == {"refused-today E102": 1, "taken-over-since": 1}
    await stage.start(replay)
    inbox = ParkedInbox(stage.pool, "document", max_batch=10, clock=lambda: stage.now)
    taking = Intake(inbox, stage.ledger, stage, agency_keys("hub").signer, stage.policy, lambda: stage.now)
    await stage.loop().turn()
    batch = await inbox.take()
    await taking._record(batch.submissions)  # and dies before it is acknowledged
    assert await taking.turn() == 1
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).outcomes == {"accepted": 1, "excluded": 2}
    opened = await show(stage.pool, parked_id_of(late.submission).hex())
    assert (opened.letter.state, opened.replays[0].outcome) == ("closed", "accepted")
    assert [event.event for event in opened.events][-1] == "submission.replayed"
    async with stage.pool.reading() as connection:
        events = await connection.fetch(
            "SELECT event FROM ledger WHERE document_id = decode($1, 'hex')", accept.document_id
        )
    assert [row["event"] for row in events].count("document.accepted") == 1
    assert "document.duplicate" not in [row["event"] for row in events]


async def test_process_that_dies_within_a_step_leaves_nothing_half_done(stage, monkeypatch):
    await stage.dead(20)
    replay = await stage.plan()
    await stage.start(replay)

    def die(_candidates):
        raise SystemExit

    replays = PostgresReplays(stage.pool)
    with pytest.raises(SystemExit):
        await replays.step(replay, lambda _: Release(20), die, stage.now)
    assert (await stage.view(replay)).outcomes == {"waiting": 60}
    assert await stage.run(replay) == "done"


async def test_letter_dies_again_and_is_one_letter_that_died_twice(stage):
    [delivery] = await stage.dead(1, [A])
    stage.answer = lambda *_: "refused"
    replay = await stage.plan()
    await stage.start(replay, "one")
    assert await stage.run(replay) == "done"
    [letter] = await list_dead(stage.pool, Selection())
    assert (letter.id, letter.times) == (str(delivery), 2)
    [opened] = [await show(stage.pool, letter.id)]
    assert [(item.replay_id, item.outcome, item.because) for item in opened.replays] == [(replay, "dead", "E808")]


async def test_groups_count_what_the_letters_are(stage):
    await stage.dead(3)
    await stage.dead(2, [A])
    await stage.ledger.record([a.decided(a.park())], stage.now)
    groups = await group_dead(stage.pool, Selection())
    assert [(group.name, group.side, group.count) for group in groups] == [
        (f"E808@{A}", "sender", 5),
        (f"E808@{B}", "sender", 3),
        (f"E808@{C}", "sender", 3),
        ("E102@G22", "sender", 1),
    ]
    some = await group_dead(stage.pool, Selection(sender=AgencyCode(SENDER), agency=AgencyCode(A)))
    assert [(group.name, group.count) for group in some] == [(f"E808@{A}", 5)]
    assert await group_dead(stage.pool, Selection(side="operator")) == []


async def test_what_people_do_is_in_the_ledger_and_can_be_taken_back(stage):
    [delivery] = await stage.dead(1, [A])
    group = f"E808@{A}"
    assert await note(stage.pool, group, "đang hỏi đơn vị", actor="an", now=stage.now)
    assert await note(stage.pool, str(delivery), "văn bản gấp", actor="bình", now=stage.now)
    assert await assign(stage.pool, group, "chi", actor="an", now=stage.now)
    assert not await note(stage.pool, "E404@H99", "x", actor="an", now=stage.now)
    assert await dismiss(stage.pool, Selection(code="E808"), "gửi giấy", actor="an", now=stage.now) == 1
    assert await list_dead(stage.pool, Selection()) == []
    assert (await group_dead(stage.pool, Selection(standing="dismissed")))[0].count == 1
    assert await restore(stage.pool, Selection(code="E808"), "nhầm", actor="bình", now=stage.now) == 1
    [letter] = await list_dead(stage.pool, Selection())
    assert (letter.assignee, letter.state) == ("chi", "open")
    opened = await show(stage.pool, letter.id)
    assert [(item.actor, item.text) for item in opened.notes] == [("an", "đang hỏi đơn vị"), ("bình", "văn bản gấp")]
    did = [(event.event, event.actor) for event in opened.events if event.event.startswith("dead.")]
    assert did == [("dead.noted", "bình"), ("dead.dismissed", "an"), ("dead.restored", "bình")]


async def test_redirected_document_is_owed_to_the_successor_once(stage):
    [accept] = await stage.accepted(1, [A, B])
    old = [accept.delivery_id(addressee) for addressee in accept.addressees]
    heirs = [(delivery, AgencyCode(C), "department-district") for delivery in old]
    done = await replay_orders.redirect(stage.pool, heirs, reason="sáp nhập", actor="an", now=stage.now)
    assert [item.was_owed for item in done] == [False, True]
    async with stage.pool.reading() as connection:
        query = "SELECT warn_at FROM deliveries WHERE delivery_id = $1"
        assert await connection.fetchval(query, done[0].new_delivery_id) is not None
    await stage.exchange()
    assert list(stage.handed_over) == [done[0].new_delivery_id]
    assert await list_dead(stage.pool, Selection()) == []
    with pytest.raises(Conflict):
        await replay_orders.redirect(
            stage.pool,
            [(done[0].new_delivery_id, AgencyCode(A), "commune")],
            reason="nhầm",
            actor="an",
            now=stage.now,
        )


async def test_two_redirects_at_once_to_one_successor_owe_it_one_delivery(stage):
    [accept] = await stage.accepted(1, [A, B])

    async def redirect(addressee):
        heirs = [(accept.delivery_id(addressee), AgencyCode(C), "department-district")]
        return await replay_orders.redirect(stage.pool, heirs, reason="x", actor="an", now=stage.now)

    await asyncio.gather(*(redirect(addressee) for addressee in accept.addressees))
    await stage.exchange()
    assert len(stage.handed_over) == 1


async def test_redirected_item_of_a_plan_is_not_sent_to_the_old_agency(stage):
    [delivery] = await stage.dead(1, [A])
    replay = await stage.plan()
    heirs = [(delivery, AgencyCode(C), "department-district")]
    await replay_orders.redirect(stage.pool, heirs, reason="sáp nhập", actor="an", now=stage.now)
    await stage.start(replay)
    assert await stage.run(replay) == "done"
    assert (await stage.view(replay)).reasons == {"letter-closed": 1}
    assert delivery not in stage.handed_over


def closed(code, *successors):
    return AgencyEntry(
        code=code,
        name=code,
        tier="department-district",
        parent="H26",
        valid_from="2020-01-01",
        state="closed",
        successors=successors,
    )


async def test_delivery_to_an_agency_that_was_merged_away_is_left_out_of_a_replay(stage):
    await stage.dead(1, [A])
    stage.directory = snapshot(directory_file(closed(A, C)), epoch=2, as_of=NOW)
    assert (await stage.view(await stage.plan())).reasons == {"refused-today E408": 1}
