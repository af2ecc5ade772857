"""Recipients that misbehave, and a broker that loses what they gave back: nothing is lost, nothing handed over twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika

from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation
from schemas.addresses import DEAD, SUBMIT, agency_queue, submit_key
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import sign
from tests.agencies import COMMUNE, MINISTRY, PROVINCE, Agencies, document
from tests.command_line import traced, truc_json
from tests.faults.conftest import Traffic, audit, waiting
from tests.hub_process import HubProcess, eventually
from tests.services import Broker, ask_sql

QUICK = {"receipt_deadline_s": 3, "retry_delay_s": 0.5, "breaker_failures": 3, "probe_delay_s": 2, "drain_pause_s": 0.2}


@asynccontextmanager
async def running(installation: Installation, log: Path, *loops: str, **settings: Any) -> AsyncIterator[HubProcess]:
    hub = HubProcess(installation, log, *loops, **(QUICK | settings)).start()
    try:
        yield await hub.ready()
    finally:
        hub.end()


@asynccontextmanager
async def plain_consumer(installation: Installation, how: str, code: str = PROVINCE) -> AsyncIterator[list[bytes]]:
    """Software that knows AMQP and nothing of receipts, in the place of the adapter of an agency."""
    taken: list[bytes] = []
    connection = await aio_pika.connect(installation.accounts[AgencyCode(code)].amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(agency_queue(code), ensure=False)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            taken.append(message.body)
            await (message.ack() if how == "ack" else message.reject(requeue=False))

        await queue.consume(take)
        yield taken


async def submit(agencies: Agencies, count: int, *to: str, first: int = 0) -> list[DocumentId]:
    client = agencies.clients[MINISTRY]
    numbers = range(first, first + count)
    sent = [await client.submit(document(int(time.time()), number, to=to)) for number in numbers]
    return [item.document_id for item in sent]


async def deliveries(installation: Installation, recipient: str) -> dict[str, int]:
    rows = await ask_sql(
        installation.settings["database_url"],
        f"SELECT state, count(*) AS number FROM deliveries WHERE recipient = '{recipient}' "
        "AND typ = 'truc.document.v1' GROUP BY state",
    )
    return {row["state"]: row["number"] for row in rows}


async def events(installation: Installation, event: str) -> int:
    rows = await ask_sql(installation.settings["database_url"], f"SELECT FROM ledger WHERE event = '{event}'")
    return len(rows)


async def test_a_recipient_acknowledges_and_never_answers(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    """It is silent, so its documents are held; when its adapter is back, it gets all of them, those it took before too."""
    await agencies.leave(PROVINCE)
    async with running(installation, tmp_path / "hub.log") as hub:
        async with plain_consumer(installation, "ack") as taken:
            first = await submit(agencies, 4, PROVINCE, COMMUNE)
            await eventually(lambda: len(taken) >= 4, 20, taken)

            async def silent() -> bool:
                found = (await truc_json(installation, "hold"))["recipients"]
                return [item["recipient"] for item in found if item["silent_since"]] == [PROVINCE]

            await eventually(silent, 40, hub.log, pause_s=0.5)
            second = await submit(agencies, 4, PROVINCE, COMMUNE, first=4)
            await agencies.everyone_has(first + second, 20, recipients=(COMMUNE,))
            assert (await deliveries(installation, PROVINCE)).get("received", 0) == 0
        await agencies.restart(PROVINCE)
        await agencies.everyone_has(first + second, 60, recipients=(PROVINCE,))
        await agencies.all_receipts_are_back(8, 30, each=2)
    assert set(agencies.handed_over.values()) == {1}
    assert (await audit(installation))["clean"]


async def test_what_was_given_back_is_lost_with_the_dead_letter_queue(
    installation: Installation, agencies: Agencies, vhost: Broker, tmp_path: Path
) -> None:
    """Nobody has read `truc.dead`, and its contents are deleted: the ledger still knows what is owed."""
    await agencies.leave(PROVINCE)
    loops = ("intake", "dispatch", "receipts", "reconcile")
    async with running(installation, tmp_path / "hub.log", *loops):
        async with plain_consumer(installation, "reject") as taken:
            sent = await submit(agencies, 6, PROVINCE, COMMUNE)
            await eventually(lambda: len(taken) >= 6, 20, taken)
        await eventually(lambda: waiting(installation, DEAD, 6), 20)
        vhost.manage("DELETE", f"/queues/{vhost.vhost}/{quote(DEAD, safe='')}/contents")
        await agencies.restart(PROVINCE)
        await agencies.everyone_has(sent, 60, recipients=(PROVINCE, COMMUNE))
        assert await events(installation, "delivery.returned") == 0
        assert await events(installation, "delivery.overdue") >= 6
    assert set(agencies.handed_over.values()) == {1}
    assert (await audit(installation))["clean"]


async def test_what_is_given_back_again_and_again_needs_a_person_and_says_how_often(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    await agencies.leave(PROVINCE)
    settings = {"max_attempts": 3, "breaker_failures": 100}
    async with running(installation, tmp_path / "hub.log", **settings), plain_consumer(installation, "reject"):
        (sent,) = await submit(agencies, 1, PROVINCE, COMMUNE)

        async def dead() -> bool:
            return await deliveries(installation, PROVINCE) == {"dead": 1}

        await eventually(dead, 30, pause_s=0.3)
        found = await traced(installation, sent)
        row = next(item for item in found["deliveries"] if item["delivery"]["recipient"] == PROVINCE)
        assert "đã lấy 3 lần nhưng không xử lý được (rejected)" in row["diagnosis"]["vi"]
        assert [event["detail"] for event in row["events"] if event["event"] == "delivery.returned"] == [
            {"reason": "rejected"}
        ] * 3
    assert (await audit(installation))["clean"]


async def test_receipts_come_twice_late_and_for_others(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    """Only the recipient's own first answer counts; a recipient is not well because somebody else says so."""
    agencies.mute.add(PROVINCE)
    async with running(installation, tmp_path / "hub.log") as hub:
        sent = await submit(agencies, 4, PROVINCE, COMMUNE)

        async def held() -> bool:
            return "held" in await deliveries(installation, PROVINCE)

        await eventually(held, 40, hub.log, pause_s=0.3)
        connection = await aio_pika.connect(installation.accounts[COMMUNE].amqp_url)
        async with connection:
            exchange = await (await connection.channel()).get_exchange(SUBMIT, ensure=False)

            async def say(about: str) -> None:
                answers = tuple(
                    Answer(delivery=str(delivery_id_of(item, about)), outcome="received", at=int(time.time()))
                    for item in sent
                )
                receipt = Receipt(from_=COMMUNE, to=MINISTRY, answers=answers)
                token = sign(
                    receipt.to_json(), typ=RECEIPT_TYP, signer=agencies.signers[COMMUNE], now_s=int(time.time())
                )
                for number in range(2):
                    message = aio_pika.Message(token, user_id=COMMUNE, message_id=f"{about}-{number}", delivery_mode=2)
                    await exchange.publish(message, submit_key("receipt", COMMUNE))

            await say(COMMUNE)  # its own, once more, twice
            await say(PROVINCE)  # another agency's

        async def refused() -> bool:
            letters = (await truc_json(installation, "dead", "list"))["dead"]
            return "E409" in [letter["code"] for letter in letters]

        await eventually(refused, 20, pause_s=0.3)
        assert (await deliveries(installation, PROVINCE)).get("received", 0) == 0
        found = (await truc_json(installation, "hold"))["recipients"]
        assert [item["recipient"] for item in found if item["phase"] != "closed"] == [PROVINCE]
        agencies.mute.discard(PROVINCE)
        await agencies.restart(PROVINCE)
        await agencies.everyone_has(sent, 60, recipients=(PROVINCE, COMMUNE))
    assert set(agencies.handed_over.values()) == {1}
    assert (await audit(installation))["clean"]


async def test_the_broker_restarts_while_documents_are_held_and_drained(
    own_rabbitmq: PrivateRabbitMQ, mortal_broker: Installation, mortal_agencies: Agencies, tmp_path: Path
) -> None:
    mortal_agencies.failing[PROVINCE] = 10_000
    settings = {"confirm_timeout_s": 4, "drain_at_first": 2, "max_probe_delay_s": 2, "receipts_linger_s": 0}
    async with running(mortal_broker, tmp_path / "hub.log", **settings) as hub:
        traffic = Traffic(mortal_agencies, [])

        async def kill_and_restart() -> None:
            async def held() -> bool:
                await traffic.go_on(1)  # Another one, however fast all others were handed over.
                return await events(mortal_broker, "delivery.held") > 0

            await eventually(held, 40, hub.log, pause_s=0.2)
            await asyncio.to_thread(own_rabbitmq.kill)
            await eventually(lambda: "broker" in (hub.failing() or {}), 20, hub.failing)
            await asyncio.to_thread(own_rabbitmq.restart)
            mortal_agencies.failing[PROVINCE] = 0

        await traffic.during(kill_and_restart, count=80)
        await traffic.has_arrived(120)
    assert (await audit(mortal_broker))["clean"]
