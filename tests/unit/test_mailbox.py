"""What the mailbox keeps, in which order it shows it, and what a crash leaves."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import Unusable
from adapters.mailbox import Arrived, Drawn, Mailbox, says_more
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Answer, Notice, NoticeProblem, Receipt, Status
from tests.gateways import AGENCY, OTHER, SENDER, document_for, now
from tests.played_hub import now_s

MEMBER = AgencyCode("Z99.GATEWAY.4")


@pytest.fixture
def mailbox(tmp_path: Path):
    with Mailbox(tmp_path / "mailbox.db") as mailbox:
        yield mailbox


def answer(delivery_id: DeliveryId, outcome: str = "received", **members) -> Answer:
    return Answer(**{"delivery": str(delivery_id), "outcome": outcome, "at": now_s(), **members})


def drawn(number: int = 1, *, key: str | None = None, request: str = "a", grouped: bool = False) -> Drawn:
    document_id = DocumentId(f"{number:064x}")
    return Drawn(document_id, key or f"key-{number}", request, AGENCY, f"AGENCY-{number}", (SENDER,), grouped, b"token")


def letter(content: Receipt | Status | Notice, number: int = 1) -> Arrived:
    kind = {Receipt: "receipt", Status: "status", Notice: "notice"}[type(content)]
    delivery_id = delivery_id_of(DocumentId(f"{number:x}"), AGENCY)
    return Arrived(delivery_id, kind, AGENCY, AgencyCode(content.from_), None, "{}", b"token")


def receipt(document_id: DocumentId, outcome: str = "received", *, from_: AgencyCode = SENDER, at: int | None = None):
    reply = answer(delivery_id_of(document_id, from_), outcome, at=at or now_s())
    return Receipt(from_=from_, to=AGENCY, answers=(reply,))


def notice(kind: str, document_id: DocumentId, recipient: AgencyCode | None = None) -> Notice:
    problem = NoticeProblem(code="E404", en="unknown", vi="không rõ")
    return Notice(to=AGENCY, kind=kind, document=document_id, recipient=recipient, at=now_s(), problems=(problem,))


async def listed(mailbox: Mailbox, after: int = 0, limit: int = 1000, **filters):
    return await mailbox.arrivals(("document",), after=after, limit=limit, **filters)


async def test_arrivals_are_numbered_in_the_order_in_which_they_were_written_down(mailbox):
    documents = [document_for() for _ in range(5)]
    for document in documents:
        assert await mailbox.keep(document, now())

    kept = await listed(mailbox)
    assert [each.delivery_id for each in kept] == [document.delivery_id for document in documents]
    assert [each.seq for each in kept] == sorted(each.seq for each in kept)


async def test_a_duplicate_is_not_listed_again(mailbox):
    document = document_for()

    assert [await mailbox.keep(document, now()) for _ in range(3)] == [True, False, False]
    assert len(await listed(mailbox)) == 1


async def test_a_duplicate_of_an_answered_document_is_not_listed_again(mailbox):
    document = document_for()
    await mailbox.keep(document, now())
    await mailbox.answer(document.delivery_id, answer(document.delivery_id))

    assert not await mailbox.keep(document, now())
    assert (await listed(mailbox))[0].answer is not None


async def test_a_document_answered_with_failed_is_listed_once_more_under_a_new_number(mailbox):
    document = document_for()
    await mailbox.keep(document, now())
    (first,) = await listed(mailbox)
    await mailbox.answer(document.delivery_id, answer(document.delivery_id, "failed", detail="Đĩa đầy"))

    assert await mailbox.keep(document, now())
    (second,) = await listed(mailbox, after=first.seq)
    assert (second.delivery_id, second.answer) == (first.delivery_id, None)
    assert await listed(mailbox) == [second]


async def test_the_first_answer_stands(mailbox):
    document = document_for()
    await mailbox.keep(document, now())
    first = answer(document.delivery_id)
    await mailbox.answer(document.delivery_id, first)

    kept = await mailbox.answer(document.delivery_id, answer(document.delivery_id, "refused", detail="Sai nơi nhận"))
    assert kept is not None
    assert kept.answer == first


async def test_what_is_unknown_cannot_be_answered(mailbox):
    delivery_id = document_for().delivery_id

    assert await mailbox.answer(delivery_id, answer(delivery_id)) is None


async def test_lists_can_be_narrowed_to_one_agency_and_to_what_is_unanswered(mailbox):
    mine, answered, others = document_for(), document_for(), document_for(OTHER)
    for document in (mine, answered, others):
        await mailbox.keep(document, now())
    await mailbox.answer(answered.delivery_id, answer(answered.delivery_id))

    found = await listed(mailbox, recipient=AGENCY, unanswered=True)
    assert [each.delivery_id for each in found] == [mine.delivery_id]


async def test_answers_wait_until_their_receipts_are_out(mailbox):
    document = document_for()
    await mailbox.keep(document, now())
    assert await mailbox.untold(10) == []

    await mailbox.answer(document.delivery_id, answer(document.delivery_id))
    untold = await mailbox.untold(10)
    assert [(each.reply.recipient, each.reply.sender) for each in untold] == [(AGENCY, SENDER)]

    await mailbox.mark_told(untold)
    assert await mailbox.untold(10) == []


async def test_readers_with_a_cursor_see_everything_once_while_others_write(mailbox):
    documents = [document_for() for _ in range(200)]

    async def write() -> None:
        for start in range(0, len(documents), 10):
            await asyncio.gather(*(mailbox.keep(document, now()) for document in documents[start : start + 10]))

    async def read(limit: int) -> list[DeliveryId]:
        seen: list[DeliveryId] = []
        after = 0
        while len(seen) < len(documents):
            for kept in await listed(mailbox, after, limit):
                assert kept.seq > after
                after = kept.seq
                seen.append(kept.delivery_id)
            await asyncio.sleep(0)
        return seen

    async with asyncio.timeout(30):
        *readings, _, _ = await asyncio.gather(*(read(limit) for limit in (1, 2, 3, 7, 50, 500)), write(), write())
    assert set(readings[0]) == {document.delivery_id for document in documents}
    assert len(readings[0]) == len(documents)
    assert all(reading == readings[0] for reading in readings)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 5)),
        st.tuples(st.just("answer"), st.integers(0, 5)),
        st.tuples(st.just("read"), st.integers(1, 3)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)
POOL = [document_for() for _ in range(6)]


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
async def test_whatever_happens_a_cursor_sees_each_handing_over_exactly_once(tmp_path_factory, steps):
    file = tmp_path_factory.mktemp("mailbox") / "mailbox.db"
    expected: list[DeliveryId] = []
    seen: list[DeliveryId] = []
    after = 0
    box = Mailbox(file)
    for step, which in [*steps, ("read", 1000)]:
        delivery_id = POOL[which % 6].delivery_id
        match step:
            case "keep":
                fresh = await box.keep(POOL[which], now())
                expected += [delivery_id] * fresh
            case "fail":
                await box.answer(delivery_id, answer(delivery_id, "failed", detail="Đĩa đầy"))
            case "answer":
                await box.answer(delivery_id, answer(delivery_id))
            case "restart":
                box.close()
                box = Mailbox(file)
            case _:
                for kept in await listed(box, after, which):
                    seen.append(kept.delivery_id)
                    after = kept.seq
    box.close()
    # Replaced before it was read: the later number stands for both.
    assert [each for each in seen if seen.count(each) > expected.count(each)] == []
    assert set(seen) == set(expected)


async def test_numbers_are_not_used_again_after_forgetting(mailbox):
    document, later = document_for(), document_for()
    await mailbox.keep(document, now())
    (kept,) = await listed(mailbox)
    await mailbox.answer(document.delivery_id, answer(document.delivery_id))
    await mailbox.mark_told([kept])
    await mailbox.forget(now() + timedelta(days=1))
    await mailbox.keep(later, now())

    assert [each.delivery_id for each in await listed(mailbox, kept.seq)] == [later.delivery_id]


async def test_forgetting_spares_what_is_not_done_with(mailbox):
    unanswered, untold = document_for(), document_for()
    for document in (unanswered, untold):
        await mailbox.keep(document, now())
    await mailbox.answer(untold.delivery_id, answer(untold.delivery_id))
    waiting, confirmed = drawn(1), drawn(2)
    for submission in (waiting, confirmed):
        await mailbox.submit(submission, now(), max_waiting=10)
    await mailbox.mark_confirmed([confirmed.document_id], now())

    await mailbox.forget(now() + timedelta(days=1))

    assert {each.delivery_id for each in await listed(mailbox)} == {unanswered.delivery_id, untold.delivery_id}
    assert await mailbox.submission(waiting.document_id) is not None
    assert await mailbox.submission(confirmed.document_id) is None
    assert await mailbox.claim(confirmed.key) is None


async def test_of_many_submissions_under_one_key_one_is_written_down(mailbox):
    attempts = [drawn(number, key="one", request=str(number)) for number in range(20)]

    claims = await asyncio.gather(*(mailbox.submit(attempt, now(), max_waiting=100) for attempt in attempts))

    assert len(set(claims)) == 1
    assert [document_id for document_id, _ in await mailbox.waiting(100)] == [claims[0].document_id]


async def test_no_more_documents_wait_than_allowed_but_a_known_key_is_still_answered(mailbox):
    first = await mailbox.submit(drawn(1), now(), max_waiting=1)

    assert await mailbox.submit(drawn(2), now(), max_waiting=1) is None
    assert await mailbox.submit(drawn(1), now(), max_waiting=1) == first


async def state_of(mailbox: Mailbox, document_id: DocumentId):
    submission = await mailbox.submission(document_id)
    assert submission is not None
    return submission


async def test_a_submission_goes_from_waiting_over_submitted_to_accepted(mailbox):
    document = drawn()
    states = []
    await mailbox.submit(document, now(), max_waiting=10)
    states.append((await state_of(mailbox, document.document_id)).state)
    await mailbox.mark_confirmed([document.document_id], now())
    states.append((await state_of(mailbox, document.document_id)).state)
    content = receipt(document.document_id)
    await mailbox.note(letter(content), content, now())
    submission = await state_of(mailbox, document.document_id)

    assert [*states, submission.state] == ["waiting", "submitted", "accepted"]
    assert [(each.recipient, each.outcome) for each in submission.recipients] == [(SENDER, "received")]


@pytest.mark.parametrize("kind", ["refused", "parked"])
async def test_a_notice_turns_a_submission_down_with_its_problems(mailbox, kind):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    content = notice(kind, document.document_id)
    await mailbox.note(letter(content), content, now())

    submission = await state_of(mailbox, document.document_id)
    assert submission.state == kind
    assert '"E404"' in submission.problems


async def test_an_expired_delivery_is_told_for_its_recipient(mailbox):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    content = notice("expired", document.document_id, SENDER)
    await mailbox.note(letter(content), content, now())

    (recipient,) = (await state_of(mailbox, document.document_id)).recipients
    assert (recipient.outcome, recipient.code) == ("expired", "E404")


async def test_a_delivery_that_expires_soon_changes_nothing_but_that_its_document_is_under_way(mailbox):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    content = notice("expiring", document.document_id, SENDER)
    assert await mailbox.note(letter(content), content, now())

    submission = await state_of(mailbox, document.document_id)
    assert submission.state == "accepted"
    assert submission.recipients[0].outcome is None


async def test_statuses_are_listed_oldest_first_and_once(mailbox):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    for number, (code, at) in enumerate([("03", now_s()), ("01", now_s() - 60), ("03", now_s())]):
        content = Status(from_=SENDER, to=AGENCY, document=document.document_id, status=code, at=at)
        await mailbox.note(letter(content, number), content, now())

    submission = await state_of(mailbox, document.document_id)
    assert [each.status for each in submission.recipients[0].statuses] == ["01", "03"]


async def test_a_status_of_somebody_who_is_no_recipient_changes_nothing(mailbox):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    content = Status(from_=OTHER, to=AGENCY, document=document.document_id, status="01", at=now_s())
    await mailbox.note(letter(content), content, now())

    submission = await state_of(mailbox, document.document_id)
    assert [each.recipient for each in submission.recipients] == [SENDER]


async def test_a_member_of_a_group_that_the_directory_here_lacked_is_found_by_its_receipt(mailbox):
    document = drawn(grouped=True)
    await mailbox.submit(document, now(), max_waiting=10)
    content = receipt(document.document_id, from_=MEMBER)
    await mailbox.note(letter(content), content, now())

    submission = await state_of(mailbox, document.document_id)
    assert [(each.recipient, each.outcome) for each in submission.recipients] == [(SENDER, None), (MEMBER, "received")]


async def test_a_letter_that_comes_again_changes_nothing(mailbox):
    document = drawn()
    await mailbox.submit(document, now(), max_waiting=10)
    content = receipt(document.document_id)

    assert [await mailbox.note(letter(content), content, now()) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("known", "then", "replaced"),
    [
        (None, ("failed", 5), True),
        (("failed", 5), ("received", 4), True),
        (("failed", 5), ("failed", 6), True),
        (("failed", 5), ("failed", 4), False),
        (("expired", 5), ("received", 6), True),
        (("expired", 5), ("failed", 6), False),
        (("received", 5), ("failed", 6), False),
        (("received", 5), ("refused", 6), False),
        (("received", 5), ("expired", 6), False),
    ],
)
def test_an_outcome_is_replaced_only_by_what_says_more(known, then, replaced):
    assert says_more(*(known or (None, None)), *then) is replaced


def test_a_second_process_is_refused(tmp_path):
    with Mailbox(tmp_path / "mailbox.db"), pytest.raises(Unusable) as caught:
        Mailbox(tmp_path / "mailbox.db")

    assert caught.value.code.code == "A106"


KILLED = """
import asyncio, sys
from pathlib import Path
from adapters.mailbox import Mailbox
from tests.gateways import document_for, now

async def main(file):
    mailbox = Mailbox(Path(file))
    while True:
        document = document_for()
        await mailbox.keep(document, now())
        print(document.delivery_id, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_what_was_written_down_survives_kill_nine(tmp_path):
    file = tmp_path / "mailbox.db"
    promised = write_until_killed(file)

    with Mailbox(file) as mailbox:
        kept = [str(each.delivery_id) for each in await listed(mailbox)]
    assert promised == kept[: len(promised)]


def write_until_killed(file: Path) -> list[str]:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        promised = [process.stdout.readline() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        promised += [line for line in process.stdout if line.endswith(b"\n")]
    return [line.decode().strip() for line in promised]
