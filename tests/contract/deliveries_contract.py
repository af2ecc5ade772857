"""What every claim does, on the real ledger and on the one in memory; a subclass provides the fixture `store`."""

from datetime import timedelta

import pytest

from hub.core.settlement import settle_attempt
from hub.core.verdict import Accept
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS
from tests.contract.store import Event, Store


async def take_over(store: Store, *accepts: Accept, at=NOW) -> None:
    await store.ledger.record([a.decided(accept) for accept in accepts], at)


class DeliveriesContract:
    """Claiming and settling."""

    async def test_claim_brings_deliveries_with_their_bytes(self, store: Store):
        accept = a.accept()
        await take_over(store, accept)
        async with store.deliveries.claim(NOW) as claim:
            assert {due.delivery.recipient for due in claim.due} == set(RECIPIENTS)
            assert {due.token for due in claim.due} == {accept.token}

    async def test_settled_deliveries_are_not_claimed_again(self, store: Store):
        accept = a.accept(a.envelope(to=RECIPIENTS[:1]))
        await take_over(store, accept)
        async with store.deliveries.claim(NOW) as claim:
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)
        async with store.deliveries.claim(NOW) as claim:
            assert list(claim.due) == []
        [(delivery_id, row)] = (await store.rows()).items()
        assert (row.delivery.state, row.delivery.attempts, row.next_attempt_at) == ("routed", 1, None)
        assert row.receipt_due_at == NOW + timedelta(seconds=POLICY.receipt_deadline_s)
        assert (await store.events())[-1] == Event("delivery.routed", accept.document_id, delivery_id, "routed")

    async def test_attempt_that_failed_is_due_again_later(self, store: Store):
        await take_over(store, a.accept(a.envelope(to=RECIPIENTS[:1])))
        async with store.deliveries.claim(NOW) as claim:
            await claim.settle([settle_attempt(due.delivery, "unroutable", POLICY, NOW) for due in claim.due], NOW)
        async with store.deliveries.claim(NOW) as claim:
            assert list(claim.due) == []
        async with store.deliveries.claim(NOW + timedelta(minutes=1)) as claim:
            assert [due.delivery.attempts for due in claim.due] == [1]

    async def test_claim_is_empty_when_nothing_is_due(self, store: Store):
        async with store.deliveries.claim(NOW) as claim:
            assert list(claim.due) == []

    async def test_delivery_that_is_due_later_or_has_expired_is_not_claimed(self, store: Store):
        await take_over(store, a.accept())
        async with store.deliveries.claim(NOW - timedelta(seconds=1)) as claim:
            assert list(claim.due) == []
        async with store.deliveries.claim(NOW + timedelta(days=30)) as claim:
            assert list(claim.due) == []

    async def test_claim_takes_the_most_urgent_first_and_no_more_than_a_batch(self, store: Store):
        store.max_batch = 2
        for urgency in ("normal", "express-timed", "urgent"):
            await take_over(store, a.accept(a.envelope(to=RECIPIENTS[:1], urgency=urgency)))
        async with store.deliveries.claim(NOW) as claim:
            claimed = {due.delivery.object_id for due in claim.due}
        rows = [row.delivery.object_id for row in (await store.rows()).values()]
        assert len(claimed) == 2
        accepted = [event.document_id for event in await store.events()]
        assert claimed == set(accepted[1:])
        assert set(rows) == set(accepted)

    async def test_claim_takes_the_longest_waiting_first(self, store: Store):
        store.max_batch = 1
        first, second = a.accept(a.envelope(to=RECIPIENTS[:1])), a.accept(a.envelope(to=RECIPIENTS[:1]))
        await take_over(store, second, at=NOW + timedelta(seconds=1))
        await take_over(store, first)
        async with store.deliveries.claim(NOW + timedelta(minutes=1)) as claim:
            assert [due.delivery.object_id for due in claim.due] == [first.document_id]

    async def test_two_open_claims_never_share_a_delivery(self, store: Store):
        store.max_batch = 2
        await take_over(store, a.accept())
        async with store.deliveries.claim(NOW) as one, store.deliveries.claim(NOW) as other:
            taken = [due.delivery.delivery_id for claim in (one, other) for due in claim.due]
            assert len(taken) == len(set(taken)) == 3

    async def test_claim_that_ends_in_trouble_is_free_at_once_and_unchanged(self, store: Store):
        await take_over(store, a.accept())
        before = await store.rows(), await store.events()
        with pytest.raises(ConnectionAbortedError, match="on purpose"):
            await self._settle_and_fail(store)
        assert (await store.rows(), await store.events()) == before
        async with store.deliveries.claim(NOW) as claim:
            assert len(claim.due) == 3

    async def test_claim_that_settles_nothing_changes_nothing(self, store: Store):
        await take_over(store, a.accept())
        before = await store.rows(), await store.events()
        async with store.deliveries.claim(NOW):
            pass
        assert (await store.rows(), await store.events()) == before

    @staticmethod
    async def _settle_and_fail(store: Store) -> None:
        async with store.deliveries.claim(NOW) as claim:
            await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)
            raise ConnectionAbortedError("on purpose")
