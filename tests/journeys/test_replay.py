"""What could not be delivered is mended and sent again: by an operator, at the command line, through the whole hub."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from hub.installation import Installation
from schemas.directory_file import DirectoryFile
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from tests.agencies import MINISTRY, document
from tests.command_line import traced, truc, truc_json
from tests.hub_process import eventually
from tests.services import Broker
from tests.shared_hub import Scene, country_of, shared_hub

BROKEN, HEALTHY, MERGED, HEIR, HELPED, HELPING_ITSELF = (f"H26.{number}" for number in range(101, 107))


@pytest.fixture(scope="module")
async def scene(
    rabbitmq: Broker, postgresql: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A hub that gives up at the first failure."""
    async with shared_hub(
        rabbitmq,
        postgresql,
        database_template,
        tmp_path_factory.mktemp("replay"),
        country_of(BROKEN, HEALTHY, MERGED, HEIR, HELPED, HELPING_ITSELF),
        max_attempts=1,
        receipt_deadline_s=30,
        replay_pause_s=0.1,
        directory_refresh_s=0.1,
        breaker_failures=1000,  # what is held does not die, and here it must
    ) as scene:
        yield scene


async def submit(scene: Scene, count: int, *to: str) -> list[DocumentId]:
    client, now_s = scene.agencies.clients[MINISTRY], int(time.time())
    return [(await client.submit(document(now_s, number, to=to))).document_id for number in range(count)]


async def groups(installation: Installation) -> dict[str, int]:
    found = (await truc_json(installation, "dead", "groups"))["groups"]
    return {group["name"]: group["count"] for group in found}


async def state_is(scene: Scene, replay: int, state: str) -> dict[str, Any]:
    """Wait until a replay is in a state; returns what is seen then."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await truc_json(scene.installation, "replay", "status", str(replay)))
        return seen["state"] == state

    await eventually(looked, 40, lambda: seen, pause_s=0.2)
    return seen


async def states_of(scene: Scene, document_id: DocumentId) -> dict[str, str]:
    found = await traced(scene.installation, document_id)
    return {row["delivery"]["recipient"]: row["delivery"]["state"] for row in found["deliveries"]}


async def test_documents_that_a_broken_recipient_failed_are_sent_again_once_it_is_mended(scene: Scene) -> None:
    installation, agencies, group = scene.installation, scene.agencies, f"E807@{BROKEN}"
    agencies.failing[BROKEN] = 6
    documents = await submit(scene, 6, BROKEN, HEALTHY)
    await scene.until({"dead": 6}, BROKEN)
    await truc(installation, "dead", "assign", group, "chi", "--as", "an")
    await truc(installation, "dead", "note", group, "đơn vị hết đĩa", "--as", "an")
    (first, *_) = (await truc_json(installation, "dead", "list", group, "since=1h"))["dead"]
    assert (first["assignee"], first["side"], first["reason"]) == ("chi", "recipient", "DIA-DAY Đĩa đầy")
    await truc(installation, "dead", "dismiss", first["id"], "--reason", "gửi giấy", "--yes")
    assert await groups(installation) == {group: 5}
    await truc(installation, "dead", "dismiss", "--reason", "tất cả", "--yes", expect=2)
    await truc(installation, "dead", "restore", first["id"], "--reason", "chưa gửi giấy", "--yes")

    plan = await truc_json(installation, "replay", "plan", group, "--as", "an")
    replay = plan["replay_id"]
    assert (plan["size"], plan["excluded"], plan["needs_second"]) == (6, 0, False)
    await truc(installation, "replay", "confirm", str(replay), expect=7)
    reason = ("--reason", "đơn vị đã thêm đĩa", "--as", "an")
    await truc(installation, "replay", "start", str(replay), "--mode", "one", *reason)
    tried = await state_is(scene, replay, "paused")
    assert (tried["said"], tried["outcomes"]) == ("the-one-arrived", {"received": 1, "waiting": 5})
    await truc(installation, "replay", "start", str(replay), "--mode", "rate", "--rate", "600/min", *reason)
    done = await state_is(scene, replay, "done")
    assert done["outcomes"] == {"received": 6}
    await agencies.everyone_has(documents, 20, recipients=(BROKEN, HEALTHY))
    assert times(scene, documents, BROKEN) == times(scene, documents, HEALTHY) == {1}
    assert (await truc_json(installation, "replay", "failed", str(replay)))["items"] == []
    assert "đơn vị đã nhận" in await truc(installation, "replay", "status", str(replay))
    opened = await truc_json(installation, "dead", "show", first["id"])
    assert (opened["letter"]["state"], opened["replays"][0]["outcome"]) == ("closed", "received")
    assert {"dead.dismissed", "dead.restored", "delivery.replayed"} <= {event["event"] for event in opened["events"]}
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e810_document_for_an_agency_that_was_merged_away_goes_to_its_successor(scene: Scene) -> None:
    installation, agencies = scene.installation, scene.agencies
    agencies.mute.add(MERGED)
    (document_id,) = await submit(scene, 1, MERGED)
    await scene.until({"routed": 1}, MERGED)
    redirect = ("replay", "redirect", "--from", MERGED, "--reason", "sáp nhập")
    await truc(installation, *redirect, expect=7)
    await scene.change_directory(merging)
    (redirected,) = (await truc_json(installation, *redirect))["redirected"]
    assert (redirected["recipient"], redirected["successor"]) == (MERGED, HEIR)
    await agencies.everyone_has([document_id], 20, recipients=(HEIR,))
    assert agencies.rejected == []
    await scene.until({"dead": 1, "received": 1}, MERGED, HEIR)
    assert await states_of(scene, document_id) == {MERGED: "dead", HEIR: "received"}
    assert await groups(installation) == {}
    found = await traced(installation, document_id)
    assert found["diagnosis"]["acts"] == "nobody"
    opened = await truc_json(installation, "trace", str(delivery_id_of(document_id, AgencyCode(MERGED))))
    assert "E810" in json.dumps(opened)
    assert (await truc_json(installation, "audit"))["clean"]


def merging(file: DirectoryFile) -> DirectoryFile:
    """Close the one in favour of the other."""
    entries = [
        entry.model_copy(update={"state": "closed", "endpoint": None, "successors": (HEIR,)})
        if entry.code == MERGED
        else entry
        for entry in file.agencies
    ]
    return file.model_copy(update={"agencies": tuple(entries)})


async def truc_agency(installation: Installation, code: str, *arguments: str) -> tuple[int, str]:
    """Run `truc-agency` with the settings of an agency; returns its exit code and what it printed."""
    settings = installation.environment_file.parent / "agencies" / f"{code}.toml"
    command = [sys.executable, "-m", "adapters", "--config", str(settings), *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("lost", [HELPED, HELPING_ITSELF], ids=["operator", "agency"])
async def test_agency_that_lost_its_disk_catches_up(scene: Scene, lost: str) -> None:
    installation, agencies = scene.installation, scene.agencies
    documents = await submit(scene, 5, lost, HEALTHY)
    await agencies.everyone_has(documents, 20, recipients=(lost, HEALTHY))
    await scene.until({"received": 5}, lost)
    await agencies.lose_disk(lost)
    if lost == HELPED:
        view = await truc_json(installation, "replay", "catch-up", lost, "--since", "1h", "--reason", "hỏng đĩa")
        number = view["replay_id"]
    else:
        assert (await truc_agency(installation, lost, "catch-up"))[0] == 1  # none so far
        code, said = await truc_agency(installation, lost, "catch-up", "--since", "1h", "--json")
        assert code == 0, said
        number = json.loads(said)["number"]
    done = await state_is(scene, number, "done")
    assert done["outcomes"] == {"handed-out": 5}
    await eventually(lambda: times(scene, documents, lost) == {2}, 20, agencies.documents)
    assert times(scene, documents, HEALTHY) == {1}
    found = await traced(installation, documents[0])
    assert {row["delivery"]["state"] for row in found["deliveries"]} == {"received"}
    assert "delivery.handed-out-again" in json.dumps(found)
    if lost == HELPING_ITSELF:
        code, said = await truc_agency(installation, lost, "catch-up")
        assert (code, "5/5" in said) == (0, True), said
        code, said = await truc_agency(installation, lost, "catch-up", "--since", "1h")
        assert (code, "E423" in said) == (1, True), said
    assert (await truc_json(installation, "audit"))["clean"]


def times(scene: Scene, documents: Sequence[DocumentId], recipient: str) -> set[int]:
    """How often documents were handed over."""
    return {scene.agencies.documents[AgencyCode(recipient), item] for item in documents}
