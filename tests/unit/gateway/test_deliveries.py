"""Listing, reading and answering over REST."""

import asyncio
import time
import uuid

import pytest

from adapters.mailbox import Arrived
from schemas.identifiers import DeliveryId
from schemas.receipt import Notice, NoticeProblem
from schemas.signing import payload_of
from tests.gateways import AGENCY, OTHER, SENDER, now, open_counter
from tests.played_hub import notice_to, now_s


@pytest.fixture
async def counter(tmp_path):
    async with open_counter(tmp_path) as counter:
        yield counter


async def note(counter) -> DeliveryId:
    """Let a notice arrive."""
    problem = NoticeProblem(code="E404", en="unknown", vi="không rõ")
    content = Notice(to=AGENCY, kind="refused", at=now_s(), problems=(problem,))
    delivery_id = DeliveryId(uuid.uuid4())
    summary = content.to_json().decode()
    letter = Arrived(delivery_id, "notice", AGENCY, "hub", None, summary, notice_to(AGENCY))
    await counter.office.mailbox.note(letter, content, now())
    counter.office.arrived.ring()
    return delivery_id


async def listed(counter, **query):
    answer = await counter.http.get("/v1/deliveries", params=query)
    assert answer.status_code == 200
    return answer.json()


async def test_an_empty_list_says_where_to_go_on(counter):
    assert await listed(counter) == {"items": [], "next": 0}
    assert await listed(counter, after=7) == {"items": [], "next": 7}


async def test_a_list_shows_what_a_document_office_asks_for(counter):
    kept = await counter.arrive()
    (item,) = (await listed(counter))["items"]

    assert (item["delivery"], item["document"], item["seq"]) == (str(kept.delivery_id), kept.document_id, kept.seq)
    assert (item["from"], item["recipient"], item["kind"], item["action"]) == (SENDER, AGENCY, "Công văn", "new")
    assert "answer" not in item or item["answer"] is None


async def test_pages_follow_each_other_without_gap_or_repetition(counter):
    arrived = [str((await counter.arrive()).delivery_id) for _ in range(7)]
    seen, after = [], 0
    while items := (page := await listed(counter, after=after, limit=3))["items"]:
        seen += [item["delivery"] for item in items]
        after = page["next"]

    assert seen == arrived


async def test_a_list_can_wait_for_an_arrival(counter):
    waiting = [asyncio.create_task(listed(counter, wait_s=20)) for _ in range(5)]
    await asyncio.sleep(0.2)
    kept = await counter.arrive()

    async with asyncio.timeout(5):
        pages = await asyncio.gather(*waiting)
    assert {page["items"][0]["delivery"] for page in pages} == {str(kept.delivery_id)}


async def test_waiting_in_vain_ends_in_time(counter):
    begun = time.monotonic()

    assert (await listed(counter, wait_s=1))["items"] == []
    assert 0.9 < time.monotonic() - begun < 5


async def test_an_arrival_of_others_does_not_end_the_waiting(counter):
    waiting = asyncio.create_task(listed(counter, wait_s=20, recipient=OTHER))
    await asyncio.sleep(0.1)
    await counter.arrive(AGENCY)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    kept = await counter.arrive(OTHER)

    async with asyncio.timeout(5):
        assert [item["delivery"] for item in (await waiting)["items"]] == [str(kept.delivery_id)]


async def test_nobody_waits_for_a_gateway_that_ends(counter):
    waiting = asyncio.create_task(listed(counter, wait_s=60))
    await asyncio.sleep(0.1)
    counter.office.close()

    async with asyncio.timeout(5):
        assert (await waiting)["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"after": -1},
        {"after": "x"},
        {"after": 2**63},
        {"limit": 0},
        {"limit": 501},
        {"wait_s": 61},
        {"recipient": "h26"},
        {"unanswered": "maybe"},
        {"afer": 5},
    ],
)
async def test_a_parameter_that_is_wrong_or_unknown_is_refused_by_name(counter, query):
    answer = await counter.http.get("/v1/deliveries", params=query)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["pointer"]) == ("A206", f"/query/{next(iter(query))}")


async def test_a_delivery_is_read_with_its_envelope_and_its_signed_bytes(counter):
    kept = await counter.arrive()
    peeked = (await counter.http.get(f"/v1/deliveries/{kept.delivery_id}")).json()
    token = await counter.http.get(f"/v1/deliveries/{kept.delivery_id}/token")

    assert peeked["envelope"]["from"] == SENDER
    assert peeked["envelope"]["doc"]["subject"] == peeked["subject"]
    assert token.headers["content-type"] == "application/jose"
    assert token.content == await counter.office.mailbox.token(kept.delivery_id)
    assert payload_of(token.content).startswith(b"{")


async def test_reading_answers_nothing(counter):
    kept = await counter.arrive()
    await counter.http.get(f"/v1/deliveries/{kept.delivery_id}")

    assert await counter.office.mailbox.untold(10) == []


async def test_an_answer_is_written_down_and_waits_to_be_sent(counter):
    kept = await counter.arrive()
    answer = await counter.answer(kept.delivery_id)

    assert answer.status_code == 200
    assert (answer.json()["outcome"], answer.json()["sent"]) == ("received", False)
    (untold,) = await counter.office.mailbox.untold(10)
    assert untold.delivery_id == kept.delivery_id
    assert (await listed(counter, unanswered=True))["items"] == []


async def test_the_same_answer_again_changes_nothing(counter):
    kept = await counter.arrive()
    first = await counter.answer(kept.delivery_id, outcome="refused", detail="Sai nơi nhận")
    again = await counter.answer(kept.delivery_id, outcome="refused", detail="Sai nơi nhận")

    assert (again.status_code, again.json()) == (200, first.json())


async def test_another_answer_is_refused(counter):
    kept = await counter.arrive()
    await counter.answer(kept.delivery_id)
    answer = await counter.answer(kept.delivery_id, outcome="failed", detail="Đĩa đầy")

    assert (answer.status_code, answer.json()["code"]) == (409, "A208")
    assert answer.json()["found"]["en"] == "received"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"outcome": "thrown away"}, "/outcome"),
        ({"outcome": "refused"}, "/detail"),
        ({"outcome": "failed", "code": "DIA-DAY"}, "/detail"),
        ({"outcome": "failed", "detail": "x" * 501}, "/detail"),
        ({"why": "không rõ"}, "/why"),
    ],
)
async def test_an_answer_that_says_too_little_or_too_much_is_refused(counter, members, pointer):
    kept = await counter.arrive()
    answer = await counter.answer(kept.delivery_id, **members)

    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["pointer"]) == ("E502", pointer)
    assert await counter.office.mailbox.untold(10) == []


async def test_what_has_not_arrived_is_not_found(counter):
    nothing = uuid.uuid4()
    answers = [
        await counter.http.get(f"/v1/deliveries/{nothing}"),
        await counter.http.get(f"/v1/deliveries/{nothing}/token"),
        await counter.http.get(f"/v1/letters/{nothing}/token"),
        await counter.answer(nothing),
    ]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(404, "A202")] * 4


async def test_letters_are_listed_apart_and_cannot_be_answered(counter):
    delivery_id = await note(counter)
    letters = (await counter.http.get("/v1/letters")).json()["items"]
    token = await counter.http.get(f"/v1/letters/{delivery_id}/token")

    assert [(each["delivery"], each["kind"], each["from"]) for each in letters] == [(str(delivery_id), "notice", "hub")]
    assert letters[0]["content"]["problems"][0]["code"] == "E404"
    assert token.headers["content-type"] == "application/jose"
    assert (await listed(counter))["items"] == []
    assert (await counter.answer(delivery_id)).status_code == 404
    assert (await counter.http.get(f"/v1/deliveries/{delivery_id}")).status_code == 404
