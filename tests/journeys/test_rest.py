"""From one platform to another, both over REST: the gateways are processes, hub, broker and database are real."""

import hashlib
import time
from pathlib import Path

import pytest

from hub.installation import Installation
from schemas.edxml.attachments import files
from schemas.edxml.packet import Packet
from schemas.edxml.reader import read_packet
from schemas.publish import PUBLISHED
from schemas.signing import MAX_TOKEN_BYTES
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE
from tests.gateway_process import GatewayProcess, running
from tests.gateways import draft
from tests.hub_process import HubProcess, eventually

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4096 * 5
TABLE = "Biểu tổng hợp số liệu".encode()


def example(name: str) -> bytes:
    """A published packet, from the ministry and to the agencies of this country."""
    packet = (PUBLISHED / "examples" / "edxml" / "valid" / f"{name}.edxml").read_bytes()
    return (
        packet.replace(b"G01", MINISTRY.encode())
        .replace(b"H26.02", DEPARTMENT.encode())
        .replace(b">H26<", f">{DEPARTMENT}<".encode() if name == "document-revoke" else b">H26<")
    )


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


async def test_files_travel_with_a_document_and_it_can_be_read_as_a_packet(
    hub: HubProcess, ministry: GatewayProcess, commune: GatewayProcess
) -> None:
    parts = []
    for name, content, media_type in (("Công văn.pdf", PDF, "application/pdf"), ("số liệu.csv", TABLE, "text/csv")):
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"Content-Type": media_type}
        answer = await ministry.http.put(f"/v1/parts/{sha256}", params={"name": name}, content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        parts.append(answer.json())
    described = draft(COMMUNE, parts=parts)
    described["doc"] |= {"number": "12", "notation": "CV-VP"}
    await ministry.submit(described)
    (arrived,) = (await commune.deliveries(wait_s=20))["items"]
    place = f"/v1/deliveries/{arrived['delivery']}"

    fetched = [await commune.http.get(f"{place}/parts/{part['sha256']}") for part in parts]
    assert [answer.content for answer in fetched] == [PDF, TABLE]
    assert [answer.headers["content-type"].partition(";")[0] for answer in fetched] == ["application/pdf", "text/csv"]
    assert (await commune.http.get(f"{place}/parts/{'0' * 64}")).status_code == 404
    packet = read_packet((await commune.http.get(f"{place}/packet")).content)
    assert isinstance(packet, Packet)
    assert [b"".join(file.chunks()) for file in files(packet)[0]] == [PDF, TABLE]
    assert (packet.from_.code, [party.code for party in packet.to]) == (MINISTRY, [COMMUNE])
    assert list((commune.folder / "mailbox.spool").iterdir()) == []


async def test_a_packet_travels_unchanged_and_another_recalls_it(
    hub: HubProcess, ministry: GatewayProcess, platform: GatewayProcess
) -> None:
    packet = example("document-new")
    first, again = [await ministry.submit_packet(packet, key="k1") for _ in range(2)]
    assert [answer.status_code for answer in (first, again)] == [202, 202]
    # How far it has come may have changed between the two, the document has not.
    assert again.json()["document"] == first.json()["document"]
    (arrived,) = (await platform.deliveries(wait_s=20))["items"]
    place = f"/v1/deliveries/{arrived['delivery']}"
    envelope = (await platform.http.get(place)).json()["envelope"]
    assert (await platform.http.get(f"{place}/packet")).content == packet
    assert [part["name"] for part in envelope["parts"]] == ["goi-tin.edxml", "Thông báo.pdf"]
    assert envelope["edxml"]["id"] == f"{MINISTRY},2026/02/27,12/TB-BTN"
    pdf = await platform.http.get(f"{place}/parts/{envelope['parts'][1]['sha256']}")
    assert pdf.content.startswith(b"%PDF")

    recall = await ministry.submit_packet(example("document-revoke"))
    assert recall.status_code == 202, recall.text
    (recalling,) = (await platform.deliveries(wait_s=20, after=arrived["seq"]))["items"]
    assert recalling["action"] == "revoke"
    assert (await platform.http.get(f"/v1/deliveries/{recalling['delivery']}")).json()["envelope"]["ref"] == [
        first.json()["document"]
    ]


async def test_a_packet_that_recalls_what_was_never_handed_in_is_refused(
    hub: HubProcess, ministry: GatewayProcess
) -> None:
    answer = await ministry.submit_packet(example("document-revoke"))

    assert (answer.status_code, answer.json()["code"]) == (422, "E512")


async def test_statuses_come_back_to_the_sender(
    hub: HubProcess, ministry: GatewayProcess, platform: GatewayProcess
) -> None:
    sent = await ministry.submit(draft(DEPARTMENT))
    (arrived,) = (await platform.deliveries(wait_s=20))["items"]
    await platform.answer(arrived["delivery"])
    status = {"document": sent["document"], "to": MINISTRY, "status": "03", "from": DEPARTMENT, "detail": "Số đến 15"}
    answer = await platform.http.post("/v1/statuses", json=status)
    assert answer.status_code == 202, answer.text

    async def stated() -> bool:
        (recipient,) = (await ministry.document(sent["document"]))["recipients"]
        return [(each["status"], each["detail"]) for each in recipient["statuses"]] == [("03", "Số đến 15")]

    await eventually(stated, 20)
    letters = (await ministry.http.get("/v1/letters")).json()["items"]
    assert [each["document"] for each in letters if each["kind"] == "status"] == [sent["document"]]


async def test_the_axis_says_what_an_agency_can_take_and_since_when_it_is_silent(
    hub: HubProcess, ministry: GatewayProcess, platform: GatewayProcess
) -> None:
    async def ask(gateway: GatewayProcess, code: str) -> dict[str, object]:
        answer = await gateway.http.get(f"/v1/agencies/{code}/capabilities")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    before = await ask(platform, COMMUNE)
    assert (before["connected"], before["state"], before["tier"]) == (True, "open", "commune")
    assert before["max_envelope_bytes"] == MAX_TOKEN_BYTES
    assert "silent_since" not in before
    assert (await ministry.http.get("/v1/agencies/H26.999/capabilities")).json()["code"] == "E404"

    begun = int(time.time())
    await ministry.submit(draft(COMMUNE))  # where nobody listens

    async def silent() -> bool:
        return "silent_since" in await ask(ministry, COMMUNE)

    await eventually(silent, 20)
    assert begun - 1 <= int(str((await ask(ministry, COMMUNE))["silent_since"])) <= time.time()


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
