"""Recipients that fail, keep silent, are suspended or held by a person: their documents wait and arrive, each once."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.installation import Installation
from schemas.directory_file import DirectoryFile
from schemas.identifiers import DocumentId
from tests.agencies import COMMUNE, COUNTRY, MINISTRY, PROVINCE, Agencies, document
from tests.command_line import traced, truc, truc_json
from tests.hub_process import HubProcess, eventually

QUICK = {"receipt_deadline_s": 3, "retry_delay_s": 0.5, "breaker_failures": 3, "probe_delay_s": 2, "drain_pause_s": 0.2}


@pytest.fixture
async def hub(installation: Installation, tmp_path: Path) -> AsyncIterator[HubProcess]:
    process = HubProcess(installation, tmp_path / "hub.log", **QUICK).start()
    try:
        yield await process.ready()
    finally:
        process.end()


async def submit(agencies: Agencies, count: int, *to: str, **changes: Any) -> list[DocumentId]:
    client = agencies.clients[MINISTRY]
    sent = [await client.submit(document(int(time.time()), number, to=to, **changes)) for number in range(count)]
    return [item.document_id for item in sent]


async def delivery_of(installation: Installation, document_id: DocumentId, recipient: str) -> dict[str, Any]:
    found = await traced(installation, document_id)
    return next(row for row in found["deliveries"] if row["delivery"]["recipient"] == recipient)


async def is_held(installation: Installation, document_id: DocumentId, code: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def looked() -> bool:
        seen.update(await delivery_of(installation, document_id, PROVINCE))
        return (seen["delivery"]["state"], seen["code"]) == ("held", code)

    await eventually(looked, 30, lambda: seen, pause_s=0.3)
    return seen


async def unwell(installation: Installation) -> dict[str, Any]:
    return {item["recipient"]: item for item in (await truc_json(installation, "hold"))["recipients"]}


async def test_e811_a_recipient_fails_again_and_again_and_comes_back(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.failing[PROVINCE] = 4
    first = await submit(agencies, 3, PROVINCE, COMMUNE)
    await agencies.everyone_has(first, 20, recipients=(COMMUNE,))

    async def down() -> bool:
        return (await unwell(installation)).get(PROVINCE, {}).get("phase") in ("open", "probing")

    await eventually(down, 20, hub.log, pause_s=0.2)
    second = await submit(agencies, 12, PROVINCE, COMMUNE)
    await agencies.everyone_has(second, 20, recipients=(COMMUNE,))
    held = await is_held(installation, second[-1], "E811")
    assert (held["diagnosis"]["acts"], held["diagnosis"]["hub_retries"]) == ("recipient", True)
    await agencies.everyone_has([*first, *second], 60, recipients=(PROVINCE, COMMUNE))

    async def well() -> bool:
        return await unwell(installation) == {}

    await eventually(well, 20, lambda: hub.log()[-2000:], pause_s=0.3)
    assert set(agencies.handed_over.values()) == {1}
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e813_a_person_holds_a_recipient_and_lets_it_go(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    await truc(installation, "hold", PROVINCE, expect=2)  # without a reason
    await truc(installation, "hold", PROVINCE, "--reason", "bảo trì", "--as", "an")
    sent = await submit(agencies, 1, PROVINCE, COMMUNE)
    await agencies.everyone_has(sent, 20, recipients=(COMMUNE,))
    held = await is_held(installation, sent[0], "E813")
    assert "an: bảo trì" in held["diagnosis"]["vi"]
    assert (await unwell(installation))[PROVINCE]["held"] == 1
    assert (await truc_json(installation, "audit"))["clean"]
    await truc(installation, "release", COMMUNE, "--reason", "nhầm", expect=1)  # nothing is held for it
    await truc(installation, "release", PROVINCE, "--reason", "xong")
    await agencies.everyone_has(sent, 20, recipients=(PROVINCE,))
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e812_the_directory_suspends_a_recipient_after_acceptance(
    agencies: Agencies, installation: Installation, tmp_path: Path
) -> None:
    """Nothing is handed over before the directory has changed."""

    async def enter(state: str) -> None:
        (entry,) = (each for each in COUNTRY.agencies if each.code == PROVINCE)
        changed = DirectoryFile(agencies=(entry.model_copy(update={"state": state}),))
        file = tmp_path / f"{state}.json"
        file.write_bytes(changed.to_json())
        await truc(installation, "directory", "import", str(file), "--yes")

    async def accepted() -> bool:
        return sum((await truc_json(installation, "audit"))["by_state"].values()) == 2

    most = HubProcess(installation, tmp_path / "most.log", "intake", "receipts", "returns", "reconcile", **QUICK)
    dispatch = HubProcess(installation, tmp_path / "dispatch.log", "dispatch", **QUICK)
    try:
        await most.start().ready()
        sent = await submit(agencies, 1, PROVINCE, COMMUNE)
        await eventually(accepted, 20, most.log, pause_s=0.3)
        await enter("suspended")
        await dispatch.start().ready()
        await is_held(installation, sent[0], "E812")
        assert (await truc_json(installation, "audit"))["clean"]
        await enter("open")
        await agencies.everyone_has(sent, 30, recipients=(PROVINCE, COMMUNE))
    finally:
        most.end()
        dispatch.end()
    assert (await truc_json(installation, "audit"))["clean"]


async def test_n605_the_sender_is_warned_before_the_end_and_told_of_it_each_once(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    agencies.mute.add(PROVINCE)
    await submit(agencies, 1, PROVINCE, COMMUNE, lifetime_s=8)

    def told() -> list[tuple[str, str]]:
        return [(notice.kind, notice.problems[0].code) for notice in agencies.notices.get(MINISTRY, [])]

    await eventually(lambda: told() == [("expiring", "N605"), ("expired", "E809")], 30, told)
    assert {notice.recipient for notice in agencies.notices[MINISTRY]} == {PROVINCE}
    assert (await truc_json(installation, "audit"))["clean"]
