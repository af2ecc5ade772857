"""When two packets are the same document, and which document a packet means by a DocumentId."""

import uuid
from pathlib import Path

import pytest

from adapters.errors import Unusable
from adapters.folder.journal import Arrived, Drawn, Journal, Key
from adapters.folder.reasons import Told
from schemas.edxml.mapping import NationalId
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of

NAME = NationalId("G22", "G22,2026/03/02,7/TB")
NAMES = ["7.edxml", "7-abc.edxml"]
PROVINCE, COMMUNE = AgencyCode("H26"), AgencyCode("H26.101")
WHY = (Told("E404", "/to/0", "không có", "none"),)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "journal.db") as opened:
        yield opened


def identity(number: int) -> DocumentId:
    return DocumentId(f"{number:064x}")


def key(digest: str = "d1", kind: str = "new", document: str = NAME.document) -> Key:
    return Key(NAME.agency, document, kind, digest)  # type: ignore[arg-type]


def drawn(number: int, *recipients: AgencyCode) -> Drawn:
    return Drawn(identity(number), b"token %d" % number, 1_772_416_800, recipients)


def arrived(number: int, *, recipient: AgencyCode = PROVINCE, document: str = NAME.document, action="new") -> Arrived:
    delivery = delivery_id_of(identity(number), recipient)
    return Arrived(delivery, identity(number), AgencyCode(NAME.agency), recipient, document, action, b"t", number)


async def test_the_same_packet_is_the_token_that_was_written_down_first(journal):
    first = await journal.draw(key(), drawn(1), NAMES)
    again = await journal.draw(key(), drawn(2), ["other.edxml"])

    assert (again.document_id, again.file) == (first.document_id, "7.edxml")
    assert await journal.same(key()) == again


async def test_a_new_document_under_the_id_of_another_finds_the_other(journal):
    await journal.draw(key("d1"), drawn(1), NAMES)
    other = await journal.draw(key("d2"), drawn(2), NAMES)

    assert other.key.digest == "d1"
    assert await journal.sent(identity(2)) is None


async def test_two_updates_under_one_id_are_two_documents(journal):
    await journal.draw(key("d1", "update"), drawn(1), NAMES)
    second = await journal.draw(key("d2", "update"), drawn(2), NAMES)

    assert (second.document_id, second.file) == (identity(2), "7-abc.edxml")


async def test_what_was_refused_does_not_count_and_gives_its_name_free(journal):
    await journal.draw(key("d1"), drawn(1), NAMES)
    await journal.refuse(identity(1), WHY)
    corrected = await journal.draw(key("d2"), drawn(2), NAMES)

    assert (corrected.document_id, corrected.file) == (identity(2), "7.edxml")
    refused = await journal.sent(identity(1))
    assert refused is not None
    assert refused.refused == WHY


async def test_a_younger_token_takes_the_place_of_one_that_has_grown_too_old(journal):
    first = await journal.draw(key(), drawn(1, PROVINCE), NAMES)
    second = await journal.draw_again(first, drawn(2, PROVINCE))
    assert (await journal.same(key())) == second
    assert (second.file, second.earlier, second.confirmed) == ("7.edxml", identity(1), False)

    await journal.return_to(identity(1), identity(2))
    same = await journal.same(key())
    assert same is not None
    assert (same.document_id, same.confirmed) == (identity(1), True)


async def test_a_delivery_leads_to_its_document(journal):
    await journal.draw(key(), drawn(1, PROVINCE, COMMUNE), NAMES)
    found = await journal.addressed(delivery_id_of(identity(1), COMMUNE))

    assert found is not None
    assert (found[0].document_id, found[1]) == (identity(1), COMMUNE)
    assert await journal.addressed(DeliveryId(uuid.uuid4())) is None


async def test_packets_name_the_newest_document_of_an_id_that_was_not_refused(journal):
    await journal.draw(key("d1"), drawn(1), NAMES)
    await journal.draw(key("d2", "update"), drawn(2), NAMES)
    await journal.draw(key("d3", "revoke"), drawn(3), ["3"])
    await journal.draw(key("d4", "update"), drawn(4), ["4"])
    await journal.refuse(identity(4), WHY)

    assert await journal.identities([NAME, NationalId("G22", "unknown")]) == {NAME: identity(2)}


async def test_a_document_that_arrived_can_be_answered_by_its_name(journal):
    await journal.keep(arrived(5), ())

    assert await journal.identities([NAME]) == {NAME: identity(5)}
    assert await journal.names_of([identity(5), identity(6)]) == {identity(5): NAME}


@pytest.mark.parametrize("status", ["01", "02", "03", "06"])
async def test_a_status_is_about_the_document_that_came_and_not_about_its_recall(journal, status):
    await journal.keep(arrived(1), ())
    await journal.keep(arrived(2, action="revoke"), [identity(1)])

    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(1)
    assert await journal.meant(NAME, status, recipient=COMMUNE) is None


@pytest.mark.parametrize("status", ["15", "16"])
async def test_agreement_answers_what_asked_last(journal, status):
    """The recall names its document as itself, the update has an id of its own; 13 asks for the document."""
    await journal.keep(arrived(1), ())
    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(1)
    await journal.keep(arrived(2, action="update", document="G22,2026/03/02,8/TB"), [identity(1)])
    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(2)
    await journal.ask(arrived(1), 99)
    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(1)
    await journal.keep(arrived(3, action="revoke"), [identity(1)])
    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(3)


@pytest.mark.parametrize("status", ["15", "16"])
async def test_agreement_answers_what_asked_although_it_came_before_what_it_is_about(journal, status):
    await journal.keep(arrived(2, action="update", document="G22,2026/03/02,8/TB"), [identity(1)])
    await journal.keep(arrived(1), ())

    assert await journal.meant(NAME, status, recipient=PROVINCE) == identity(2)


async def test_asking_back_is_about_our_own_document(journal):
    await journal.draw(key(), drawn(1, PROVINCE), NAMES)

    assert await journal.meant(NAME, "13", recipient=PROVINCE) == identity(1)


async def test_nothing_is_forgotten_that_was_not_confirmed(journal):
    from datetime import UTC, datetime

    await journal.draw(key(), drawn(1), NAMES)
    await journal.draw(key("d2", "update"), drawn(2), NAMES)
    await journal.confirm(identity(2))
    await journal.forget(datetime(2030, 1, 1, tzinfo=UTC))

    assert await journal.sent(identity(1)) is not None
    assert await journal.sent(identity(2)) is None


async def test_a_second_process_is_kept_out(journal, tmp_path):
    with pytest.raises(Unusable, match="A107"):
        Journal(tmp_path / "journal.db")


async def test_all_is_there_when_it_is_opened_again(tmp_path):
    with Journal(tmp_path / "j.db") as first:
        await first.draw(key(), drawn(1), NAMES)
    with Journal(tmp_path / "j.db") as second:
        assert await second.same(key()) is not None
