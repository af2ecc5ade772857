"""A replay cannot hurt, whatever happens to certificates, recipients, queues and the broker while it runs.

After each test every document was handed over once by each of its recipients, no item of a replay lacks an outcome, and
the audit is clean.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest

from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation
from schemas.addresses import DEAD, SUBMIT, agency_queue, submit_key
from schemas.directory_file import CertificateEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import Signer, sign
from tests.agencies import MINISTRY, PROVINCE, Agencies, document
from tests.command_line import truc, truc_json
from tests.faults.conftest import audit, waiting
from tests.faults.test_recipients import plain_consumer, running
from tests.hub_process import eventually
from tests.keys import make_certificate
from tests.services import Broker
from tests.shared_hub import Scene, country_of, shared_hub

FORMER, UNBOUND, SILENT, LATE, VICTIM, REJECTING, CONTENDED, LOSER = (f"H26.{number}" for number in range(101, 109))
LOOPS = ("intake", "dispatch", "receipts", "reconcile", "replay")
"""What the broker puts aside stays there, so that a test may lose it."""

SOON = {"receipt_deadline_s": 1.5}
SETTINGS = {
    "max_attempts": 1,  # what fails is given up at once
    "retry_delay_s": 0.3,
    "max_retry_delay_s": 1,
    "receipt_deadline_s": 60,
    "max_receipt_deadline_s": 1,
    "retry_by_recipient": json.dumps({SILENT: SOON, LATE: SOON, REJECTING: SOON}),
    "replay_pause_s": 0.1,
    "reconcile_pause_s": 0.2,
    "directory_refresh_s": 0.1,
    "breaker_failures": 1000,
    "confirm_timeout_s": 4,
}
"""A hub that gives up at the first failure."""

BECAUSE = ("--reason", "đã sửa", "--as", "an")


@pytest.fixture(scope="module")
async def scene(
    rabbitmq: Broker, postgresql: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    country = country_of(FORMER, UNBOUND, SILENT, LATE, VICTIM, REJECTING, CONTENDED, LOSER)
    folder = tmp_path_factory.mktemp("replays")
    async with shared_hub(rabbitmq, postgresql, database_template, folder, country, *LOOPS, **SETTINGS) as scene:
        yield scene


async def submit(scene: Scene, recipients: Sequence[str], count: int, signer: Signer | None = None) -> list[DocumentId]:
    client, now_s = scene.agencies.clients[MINISTRY], int(time.time())
    envelopes = [document(now_s, number, to=recipients) for number in range(count)]
    if signer is None:
        return [(await client.submit(envelope)).document_id for envelope in envelopes]
    tokens = [sign(each.to_json(), typ=ENVELOPE_TYP, signer=signer, now_s=now_s) for each in envelopes]
    return [(await client.submit(token)).document_id for token in tokens]


async def die(scene: Scene, recipients: Sequence[str], count: int) -> list[DocumentId]:
    """Let recipients fail some documents, which are dead letters then."""
    scene.agencies.failing.update(dict.fromkeys(recipients, count))
    documents = await submit(scene, recipients, count)
    await scene.until({"dead": count * len(recipients)}, *recipients)
    return documents


async def plan(scene: Scene, *selection: str, by: str = "an") -> dict[str, Any]:
    return await truc_json(scene.installation, "replay", "plan", *selection, "--as", by)


async def start(scene: Scene, replay: int, *how: str) -> None:
    await truc(scene.installation, "replay", "start", str(replay), "--mode", *(how or ("all",)), *BECAUSE)


async def resume(scene: Scene, replay: int) -> None:
    await truc(scene.installation, "replay", "resume", str(replay), "--as", "an")


async def seen_as(scene: Scene, replay: int, *states: str) -> dict[str, Any]:
    """Wait until a replay is in one of some states; returns what is seen then."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await truc_json(scene.installation, "replay", "status", str(replay)))
        return seen["state"] in states

    await eventually(looked, 40, lambda: f"{seen} {scene.hub.log()[-2000:]}", pause_s=0.2)
    return seen


async def check(scene: Scene, documents: Sequence[DocumentId], *recipients: str, times: int = 1) -> None:
    """Each recipient was handed each of these documents once and no other, and nothing is left to be said."""
    await scene.agencies.everyone_has(documents, 40, recipients=recipients)
    given = {key: count for key, count in scene.agencies.documents.items() if key[0] in recipients}
    assert given == {(AgencyCode(code), item): times for code in recipients for item in documents}
    assert (await scene.states(*recipients))["received"] == len(given)
    (items,) = await scene.ask(
        "SELECT count(*) FILTER (WHERE outcome IS NULL) AS without_outcome FROM replay_items "
        f"WHERE agency IN ({', '.join(map(repr, recipients))})"
    )
    assert items["without_outcome"] == 0
    assert (await audit(scene.installation))["clean"]


async def events(scene: Scene, event: str, *recipients: str) -> int:
    (row,) = await scene.ask(
        "SELECT count(*) AS number FROM ledger JOIN deliveries USING (delivery_id) "
        f"WHERE event = '{event}' AND recipient IN ({', '.join(map(repr, recipients))})"
    )
    return int(row["number"])


async def test_certificates_that_expired_or_were_revoked_meanwhile(scene: Scene) -> None:
    """What was signed in time is owed though its certificate has expired; what recipients would not believe stays back.

    Before the plan or after it: a certificate is revoked as of before it signed, a lifetime ends.
    """
    valid_until = datetime.now(UTC) + timedelta(seconds=8)
    expiring = make_certificate(MINISTRY, lifetime=valid_until - datetime.now(UTC) + timedelta(hours=1))
    stolen, stolen_later = make_certificate(MINISTRY), make_certificate(MINISTRY)
    await scene.change_directory(entering(*(each.entry(MINISTRY) for each in (expiring, stolen, stolen_later))))
    scene.agencies.failing[FORMER] = 7
    in_time = await submit(scene, [FORMER], 2, expiring.signer)
    await submit(scene, [FORMER], 1, stolen.signer)
    await submit(scene, [FORMER], 2, stolen_later.signer)
    ending, lasting = await submit(scene, [FORMER], 2)
    await scene.until({"dead": 7}, FORMER)

    await scene.change_directory(entering(stolen.entry(MINISTRY, revoked_at=long_ago())))
    planned = await plan(scene, f"agency={FORMER}")
    assert (planned["size"], planned["reasons"]) == (6, {"refused-today E203": 1})
    await scene.change_directory(entering(stolen_later.entry(MINISTRY, revoked_at=long_ago())))
    await scene.ask(f"UPDATE deliveries SET expires_at = now() WHERE object_id = decode('{ending}', 'hex')")
    await asyncio.sleep(max(0.0, (valid_until - datetime.now(UTC)).total_seconds() + 1))
    await start(scene, planned["replay_id"])
    done = await seen_as(scene, planned["replay_id"], "done")
    assert done["outcomes"] == {"excluded": 1, "received": 3, "skipped": 3}
    assert done["reasons"] == {"refused-today E203": 3, "lifetime-over": 1}
    await check(scene, [*in_time, lasting], FORMER)


def entering(*certificates: CertificateEntry) -> Callable[[DirectoryFile], DirectoryFile]:
    """Enter certificates, or change those that are there."""

    def change(file: DirectoryFile) -> DirectoryFile:
        kept = {entry.pem: entry for entry in (*file.certificates, *certificates)}
        return file.model_copy(update={"certificates": tuple(kept.values())})

    return change


def long_ago() -> int:
    return int(time.time()) - 3600


@asynccontextmanager
async def replayed_to_a_plain_consumer(
    scene: Scene, recipient: str, how: str
) -> AsyncIterator[tuple[Sequence[DocumentId], int, list[Any]]]:
    """Send four dead documents again to a recipient in whose place something else consumes; gives also what it has taken."""
    documents = await die(scene, [recipient], 4)
    await scene.agencies.leave(recipient)
    async with plain_consumer(scene.installation, how, recipient) as taken:
        replay = (await plan(scene, f"agency={recipient}"))["replay_id"]
        await start(scene, replay)
        yield documents, replay, taken


async def test_recipient_acknowledges_without_receipts(scene: Scene) -> None:
    """What it took counts as failing when no receipt came in time; nothing is received before its adapter is back."""
    async with replayed_to_a_plain_consumer(scene, SILENT, "ack") as (documents, replay, taken):
        stopped = await seen_as(scene, replay, "stopped")
        assert stopped["outcomes"] == {"in-hand": 4}
        assert len(taken) >= 4
    await scene.agencies.join(SILENT)
    await resume(scene, replay)
    assert (await seen_as(scene, replay, "done"))["outcomes"] == {"received": 4}
    await check(scene, documents, SILENT)


async def test_receipts_come_late_twice_and_for_others(scene: Scene) -> None:
    """Only the recipient's own first answer counts, however late, and no item of others is settled by it."""
    both = (LATE, VICTIM)
    documents = await die(scene, both, 3)
    scene.agencies.mute.update(both)
    ids = [str(delivery_id_of(item, AgencyCode(code))) for item in documents for code in both]
    replay = (await plan(scene, *ids))["replay_id"]
    await start(scene, replay)

    async def is_late() -> bool:
        return await events(scene, "delivery.overdue", LATE) >= 3

    await eventually(is_late, 20, scene.hub.log)
    await answer(scene, documents, by=LATE, about=VICTIM)
    await answer(scene, documents, by=LATE, about=LATE)
    await scene.until({"received": 3}, LATE)

    async def refused() -> bool:
        letters = (await truc_json(scene.installation, "dead", "list", f"agency={LATE}"))["dead"]
        return [letter["code"] for letter in letters] == ["E409"]

    await eventually(refused, 20, scene.hub.log)
    assert await scene.states(VICTIM) == {"routed": 3}
    scene.agencies.mute.difference_update(both)
    for code in both:
        await scene.agencies.restart(code)
    await scene.until({"received": 6}, *both)
    if (await seen_as(scene, replay, "running", "stopped", "done"))["state"] == "stopped":  # three of six were overdue
        await resume(scene, replay)
    await answer(scene, documents, by=LATE, about=LATE)
    assert (await seen_as(scene, replay, "done"))["outcomes"] == {"received": 6}
    await check(scene, documents, *both)


async def answer(scene: Scene, documents: Sequence[DocumentId], *, by: str, about: str) -> None:
    """Send a receipt that answers deliveries to an agency, twice, and be sure that it was taken."""
    now_s = int(time.time())
    about_which = [delivery_id_of(item, AgencyCode(about)) for item in documents]
    answers = tuple(Answer(delivery=str(each), outcome="received", at=now_s) for each in about_which)
    receipt = Receipt(from_=by, to=MINISTRY, answers=answers)
    token = sign(receipt.to_json(), typ=RECEIPT_TYP, signer=scene.agencies.signers[by], now_s=now_s)
    async with await aio_pika.connect(scene.installation.accounts[AgencyCode(by)].amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(SUBMIT, ensure=False)
        for number in range(2):
            message = aio_pika.Message(token, user_id=by, message_id=f"{about}-{number}", delivery_mode=2)
            await exchange.publish(message, submit_key("receipt", by))


async def test_what_was_given_back_is_lost_with_the_dead_letter_queue(scene: Scene) -> None:
    """Nobody has read `truc.dead`, and its contents are deleted by hand: the ledger still knows what is owed."""
    async with replayed_to_a_plain_consumer(scene, REJECTING, "reject") as (documents, replay, taken):
        await eventually(lambda: len(taken) >= 4, 20, taken)
    await eventually(lambda: waiting(scene.installation, DEAD, 4), 20)
    scene.vhost.manage("DELETE", f"/queues/{scene.vhost.vhost}/{quote(DEAD, safe='')}/contents")
    await scene.agencies.join(REJECTING)
    await scene.until({"received": 4}, REJECTING)
    if (await seen_as(scene, replay, "running", "stopped", "done"))["state"] == "stopped":
        await resume(scene, replay)
    assert (await seen_as(scene, replay, "done"))["outcomes"] == {"received": 4}
    assert await events(scene, "delivery.returned", REJECTING) == 0
    assert await events(scene, "delivery.overdue", REJECTING) >= 4
    await check(scene, documents, REJECTING)


async def test_two_operators_replay_the_same_while_more_of_it_fails(scene: Scene) -> None:
    """They share no item, and what fails meanwhile is in neither replay."""
    documents = await die(scene, [CONTENDED], 6)
    group = f"E807@{CONTENDED}"
    plans = await asyncio.gather(plan(scene, group, by="an"), plan(scene, group, by="bình"))
    assert sorted((each["size"], each["excluded"]) for each in plans) == [(0, 6), (6, 0)]
    # Four at once, and the others six seconds later.
    await asyncio.gather(*(start(scene, each["replay_id"], "rate", "--rate", "40/min") for each in plans))
    await scene.until({"received": 4, "dead": 2}, CONTENDED)
    scene.agencies.failing[CONTENDED] = 1
    fresh = await submit(scene, [CONTENDED], 1)
    await scene.until({"received": 4, "dead": 3}, CONTENDED)
    later = await plan(scene, group, by="bình")
    assert (later["size"], later["reasons"]) == (1, {"in-another-replay": 2})
    await start(scene, later["replay_id"])
    ends = [await seen_as(scene, each["replay_id"], "done") for each in (*plans, later)]
    assert sorted(end["outcomes"].get("received", 0) for end in ends) == [0, 1, 6]
    await check(scene, [*documents, *fresh], CONTENDED)


async def test_catch_up_waits_while_its_agency_is_suspended(scene: Scene) -> None:
    documents = await submit(scene, [LOSER], 3)
    await scene.until({"received": 3}, LOSER)
    await scene.agencies.lose_disk(LOSER)
    await scene.change_directory(setting(LOSER, "suspended"))
    command = ("replay", "catch-up", LOSER, "--since", "1h", "--reason", "hỏng đĩa")
    replay = (await truc_json(scene.installation, *command))["replay_id"]
    paused = await seen_as(scene, replay, "paused")
    assert (paused["said"], paused["outcomes"]) == ("agency-suspended", {"waiting": 3})
    await scene.change_directory(setting(LOSER, "open"))
    assert (await seen_as(scene, replay, "done"))["outcomes"] == {"handed-out": 3}
    at_loser = {delivery_id_of(item, AgencyCode(LOSER)) for item in documents}
    await eventually(lambda: {scene.agencies.handed_over[each] for each in at_loser} == {2}, 20)
    await check(scene, documents, LOSER, times=2)


def setting(code: str, state: str) -> Callable[[DirectoryFile], DirectoryFile]:
    """Suspend or open an agency."""

    def change(file: DirectoryFile) -> DirectoryFile:
        agencies = [
            entry.model_copy(update={"state": state}) if entry.code == code else entry for entry in file.agencies
        ]
        return file.model_copy(update={"agencies": tuple(agencies)})

    return change


async def test_queue_of_the_recipient_is_gone(scene: Scene) -> None:
    """The replay stops by itself; what it has released waits in the ledger, and goes on when the queue is back."""
    documents = await die(scene, [UNBOUND], 6)
    await scene.agencies.leave(UNBOUND)
    scene.vhost.manage("DELETE", f"/queues/{scene.vhost.vhost}/{quote(agency_queue(UNBOUND), safe='')}")
    replay = (await plan(scene, f"agency={UNBOUND}"))["replay_id"]
    await start(scene, replay)
    stopped = await seen_as(scene, replay, "stopped")
    assert "failed-again" in stopped["said"]
    await truc(scene.installation, "broker", "apply", "--yes")
    await scene.agencies.join(UNBOUND)
    await resume(scene, replay)
    assert (await seen_as(scene, replay, "done"))["outcomes"] == {"received": 6}
    await check(scene, documents, UNBOUND)


@pytest.mark.timeout(300)
async def test_broker_restarts_in_the_middle_and_the_rest_is_cancelled_and_planned_again(
    own_rabbitmq: PrivateRabbitMQ, mortal_broker: Installation, mortal_agencies: Agencies, tmp_path: Path
) -> None:
    async with running(mortal_broker, tmp_path / "hub.log", *LOOPS, **SETTINGS) as hub:
        scene = Scene(mortal_broker, mortal_agencies, hub, Broker(own_rabbitmq.amqp_url, own_rabbitmq.management_url))
        documents = await die(scene, [PROVINCE], 30)
        replay = (await plan(scene, f"E807@{PROVINCE}"))["replay_id"]
        await start(scene, replay, "one")
        await seen_as(scene, replay, "paused")
        await asyncio.to_thread(own_rabbitmq.kill)
        await eventually(lambda: "broker" in (hub.failing() or {}), 20, hub.failing)
        await start(scene, replay)
        await has(scene, replay, {"received": 1, "in-hand": 20, "waiting": 9})
        await truc(mortal_broker, "replay", "cancel", str(replay), "--as", "an")
        await asyncio.to_thread(own_rabbitmq.restart)
        await has(scene, replay, {"received": 21, "cancelled": 9})
        again = (await plan(scene, f"E807@{PROVINCE}"))["replay_id"]
        await start(scene, again)
        assert (await seen_as(scene, again, "done"))["outcomes"] == {"received": 9}
        await check(scene, documents, PROVINCE)


async def has(scene: Scene, replay: int, outcomes: dict[str, int]) -> None:
    """Wait until this has become of the items of a replay."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await truc_json(scene.installation, "replay", "status", str(replay)))
        return seen["outcomes"] == outcomes

    await eventually(looked, 60, lambda: f"{seen} {scene.hub.log()[-2000:]}", pause_s=0.1)
