"""Finding documents and dead letters, and counting them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from hub.cli.trace import _part_line
from hub.core.diagnosis import (
    DocumentTrace,
    ParkedTrace,
    RefusalTrace,
    diagnose_delivery,
    diagnose_document,
    due_time_to_send,
    due_times,
)
from hub.core.directory_change import diff
from hub.core.ladder import Standing
from hub.core.selection import Selection
from hub.core.settlement import settle_attempt
from hub.core.working_calendar import WorkingCalendar
from hub.store.dead_letters import dismiss, list_dead, show
from hub.store.deliveries import PostgresDeliveries
from hub.store.directory import DirectoryStore
from hub.store.ledger import PostgresLedger, parked_id_of
from hub.store.parts import PostgresParts
from hub.store.pool import open_pool
from hub.store.statistics import Unfinished, exchange, unfinished
from hub.store.trace import _CHAINS, MAX_LINKED, find
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import EdxmlOrigin
from schemas.refusal import Problem
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS, SENDER

DAY = timedelta(days=1)


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
async def accept(pool):
    """A document whose first recipient has received it, the second has refused it, the third has not answered."""
    accept = a.accept()
    ledger = PostgresLedger(pool)
    await ledger.record([a.decided(accept)], NOW)
    async with PostgresDeliveries(pool, wait_s=0.01).claim(NOW) as claim:
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)
    first, second, _ = (accept.delivery_id(addressee) for addressee in accept.addressees)
    answers = [
        a.receipt(first),
        a.receipt(second, from_=RECIPIENTS[1], outcome="refused", code="SAI", detail="Không thuộc thẩm quyền"),
    ]
    await ledger.record_answers(answers, a.settle, NOW + timedelta(seconds=5))
    return accept


async def test_a_trace_says_what_stands_behind_a_national_packet(pool):
    packet, scan = a.part(b"<edXML/>", "goi.edxml"), a.part(b"%PDF", "ban-quet.pdf")
    for content in (b"<edXML/>", b"%PDF"):
        await PostgresParts(pool).add(a.kept(content, f"parts/{len(content)}"), SENDER, NOW)
    origin = EdxmlOrigin(id="1", part=packet.sha256, level="A2")
    accept = a.accept(a.envelope(parts=[packet, scan]).model_copy(update={"edxml": origin}))
    await PostgresLedger(pool).record([a.decided(accept)], NOW)
    (found,) = await find(pool, accept.document_id)
    assert [(part.name, part.stored, part.level) for part in found.parts] == [
        ("goi.edxml", True, "A2"),
        ("ban-quet.pdf", True, None),
    ]
    assert "edXML A2" in _part_line(found.parts[0], "vi")
    assert "edXML" not in _part_line(found.parts[1], "en")


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(lambda accept: accept.document_id, id="document id"),
        pytest.param(lambda accept: f" {accept.document_id.upper()}\n", id="document id as people paste it"),
        pytest.param(lambda accept: accept.document_id[:8], id="8 digits of it"),
        pytest.param(lambda accept: accept.document_id[:13], id="an odd number of digits of it"),
        pytest.param(lambda accept: str(accept.delivery_id(accept.addressees[1])), id="delivery id"),
        pytest.param(lambda accept: accept.envelope.id, id="envelope id"),
        pytest.param(lambda accept: accept.envelope.id.upper(), id="envelope id in capitals"),
        pytest.param(lambda accept: "7816/VPCP-TTĐT", id="printed number"),
        pytest.param(lambda accept: "7816/vpcp-ttđt", id="printed number in small letters"),
    ],
)
async def test_document_is_found_by(pool, accept, named):
    [found] = await find(pool, named(accept))
    assert isinstance(found, DocumentTrace)
    assert found.document_id == accept.document_id


@pytest.mark.parametrize("text", ["", " ", "\0", "7", "7816", "%", "_______", "zz", "0" * 65, "ab'; --"])
async def test_text_that_names_nothing_finds_nothing(pool, accept, text):
    assert await find(pool, text) == []


async def test_trace_has_every_delivery_with_its_history(pool, accept):
    [found] = await find(pool, accept.document_id)
    assert isinstance(found, DocumentTrace)
    assert [item.delivery.recipient for item in found.deliveries] == sorted(RECIPIENTS)
    assert [item.delivery.state for item in found.deliveries] == ["received", "dead", "routed"]
    assert [[event.event for event in item.events] for item in found.deliveries] == [
        ["delivery.routed", "delivery.received"],
        ["delivery.routed", "delivery.refused"],
        ["delivery.routed"],
    ]
    assert found.deliveries[1].events[-1].actor == RECIPIENTS[1]
    assert found.deliveries[1].events[-1].detail["reason"] == "SAI Không thuộc thẩm quyền"
    assert [event.event for event in found.events] == ["document.accepted"]
    assert (found.sender, found.envelope_id, found.subject) == (SENDER, accept.envelope.id, "Về việc kết nối trục")
    assert diagnose_document(found, NOW).acts == "sender"


async def test_recipient_has_the_name_of_today(pool, accept):
    entries = [
        AgencyEntry(code="H26", name=name, tier="ministry-province", valid_from=day)
        for name, day in (("Tên cũ", "2020-01-01"), ("Tên nay", "2021-01-01"), ("Tên sau", "2999-01-01"))
    ]
    changes = diff(DirectoryFile(), DirectoryFile(agencies=tuple(entries)))
    await DirectoryStore(pool).apply(changes, actor="x", source="x", now=NOW)
    [found] = await find(pool, accept.document_id)
    assert isinstance(found, DocumentTrace)
    assert [item.recipient_name for item in found.deliveries] == ["Tên nay", "", ""]


async def test_refusal_is_found_with_its_problems(pool):
    refuse, other = a.refuse(), a.refuse(b"x.y.z")
    refuse = replace(refuse, problems=(*refuse.problems, Problem("E602", "/expires")))
    await PostgresLedger(pool).record([a.decided(refuse), a.decided(other), a.decided(a.park())], NOW)
    [found] = await find(pool, refuse.document_id)
    assert isinstance(found, RefusalTrace)
    assert (found.signer, found.code, found.refused_at) == (SENDER, "E404", NOW)
    assert found.problems == [
        {"code": "E404", "pointer": "/to/0", "en": "H99", "vi": "H99"},
        {"code": "E602", "pointer": "/expires", "en": "", "vi": ""},
    ]


async def test_parked_submission_is_found_by_its_id_and_by_what_it_claims_to_be(pool):
    token = a.accept().token
    park = a.park(token[:-4] + b"AAAA", code="E301")
    await PostgresLedger(pool).record([a.decided(park)], NOW)
    for name in (parked_id_of(park.submission).hex(), a.identity(token)):
        [found] = await find(pool, name)
        assert isinstance(found, ParkedTrace)
        assert (found.code, found.user, found.body_length) == ("E301", SENDER, len(token))


async def test_two_documents_with_one_number_are_both_found_the_newest_first(pool):
    ledger = PostgresLedger(pool)
    older, newer = a.accept(), a.accept()
    await ledger.record([a.decided(newer)], NOW + DAY)
    await ledger.record([a.decided(older)], NOW)
    found = await find(pool, "7816/VPCP-TTĐT")
    assert [item.document_id for item in found if isinstance(item, DocumentTrace)] == [
        newer.document_id,
        older.document_id,
    ]


async def test_dead_deliveries_and_parked_submissions_are_listed_together_the_newest_first(pool, accept):
    await PostgresLedger(pool).record([a.decided(a.park())], NOW + DAY)
    submission, delivery = await list_dead(pool, Selection())
    assert (submission.kind, submission.code, submission.agency, submission.sender) == (
        "submission",
        "E102",
        SENDER,
        None,
    )
    assert delivery.id == str(accept.delivery_id(accept.addressees[1]))
    assert (delivery.kind, delivery.code, delivery.reason) == ("delivery", "E808", "SAI Không thuộc thẩm quyền")
    assert (delivery.agency, delivery.sender, delivery.attempts) == (RECIPIENTS[1], SENDER, 1)


async def test_dead_letters_come_in_pages_and_by_agency(pool, accept):
    await PostgresLedger(pool).record([a.decided(a.park())], NOW + DAY)
    [first] = await list_dead(pool, Selection(), 1)
    [second] = await list_dead(pool, Selection(), 1, before=(first.since, first.id))
    assert [first.kind, second.kind] == ["submission", "delivery"]
    assert await list_dead(pool, Selection(), before=(second.since, second.id)) == []
    assert await list_dead(pool, Selection(agency=RECIPIENTS[1])) == [second]


async def test_dead_letter_is_shown_with_its_bytes_and_events(pool, accept):
    park = a.park()
    await PostgresLedger(pool).record([a.decided(park)], NOW)
    delivery = await show(pool, str(accept.delivery_id(accept.addressees[1])))
    submission = await show(pool, parked_id_of(park.submission).hex())
    assert delivery is not None
    assert submission is not None
    assert (delivery.body, delivery.body_length) == (accept.token, len(accept.token))
    assert [event.event for event in delivery.events] == ["delivery.routed", "delivery.refused"]
    assert submission.body == park.submission.body
    assert [event.event for event in submission.events] == ["submission.parked"]


@pytest.mark.parametrize("letter_id", ["", "x", "-", "ab", "0" * 64, "00000000-0000-8000-8000-000000000000"])
async def test_letter_that_is_not_dead_is_not_shown(pool, accept, letter_id):
    assert await show(pool, letter_id) is None
    assert await show(pool, str(accept.delivery_id(accept.addressees[0]))) is None


async def test_of_a_large_body_the_beginning_is_kept_with_its_digest(pool):
    park = a.park(b"x" * 300_000)
    await PostgresLedger(pool).record([a.decided(park)], NOW)
    opened = await show(pool, parked_id_of(park.submission).hex())
    assert opened is not None
    assert (len(opened.body), opened.body_length) == (256 * 1024, 300_000)


async def test_figures_of_a_period(pool, accept):
    await PostgresLedger(pool).record([a.decided(a.refuse()), a.decided(a.park())], NOW)
    figures = await exchange(pool, NOW, NOW + DAY)
    assert figures.sent == {"ministry-province": 1}
    assert figures.delivered == {
        ("ministry-province", "received"): 1,
        ("department-district", "dead"): 1,
        ("commune", "routed"): 1,
    }
    assert (figures.refused, figures.parked) == ({"E404": 1}, {"E102": 1})
    assert (figures.received("ministry-province"), figures.received("commune")) == (1, 0)
    assert (await exchange(pool, NOW - DAY, NOW)).sent == {}


async def test_unfinished_deliveries_are_counted(pool, accept):
    """Two receipts on their way to the sender are deliveries as well."""
    assert await unfinished(pool, NOW) == Unfinished(pending=2, routed=1, overdue=0, held=0, dead=1)
    assert (await unfinished(pool, NOW + DAY)).overdue == 1
    await dismiss(pool, Selection(), "gửi giấy", actor="an", now=NOW + DAY)
    assert (await unfinished(pool, NOW)).dead == 0


async def test_trace_tells_how_far_each_office_has_come_and_why_one_refuses(pool, accept):
    said = [a.status(accept.document_id, "01"), a.status(accept.document_id, "02", detail="Gửi nhầm")]
    await PostgresLedger(pool).record_answers(said, a.settle, NOW + timedelta(minutes=5))
    [found] = await find(pool, accept.document_id)
    assert isinstance(found, DocumentTrace)
    refusing, *others = found.deliveries
    assert (refusing.delivery.standing, refusing.reason) == (Standing("02"), "Gửi nhầm")
    assert refusing.standing_since == NOW + timedelta(minutes=5)
    assert "Nghiệp vụ: từ chối tiếp nhận (02) lúc 09:05 23/11/2026: Gửi nhầm." in diagnose_delivery(refusing, NOW).vi
    assert diagnose_delivery(refusing, NOW).acts == "sender"
    assert [item.delivery.standing for item in others] == [Standing()] * 2
    assert [(due.duty, due.done_at is not None) for due in due_times(refusing, WorkingCalendar())] == [
        ("notify", True),
        ("register", True),
    ]
    assert due_time_to_send(found, WorkingCalendar()).punctuality(NOW) == "met"


async def test_trace_follows_the_chain_both_ways_and_no_further_than_its_documents(pool):
    ledger = PostgresLedger(pool)
    original, unrelated = a.accept(), a.accept()
    await ledger.record([a.decided(original), a.decided(unrelated)], NOW)
    updated = a.accept(a.envelope(action="update", ref=[original.document_id]))
    await ledger.record([a.decided(updated)], NOW + DAY)
    recall = a.accept(a.envelope(action="revoke", ref=[updated.document_id], to=RECIPIENTS[:2]))
    await ledger.record([a.decided(recall)], NOW + 2 * DAY)
    await ledger.record_answers([a.status(recall.document_id, "15")], a.settle, NOW + 3 * DAY)
    ids = [original.document_id, updated.document_id, recall.document_id]
    for document_id in ids:
        [found] = await find(pool, document_id)
        assert isinstance(found, DocumentTrace)
        assert [link.document_id for link in found.chain] == [each for each in ids if each != document_id]
    [found] = await find(pool, original.document_id)
    assert isinstance(found, DocumentTrace)
    last = found.chain[-1]
    assert (last.action, last.refs, last.recipients) == ("revoke", (updated.document_id,), 2)
    assert [(each.recipient, each.request) for each in last.answers] == [
        (RECIPIENTS[1], "asked"),
        (RECIPIENTS[0], "agreed"),
    ]
    assert last.answers[1].since == NOW + 3 * DAY


async def test_what_recalls_a_document_is_found_by_an_index(pool):
    await PostgresLedger(pool).record([a.decided(a.accept(signed=False)) for _ in range(50)], NOW)
    async with pool.reading() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {_CHAINS}", [b"\0" * 32])
    assert "documents_by_ref" in str(plan)


async def test_very_long_chain_is_cut(pool):
    ledger = PostgresLedger(pool)
    original = a.accept()
    await ledger.record([a.decided(original)], NOW)
    many = [a.accept(a.envelope(action="update", ref=[original.document_id], to=RECIPIENTS[:1])) for _ in range(60)]
    await ledger.record([a.decided(accept) for accept in many], NOW)
    [found] = await find(pool, original.document_id)
    assert isinstance(found, DocumentTrace)
    assert len(found.chain) == MAX_LINKED
