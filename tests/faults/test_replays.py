"""Replays while a queue is gone, and over a restart of the broker: each document is handed over once."""

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation
from schemas.addresses import agency_queue
from schemas.identifiers import DocumentId
from tests.agencies import COMMUNE, MINISTRY, PROVINCE, Agencies, document
from tests.command_line import truc, truc_json
from tests.faults.conftest import audit
from tests.faults.test_recipients import running
from tests.hub_process import HubProcess, eventually
from tests.services import Broker

SETTINGS = {
    "max_attempts": 2,
    "retry_delay_s": 1.5,  # two equal answers within a second would be one receipt
    "receipt_deadline_s": 30,
    "replay_pause_s": 0.1,
    "breaker_failures": 1000,
    "confirm_timeout_s": 4,
}
"""A hub that gives up at the second failure."""

BECAUSE = ("--reason", "đã sửa", "--as", "an")


async def die_at_the_province(agencies: Agencies, installation: Installation, count: int) -> list[DocumentId]:
    """Let the province fail some documents until they are given up; the commune receives them."""
    agencies.failing[PROVINCE] = 1000
    client = agencies.clients[MINISTRY]
    sent = [await client.submit(document(int(time.time()), n, to=(PROVINCE, COMMUNE))) for n in range(count)]

    async def all_dead() -> bool:
        groups = (await truc_json(installation, "dead", "groups"))["groups"]
        return [(group["name"], group["count"]) for group in groups] == [(f"E807@{PROVINCE}", count)]

    await eventually(all_dead, 30, pause_s=0.3)
    agencies.failing.clear()
    return [item.document_id for item in sent]


async def plan(installation: Installation) -> str:
    return str((await truc_json(installation, "replay", "plan", f"E807@{PROVINCE}", "--as", "an"))["replay_id"])


async def seen_as(installation: Installation, replay: str, hub: HubProcess, *states: str) -> dict[str, Any]:
    """Wait until a replay is in one of some states; returns what is seen then."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await truc_json(installation, "replay", "status", replay))
        return seen["state"] in states

    await eventually(looked, 40, lambda: f"{seen} {hub.log()[-2000:]}", pause_s=0.2)
    return seen


async def check(installation: Installation, agencies: Agencies, documents: list[DocumentId]) -> None:
    """Everything was handed over once, no item lacks an outcome, the books are in order."""
    await agencies.everyone_has(documents, 40, recipients=(PROVINCE, COMMUNE))
    assert len(agencies.handed_over) == 2 * len(documents)
    assert set(agencies.handed_over.values()) == {1}
    for replay in (await truc_json(installation, "replay", "status"))["replays"]:
        assert replay["outcomes"].keys() <= {"received", "cancelled"}, replay
    assert (await audit(installation))["clean"]


async def test_queue_of_the_recipient_is_gone(
    installation: Installation, agencies: Agencies, vhost: Broker, tmp_path: Path
) -> None:
    """The replay stops by itself; what it has released waits in the ledger, and goes on when the queue is back."""
    async with running(installation, tmp_path / "hub.log", **SETTINGS) as hub:
        documents = await die_at_the_province(agencies, installation, 6)
        await agencies.leave(PROVINCE)
        vhost.manage("DELETE", f"/queues/{vhost.vhost}/{quote(agency_queue(PROVINCE), safe='')}")
        replay = await plan(installation)
        await truc(installation, "replay", "start", replay, "--mode", "all", *BECAUSE)
        stopped = await seen_as(installation, replay, hub, "stopped")
        assert "failed-again" in stopped["said"]
        await truc(installation, "broker", "apply", "--yes")
        await agencies.join(PROVINCE)
        await truc(installation, "replay", "resume", replay, "--as", "an")
        done = await seen_as(installation, replay, hub, "done")
        assert done["outcomes"] == {"received": 6}
        await check(installation, agencies, documents)


@pytest.mark.timeout(300)
async def test_broker_restarts_in_the_middle_and_the_rest_is_cancelled_and_planned_again(
    own_rabbitmq: PrivateRabbitMQ, mortal_broker: Installation, mortal_agencies: Agencies, tmp_path: Path
) -> None:
    async with running(mortal_broker, tmp_path / "hub.log", **SETTINGS) as hub:
        documents = await die_at_the_province(mortal_agencies, mortal_broker, 30)
        replay = await plan(mortal_broker)
        # Six at a time, then six seconds nothing: the broker dies between.
        await truc(mortal_broker, "replay", "start", replay, "--mode", "rate", "--rate", "60/min", *BECAUSE)

        async def begun() -> bool:
            return (await truc_json(mortal_broker, "replay", "status", replay))["outcomes"].get("received", 0) > 0

        await eventually(begun, 20, lambda: hub.log()[-2000:], pause_s=0.1)
        await asyncio.to_thread(own_rabbitmq.kill)
        await eventually(lambda: "broker" in (hub.failing() or {}), 20, hub.failing)

        async def released_more() -> bool:
            outcomes = (await truc_json(mortal_broker, "replay", "status", replay))["outcomes"]
            return outcomes.get("in-hand", 0) > 0

        await eventually(released_more, 20, lambda: hub.log()[-2000:], pause_s=0.2)
        await asyncio.to_thread(own_rabbitmq.restart)
        await truc(mortal_broker, "replay", "cancel", replay, "--as", "an")

        async def nothing_in_hand() -> bool:
            outcomes = (await truc_json(mortal_broker, "replay", "status", replay))["outcomes"]
            return sum(outcomes.values()) == 30 and outcomes.keys() == {"received", "cancelled"}

        await eventually(nothing_in_hand, 60, lambda: hub.log()[-2000:], pause_s=0.3)
        again = await plan(mortal_broker)
        await truc(mortal_broker, "replay", "start", again, "--mode", "all", *BECAUSE)
        await seen_as(mortal_broker, again, hub, "done")
        await check(mortal_broker, mortal_agencies, documents)
