"""One agency and its platform against a real broker; the tests play the hub."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import aio_pika
import pytest

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.client import AgencyClient
from adapters.errors import NoQueue, NotConfirmed, NotTaken, RefusedByBroker, Unreachable, Unusable
from adapters.inbox_guard import InboxGuard
from adapters.trust import Trust
from schemas.addresses import DEAD, INTAKE, RECEIPTS, SUBMIT, agency_queue
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP, Envelope, read_envelope
from schemas.identifiers import delivery_id_of
from schemas.receipt import RECEIPT_TYP, Notice, Receipt, Staff, Status, read_receipt
from schemas.signing import Verified, identity, verify
from tests.hub_process import eventually
from tests.keys import agency_keys, make_certificate
from tests.played_hub import PASSWORD, PATIENCE_S, Axis, envelope, notice_to, now_s, open_axis, signed, status_to
from tests.services import Broker


@pytest.fixture
async def axis(vhost: Broker, tmp_path: Path) -> AsyncIterator[Axis]:
    async with open_axis(vhost, tmp_path) as axis:
        yield axis


@pytest.fixture
def guard(tmp_path: Path):
    with InboxGuard(tmp_path / "guard.db") as guard:
        yield guard


def client_of(axis: Axis, guard: InboxGuard, code: str | None = None, **options) -> AgencyClient:
    code = code or axis.agency
    return AgencyClient(axis.url(code), code, agency_keys(code).signer, Trust(axis.directory_file), guard, **options)


async def first(iterator):
    async with asyncio.timeout(PATIENCE_S):
        return await anext(iterator)


async def nothing_arrives(iterator, within_s: float = 0.5) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await anext(iterator)
    except TimeoutError:
        return True
    return False


async def test_a_submitted_document_lies_in_the_intake_queue_as_it_was_signed(axis, guard):
    async with client_of(axis, guard) as client:
        submitted = await client.submit(envelope(axis.agency, axis.sender))

    message = await axis.take(INTAKE)
    assert message.body == submitted.token
    assert message.correlation_id == submitted.document_id
    assert message.user_id == axis.agency
    assert message.routing_key == f"document.{axis.agency}"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_the_same_bytes_can_be_submitted_again(axis, guard):
    async with client_of(axis, guard) as client:
        submitted = await client.submit(envelope(axis.agency, axis.sender))
        again = await client.submit(submitted.token)

    first_message, second = await axis.take(INTAKE), await axis.take(INTAKE)
    assert again == submitted
    assert first_message.body == second.body
    assert first_message.message_id != second.message_id


async def test_many_submissions_at_once_are_all_confirmed(axis, guard):
    async with client_of(axis, guard) as client:
        submitted = await asyncio.gather(*(client.submit(envelope(axis.agency, axis.sender)) for _ in range(300)))

    assert len({each.document_id for each in submitted}) == 300
    assert await axis.waiting(INTAKE) == 300


async def test_a_document_is_handed_over_answered_and_acknowledged(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        delivery = await first(client.arrivals())
        assert isinstance(delivery, Delivery)
        assert (delivery.token, delivery.envelope.from_, delivery.interrupted) == (token, axis.sender, False)
        await client.receipt(delivery)

    receipt = await axis.take_receipt()
    assert (receipt.from_, receipt.via, receipt.to) == (axis.agency, None, axis.sender)
    assert [(answer.delivery_id, answer.outcome) for answer in receipt.answers] == [
        (delivery_id_of(identity(token), axis.agency), "received")
    ]
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_duplicate_gets_the_same_receipt_and_is_not_handed_over(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        async with await first(arrivals):
            pass
        original = await axis.take(RECEIPTS)
        await asyncio.sleep(1.1)  # into another second: the time of the receipt must stay
        await axis.deliver(token, axis.agency)
        assert await nothing_arrives(arrivals)

    repeated = await axis.take(RECEIPTS)
    assert identity(repeated.body) == identity(original.body)
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_duplicate_after_a_restart_is_not_handed_over_either(axis, tmp_path):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    with InboxGuard(tmp_path / "guard.db") as guard:
        async with client_of(axis, guard) as client, await first(client.deliveries()):
            pass

    await axis.deliver(token, axis.agency)
    with InboxGuard(tmp_path / "guard.db") as guard:
        async with client_of(axis, guard) as client:
            assert await nothing_arrives(client.arrivals())

    assert await axis.take_receipt() == await axis.take_receipt()
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_duplicates_that_come_together_are_answered_together(axis, tmp_path):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    with InboxGuard(tmp_path / "guard.db") as guard:
        async with client_of(axis, guard) as client, await first(client.deliveries()):
            pass

    await axis.deliver(token, axis.agency, times=5)
    with InboxGuard(tmp_path / "guard.db") as guard:
        async with client_of(axis, guard) as client:
            assert await nothing_arrives(client.arrivals())

    assert 2 <= await axis.waiting(RECEIPTS) <= 6
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_what_waits_is_opened_together_and_what_nobody_took_was_not_interrupted(axis, guard):
    for _ in range(5):
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with client_of(axis, guard) as client:
        in_hand = await first(client.deliveries())

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        again = [await first(deliveries) for _ in range(5)]

    assert {each.delivery_id for each in again if each.interrupted} == {in_hand.delivery_id}


async def test_a_step_that_is_cancelled_while_it_opens_loses_nothing(axis, guard, monkeypatch):
    for _ in range(5):
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    begin_all, may_go_on = guard.begin_all, asyncio.Event()

    async def slowly(*arguments, **options):
        await may_go_on.wait()
        return await begin_all(*arguments, **options)

    monkeypatch.setattr(guard, "begin_all", slowly)
    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        assert await nothing_arrives(deliveries)
        may_go_on.set()
        taken = [await first(deliveries) for _ in range(5)]

    assert len({each.delivery_id for each in taken}) == 5
    assert not any(each.interrupted for each in taken)


async def test_duplicates_of_a_document_in_hand_are_settled_with_it(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency, times=3)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        delivery = await first(arrivals)
        assert await nothing_arrives(arrivals)
        await client.receipt(delivery)

    assert await axis.is_empty(agency_queue(axis.agency))
    assert await axis.waiting(RECEIPTS) == 1


async def test_duplicates_that_many_tasks_take_at_once_are_all_acknowledged(axis, guard):
    """One that was left behind would hold its place in the prefetch until the connection ends."""
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    async with client_of(axis, guard) as client:
        async with await first(client.deliveries()):
            pass
        takers = [asyncio.create_task(nothing_arrives(client.arrivals(), within_s=3)) for _ in range(8)]
        await axis.deliver(token, axis.agency, times=100)
        assert all(await asyncio.gather(*takers))

    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_step_that_is_cancelled_while_a_duplicate_is_answered_ends_as_cancelled(axis, guard, monkeypatch):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    async with client_of(axis, guard) as client:
        async with await first(client.deliveries()):
            pass

        async def blocked(*_arguments, **_options) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(client._outbox, "send_receipts", blocked)
        await axis.deliver(token, axis.agency)
        assert await nothing_arrives(client.arrivals(), within_s=1)


async def test_what_is_settled_out_of_order_leaves_the_rest_in_the_queue(axis, guard):
    for _ in range(6):
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        taken = [await first(deliveries) for _ in range(6)]
        await client.receipts([taken[0], taken[1], taken[3]])  # all up to the second, and one behind a gap
        await client.receipt(taken[5])

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        again = {(await first(deliveries)).delivery_id for _ in range(2)}
        assert await nothing_arrives(deliveries)
    assert again == {taken[2].delivery_id, taken[4].delivery_id}


async def test_a_rejected_message_takes_none_of_its_neighbours_with_it(axis, guard):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    await axis.deliver(notice_to(axis.agency, agency_keys(axis.sender).signer), axis.agency)
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        taken = [await first(arrivals) for _ in range(3)]
        _, last = [each for each in taken if isinstance(each, Delivery)]
        await client.receipt(last)

    assert [type(each) for each in taken].count(Rejected) == 1
    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        assert (await first(deliveries)).interrupted
        assert await nothing_arrives(deliveries)


async def test_what_a_lost_connection_brought_does_not_pile_up_while_nobody_takes(axis, guard):
    """The broker hands all of it out again after each loss, to an application that may be busy for hours."""
    async with client_of(axis, guard, prefetch=5) as client:
        deliveries = client.deliveries()
        for _ in range(8):
            await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
        in_hand = await first(deliveries)
        for _ in range(3):
            await close_consumer(axis, axis.agency)
            await eventually(lambda: client._inbox._arrived.qsize() == 5, PATIENCE_S, client._inbox._arrived.qsize)
        await client.receipt(in_hand)
        for _ in range(7):
            async with await first(deliveries) as delivery:
                assert delivery.delivery_id != in_hand.delivery_id
        assert await nothing_arrives(deliveries)

    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_client_that_dies_before_its_answer_gets_the_document_again_marked_interrupted(axis, guard):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with client_of(axis, guard) as client:
        assert not (await first(client.deliveries())).interrupted

    async with client_of(axis, guard) as client:
        again = await first(client.deliveries())

    assert again.interrupted
    assert again.redelivered


async def test_a_failed_block_answers_failed_and_the_document_is_handed_over_again(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        with pytest.raises(ZeroDivisionError):
            async with await first(deliveries):
                raise ZeroDivisionError
        answer = (await axis.take_receipt()).answers[0]
        await axis.deliver(token, axis.agency)
        again = await first(deliveries)

    assert (answer.outcome, answer.code, answer.detail) == ("failed", "E807", "ZeroDivisionError")
    assert not again.interrupted


async def test_a_receipt_that_could_not_be_published_follows_by_itself(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    submit = await axis.channel.get_exchange(SUBMIT, ensure=False)
    receipts = await axis.channel.get_queue(RECEIPTS, ensure=False)
    async with client_of(axis, guard, publish_timeout_s=0.1) as client:
        arrivals = client.arrivals()
        await receipts.unbind(submit, "receipt.#")
        with pytest.raises(NotTaken):
            async with await first(arrivals):
                pass
        await receipts.bind(submit, "receipt.#")
        assert await nothing_arrives(arrivals, within_s=1)

    assert (await axis.take_receipt()).answers[0].outcome == "received"
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_block_that_was_cancelled_gets_the_document_again(axis, guard):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        delivery = await first(arrivals)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), delivery:
                await asyncio.sleep(60)
        async with await first(arrivals) as again:
            assert again.interrupted

    assert (await axis.take_receipt()).answers[0].outcome == "received"
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_refusal_inside_the_block_stands(axis, guard):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)

    async with client_of(axis, guard) as client, await first(client.deliveries()) as delivery:
        await client.receipt(delivery, "refused", code="02", detail="Sai thẩm quyền")

    answer = (await axis.take_receipt()).answers[0]
    assert (answer.outcome, answer.code, answer.detail) == ("refused", "02", "Sai thẩm quyền")
    assert await axis.waiting(RECEIPTS) == 0


async def test_several_documents_of_one_sender_are_answered_in_one_receipt(axis, guard):
    for _ in range(5):
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        batch = [await first(deliveries) for _ in range(5)]
        await client.receipts(batch)

    assert await axis.is_empty(agency_queue(axis.agency))
    receipt = await axis.take_receipt()
    assert {answer.delivery_id for answer in receipt.answers} == {delivery.delivery_id for delivery in batch}
    assert await axis.waiting(RECEIPTS) == 0


async def test_documents_of_several_senders_are_answered_in_one_message(axis, guard):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    await axis.deliver(signed(envelope(axis.other, axis.agency, via=axis.platform)), axis.agency)

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        batch = [await first(deliveries) for _ in range(2)]
        await client.receipts(batch)

    assert await axis.is_empty(agency_queue(axis.agency))
    message = await axis.take(RECEIPTS)
    tokens = message.body.split(b"\n")
    keys = Trust(axis.directory_file).view().keys
    receipts = [read_receipt(verify(token, typ=RECEIPT_TYP, keys=keys, now_s=now_s()).payload) for token in tokens]
    assert message.correlation_id == identity(tokens[0])
    assert {receipt.to: [answer.delivery_id for answer in receipt.answers] for receipt in receipts} == {
        delivery.envelope.from_: [delivery.delivery_id] for delivery in batch
    }
    assert await axis.waiting(RECEIPTS) == 0


async def test_receipts_may_be_sent_by_many_tasks_at_once(axis, guard):
    for _ in range(60):
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)

    async with client_of(axis, guard, prefetch=60) as client:
        deliveries = client.deliveries()
        batch = [await first(deliveries) for _ in range(60)]
        await asyncio.gather(*(client.receipt(delivery) for delivery in batch))
        await asyncio.sleep(1)  # a burst of acks that the broker still holds back comes again when the channel closes

    assert await axis.is_empty(agency_queue(axis.agency))
    assert await axis.waiting(RECEIPTS) == 60


@pytest.mark.parametrize(
    ("fault", "code"),
    [("unknown key", "E201"), ("garbage", "E102"), ("foreign key", "E401"), ("not ours", "E403"), ("expired", "E602")],
)
async def test_what_is_not_believed_is_answered_failed_and_not_handed_over(axis, guard, fault, code):
    good = envelope(axis.sender, axis.agency)
    token = {
        "unknown key": lambda: signed(good, make_certificate(axis.sender).signer),
        "garbage": lambda: b"rubbish",
        "foreign key": lambda: signed(good, agency_keys(axis.platform).signer),
        "not ours": lambda: signed(envelope(axis.sender, axis.other)),
        "expired": lambda: signed(envelope(axis.sender, axis.agency, now_s=now_s() - 100, lifetime_s=50)),
    }[fault]()
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        rejected = await first(client.arrivals())
        assert isinstance(rejected, Rejected)
        assert [problem.code for problem in rejected.problems] == [code]

    assert await axis.is_empty(agency_queue(axis.agency))
    receipt = await axis.take_receipt()
    assert receipt.to is None
    assert [(each.delivery_id, each.outcome, each.code) for each in receipt.answers] == [
        (rejected.delivery_id, "failed", code)
    ]


async def test_a_document_is_handed_over_once_its_certificate_is_in_the_directory(axis, guard):
    newcomer = make_certificate(axis.sender)
    token = signed(envelope(axis.sender, axis.agency), newcomer.signer)
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        assert isinstance(await first(arrivals), Rejected)
        file = DirectoryFile.model_validate_json(axis.directory_file.read_bytes())
        entries = (*file.certificates, newcomer.entry(axis.sender))
        axis.directory_file.write_bytes(file.model_copy(update={"certificates": entries}).to_json())
        await axis.deliver(token, axis.agency)

        assert isinstance(await first(arrivals), Delivery)


async def test_a_notice_arrives_once(axis, guard):
    token = notice_to(axis.agency)
    await axis.deliver(token, axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        async with await first(arrivals) as letter:
            assert isinstance(letter, Letter)
            assert isinstance(letter.content, Notice)
        await axis.deliver(token, axis.agency)
        assert await nothing_arrives(arrivals)

    assert await axis.is_empty(agency_queue(axis.agency))
    assert await axis.waiting(RECEIPTS) == 0


async def test_a_notice_that_is_not_the_hubs_is_put_aside(axis, guard):
    await axis.deliver(notice_to(axis.agency, agency_keys(axis.sender).signer), axis.agency)

    async with client_of(axis, guard) as client:
        rejected = await first(client.arrivals())
        assert isinstance(rejected, Rejected)
        assert [problem.code for problem in rejected.problems] == ["E401"]

    assert await axis.is_empty(agency_queue(axis.agency))
    assert await axis.waiting(RECEIPTS) == 0


async def test_letters_of_one_message_are_handed_over_one_by_one_and_acknowledged_when_all_are(axis, guard):
    letters = [status_to(axis.agency, axis.sender, status) for status in ("03", "04", "06")]
    await axis.deliver(notice_to(axis.agency), axis.agency)
    await axis.deliver(b"\n".join(letters), axis.agency)
    await axis.deliver(status_to(axis.agency, axis.sender, "05"), axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        taken = [await first(arrivals) for _ in range(5)]
        for letter in (taken[0], *taken[2:]):
            await client.acknowledge(letter)
    assert not await axis.is_empty(agency_queue(axis.agency))
    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        again = await first(arrivals)
        await client.acknowledge(again)
        assert await nothing_arrives(arrivals)

    assert [letter.content.status for letter in taken[1:]] == ["03", "04", "06", "05"]
    assert again.delivery_id == taken[1].delivery_id
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_answers_that_the_broker_does_not_take_leave_their_documents_open(axis, guard, monkeypatch):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    await axis.deliver(signed(envelope(axis.other, axis.agency, via=axis.platform)), axis.agency)

    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        batch = [await first(deliveries) for _ in range(2)]
        publish = client._outbox.publish

        async def once_in_vain(*_arguments) -> None:
            monkeypatch.setattr(client._outbox, "publish", publish)
            raise NotTaken("full", "đầy")

        monkeypatch.setattr(client._outbox, "publish", once_in_vain)
        with pytest.raises(NotTaken):
            await client.receipts(batch)
        assert await nothing_arrives(client.arrivals(), within_s=2)  # their receipts follow by themselves

    assert await axis.is_empty(agency_queue(axis.agency))
    receipts = [await axis.take_receipt(), await axis.take_receipt()]
    assert {receipt.answers[0].delivery_id for receipt in receipts} == {each.delivery_id for each in batch}


async def test_a_message_of_which_one_letter_is_put_aside_goes_back_when_the_others_are_read(axis, guard):
    """The axis sends each by itself then; what was read is known, and not handed over again."""
    strange = notice_to(axis.agency, agency_keys(axis.sender).signer)
    letters = [status_to(axis.agency, axis.sender, "03"), strange, status_to(axis.agency, axis.sender, "04")]
    await axis.deliver(b"\n".join(letters), axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        taken = [await first(arrivals) for _ in range(3)]
        right = [letter for letter in taken if isinstance(letter, Letter)]
        for letter in right:
            await client.acknowledge(letter)
        returned = await axis.take(DEAD)
        await axis.deliver(letters[0], axis.agency)
        assert await nothing_arrives(arrivals)

    assert returned.body == b"\n".join(letters)
    assert len(right) == 2
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_letter_that_comes_twice_in_one_message_is_handed_over_once(axis, guard):
    letter = status_to(axis.agency, axis.sender, "03")
    await axis.deliver(b"\n".join([letter, letter]), axis.agency)

    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        await client.acknowledge(await first(arrivals))
        assert await nothing_arrives(arrivals)

    assert await axis.is_empty(agency_queue(axis.agency))


async def test_waiting_for_letters_leaves_the_documents_in_the_queue(axis, guard):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    await axis.deliver(notice_to(axis.agency), axis.agency)

    async with client_of(axis, guard) as client, await first(client.letters()):
        pass
    async with client_of(axis, guard) as client:
        delivery = await first(client.deliveries())

    assert not delivery.interrupted


async def test_a_platform_receives_and_answers_for_its_agency(axis, guard):
    token = signed(envelope(axis.sender, axis.other))
    await axis.deliver(token, axis.other)

    async with client_of(axis, guard, axis.platform) as client, await first(client.deliveries()) as delivery:
        assert delivery.recipient == axis.other

    message = await axis.take(RECEIPTS)
    assert (message.user_id, message.routing_key) == (axis.platform, f"receipt.{axis.platform}")
    verified = verify(message.body, typ=RECEIPT_TYP, keys=Trust(axis.directory_file).view().keys, now_s=now_s())
    assert isinstance(verified, Verified)
    receipt = read_receipt(verified.payload)
    assert isinstance(receipt, Receipt)
    assert (receipt.from_, receipt.via) == (axis.other, axis.platform)


async def test_a_platform_submits_for_its_agency(axis, guard):
    async with client_of(axis, guard, axis.platform) as client:
        await client.submit(envelope(axis.other, axis.agency, via=axis.platform))

    assert (await axis.take(INTAKE)).user_id == axis.platform


async def test_a_wrong_password_is_refused_at_once(axis, guard):
    keys = agency_keys(axis.agency)
    url = axis.url(axis.agency, "wrong")
    async with AgencyClient(url, axis.agency, keys.signer, Trust(axis.directory_file), guard) as client:
        with pytest.raises(RefusedByBroker) as caught:
            await client.submit(envelope(axis.agency, axis.sender))
        with pytest.raises(RefusedByBroker):
            await first(client.arrivals())

    assert caught.value.token is not None
    assert PASSWORD not in str(caught.value)


async def test_a_missing_permission_is_refused_at_once(axis, guard):
    place = f"{quote(axis.broker.vhost, safe='')}/{quote(axis.agency)}"
    nothing = {"configure": "^$", "write": "^$", "read": "^$"}
    await asyncio.to_thread(axis.broker.manage, "PUT", f"/permissions/{place}", nothing)

    async with client_of(axis, guard) as client:
        with pytest.raises(RefusedByBroker, match=r"truc\.submit"):
            await client.submit(envelope(axis.agency, axis.sender))
        with pytest.raises(RefusedByBroker, match=r"truc\.agency"):
            await first(client.arrivals())


async def test_an_agency_without_a_queue_is_told_so(axis, guard):
    await axis.channel.queue_delete(agency_queue(axis.agency))

    async with client_of(axis, guard) as client:
        with pytest.raises(NoQueue):
            await first(client.arrivals())


async def test_an_axis_without_an_intake_queue_does_not_take(axis, guard):
    await axis.channel.queue_delete(INTAKE)

    async with client_of(axis, guard) as client:
        with pytest.raises(NotTaken) as caught:
            await client.submit(envelope(axis.agency, axis.sender), timeout_s=1)

    assert caught.value.code.code == "E801"


async def test_a_full_intake_queue_does_not_take_until_there_is_room(axis, guard):
    await axis.channel.queue_delete(INTAKE)
    arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 1}
    intake = await axis.channel.declare_queue(INTAKE, durable=True, arguments=arguments)
    await intake.bind(SUBMIT, "document.#")

    async with client_of(axis, guard) as client:
        with pytest.raises(NotTaken) as caught:
            await submit_until_it_is_full(client, envelope(axis.agency, axis.sender))
        assert caught.value.code.code == "E802"
        assert caught.value.token is not None
        later = asyncio.create_task(client.submit(caught.value.token))
        await asyncio.sleep(0.5)
        await intake.purge()
        await later


async def submit_until_it_is_full(client: AgencyClient, document: Envelope) -> None:
    for _ in range(50):  # a quorum queue takes a few more than it should
        await client.submit(document, timeout_s=0.1)


async def test_a_broker_that_is_not_there_is_unreachable(axis, guard):
    keys = agency_keys(axis.agency)
    url = f"amqp://{axis.agency}:x@127.0.0.1:1/"
    async with AgencyClient(url, axis.agency, keys.signer, Trust(axis.directory_file), guard) as client:
        with pytest.raises(Unreachable) as caught:
            await client.submit(envelope(axis.agency, axis.sender), timeout_s=0.5)

    assert caught.value.token is not None


async def test_the_user_of_the_url_is_the_party(axis, guard):
    keys = agency_keys(axis.agency)
    with pytest.raises(Unusable, match="A101"):
        AgencyClient(axis.url(axis.sender), axis.agency, keys.signer, Trust(axis.directory_file), guard)


async def test_a_closed_client_ends_the_iteration(axis, guard):
    async with client_of(axis, guard) as client:
        waiting = asyncio.create_task(anext(client.arrivals(), None))
        await asyncio.sleep(0.3)

    assert await waiting is None


async def test_both_ways_go_on_after_the_broker_has_closed_every_connection(axis, guard):
    async with client_of(axis, guard) as client:
        deliveries = client.deliveries()
        await client.submit(envelope(axis.agency, axis.sender))
        token = signed(envelope(axis.sender, axis.agency))
        await axis.deliver(token, axis.agency)
        in_hand = await first(deliveries)

        assert await close_connections(axis, axis.agency) == 2
        submitted = await client.submit(envelope(axis.agency, axis.sender))
        await client.receipt(in_hand)
        assert await nothing_arrives(deliveries, within_s=1)
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
        async with await first(deliveries) as fresh:
            pass

    assert await axis.is_empty(agency_queue(axis.agency))
    assert fresh.delivery_id != in_hand.delivery_id
    assert (await axis.take(INTAKE)).body != submitted.token
    assert (await axis.take(INTAKE)).body == submitted.token


async def close_consumer(axis: Axis, user: str) -> None:
    """Close the one connection of a client that has not published yet, and wait until the broker has forgotten it."""
    await eventually(lambda: connections_of(axis, user), PATIENCE_S, pause_s=0.3)
    [name] = await connections_of(axis, user)
    await asyncio.to_thread(axis.broker.manage, "DELETE", f"/connections/{quote(name, safe='')}")

    async def is_forgotten() -> bool:
        return name not in await connections_of(axis, user)

    await eventually(is_forgotten, PATIENCE_S, pause_s=0.3)


async def connections_of(axis: Axis, user: str) -> list[str]:
    found = await asyncio.to_thread(axis.broker.manage, "GET", "/connections")
    return [each["name"] for each in found if each.get("user") == user]


async def close_connections(axis: Axis, user: str) -> int:
    """Close the connections of a user; the management API learns of them with a delay."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await asyncio.to_thread(axis.broker.manage, "GET", "/connections")
            names = [each["name"] for each in found if each.get("user") == user]
            if len(names) >= 2:
                break
            await asyncio.sleep(0.3)
    for name in names:
        await asyncio.to_thread(axis.broker.manage, "DELETE", f"/connections/{quote(name, safe='')}")
    return len(names)


@asynccontextmanager
async def stopped(pid: int) -> AsyncIterator[None]:
    """Stop a process; its threads stop when their turn comes, which on busy cores may be after they have answered."""

    def every_thread_has() -> bool:
        states = set()
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # The thread has ended meanwhile.
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return states == {"T"}

    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(every_thread_has, 20)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_broker_that_stops_answering_leaves_a_doubt_that_the_same_bytes_resolve(own_rabbitmq, tmp_path, guard):
    broker = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    async with open_axis(broker, tmp_path) as axis, client_of(axis, guard, confirm_timeout_s=1) as client:
        await client.submit(envelope(axis.agency, axis.sender))
        async with stopped(own_rabbitmq.pid):
            with pytest.raises(NotConfirmed) as caught:
                await client.submit(envelope(axis.agency, axis.sender), timeout_s=3)
        assert caught.value.token is not None
        again = await client.submit(caught.value.token)

        assert again.document_id == caught.value.document_id
        await axis.take(INTAKE)
        assert (await axis.take(INTAKE)).body == again.token


async def test_both_ways_survive_the_death_and_return_of_the_broker(own_rabbitmq, tmp_path, guard):
    broker = Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url)
    async with open_axis(broker, tmp_path) as axis, client_of(axis, guard) as client:
        deliveries = client.deliveries()
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
        in_hand = await first(deliveries)
        await asyncio.to_thread(own_rabbitmq.kill)
        submitting = asyncio.create_task(client.submit(envelope(axis.agency, axis.sender)))
        answering = asyncio.create_task(client.receipt(in_hand))
        await asyncio.sleep(1)
        await asyncio.to_thread(own_rabbitmq.start)
        submitted = await submitting
        await answering

        connection = await aio_pika.connect(broker.amqp_url)
        axis.channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        assert (await axis.take(INTAKE)).body == submitted.token
        assert [each.delivery_id for each in (await axis.take_receipt()).answers] == [in_hand.delivery_id]
        await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
        async with await first(deliveries) as fresh:
            assert fresh.delivery_id != in_hand.delivery_id
        await connection.close()


async def test_a_status_lies_in_the_queue_of_the_answers_as_it_was_set(axis, guard):
    async with client_of(axis, guard) as client:
        await client.status(
            document="ab" * 32, to=axis.sender, status="02", detail="Gửi nhầm", staff=Staff(name="Lê Thị B")
        )

    status = await axis.take_status()
    assert (status.from_, status.via, status.to) == (axis.agency, None, axis.sender)
    assert (status.document, status.status, status.detail) == ("ab" * 32, "02", "Gửi nhầm")
    assert status.staff == Staff(name="Lê Thị B")


async def test_a_platform_sets_the_status_of_its_agency(axis, guard):
    async with client_of(axis, guard, axis.platform) as client:
        await client.status(document="ab" * 32, to=axis.sender, status="01", from_=axis.other)

    status = await axis.take_status()
    assert (status.from_, status.via) == (axis.other, axis.platform)


@pytest.mark.parametrize(
    ("code", "wrong"),
    [("agency", {"status": "02"}), ("agency", {"status": "07"}), ("platform", {"status": "01"})],
    ids=["no reason", "no such status", "platform that names no agency"],
)
async def test_a_status_that_does_not_fit_is_not_sent(axis, guard, code, wrong):
    async with client_of(axis, guard, getattr(axis, code)) as client:
        with pytest.raises(ValueError, match="validation error"):
            await client.status(document="ab" * 32, to=axis.sender, **wrong)

    assert await axis.waiting(RECEIPTS) == 0


@pytest.mark.parametrize("action", ["revoke", "update", "replace"])
@pytest.mark.parametrize("via_platform", [False, True], ids=["agency", "platform"])
async def test_a_document_about_an_earlier_one_names_it(axis, guard, action, via_platform):
    code, from_ = (axis.platform, axis.other) if via_platform else (axis.agency, None)
    earlier = ["ab" * 32] if action == "replace" else "ab" * 32
    async with client_of(axis, guard, code) as client:
        doc = envelope(axis.agency, axis.sender).doc
        submitted = await getattr(client, action)(earlier, to=(axis.sender,), doc=doc, from_=from_)

    message = await axis.take(INTAKE)
    assert message.body == submitted.token
    verified = verify(message.body, typ=ENVELOPE_TYP, keys=Trust(axis.directory_file).view().keys, now_s=now_s())
    assert isinstance(verified, Verified)
    read = read_envelope(verified.payload)
    assert isinstance(read, Envelope)
    assert (read.action, read.ref, read.to) == (action, ("ab" * 32,), (axis.sender,))
    assert (read.from_, read.via) == ((axis.other, axis.platform) if via_platform else (axis.agency, None))


async def test_a_status_arrives_as_a_letter_and_once(axis, guard):
    token = status_to(axis.agency, axis.sender, "13")
    await axis.deliver(token, axis.agency)
    async with client_of(axis, guard) as client:
        arrivals = client.arrivals()
        letter = await first(arrivals)
        assert isinstance(letter, Letter)
        assert isinstance(letter.content, Status)
        assert (letter.content.status, letter.content.from_, letter.token) == ("13", axis.sender, token)
        await client.acknowledge(letter)
        await axis.deliver(token, axis.agency)
        assert await nothing_arrives(arrivals)
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_a_status_that_another_has_signed_is_not_believed(axis, guard):
    await axis.deliver(status_to(axis.agency, axis.sender, signer=agency_keys("hub").signer), axis.agency)
    async with client_of(axis, guard) as client:
        rejected = await first(client.arrivals())

    assert isinstance(rejected, Rejected)
    assert [problem.code for problem in rejected.problems] == ["E401"]
