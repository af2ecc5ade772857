"""What every register of parts does, the real one and the one in memory; a subclass provides the fixture `store`."""

from datetime import timedelta

import pytest

from schemas.identifiers import AgencyCode, DocumentId
from tests import builders as a
from tests.builders import NOW, RECIPIENTS, SENDER
from tests.contract.store import Store

WEEK = timedelta(days=7)
PLATFORM = AgencyCode("lgsp-h26")
OTHER = AgencyCode("H31")


async def with_a_part(store: Store, *, via: str | None = None) -> DocumentId:
    """Take over a document from the sender to the three recipients, with one part."""
    await store.parts.add(a.kept(), SENDER, NOW)
    accept = a.accept(a.envelope(parts=[a.part()], via=via), signed=False)
    assert await store.ledger.record([a.decided(accept)], NOW) == []
    return accept.document_id


class PartsContract:
    """Who holds which part, who may fetch it, what nobody needs."""

    async def test_uploaded_part_is_found_by_who_has_uploaded_it_and_by_nobody_else(self, store: Store):
        assert await store.parts.add(a.kept(), SENDER, NOW)
        assert await store.parts.find(a.kept().sha256, SENDER, NOW) == a.kept()
        assert await store.parts.find(a.kept().sha256, OTHER, NOW) is None
        assert await store.parts.find(a.kept(b"other").sha256, SENDER, NOW) is None

    async def test_part_that_two_have_uploaded_keeps_the_object_of_the_first(self, store: Store):
        assert await store.parts.add(a.kept(object_key="parts/first"), SENDER, NOW)
        assert not await store.parts.add(a.kept(object_key="parts/second"), OTHER, NOW)
        found = await store.parts.find(a.kept().sha256, OTHER, NOW)
        assert found is not None
        assert found.object_key == "parts/first"

    async def test_part_that_is_entered_twice_is_the_same(self, store: Store):
        assert await store.parts.add(a.kept(), SENDER, NOW)
        assert await store.parts.add(a.kept(), SENDER, NOW)

    async def test_only_objects_of_parts_are_known(self, store: Store):
        await store.parts.add(a.kept(object_key="parts/first"), SENDER, NOW)
        assert await store.parts.known(["parts/first", "parts/orphan"]) == {"parts/first"}

    @pytest.mark.parametrize("agency", RECIPIENTS)
    async def test_recipient_may_fetch_a_part_of_its_document(self, store: Store, agency: AgencyCode):
        document = await with_a_part(store)
        asked = a.granted(agency=agency, part=a.part().sha256, document=document)
        assert await store.parts.fetchable(asked) == a.kept()

    async def test_sender_may_fetch_what_it_has_sent(self, store: Store):
        document = await with_a_part(store)
        asked = a.granted(agency=SENDER, part=a.part().sha256, document=document)
        assert await store.parts.fetchable(asked) == a.kept()

    async def test_stranger_may_not_fetch(self, store: Store):
        document = await with_a_part(store)
        asked = a.granted(agency=OTHER, part=a.part().sha256, document=document)
        assert await store.parts.fetchable(asked) is None

    async def test_stranger_who_knows_the_digest_cannot_have_it_by_a_document_of_its_own(self, store: Store):
        await with_a_part(store)
        accept = a.accept(a.envelope(from_=OTHER, to=RECIPIENTS[:1], parts=[a.part()]))
        [objection] = await store.ledger.record([a.decided(accept)], NOW)
        assert [problem.code for problem in objection.problems] == ["E503"]
        asked = a.granted(agency=OTHER, part=a.part().sha256, document=accept.document_id)
        assert await store.parts.fetchable(asked) is None

    async def test_part_of_another_document_may_not_be_fetched(self, store: Store):
        document = await with_a_part(store)
        await store.parts.add(a.kept(b"other", "parts/other"), SENDER, NOW)
        accept = a.accept(a.envelope(to=(OTHER,), parts=[a.part(b"other")]))
        await store.ledger.record([a.decided(accept)], NOW)
        asked = a.granted(part=a.part(b"other").sha256, document=document)
        assert await store.parts.fetchable(asked) is None

    async def test_platform_may_fetch_for_its_agency_only_what_it_receives_or_has_sent_itself(self, store: Store):
        document = await with_a_part(store, via=PLATFORM)
        part = a.part().sha256
        received = a.granted(agency=RECIPIENTS[0], via="lgsp-other", receives=True, part=part, document=document)
        not_received = a.granted(agency=RECIPIENTS[0], via="lgsp-other", receives=False, part=part, document=document)
        sent = a.granted(agency=SENDER, via=PLATFORM, receives=False, part=part, document=document)
        not_sent = a.granted(agency=SENDER, via="lgsp-other", receives=False, part=part, document=document)
        answers = [await store.parts.fetchable(asked) for asked in (received, not_received, sent, not_sent)]
        assert answers == [a.kept(), None, a.kept(), None]

    async def test_part_that_no_document_names_is_forgotten_after_its_time_and_never_earlier(self, store: Store):
        await store.parts.add(a.kept(object_key="parts/first"), SENDER, NOW)
        assert list(await store.parts.forget(NOW)) == []
        assert list(await store.parts.forget(NOW + timedelta(seconds=1))) == ["parts/first"]
        assert await store.parts.find(a.kept().sha256, SENDER, NOW) is None
        assert list(await store.parts.forget(NOW + WEEK)) == []

    async def test_part_that_a_document_names_is_never_forgotten(self, store: Store):
        await with_a_part(store)
        assert list(await store.parts.forget(NOW + 1000 * WEEK)) == []

    async def test_part_that_somebody_would_have_uploaded_again_is_kept_from_then_on(self, store: Store):
        await store.parts.add(a.kept(), SENDER, NOW)
        await store.parts.find(a.kept().sha256, SENDER, NOW + WEEK)
        assert list(await store.parts.forget(NOW + WEEK)) == []
        await store.parts.add(a.kept(), OTHER, NOW + 2 * WEEK)
        assert list(await store.parts.forget(NOW + 2 * WEEK)) == []

    async def test_forgotten_part_can_be_uploaded_again_under_another_key(self, store: Store):
        await store.parts.add(a.kept(object_key="parts/first"), SENDER, NOW)
        await store.parts.forget(NOW + WEEK)
        assert await store.parts.add(a.kept(object_key="parts/second"), SENDER, NOW + WEEK)
        assert await store.parts.known(["parts/first", "parts/second"]) == {"parts/second"}
