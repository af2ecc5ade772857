"""From one platform to another, both over REST: the gateways are processes, hub, broker and database are real."""

from pathlib import Path

import pytest

from hub.installation import Installation
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE
from tests.gateway_process import GatewayProcess, running
from tests.gateways import draft
from tests.hub_process import HubProcess, eventually


@pytest.fixture
async def ministry(installation: Installation, tmp_path: Path):
    async with running(GatewayProcess(installation, MINISTRY, tmp_path / "ministry")) as gateway:
        yield gateway


@pytest.fixture
async def platform(installation: Installation, tmp_path: Path):
    async with running(GatewayProcess(installation, PLATFORM, tmp_path / "platform")) as gateway:
        yield gateway


@pytest.fixture
async def commune(installation: Installation, tmp_path: Path):
    async with running(GatewayProcess(installation, COMMUNE, tmp_path / "commune")) as gateway:
        yield gateway


async def test_a_document_is_handed_in_fetched_answered_and_its_sender_sees_who_has_it(
    hub: HubProcess, ministry: GatewayProcess, platform: GatewayProcess, commune: GatewayProcess
) -> None:
    sent = await ministry.submit(draft(DEPARTMENT, COMMUNE))
    (for_department,) = (await platform.deliveries(wait_s=20))["items"]
    (for_commune,) = (await commune.deliveries(wait_s=20))["items"]
    assert for_department["document"] == for_commune["document"] == sent["document"]
    assert (for_department["recipient"], for_commune["recipient"]) == (DEPARTMENT, COMMUNE)
    peeked = (await platform.http.get(f"/v1/deliveries/{for_department['delivery']}")).json()
    assert peeked["envelope"]["from"] == MINISTRY

    await platform.answer(for_department["delivery"])
    await commune.answer(
        for_commune["delivery"], outcome="refused", code="SAI-NOI-NHAN", detail="Không thuộc thẩm quyền"
    )

    async def outcomes() -> bool:
        return await ministry.outcomes(sent["document"]) == {DEPARTMENT: "received", COMMUNE: "refused"}

    await eventually(outcomes, 20)
    state = await ministry.document(sent["document"])
    assert state["state"] == "accepted"
    assert [each.get("detail") for each in state["recipients"]] == [None, "Không thuộc thẩm quyền"]
    letters = (await ministry.http.get("/v1/letters")).json()["items"]
    assert {(each["kind"], each["from"]) for each in letters} >= {("receipt", DEPARTMENT), ("receipt", COMMUNE)}


async def test_a_platform_sends_for_its_agency_and_hears_of_it(
    hub: HubProcess, ministry: GatewayProcess, platform: GatewayProcess
) -> None:
    sent = await platform.submit(draft(MINISTRY, **{"from": DEPARTMENT}))
    (arrived,) = (await ministry.deliveries(wait_s=20))["items"]
    await ministry.answer(arrived["delivery"])

    async def received() -> bool:
        return await platform.outcomes(sent["document"]) == {MINISTRY: "received"}

    await eventually(received, 20)


async def test_what_the_hub_refuses_is_told_with_its_problems(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    """The directory here says that there is such an agency; the hub knows better."""
    directory = installation.directory_file.read_text().replace(f'"{COMMUNE}"', '"H26.999"')
    (tmp_path / "old.json").write_text(directory)
    gateway = GatewayProcess(installation, MINISTRY, tmp_path / "ministry", directory_file=tmp_path / "old.json")
    async with running(gateway):
        sent = await gateway.submit(draft("H26.999"))

        async def refused() -> bool:
            return (await gateway.document(sent["document"]))["state"] == "refused"

        await eventually(refused, 20)
        problems = (await gateway.document(sent["document"]))["problems"]
    assert [(each["code"], each["pointer"]) for each in problems] == [("E404", "/to/0")]


async def test_nothing_is_lost_when_both_gateways_are_killed(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    sender = GatewayProcess(installation, MINISTRY, tmp_path / "ministry")
    receiver = GatewayProcess(installation, PROVINCE, tmp_path / "province")
    async with running(sender), running(receiver):
        sent = [await sender.submit(draft(PROVINCE), key=f"k{number}") for number in range(20)]
        sender.kill()
        page = await receiver.deliveries(wait_s=20, limit=5)
        for item in page["items"]:
            await receiver.answer(item["delivery"])
        receiver.kill()
        for gateway in (sender, receiver):
            gateway.start()
            await gateway.ready()
        again = await sender.submit(draft(PROVINCE), key="k7")
        seen = [item["document"] for item in page["items"]]
        while len(seen) < 20:
            page = await receiver.deliveries(after=page["next"], wait_s=20)
            assert page["items"]
            for item in page["items"]:
                await receiver.answer(item["delivery"])
                seen.append(item["document"])

        async def all_received() -> bool:
            states = [await sender.outcomes(each["document"]) for each in sent]
            return states == [{PROVINCE: "received"}] * 20

        await eventually(all_received, 30, pause_s=0.3)
        assert (sender.stop(), receiver.stop()) == (0, 0)
    assert again["document"] == sent[7]["document"]
    assert sorted(seen) == sorted(each["document"] for each in sent)
