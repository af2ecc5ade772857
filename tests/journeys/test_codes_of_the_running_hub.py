"""The codes that no example can show, because only a running hub meets them: repetition, delivery, the hub itself.

Each is provoked for real, read as an operator or a sender would read it, and mended where mending is the point.
"""

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika

from hub.installation import Installation
from schemas.addresses import INTAKE, SUBMIT, agency_queue, submit_key, tier_exchange
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import sign
from tests.agencies import COMMUNE, MINISTRY, PROVINCE, RECIPIENTS, Agencies, document, facts
from tests.command_line import traced, truc, truc_json
from tests.faults.proxy import Proxy
from tests.hub_process import HubProcess, eventually
from tests.services import Broker, ask_sql


def now_s() -> int:
    return int(time.time())


async def deliveries_of(installation: Installation, document_id: DocumentId) -> dict[str, Any]:
    """What `truc trace` says about each recipient."""
    found = await traced(installation, document_id)
    return {row["delivery"]["recipient"]: row for row in found["deliveries"]}


async def code_appears(
    installation: Installation, document_id: DocumentId, recipient: str, code: str, timeout_s: float = 20
) -> dict[str, Any]:
    """Wait until the trace of a delivery has an event with this code; returns the delivery then."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update((await deliveries_of(installation, document_id))[recipient])
        return code in [event["code"] for event in seen["events"]]

    await eventually(looked, timeout_s, lambda: seen, pause_s=0.3)
    return seen


def codes_in_notices(agencies: Agencies, code: str = MINISTRY) -> list[str]:
    return [problem.code for notice in agencies.notices.get(code, []) for problem in notice.problems]


async def test_e603_an_id_is_used_again_for_other_bytes(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    client = agencies.clients[MINISTRY]
    first = document(now_s())
    sent = await client.submit(first)
    await agencies.everyone_has([sent.document_id], 20)
    other = first.model_copy(update={"doc": first.doc.model_copy(update={"subject": "Nội dung khác"})})
    refused = await client.submit(other)
    await eventually(lambda: codes_in_notices(agencies) == ["E603"], 20, agencies.notices)
    found = await traced(installation, refused.document_id)
    assert (found["type"], found["code"], found["diagnosis"]["acts"]) == ("refusal", "E603", "sender")


async def test_e410_a_document_recalls_what_its_sender_never_sent(hub: HubProcess, agencies: Agencies) -> None:
    foreign = await agencies.clients[PROVINCE].submit(document(now_s(), to=(COMMUNE,), from_=PROVINCE))
    await agencies.everyone_has([foreign.document_id], 20, recipients=(COMMUNE,))
    client = agencies.clients[MINISTRY]
    await client.revoke(foreign.document_id, to=(COMMUNE,), doc=facts())
    await eventually(lambda: codes_in_notices(agencies) == ["E410"], 20, agencies.notices)
    (notice,) = agencies.notices[MINISTRY]
    assert notice.problems[0].pointer == "/ref/0"


async def test_e411_a_status_is_about_somebody_elses_document(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    sent = await agencies.clients[MINISTRY].submit(document(now_s(), to=(COMMUNE,)))
    await agencies.everyone_has([sent.document_id], 20, recipients=(COMMUNE,))
    await agencies.clients[PROVINCE].status(document=sent.document_id, to=AgencyCode(MINISTRY), status="03")
    await eventually(lambda: codes_in_notices(agencies, PROVINCE) == ["E411"], 20, agencies.notices)
    assert MINISTRY not in agencies.statuses
    (dead,) = (await truc_json(installation, "dead", "list"))["dead"]
    assert (dead["code"], dead["agency"]) == ("E411", PROVINCE)


async def test_n604_the_same_bytes_come_again(hub: HubProcess, agencies: Agencies, installation: Installation) -> None:
    client = agencies.clients[MINISTRY]
    sent = await client.submit(document(now_s()))
    await agencies.everyone_has([sent.document_id], 20)
    await client.submit(sent.token)

    async def noted() -> bool:
        found = await traced(installation, sent.document_id)
        return "N604" in [event["code"] for event in found["events"]]

    await eventually(noted, 20, pause_s=0.3)
    assert set(agencies.handed_over.values()) == {1}


async def test_a_refused_document_that_comes_again_gets_the_first_answer_again(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    client = agencies.clients[MINISTRY]
    refused = await client.submit(document(now_s(), to=("H99",)))
    await eventually(lambda: codes_in_notices(agencies) == ["E404"], 20, agencies.notices)
    await client.submit(refused.token)

    async def repeated() -> bool:
        rows = await ask_sql(
            installation.settings["database_url"], "SELECT FROM ledger WHERE event = 'delivery.repeated'"
        )
        return len(rows) == 1

    await eventually(repeated, 20, pause_s=0.3)
    assert codes_in_notices(agencies) == ["E404"]  # the guard knows the notice


async def test_e801_a_binding_is_missing_and_the_other_recipients_do_not_notice(
    hub: HubProcess, agencies: Agencies, installation: Installation, vhost: Broker
) -> None:
    exchange, queue = tier_exchange("commune"), agency_queue(COMMUNE)
    vhost.manage("DELETE", f"/bindings/{vhost.vhost}/e/{exchange}/q/{queue}/{COMMUNE}")
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    await agencies.everyone_has([sent.document_id], 20, recipients=[code for code in RECIPIENTS if code != COMMUNE])
    delivery = await code_appears(installation, sent.document_id, COMMUNE, "E801")
    assert (delivery["diagnosis"]["acts"], delivery["diagnosis"]["hub_retries"]) == ("operator", True)
    assert "delivery.unroutable" in hub.log()

    drift = await truc_json(installation, "broker", "drift", expect=1)
    assert len(drift["missing"]) == 1
    await truc(installation, "broker", "apply", expect=1)  # nobody is there to agree
    assert (await truc_json(installation, "broker", "plan"))["steps"] == drift["missing"]
    await truc(installation, "broker", "apply", "--yes")
    assert (await truc_json(installation, "broker", "plan"))["steps"] == []
    await agencies.everyone_has([sent.document_id], 30)


async def test_e802_a_queue_is_full(
    hub: HubProcess, agencies: Agencies, installation: Installation, vhost: Broker
) -> None:
    agencies.mute.add(COMMUNE)
    policy = {
        "pattern": "^" + agency_queue(COMMUNE).replace(".", "\\.") + "$",
        "definition": {"max-length": 1, "overflow": "reject-publish"},
        "priority": 9,
        "apply-to": "queues",
    }
    vhost.manage("PUT", f"/policies/{vhost.vhost}/tiny", policy)
    await asyncio.sleep(1)
    client = agencies.clients[MINISTRY]
    sent = [await client.submit(document(now_s(), number, to=(COMMUNE,))) for number in range(80)]

    async def some_code() -> bool:
        url = installation.settings["database_url"]
        return bool(await ask_sql(url, "SELECT FROM ledger WHERE code = 'E802'"))

    await eventually(some_code, 30, pause_s=0.5)
    # After several of them in a row the rest is held, and nobody knocks in vain any more.
    await code_appears(installation, sent[-1].document_id, COMMUNE, "E811")
    vhost.manage("DELETE", f"/policies/{vhost.vhost}/tiny")
    await _come_back(agencies, COMMUNE)
    await agencies.everyone_has([item.document_id for item in sent], 60, recipients=(COMMUNE,))


async def _come_back(agencies: Agencies, code: str) -> None:
    """Let a mute agency be restarted: what it held and never answered is handed out again."""
    agencies.mute.discard(code)
    await agencies.restart(code)


async def test_e803_the_broker_does_not_say_whether_it_took_a_message(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    async with Proxy(installation.settings["amqp_url"]) as proxy:
        hub = HubProcess(
            installation,
            tmp_path / "hub.log",
            amqp_url=proxy.url,
            confirm_timeout_s=1,
            receipt_deadline_s=5,
            retry_delay_s=0.5,
        ).start()
        try:
            await hub.ready()
            proxy.hole = "confirms"
            sent = await agencies.clients[MINISTRY].submit(document(now_s()))
            delivery = await code_appears(installation, sent.document_id, PROVINCE, "E803")
            assert delivery["delivery"]["attempts"] == 0
            proxy.hole = "nothing"
            await agencies.everyone_has([sent.document_id], 30)
        finally:
            hub.end()
    assert set(agencies.handed_over.values()) == {1}


async def test_e804_no_receipt_comes_in_time(hub: HubProcess, agencies: Agencies, installation: Installation) -> None:
    agencies.mute.add(PROVINCE)
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    delivery = await code_appears(installation, sent.document_id, PROVINCE, "E804", 30)
    assert delivery["diagnosis"]["hub_retries"] or delivery["delivery"]["state"] == "routed"
    await _come_back(agencies, PROVINCE)
    await agencies.everyone_has([sent.document_id], 30)


async def test_e805_a_recipients_software_gives_a_document_back(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    """A plain AMQP consumer that rejects, in the place of the adapter."""
    await agencies.leave(PROVINCE)
    connection = await aio_pika.connect(installation.accounts[PROVINCE].amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(agency_queue(PROVINCE), ensure=False)
        sent = await agencies.clients[MINISTRY].submit(document(now_s()))
        rejected = asyncio.Event()

        async def reject(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.reject(requeue=False)
            rejected.set()

        await queue.consume(reject)
        await asyncio.wait_for(rejected.wait(), 20)
        delivery = await code_appears(installation, sent.document_id, PROVINCE, "E805")
        assert delivery["delivery"]["state"] in ("pending", "routed")
    await agencies.restart(PROVINCE)
    await agencies.everyone_has([sent.document_id], 40)


async def test_e806_the_broker_closes_the_channel_over_a_message(
    hub: HubProcess, agencies: Agencies, installation: Installation, vhost: Broker
) -> None:
    """The exchange of a tier is gone: its deliveries wait, those of the other tiers do not."""
    vhost.manage("DELETE", f"/exchanges/{vhost.vhost}/{tier_exchange('commune')}")
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    await agencies.everyone_has([sent.document_id], 20, recipients=[code for code in RECIPIENTS if code != COMMUNE])
    delivery = await code_appears(installation, sent.document_id, COMMUNE, "E806")
    assert delivery["diagnosis"]["acts"] == "operator"
    await truc(installation, "broker", "apply", "--yes")
    await agencies.everyone_has([sent.document_id], 30)


async def test_e807_a_recipient_cannot_process_a_document_for_now(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.failing[PROVINCE] = 2
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    await code_appears(installation, sent.document_id, PROVINCE, "E807")
    await agencies.everyone_has([sent.document_id], 30)
    assert [answer.outcome for receipt in agencies.receipts[MINISTRY] for answer in receipt.answers].count("failed")


async def test_e808_a_recipient_refuses_a_document_for_good(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.refusing.add(PROVINCE)
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    delivery = await code_appears(installation, sent.document_id, PROVINCE, "E808")
    assert (delivery["delivery"]["state"], delivery["diagnosis"]["acts"]) == ("dead", "sender")
    (letter,) = (await truc_json(installation, "dead", "list"))["dead"]
    assert (letter["code"], letter["agency"], letter["document_id"]) == ("E808", PROVINCE, sent.document_id)
    await agencies.all_receipts_are_back(1, 20)
    assert "refused" in [answer.outcome for receipt in agencies.receipts[MINISTRY] for answer in receipt.answers]
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e809_the_lifetime_ends_before_the_recipient_answers(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.mute.add(PROVINCE)
    sent = await agencies.clients[MINISTRY].submit(document(now_s(), lifetime_s=10))
    await eventually(lambda: codes_in_notices(agencies) == ["N605", "E809"], 30, lambda: agencies.notices)
    _, notice = agencies.notices[MINISTRY]
    assert (notice.kind, notice.recipient, notice.document) == ("expired", PROVINCE, sent.document_id)
    assert (await deliveries_of(installation, sent.document_id))[PROVINCE]["delivery"]["state"] == "expired"
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e409_a_receipt_for_a_delivery_of_somebody_else_changes_nothing(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.mute.add(PROVINCE)
    sent = await agencies.clients[MINISTRY].submit(document(now_s()))
    await agencies.everyone_has([sent.document_id], 20, recipients=[COMMUNE])
    stolen = Answer(delivery=str(delivery_id_of(sent.document_id, PROVINCE)), outcome="received", at=now_s())
    receipt = Receipt(from_=COMMUNE, to=MINISTRY, answers=(stolen,))
    signer = agencies.signers[COMMUNE]
    token = sign(receipt.to_json(), typ=RECEIPT_TYP, signer=signer, now_s=now_s())
    await publish(installation.accounts[COMMUNE].amqp_url, submit_key("receipt", COMMUNE), token, COMMUNE)

    async def parked() -> bool:
        return [letter["code"] for letter in (await truc_json(installation, "dead", "list"))["dead"]] == ["E409"]

    await eventually(parked, 20, pause_s=0.3)
    assert (await deliveries_of(installation, sent.document_id))[PROVINCE]["delivery"]["state"] == "routed"
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e903_a_submission_that_is_taken_and_never_settled_is_put_aside(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    """Something kills every process that takes it; after twenty times the broker puts it aside, and the queue goes on."""
    account = installation.accounts[MINISTRY]
    await publish(account.amqp_url, submit_key("document", MINISTRY), b"poison", MINISTRY)
    for _ in range(21):
        connection = await aio_pika.connect(installation.settings["amqp_url"])
        channel = await connection.channel()
        queue = await channel.get_queue(INTAKE, ensure=False)
        message = await queue.get(fail=False, timeout=5)
        await connection.close()
        if message is None:
            break
    hub = HubProcess(installation, tmp_path / "hub.log").start()
    try:
        await hub.ready()

        async def parked() -> bool:
            return [letter["code"] for letter in (await truc_json(installation, "dead", "list"))["dead"]] == ["E903"]

        await eventually(parked, 20, pause_s=0.3)
        sent = await agencies.clients[MINISTRY].submit(document(now_s()))
        await agencies.everyone_has([sent.document_id], 20)
    finally:
        hub.end()


async def test_poison_never_blocks_the_queue_and_a_person_can_see_it(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    """Garbage, 10 MB, and a huge claim among good documents: each parked with its reason, the good ones arrive."""
    account = installation.accounts[MINISTRY]
    client = agencies.clients[MINISTRY]
    key = submit_key("document", MINISTRY)
    good = [await client.submit(document(now_s(), 1))]
    for body in (b"", b"\x00" * 100, b"a.b", b"x" * 10_000_000, b"eyJ9.e30.AA"):
        await publish(account.amqp_url, key, body, MINISTRY)
    await publish(account.amqp_url, key, b"nobody vouches for the user", None)
    good.append(await client.submit(document(now_s(), 2)))
    await agencies.everyone_has([item.document_id for item in good], 30)

    async def all_parked() -> bool:
        return len((await truc_json(installation, "dead", "list"))["dead"]) == 6

    await eventually(all_parked, 20, pause_s=0.3)
    letters = (await truc_json(installation, "dead", "list"))["dead"]
    assert sorted(letter["code"] for letter in letters) == ["E101", "E102", "E102", "E102", "E104", "E403"]
    big = next(letter for letter in letters if letter["code"] == "E101")
    opened = await truc_json(installation, "dead", "show", big["id"])
    assert opened["body_length"] == 10_000_000
    # The connection's own user is told; about the one without a user nobody is.
    await eventually(lambda: len(codes_in_notices(agencies)) == 5, 20, agencies.notices)


async def publish(amqp_url: str, key: str, body: bytes, user: str | None) -> None:
    """Publish bytes as a program without our client would."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(SUBMIT, ensure=False)
        message = aio_pika.Message(body, user_id=user, message_id=quote(key) + str(time.time_ns()), delivery_mode=2)
        await exchange.publish(message, key, mandatory=True)
