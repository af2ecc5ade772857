"""What every ledger does, the real one and the one in memory; a subclass provides the fixture `store`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest

from hub.core.delivery import Delivery, Transition
from hub.core.ladder import Standing
from hub.core.policy import Pace
from hub.core.settlement import settle_attempt, settle_expired, settle_overdue, settle_returned
from hub.core.submission import Submission
from hub.core.verdict import Accept, Objection, Refuse, conflict
from schemas.identifiers import AgencyCode, DeliveryId
from schemas.receipt import NOTICE_TYP, RECEIPT_TYP, STATUS_TYP, StatusCode
from schemas.refusal import Problem
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS, SENDER
from tests.contract.store import Event, Row, Store
from tests.keys import agency_keys

LATER = NOW + timedelta(minutes=1)


async def take_over(store: Store, *accepts: Accept) -> None:
    assert await store.ledger.record([a.decided(accept) for accept in accepts], NOW) == []


def conflicting() -> tuple[Accept, Accept]:
    """Two documents under one id of their sender."""
    content = a.envelope()
    return a.accept(content), a.accept(content.model_copy(update={"expires": content.expires + 1}))


def unknown(accept: Accept, *indices: int) -> Objection:
    refs = accept.envelope.ref
    return Objection(accept, tuple(Problem("E410", f"/ref/{index}", refs[index], refs[index]) for index in indices))


async def route_everything(store: Store) -> None:
    """Hand over all that is due."""
    while True:
        async with store.deliveries.claim(LATER) as claim:
            if not claim.due:
                return
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, LATER) for due in claim.due], LATER)


async def routed(store: Store) -> tuple[Accept, DeliveryId]:
    """Take one document over and hand it over; returns it with the delivery for its first recipient."""
    accept = a.accept()
    await take_over(store, accept)
    await route_everything(store)
    return accept, accept.delivery_id(accept.addressees[0])


async def letters(store: Store, typ: str) -> list[Row]:
    return [row for row in (await store.rows()).values() if row.delivery.typ == typ]


async def names(store: Store) -> list[str]:
    return [event.event for event in await store.events()]


def returned(delivery: Delivery) -> Transition | None:
    return settle_returned(delivery, POLICY, LATER)


def overdue(delivery: Delivery) -> Transition:
    return settle_overdue(delivery, POLICY, delivery.expires_at)


def expired(delivery: Delivery) -> Transition:
    return settle_expired(delivery, agency_keys("hub").signer, delivery.expires_at)


STEPS: Final[Sequence[StatusCode]] = ("01", "03", "04", "05", "06")


class IntakeContract:
    """What is taken over, refused, put aside."""

    async def test_accepted_document_owes_a_delivery_to_each_addressee(self, store: Store):
        accept = a.accept()
        await take_over(store, accept)
        rows = await store.rows()
        assert rows.keys() == {accept.delivery_id(addressee) for addressee in accept.addressees}
        assert {row.delivery.recipient for row in rows.values()} == set(RECIPIENTS)
        assert {(row.delivery.state, row.delivery.attempts, row.next_attempt_at) for row in rows.values()} == {
            ("pending", 0, NOW)
        }
        assert await store.events() == [Event("document.accepted", accept.document_id)]

    async def test_document_sent_again_is_a_duplicate_event_and_nothing_else(self, store: Store):
        accept = a.accept()
        await take_over(store, accept)
        before = await store.rows()
        await take_over(store, accept)
        assert await store.rows() == before
        assert (await store.events())[1:] == [Event("document.duplicate", accept.document_id, code="N604")]

    async def test_document_twice_in_one_batch_is_taken_over_once(self, store: Store):
        accept = a.accept()
        await take_over(store, accept, accept)
        assert len(await store.rows()) == 3
        assert await names(store) == ["document.accepted", "document.duplicate"]

    async def test_document_repeated_by_the_broker_is_no_event(self, store: Store):
        content = a.envelope()
        accept = a.accept(content, signed=False)
        await take_over(store, accept)
        await take_over(store, a.accept(content, signed=False, redelivered=True))
        assert await names(store) == ["document.accepted"]

    async def test_id_used_before_for_other_bytes_is_a_conflict_and_is_not_written(self, store: Store):
        earlier, later = conflicting()
        await take_over(store, earlier)
        before = await store.rows()
        assert await store.ledger.record([a.decided(later)], NOW) == [conflict(later)]
        assert await store.rows() == before
        assert await names(store) == ["document.accepted"]

    async def test_id_used_twice_in_one_batch_is_a_conflict_of_the_later(self, store: Store):
        earlier, later = conflicting()
        assert await store.ledger.record([a.decided(earlier), a.decided(later)], NOW) == [conflict(later)]
        assert {row.delivery.object_id for row in (await store.rows()).values()} == {earlier.document_id}

    async def test_known_document_behind_its_conflict_in_one_batch_is_a_duplicate(self, store: Store):
        known, other = conflicting()
        await take_over(store, known)
        assert await store.ledger.record([a.decided(other), a.decided(known)], NOW) == [conflict(other)]
        assert await names(store) == ["document.accepted", "document.duplicate"]

    async def test_document_whose_part_its_sender_has_not_uploaded_is_objected_to_and_not_written(self, store: Store):
        accept = a.accept(a.envelope(parts=[a.part(name="phụ lục.pdf")]))
        await store.parts.add(a.kept(), AgencyCode("H26"), NOW)
        problem = Problem("E503", "/parts/0/sha256", "phụ lục.pdf", "phụ lục.pdf")
        assert await store.ledger.record([a.decided(accept)], NOW) == [Objection(accept, (problem,))]
        assert await store.rows() == {}
        assert await store.events() == []

    async def test_document_that_gives_a_part_another_length_is_objected_to(self, store: Store):
        await store.parts.add(a.kept(b"12345678"), SENDER, NOW)
        wrong = a.part(b"12345678").model_copy(update={"length": 9})
        accept = a.accept(a.envelope(parts=[wrong]))
        problem = Problem("E505", "/parts/0/length", "8 bytes", "8 byte")
        assert await store.ledger.record([a.decided(accept)], NOW) == [Objection(accept, (problem,))]

    async def test_every_missing_part_is_named_and_the_rest_of_the_batch_is_taken_over(self, store: Store):
        await store.parts.add(a.kept(b"there"), SENDER, NOW)
        lacking = a.accept(a.envelope(parts=[a.part(b"gone"), a.part(b"there"), a.part(b"lost")]))
        whole = a.accept(a.envelope(parts=[a.part(b"there"), a.part(b"there", "again.pdf")]))
        objections = await store.ledger.record([a.decided(lacking), a.decided(whole)], NOW)
        assert [problem.pointer for each in objections for problem in each.problems] == [
            "/parts/0/sha256",
            "/parts/2/sha256",
        ]
        assert {row.delivery.object_id for row in (await store.rows()).values()} == {whole.document_id}

    async def test_document_refused_for_a_part_is_taken_over_when_it_comes_again_after_the_upload(self, store: Store):
        accept = a.accept(a.envelope(parts=[a.part()]))
        [objection] = await store.ledger.record([a.decided(accept)], NOW)
        submission = Submission(accept.token, SENDER, f"document.{SENDER}")
        refuse = Refuse(accept.document_id, submission, SENDER, accept.envelope.id, objection.problems)
        await store.ledger.record([a.decided(refuse)], NOW)
        await store.parts.add(a.kept(), SENDER, LATER)
        await take_over(store, accept)
        assert await names(store) == ["document.refused", "document.accepted"]

    async def test_document_with_a_missing_part_does_not_stand_for_its_id(self, store: Store):
        content = a.envelope()
        lacking = a.accept(content.model_copy(update={"parts": (a.part(b"gone"),)}))
        whole = a.accept(content)
        objections = await store.ledger.record([a.decided(lacking), a.decided(whole)], NOW)
        assert [each.accept for each in objections] == [lacking]
        assert {row.delivery.object_id for row in (await store.rows()).values()} == {whole.document_id}

    async def test_known_document_with_parts_that_comes_again_is_a_duplicate(self, store: Store):
        await store.parts.add(a.kept(), SENDER, NOW)
        accept = a.accept(a.envelope(parts=[a.part()]))
        await take_over(store, accept)
        await take_over(store, accept)
        assert await names(store) == ["document.accepted", "document.duplicate"]

    async def test_document_refers_to_what_its_sender_has_sent(self, store: Store):
        earlier = a.accept()
        await take_over(store, earlier)
        later = a.accept(a.envelope(action="update", ref=[earlier.document_id]))
        await take_over(store, later)
        await take_over(store, a.accept(a.envelope(action="revoke", ref=[later.document_id])))
        assert await names(store) == ["document.accepted"] * 3

    async def test_reference_to_what_is_unknown_or_another_agencys_is_an_objection(self, store: Store):
        own, foreign, never = a.accept(), a.accept(a.envelope(from_="H27")), a.accept()
        await take_over(store, own, foreign)
        refs = [own.document_id, foreign.document_id, never.document_id]
        later = a.accept(a.envelope(action="replace", ref=refs))
        other = a.accept()
        assert await store.ledger.record([a.decided(later), a.decided(other)], NOW) == [unknown(later, 1, 2)]
        assert {row.delivery.object_id for row in (await store.rows()).values()} == {
            own.document_id,
            foreign.document_id,
            other.document_id,
        }

    async def test_reference_within_a_batch_is_an_objection_until_the_earlier_document_is_written(self, store: Store):
        earlier = a.accept()
        later = a.accept(a.envelope(action="revoke", ref=[earlier.document_id]))
        assert await store.ledger.record([a.decided(earlier), a.decided(later)], NOW) == [unknown(later, 0)]
        await take_over(store, later)

    async def test_document_to_very_many_goes_out_at_a_pace(self, store: Store):
        pace = Pace()
        await take_over(store, a.broadcast(pace.at_once + int(pace.per_s) * 2))
        due = sorted(row.next_attempt_at for row in (await store.rows()).values())
        assert due[pace.at_once - 1] == NOW
        assert due[pace.at_once] > NOW
        assert due[-1] == NOW + timedelta(seconds=2)
        store.max_batch = 10_000
        async with store.deliveries.claim(NOW) as claim:
            assert len(claim.due) == pace.at_once

    async def test_refusal_is_told_to_the_signer(self, store: Store):
        refuse = a.refuse()
        await store.ledger.record([a.decided(refuse)], NOW)
        [notice] = await letters(store, NOTICE_TYP)
        assert (notice.delivery.recipient, notice.delivery.state) == (SENDER, "pending")
        assert await store.events() == [Event("document.refused", refuse.document_id, code="E404")]

    async def test_refused_document_sent_again_gets_the_first_answer_again(self, store: Store):
        await store.ledger.record([a.decided(a.refuse())], NOW)
        await route_everything(store)
        [first] = await letters(store, NOTICE_TYP)
        await store.ledger.record([a.decided(a.refuse(), LATER)], LATER)
        [again] = await letters(store, NOTICE_TYP)
        assert again.delivery.delivery_id == first.delivery.delivery_id
        assert (again.delivery.state, again.next_attempt_at) == ("pending", LATER)
        assert (await names(store))[-1] == "delivery.repeated"

    async def test_refused_document_sent_again_after_the_lifetime_of_the_first_answer_gets_another(self, store: Store):
        """Its bytes may be archived by then."""
        await store.ledger.record([a.decided(a.refuse())], NOW)
        await route_everything(store)
        much_later = NOW + timedelta(days=100)
        await store.ledger.record([a.decided(a.refuse(), much_later)], much_later)
        assert sorted(row.delivery.state for row in await letters(store, NOTICE_TYP)) == ["pending", "routed"]
        assert (await names(store))[-1] == "document.duplicate"

    async def test_refused_document_sent_again_before_the_first_answer_went_out_changes_nothing(self, store: Store):
        await store.ledger.record([a.decided(a.refuse())], NOW)
        before = await store.rows(), await store.events()
        await store.ledger.record([a.decided(a.refuse(), LATER)], LATER)
        assert (await store.rows(), await store.events()) == before

    async def test_refused_document_repeated_by_the_broker_changes_nothing(self, store: Store):
        await store.ledger.record([a.decided(a.refuse())], NOW)
        await route_everything(store)
        before = await store.rows(), await store.events()
        await store.ledger.record([a.decided(a.refuse(redelivered=True), LATER)], LATER)
        assert (await store.rows(), await store.events()) == before

    async def test_document_taken_over_cannot_be_refused_afterwards(self, store: Store):
        accept = a.accept()
        await take_over(store, accept)
        before = await store.rows()
        await store.ledger.record([a.decided(a.refuse(accept.token))], LATER)
        assert await store.rows() == before
        assert await names(store) == ["document.accepted", "document.duplicate"]

    async def test_submission_is_put_aside_once(self, store: Store):
        for _ in range(2):
            await store.ledger.record([a.decided(a.park())], NOW)
        assert await store.parked() == 1
        assert await store.events() == [Event("submission.parked", code="E102")]

    async def test_same_bytes_in_another_submission_are_put_aside_as_well(self, store: Store):
        await store.ledger.record([a.decided(a.park(message_id="1")), a.decided(a.park(message_id="2"))], NOW)
        assert await store.parked() == 2

    async def test_user_of_a_submission_put_aside_is_told_once(self, store: Store):
        for _ in range(2):
            await store.ledger.record([a.decided(a.park(tell=SENDER))], NOW)
        [notice] = await letters(store, NOTICE_TYP)
        assert notice.delivery.recipient == SENDER

    @pytest.mark.parametrize(("redelivered", "expected"), [(True, 0), (False, 1)])
    async def test_what_the_broker_repeats_too_late_of_an_accepted_document_is_not_put_aside(
        self, store: Store, redelivered: bool, expected: int
    ):
        """A day after the commit the same bytes would be too old; the broker's repetition of them is no news."""
        accept = a.accept()
        await take_over(store, accept)
        late = a.park(accept.token, code="E601", tell=SENDER, redelivered=redelivered)
        await store.ledger.record([a.decided(late)], LATER)
        assert await store.parked() == expected
        assert len(await letters(store, NOTICE_TYP)) == expected

    async def test_mixed_batch_written_twice_leaves_the_same_rows(self, store: Store):
        batch = [
            a.decided(verdict) for verdict in (a.accept(), a.refuse(redelivered=True), a.park(tell=SENDER), a.accept())
        ]
        await store.ledger.record(batch, NOW)
        before = await store.rows()
        await store.ledger.record(batch, LATER)
        assert await store.rows() == before


class ReceiptsContract:
    """What recipients answer."""

    async def test_received_settles_the_delivery_and_goes_on_to_the_sender(self, store: Store):
        accept, delivery_id = await routed(store)
        answered = a.receipt(delivery_id)
        await store.ledger.record_answers([answered], a.settle, NOW)
        rows = await store.rows()
        assert rows[delivery_id].delivery.state == "received"
        assert rows[delivery_id].receipt_due_at is None
        [letter] = await letters(store, RECEIPT_TYP)
        assert (letter.delivery.recipient, letter.delivery.object_id) == (SENDER, answered.receipt_id)
        assert (await store.events())[-1] == Event("delivery.received", accept.document_id, delivery_id, "received")

    async def test_receipt_passed_on_is_the_very_token(self, store: Store):
        _, delivery_id = await routed(store)
        answered = a.receipt(delivery_id)
        await store.ledger.record_answers([answered], a.settle, NOW)
        async with store.deliveries.claim(LATER) as claim:
            assert [due.token for due in claim.due] == [answered.token]

    async def test_what_came_together_goes_on_in_the_order_in_which_it_came(self, store: Store):
        accept, delivery_id = await routed(store)
        statuses = [a.status(accept.document_id, code) for code in STEPS]
        answers = [a.receipt(delivery_id), *statuses]
        await store.ledger.record_answers(answers, a.settle, NOW)
        async with store.deliveries.claim(NOW) as claim:
            assert [due.token for due in claim.due] == [answer.token for answer in answers]

    async def test_failed_is_tried_again(self, store: Store):
        _, delivery_id = await routed(store)
        await store.ledger.record_answers([a.receipt(delivery_id, outcome="failed")], a.settle, NOW)
        row = (await store.rows())[delivery_id]
        assert (row.delivery.state, row.code) == ("pending", "E807")
        assert row.next_attempt_at is not None
        assert row.next_attempt_at > NOW

    async def test_refused_by_the_recipient_is_dead(self, store: Store):
        _, delivery_id = await routed(store)
        await store.ledger.record_answers([a.receipt(delivery_id, outcome="refused")], a.settle, NOW)
        row = (await store.rows())[delivery_id]
        assert (row.delivery.state, row.code) == ("dead", "E808")

    async def test_same_receipt_again_changes_nothing(self, store: Store):
        _, delivery_id = await routed(store)
        answered = a.receipt(delivery_id)
        await store.ledger.record_answers([answered, answered], a.settle, NOW)
        before = await store.rows(), await store.events()
        await store.ledger.record_answers([answered], a.settle, LATER)
        assert (await store.rows(), await store.events()) == before

    async def test_later_receipt_of_a_batch_sees_what_the_earlier_left(self, store: Store):
        _, delivery_id = await routed(store)
        batch = [a.receipt(delivery_id, outcome="failed"), a.receipt(delivery_id)]
        await store.ledger.record_answers(batch, a.settle, NOW)
        assert (await store.rows())[delivery_id].delivery.state == "received"
        assert (await names(store))[-2:] == ["delivery.failed", "delivery.received"]

    async def test_answer_to_a_settled_delivery_is_late_and_changes_nothing(self, store: Store):
        accept, delivery_id = await routed(store)
        await store.ledger.record_answers([a.receipt(delivery_id)], a.settle, NOW)
        before = (await store.rows())[delivery_id]
        await store.ledger.record_answers([a.receipt(delivery_id, outcome="refused")], a.settle, LATER)
        assert (await store.rows())[delivery_id] == before
        assert (await store.events())[-1] == Event("receipt.late", accept.document_id, delivery_id)

    async def test_answer_about_an_unknown_delivery_is_put_aside_and_harms_no_other(self, store: Store):
        _, delivery_id = await routed(store)
        unknown = a.accept()
        answered = a.receipt(delivery_id, unknown.delivery_id(unknown.addressees[0]))
        await store.ledger.record_answers([answered], a.settle, NOW)
        assert (await store.rows())[delivery_id].delivery.state == "received"
        assert await store.parked() == 1
        assert await letters(store, RECEIPT_TYP) == []

    async def test_answer_of_somebody_else_changes_nothing(self, store: Store):
        _, delivery_id = await routed(store)
        before = (await store.rows())[delivery_id]
        await store.ledger.record_answers([a.receipt(delivery_id, from_=RECIPIENTS[1])], a.settle, NOW)
        assert (await store.rows())[delivery_id] == before
        assert await store.parked() == 1

    async def test_receipt_that_proves_nothing_is_put_aside_once(self, store: Store):
        for _ in range(2):
            await store.ledger.record_answers([a.park()], a.settle, NOW)
        assert await store.parked() == 1


class StatusesContract:
    """What recipients' offices do with documents, and what senders ask of them."""

    async def test_status_moves_the_delivery_and_goes_on_to_the_sender(self, store: Store):
        accept, delivery_id = await routed(store)
        stated = a.status(accept.document_id, "03")
        await store.ledger.record_answers([stated], a.settle, NOW)
        delivery = (await store.rows())[delivery_id].delivery
        assert (delivery.standing, delivery.state) == (Standing("03"), "routed")
        [letter] = await letters(store, STATUS_TYP)
        assert (letter.delivery.recipient, letter.delivery.object_id) == (SENDER, stated.status_id)
        assert (await store.events())[-1] == Event("status.moved", accept.document_id, delivery_id)
        async with store.deliveries.claim(LATER) as claim:
            assert [due.token for due in claim.due] == [stated.token]

    async def test_request_of_the_sender_goes_on_to_the_recipient(self, store: Store):
        accept, delivery_id = await routed(store)
        await store.ledger.record_answers(
            [a.status(accept.document_id, "13", from_=SENDER, to=RECIPIENTS[0])], a.settle, NOW
        )
        assert (await store.rows())[delivery_id].delivery.standing == Standing(None, "asked")
        [letter] = await letters(store, STATUS_TYP)
        assert letter.delivery.recipient == RECIPIENTS[0]

    async def test_status_that_comes_too_late_is_an_event_and_nothing_else(self, store: Store):
        accept, delivery_id = await routed(store)
        await store.ledger.record_answers([a.status(accept.document_id, "03")], a.settle, NOW)
        before = await store.rows()
        await store.ledger.record_answers([a.status(accept.document_id, "01")], a.settle, LATER)
        assert await store.rows() == before
        assert (await store.events())[-1] == Event("status.late", accept.document_id, delivery_id)

    async def test_same_status_again_changes_nothing(self, store: Store):
        accept, _ = await routed(store)
        stated = a.status(accept.document_id, "01")
        await store.ledger.record_answers([stated, stated], a.settle, NOW)
        before = await store.rows(), await store.events()
        await store.ledger.record_answers([stated], a.settle, LATER)
        assert (await store.rows(), await store.events()) == before

    async def test_later_status_of_a_batch_sees_what_the_earlier_left(self, store: Store):
        accept, delivery_id = await routed(store)
        codes = ("01", "03", "01", "06")
        batch = [a.status(accept.document_id, code, detail=f"{number}") for number, code in enumerate(codes)]
        await store.ledger.record_answers(batch, a.settle, NOW)
        assert (await store.rows())[delivery_id].delivery.standing == Standing("06")
        assert (await names(store))[-4:] == ["status.moved", "status.moved", "status.late", "status.moved"]
        assert len(await letters(store, STATUS_TYP)) == 3

    async def test_receipt_and_status_of_one_batch_do_not_disturb_each_other(self, store: Store):
        accept, delivery_id = await routed(store)
        batch = [a.status(accept.document_id, "01"), a.receipt(delivery_id), a.status(accept.document_id, "03")]
        await store.ledger.record_answers(batch, a.settle, NOW)
        delivery = (await store.rows())[delivery_id].delivery
        assert (delivery.state, delivery.standing) == ("received", Standing("03"))

    async def test_status_before_the_delivery_is_routed_leaves_it_pending(self, store: Store):
        accept = a.accept()
        await take_over(store, accept)
        delivery_id = accept.delivery_id(accept.addressees[0])
        await store.ledger.record_answers([a.status(accept.document_id, "01")], a.settle, NOW)
        row = (await store.rows())[delivery_id]
        assert (row.delivery.state, row.next_attempt_at, row.delivery.standing) == ("pending", NOW, Standing("01"))

    async def test_state_of_the_delivery_changes_without_moving_the_status(self, store: Store):
        accept, delivery_id = await routed(store)
        await store.ledger.record_answers([a.status(accept.document_id, "01")], a.settle, NOW)
        await store.ledger.record_answers([a.receipt(delivery_id, outcome="failed")], a.settle, NOW)
        delivery = (await store.rows())[delivery_id].delivery
        assert (delivery.state, delivery.standing) == ("pending", Standing("01"))

    async def test_status_about_somebody_elses_document_is_put_aside_once_and_its_signer_is_told(self, store: Store):
        accept, _ = await routed(store)
        before = await store.rows()
        stated = a.status(accept.document_id, "03", from_="H27")
        for _ in range(2):
            await store.ledger.record_answers([stated], a.settle, NOW)
        assert await store.parked() == 1
        [notice] = await letters(store, NOTICE_TYP)
        assert notice.delivery.recipient == "H27"
        assert {key: row for key, row in (await store.rows()).items() if key in before} == before

    async def test_document_that_recalls_another_asks_from_the_beginning(self, store: Store):
        accept, _ = await routed(store)
        recall = a.accept(a.envelope(action="revoke", ref=[accept.document_id]))
        await take_over(store, recall)
        await store.ledger.record_answers([a.status(recall.document_id, "15")], a.settle, NOW)
        rows = await store.rows()
        assert [rows[recall.delivery_id(each)].delivery.standing.request for each in recall.addressees] == [
            "agreed",
            "asked",
            "asked",
        ]


class ReturnsContract:
    """What recipients' software gave back, and what the hub never settled."""

    async def test_returned_delivery_is_tried_again(self, store: Store):
        _, delivery_id = await routed(store)
        await store.ledger.record_returns([delivery_id, delivery_id], [], returned, LATER)
        row = (await store.rows())[delivery_id]
        assert (row.delivery.state, row.code) == ("pending", "E805")
        assert (await names(store)).count("delivery.returned") == 1

    async def test_return_repeated_by_the_broker_changes_nothing(self, store: Store):
        _, delivery_id = await routed(store)
        await store.ledger.record_returns([delivery_id], [a.park()], returned, LATER)
        before = await store.rows(), await store.events()
        await store.ledger.record_returns([delivery_id], [a.park()], returned, LATER)
        assert (await store.rows(), await store.events()) == before

    async def test_return_of_an_unknown_delivery_is_left_out(self, store: Store):
        unknown = a.accept()
        await store.ledger.record_returns([unknown.delivery_id(unknown.addressees[0])], [], returned, NOW)
        assert await store.rows() == {}

    async def test_submission_that_was_never_settled_is_put_aside(self, store: Store):
        await store.ledger.record_returns([], [a.park(code="E903")], returned, NOW)
        assert await store.events() == [Event("submission.parked", code="E903")]


class ReconcileContract:
    """What the clock brings about."""

    async def test_overdue_delivery_is_tried_again(self, store: Store):
        _, delivery_id = await routed(store)
        due_at = (await store.rows())[delivery_id].receipt_due_at
        assert due_at is not None
        assert await store.ledger.resettle("overdue", overdue, due_at - timedelta(seconds=1)) == 0
        assert await store.ledger.resettle("overdue", overdue, due_at) == 3
        row = (await store.rows())[delivery_id]
        assert (row.delivery.state, row.code, row.receipt_due_at) == ("pending", "E804", None)
        assert await store.ledger.resettle("overdue", overdue, due_at) == 0

    @pytest.mark.parametrize("is_routed", [False, True], ids=["pending", "routed"])
    async def test_delivery_at_the_end_of_its_lifetime_expires_and_its_sender_is_told(
        self, store: Store, is_routed: bool
    ):
        accept = a.accept()
        await take_over(store, accept)
        if is_routed:
            await route_everything(store)
        end = (await store.rows())[accept.delivery_id(accept.addressees[0])].delivery.expires_at
        assert await store.ledger.resettle("expired", expired, end - timedelta(seconds=1)) == 0
        assert await store.ledger.resettle("expired", expired, end) == 3
        rows = await store.rows()
        assert {rows[accept.delivery_id(each)].delivery.state for each in accept.addressees} == {"expired"}
        assert [notice.delivery.recipient for notice in await letters(store, NOTICE_TYP)] == [SENDER] * 3
        assert await store.ledger.resettle("expired", expired, end) == 0

    async def test_settled_delivery_never_expires(self, store: Store):
        accept = a.accept(a.envelope(to=RECIPIENTS[:1]))
        await take_over(store, accept)
        await route_everything(store)
        delivery_id = accept.delivery_id(accept.addressees[0])
        await store.ledger.record_answers([a.receipt(delivery_id)], a.settle, NOW)
        await route_everything(store)
        assert await store.ledger.resettle("expired", expired, NOW + timedelta(days=365)) == 0

    async def test_letter_that_is_handed_over_awaits_nothing(self, store: Store):
        await store.ledger.record([a.decided(a.refuse())], NOW)
        await route_everything(store)
        assert await store.ledger.resettle("overdue", overdue, NOW + timedelta(days=365)) == 0
        assert await store.ledger.resettle("expired", expired, NOW + timedelta(days=365)) == 0

    async def test_letter_that_cannot_be_delivered_expires_without_another_letter(self, store: Store):
        await store.ledger.record([a.decided(a.refuse())], NOW)
        assert await store.ledger.resettle("expired", expired, NOW + timedelta(days=365)) == 1
        [notice] = await letters(store, NOTICE_TYP)
        assert notice.delivery.state == "expired"

    async def test_delivery_that_is_being_handed_over_is_left_alone(self, store: Store):
        accept = a.accept(a.envelope(to=RECIPIENTS[:1]))
        await take_over(store, accept)
        async with store.deliveries.claim(LATER) as claim:
            await store.ledger.resettle("expired", expired, NOW + timedelta(days=365))
            await claim.settle([settle_attempt(claim.due[0].delivery, "routed", POLICY, LATER)], LATER)
        [row] = (await store.rows()).values()
        assert row.delivery.state == "routed"


class MonthsContract:
    """The months for which there is room."""

    async def test_room_for_coming_months_is_made_once(self, store: Store):
        in_a_year = NOW + timedelta(days=365)
        assert await store.ledger.make_months(in_a_year) > 0
        assert await store.ledger.make_months(in_a_year) == 0
        assert await store.ledger.make_months(in_a_year + timedelta(hours=1)) == 0


class LedgerContract(
    IntakeContract, ReceiptsContract, StatusesContract, ReturnsContract, ReconcileContract, MonthsContract
):
    """All of it."""
