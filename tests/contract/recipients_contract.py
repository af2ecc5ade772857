"""What every ledger does about recipients that are not well; a subclass provides the fixture `store`."""

from collections import Counter
from datetime import datetime, timedelta

from hub.core.breaker import Breaker
from hub.core.delivery import Delivery
from hub.core.letter import Letter
from hub.core.settlement import Handover, settle_attempt, settle_held, settle_overdue, warn_of_end
from hub.core.verdict import Accept
from schemas.identifiers import AgencyCode
from schemas.receipt import NOTICE_TYP
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS, SENDER
from tests.contract.store import Store
from tests.keys import agency_keys

RECIPIENT = RECIPIENTS[0]
LATER = NOW + timedelta(minutes=1)
FAILURES = POLICY.breaker.failures


def to_one(recipient: str = RECIPIENT, **facts: object) -> Accept:
    return a.accept(a.envelope(to=[recipient], **facts), signed=False)


async def take_over(store: Store, *accepts: Accept, at: datetime = NOW) -> None:
    await store.ledger.record([a.decided(accept) for accept in accepts], at)


async def attempt(store: Store, now: datetime, handover: Handover) -> int:
    async with store.deliveries.claim(now) as claim:
        if claim.due:
            await claim.settle([settle_attempt(due.delivery, handover, POLICY, now) for due in claim.due], now)
        return len(claim.due)


async def hold_what_is_due(store: Store, now: datetime, code: str = "E811") -> int:
    async with store.deliveries.claim(now) as claim:
        await claim.settle([settle_held(due.delivery, code) for due in claim.due], now)
        return len(claim.due)


async def breaker(store: Store, recipient: str = RECIPIENT) -> Breaker:
    return (await store.breakers())[AgencyCode(recipient)]


async def go_down(store: Store, number: int = FAILURES) -> None:
    """Let a recipient fail: its queue takes nothing."""
    await take_over(store, *(to_one() for _ in range(number)))
    assert await attempt(store, NOW, "not-taken") == number


async def states(store: Store) -> Counter[str]:
    return Counter(row.delivery.state for row in (await store.rows()).values() if row.delivery.wants_receipt)


async def events(store: Store) -> list[str]:
    return [event.event for event in await store.events()]


def nobody(_: AgencyCode) -> bool:
    return False


def everybody(_: AgencyCode) -> bool:
    return True


def warning(delivery: Delivery) -> Letter:
    return warn_of_end(delivery, agency_keys("hub").signer, NOW)


class RecipientsContract:
    """Noticing, holding, probing, draining, warning; fair claims."""

    async def test_what_is_signed_by_an_agency_is_a_sign_of_life(self, store: Store):
        accept = to_one()
        await take_over(store, accept)
        assert (await breaker(store, SENDER)).seen_at == NOW
        await attempt(store, NOW, "routed")
        await store.ledger.record_answers([a.receipt(accept.delivery_id(accept.addressees[0]))], a.settle, LATER)
        assert (await breaker(store)).seen_at == LATER
        much_later = LATER + timedelta(hours=1)
        await store.ledger.record_answers([a.status(accept.document_id, "03")], a.settle, much_later)
        assert (await breaker(store)).seen_at == much_later

    async def test_sign_of_life_of_a_recipient_that_is_well_is_noted_once_a_minute(self, store: Store):
        first, second, third = to_one(), to_one(), to_one()
        await take_over(store, first, second, third)
        await attempt(store, NOW, "routed")
        receipts = [a.receipt(accept.delivery_id(accept.addressees[0])) for accept in (first, second, third)]
        for receipt, after_s, noted_after_s in zip(receipts, (0, 60, 61), (0, 0, 61), strict=True):
            await store.ledger.record_answers([receipt], a.settle, NOW + timedelta(seconds=after_s))
            assert (await breaker(store)).seen_at == NOW + timedelta(seconds=noted_after_s)

    async def test_sign_of_life_of_a_recipient_that_fails_is_noted_at_once(self, store: Store):
        accepts = [to_one() for _ in range(3)]
        await take_over(store, *accepts)
        await attempt(store, NOW, "routed")
        answered, failed, later = [accept.delivery_id(accept.addressees[0]) for accept in accepts]
        outcomes = [a.receipt(answered), a.receipt(failed, outcome="failed"), a.receipt(later)]
        for outcome, after_s, failures in zip(outcomes, (0, 1, 2), (0, 1, 0), strict=True):
            await store.ledger.record_answers([outcome], a.settle, NOW + timedelta(seconds=after_s))
            found = await breaker(store)
            assert (found.failures, found.seen_at) == (failures, NOW + timedelta(seconds=after_s))

    async def test_recipient_that_fails_several_times_in_a_row_is_down(self, store: Store):
        await go_down(store, FAILURES - 1)
        assert (await breaker(store)).phase == "closed"
        await take_over(store, to_one())
        await attempt(store, NOW, "not-taken")
        down = await breaker(store)
        assert (down.phase, down.failures, down.code, down.opened_at) == ("open", FAILURES, "E802", NOW)
        assert (await events(store))[-1] == "recipient.down"

    async def test_recipient_that_was_down_and_is_back_within_a_batch_was_down(self, store: Store):
        accepts = [to_one() for _ in range(FAILURES + 1)]
        await take_over(store, *accepts)
        assert await attempt(store, NOW, "routed") == FAILURES + 1
        *failed, well = [accept.delivery_id(accept.addressees[0]) for accept in accepts]
        receipts = [
            *(a.receipt(item, outcome="failed", signed=False) for item in failed),
            a.receipt(well, signed=False),
        ]
        await store.ledger.record_answers(receipts, a.settle, NOW)
        assert [event for event in await events(store) if event.startswith("recipient.")] == [
            "recipient.down",
            "recipient.back",
        ]
        assert (await breaker(store)).phase == "draining"

    async def test_claim_says_how_it_stands_with_recipients_that_are_not_well(self, store: Store):
        await go_down(store)
        await take_over(store, to_one(), to_one(RECIPIENTS[1]))
        async with store.deliveries.claim(NOW) as claim:
            found = {due.delivery.recipient: due.breaker for due in claim.due}
        assert found[RECIPIENT] == await breaker(store)
        assert found[RECIPIENTS[1]] is None

    async def test_overdue_receipts_of_a_recipient_that_is_alive_do_not_hold_it(self, store: Store):
        await take_over(store, *(to_one() for _ in range(FAILURES)))
        await attempt(store, NOW, "routed")
        due_at = NOW + timedelta(seconds=POLICY.receipt_deadline_s)
        own = a.accept(a.envelope(from_=RECIPIENT, to=[SENDER]), signed=False)
        await take_over(store, own, at=due_at - timedelta(minutes=1))
        await store.ledger.resettle("overdue", lambda item: settle_overdue(item, POLICY, due_at), due_at)
        assert (await breaker(store)).phase == "closed"

    async def test_overdue_receipts_of_a_silent_recipient_hold_it(self, store: Store):
        await take_over(store, *(to_one() for _ in range(FAILURES)))
        await attempt(store, NOW, "routed")
        due_at = NOW + timedelta(seconds=POLICY.receipt_deadline_s)
        await store.ledger.resettle("overdue", lambda item: settle_overdue(item, POLICY, due_at), due_at)
        down = await breaker(store)
        assert (down.phase, down.code, down.silent_since) == ("open", "E804", due_at)

    async def test_one_probe_goes_out_when_its_time_has_come(self, store: Store):
        await go_down(store)
        assert await hold_what_is_due(store, LATER) == FAILURES
        due_at = (await breaker(store)).due_at
        assert due_at is not None
        assert await store.ledger.tend(nobody, due_at - timedelta(seconds=1)) == []
        (tended,) = await store.ledger.tend(nobody, due_at)
        assert tended.released == 1
        assert await states(store) == {"held": FAILURES - 1, "pending": 1}
        probing = await breaker(store)
        async with store.deliveries.claim(due_at) as claim:
            assert [due.delivery.delivery_id for due in claim.due] == [probing.probe]
        assert await store.ledger.tend(nobody, due_at) == []

    async def test_a_probe_that_failed_is_the_last_to_be_one_again(self, store: Store):
        await go_down(store)
        await hold_what_is_due(store, LATER)
        probes = []
        for _ in range(FAILURES + 1):
            due_at = (await breaker(store)).due_at
            assert due_at is not None
            await store.ledger.tend(nobody, due_at)
            probes.append((await breaker(store)).probe)
            assert await attempt(store, due_at, "not-taken") == 1
            await hold_what_is_due(store, due_at + timedelta(seconds=30))
        assert len(set(probes)) == FAILURES
        assert probes[0] == probes[-1]

    async def test_an_answer_lets_the_rest_go_a_few_at_a_time_the_most_urgent_first(self, store: Store):
        await go_down(store, 15)
        urgent = to_one(urgency="express")
        await take_over(store, urgent)
        await hold_what_is_due(store, LATER)
        due_at = (await breaker(store)).due_at
        assert due_at is not None
        await store.ledger.tend(nobody, due_at)
        probe = (await breaker(store)).probe
        assert probe is not None
        await attempt(store, due_at, "routed")
        await store.ledger.record_answers([a.receipt(probe)], a.settle, due_at)
        assert (await breaker(store)).phase == "draining"

        (tended,) = await store.ledger.tend(nobody, due_at)
        assert tended.released == POLICY.breaker.drain_at_first
        row = (await store.rows())[urgent.delivery_id(urgent.addressees[0])]
        assert row.delivery.state == "pending"
        assert await store.ledger.tend(nobody, due_at) == []

    async def test_an_answer_ends_a_row_of_failures(self, store: Store):
        await go_down(store, FAILURES - 1)
        answered = to_one()
        await take_over(store, answered)
        await attempt(store, NOW, "routed")
        await store.ledger.record_answers([a.receipt(answered.delivery_id(answered.addressees[0]))], a.settle, LATER)
        found = await breaker(store)
        assert (found.failures, found.failing_since, found.code, found.seen_at) == (0, None, None, LATER)

    async def test_a_drain_counts_what_is_answered(self, store: Store):
        await go_down(store)
        await hold_what_is_due(store, LATER)
        due_at = (await breaker(store)).due_at
        assert due_at is not None
        for now in (due_at, due_at + timedelta(minutes=2)):  # the probe, then what goes out first of the rest
            await store.ledger.tend(nobody, now)
            await attempt(store, now, "routed")
            rows = [row.delivery for row in (await store.rows()).values() if row.delivery.recipient == RECIPIENT]
            ids = [delivery.delivery_id for delivery in rows if delivery.state == "routed"]
            assert ids
            await store.ledger.record_answers([a.receipt(*ids, now=now)], a.settle, now)
        found = await breaker(store)
        assert (found.phase, found.settled) == ("draining", found.released)
        assert found.released > 0

    async def test_a_drain_ends_with_a_recipient_that_is_well(self, store: Store):
        await go_down(store)
        await hold_what_is_due(store, LATER)
        now = LATER
        while (await breaker(store)).phase != "closed":
            now = max(now, (await breaker(store)).due_at or now)
            await store.ledger.tend(nobody, now)
            await attempt(store, now, "routed")
            rows = [row.delivery for row in (await store.rows()).values() if row.delivery.recipient == RECIPIENT]
            ids = [delivery.delivery_id for delivery in rows if delivery.state == "routed"]
            if ids:
                await store.ledger.record_answers([a.receipt(*ids, now=now)], a.settle, now)
        assert await states(store) == {"received": FAILURES}
        assert (await breaker(store)).is_well
        assert [event for event in await events(store) if event.startswith("recipient.")][-1] == "recipient.well"

    async def test_what_is_held_upon_an_old_view_does_not_stay_held(self, store: Store):
        await take_over(store, to_one())
        await hold_what_is_due(store, NOW)
        await store.ledger.tend(nobody, NOW)
        assert await states(store) == {"pending": 1}

    async def test_suspended_recipient_gets_nothing_until_it_is_open_again(self, store: Store):
        await take_over(store, to_one())
        await hold_what_is_due(store, NOW, "E812")
        due_at = (await breaker(store)).due_at
        assert due_at is not None
        await store.ledger.tend(everybody, due_at)
        assert await states(store) == {"held": 1}
        due_at = (await breaker(store)).due_at
        assert due_at is not None
        await store.ledger.tend(nobody, due_at)
        assert await states(store) == {"pending": 1}

    async def test_held_delivery_is_received_when_its_recipient_answers_an_earlier_copy(self, store: Store):
        accept = to_one()
        await take_over(store, accept)
        await hold_what_is_due(store, NOW)
        await store.ledger.record_answers([a.receipt(accept.delivery_id(accept.addressees[0]))], a.settle, NOW)
        assert await states(store) == {"received": 1}

    async def test_sender_is_warned_once_before_the_end_of_a_lifetime(self, store: Store):
        accept = to_one()
        await take_over(store, accept)
        end = (await store.rows())[accept.delivery_id(accept.addressees[0])].delivery.expires_at
        at = POLICY.warn_at(NOW, end)
        assert await store.ledger.warn(warning, at - timedelta(seconds=1)) == 0
        before = await store.rows()
        assert await store.ledger.warn(warning, at) == 1
        assert await store.ledger.warn(warning, at) == 0
        rows = await store.rows()
        assert {key: rows[key] for key in before} == before, "a warning changes nothing else"
        (notice,) = [row for row in rows.values() if row.delivery.typ == NOTICE_TYP]
        assert notice.delivery.recipient == SENDER
        assert (await events(store))[-1] == "delivery.expiring"

    async def test_nobody_is_warned_of_what_is_settled_or_over(self, store: Store):
        received, over = to_one(), to_one()
        await take_over(store, received)
        await attempt(store, NOW, "routed")
        await store.ledger.record_answers([a.receipt(received.delivery_id(received.addressees[0]))], a.settle, NOW)
        await take_over(store, over)
        assert await store.ledger.warn(warning, NOW + timedelta(days=365)) == 0

    async def test_recipient_with_very_much_never_fills_a_claim(self, store: Store):
        store.max_batch, store.max_share = 10, 4
        await take_over(store, *(to_one() for _ in range(40)))
        others = [to_one(f"H26.{number:03}") for number in range(4)]
        await take_over(store, *others, at=NOW + timedelta(seconds=1))
        async with store.deliveries.claim(LATER) as claim:
            counts = Counter(due.delivery.recipient for due in claim.due)
        assert counts == {RECIPIENT: 4} | {accept.envelope.to[0]: 1 for accept in others}

    async def test_recipients_take_turns_when_there_are_too_many_for_a_claim(self, store: Store):
        store.max_batch, store.max_share = 8, 2
        await take_over(store, *(to_one() for _ in range(40)))
        codes = [f"H26.{number:03}" for number in range(12)]
        await take_over(store, *(to_one(code) for code in codes), at=NOW + timedelta(seconds=1))
        deliveries = store.deliveries
        served: list[str] = []
        for _ in range(2):
            async with deliveries.claim(LATER) as claim:
                served += [due.delivery.recipient for due in claim.due if due.delivery.recipient != RECIPIENT]
                await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)
        assert sorted(served) == codes
