"""What could not be delivered is mended and sent again: by an operator, at the command line, through the whole hub."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.installation import Installation
from schemas.directory_file import DirectoryFile
from schemas.identifiers import delivery_id_of
from tests.agencies import COMMUNE, MINISTRY, PROVINCE, Agencies, document
from tests.command_line import truc, truc_json
from tests.hub_process import HubProcess, eventually


@pytest.fixture
async def hub(installation: Installation, tmp_path: Path) -> AsyncIterator[HubProcess]:
    """A hub that gives up after two attempts."""
    process = HubProcess(
        installation,
        tmp_path / "hub.log",
        at_hub_url=True,
        max_attempts=2,
        retry_delay_s=1.5,  # two answers to one delivery within a second would be one receipt
        receipt_deadline_s=30,
        replay_pause_s=0.1,
        breaker_failures=1000,  # what is held does not die, and here it must
    ).start()
    try:
        yield await process.ready()
    finally:
        process.end()


def now_s() -> int:
    return int(time.time())


async def groups(installation: Installation, *filters: str) -> dict[str, int]:
    found = (await truc_json(installation, "dead", "groups", *filters))["groups"]
    return {group["name"]: group["count"] for group in found}


async def state_is(installation: Installation, replay: int, state: str) -> dict[str, Any]:
    """Wait until a replay is in a state; returns what is seen then."""
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await truc_json(installation, "replay", "status", str(replay)))
        return seen["state"] == state

    await eventually(looked, 40, lambda: seen, pause_s=0.3)
    return seen


async def test_documents_that_a_broken_recipient_failed_are_sent_again_once_it_is_mended(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.failing[PROVINCE] = 1000
    sent = [await agencies.clients[MINISTRY].submit(document(now_s(), n, to=(PROVINCE, COMMUNE))) for n in range(6)]

    async def all_dead() -> bool:
        return await groups(installation) == {f"E807@{PROVINCE}": 6}

    await eventually(all_dead, 40, lambda: hub.log()[-2000:], pause_s=0.3)
    group = f"E807@{PROVINCE}"
    await truc(installation, "dead", "assign", group, "chi", "--as", "an")
    await truc(installation, "dead", "note", group, "đơn vị hết đĩa", "--as", "an")
    (first, *_) = (await truc_json(installation, "dead", "list", group, "since=1h"))["dead"]
    assert (first["assignee"], first["side"], first["reason"]) == ("chi", "recipient", "DIA-DAY Đĩa đầy")
    await truc(installation, "dead", "dismiss", first["id"], "--reason", "gửi giấy", "--yes")
    assert await groups(installation) == {group: 5}
    await truc(installation, "dead", "dismiss", "--reason", "tất cả", "--yes", expect=2)
    await truc(installation, "dead", "restore", first["id"], "--reason", "chưa gửi giấy", "--yes")

    agencies.failing.clear()
    plan = await truc_json(installation, "replay", "plan", group, "--as", "an")
    replay = plan["replay_id"]
    assert (plan["size"], plan["excluded"], plan["needs_second"]) == (6, 0, False)
    await truc(installation, "replay", "confirm", str(replay), expect=7)
    reason = ("--reason", "đơn vị đã thêm đĩa", "--as", "an")
    await truc(installation, "replay", "start", str(replay), "--mode", "one", *reason)
    tried = await state_is(installation, replay, "paused")
    assert (tried["said"], tried["outcomes"]) == ("the-one-arrived", {"received": 1, "waiting": 5})
    await truc(installation, "replay", "start", str(replay), "--mode", "rate", "--rate", "600/min", *reason)
    done = await state_is(installation, replay, "done")
    assert done["outcomes"] == {"received": 6}
    await agencies.everyone_has([item.document_id for item in sent], 20, recipients=(PROVINCE, COMMUNE))
    assert set(agencies.handed_over.values()) == {1}
    assert (await truc_json(installation, "replay", "failed", str(replay)))["items"] == []
    assert "đơn vị đã nhận" in await truc(installation, "replay", "status", str(replay))
    opened = await truc_json(installation, "dead", "show", first["id"])
    assert (opened["letter"]["state"], opened["replays"][0]["outcome"]) == ("closed", "received")
    assert {"dead.dismissed", "dead.restored", "delivery.replayed"} <= {event["event"] for event in opened["events"]}
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e810_document_for_an_agency_that_was_merged_away_goes_to_its_successor(
    hub: HubProcess, agencies: Agencies, installation: Installation, tmp_path: Path
) -> None:
    agencies.mute.add(COMMUNE)
    sent = await agencies.clients[MINISTRY].submit(document(now_s(), to=(COMMUNE,)))

    async def routed() -> bool:
        (found,) = (await truc_json(installation, "trace", sent.document_id))["found"]
        return [row["delivery"]["state"] for row in found["deliveries"]] == ["routed"]

    await eventually(routed, 20, pause_s=0.3)
    await truc(installation, "replay", "redirect", "--from", COMMUNE, "--reason", "sáp nhập", expect=7)
    merged = await _merge(installation, tmp_path)
    installation.directory_file.with_suffix(".new").write_text(merged)
    installation.directory_file.with_suffix(".new").rename(installation.directory_file)
    done = await truc_json(installation, "replay", "redirect", "--from", COMMUNE, "--reason", "sáp nhập")
    (redirected,) = done["redirected"]
    assert (redirected["recipient"], redirected["successor"]) == (COMMUNE, PROVINCE)
    await agencies.everyone_has([sent.document_id], 20, recipients=(PROVINCE,))
    assert agencies.rejected == []

    async def settled() -> dict[str, str]:
        (found,) = (await truc_json(installation, "trace", sent.document_id))["found"]
        return {row["delivery"]["recipient"]: row["delivery"]["state"] for row in found["deliveries"]}

    async def received() -> bool:
        return await settled() == {COMMUNE: "dead", PROVINCE: "received"}

    await eventually(received, 20, pause_s=0.3)
    assert (await truc_json(installation, "dead", "list"))["dead"] == []
    (found,) = (await truc_json(installation, "trace", sent.document_id))["found"]
    assert found["diagnosis"]["acts"] == "nobody"
    opened = await truc_json(installation, "trace", str(delivery_id_of(sent.document_id, COMMUNE)))
    assert "E810" in json.dumps(opened)
    assert (await truc_json(installation, "audit"))["clean"]


async def _merge(installation: Installation, folder: Path) -> str:
    """Close the commune in favour of its province; returns the directory that agencies verify with then."""
    held = DirectoryFile.model_validate_json(installation.directory_file.read_bytes())
    entries = [
        entry.model_copy(update={"state": "closed", "endpoint": None, "successors": (PROVINCE,)})
        if entry.code == COMMUNE
        else entry
        for entry in held.agencies
    ]
    merged = held.model_copy(update={"agencies": tuple(entries)}).to_json().decode()
    (folder / "merged.json").write_text(merged)
    await truc(installation, "directory", "import", str(folder / "merged.json"), "--yes")
    return merged


def _lose_guard_of(code: str, folder: Path) -> None:
    for lost in folder.glob(f"{code}.guard*"):
        lost.unlink()


async def truc_agency(installation: Installation, code: str, *arguments: str) -> tuple[int, str]:
    """Run `truc-agency` with the settings of an agency; returns its exit code and what it printed."""
    settings = installation.environment_file.parent / "agencies" / f"{code}.toml"
    command = [sys.executable, "-m", "adapters", "--config", str(settings), *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("who", ["operator", "agency"])
async def test_agency_that_lost_its_disk_catches_up(
    hub: HubProcess, agencies: Agencies, installation: Installation, tmp_path: Path, who: str
) -> None:
    sent = [await agencies.clients[MINISTRY].submit(document(now_s(), n, to=(PROVINCE, COMMUNE))) for n in range(5)]
    ids = [item.document_id for item in sent]
    await agencies.everyone_has(ids, 20, recipients=(PROVINCE, COMMUNE))
    await agencies.all_receipts_are_back(5, 20, each=2)
    await agencies.leave(PROVINCE)
    _lose_guard_of(PROVINCE, tmp_path)
    await agencies.join(PROVINCE)
    if who == "operator":
        view = await truc_json(installation, "replay", "catch-up", PROVINCE, "--since", "1h", "--reason", "hỏng đĩa")
        number = view["replay_id"]
    else:
        assert (await truc_agency(installation, PROVINCE, "catch-up"))[0] == 1  # none so far
        code, said = await truc_agency(installation, PROVINCE, "catch-up", "--since", "1h", "--json")
        assert code == 0, said
        number = json.loads(said)["number"]
    done = await state_is(installation, number, "done")
    assert done["outcomes"] == {"handed-out": 5}
    at_province = [delivery_id_of(item, PROVINCE) for item in ids]
    await eventually(lambda: {agencies.handed_over[item] for item in at_province} == {2}, 20, agencies.handed_over)
    assert {agencies.handed_over[delivery_id_of(item, COMMUNE)] for item in ids} == {1}
    (found,) = (await truc_json(installation, "trace", ids[0]))["found"]
    assert {row["delivery"]["state"] for row in found["deliveries"]} == {"received"}
    assert "delivery.handed-out-again" in json.dumps(found)
    if who == "agency":
        code, said = await truc_agency(installation, PROVINCE, "catch-up")
        assert (code, "5/5" in said) == (0, True), said
        code, said = await truc_agency(installation, PROVINCE, "catch-up", "--since", "1h")
        assert (code, "E423" in said) == (1, True), said
    assert (await truc_json(installation, "audit"))["clean"]
