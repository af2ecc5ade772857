"""What offices do with a document, told back to its sender; and how a document is recalled, asked back, refused."""

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from hub.installation import Installation
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Staff, Status
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE, Agencies, document, facts
from tests.command_line import traced, truc, truc_json
from tests.hub_process import HubProcess, eventually


def now_s() -> int:
    return int(time.time())


async def statuses_of(agencies: Agencies, code: str, *expected: str) -> list[Status]:
    """Wait until exactly these statuses have come to an agency's endpoint; gives them in the order of their codes."""

    def codes() -> list[str]:
        return sorted(status.status for status in agencies.statuses.get(code, []))

    await eventually(lambda: codes() == sorted(expected), 20, codes)
    return sorted(agencies.statuses[code], key=lambda status: status.status)


async def sent_to(agencies: Agencies, *recipients: str) -> DocumentId:
    sent = await agencies.clients[MINISTRY].submit(document(now_s(), to=recipients))
    await agencies.everyone_has([sent.document_id], 20, recipients=recipients)
    await agencies.all_receipts_are_back(1, 20, each=len(recipients))
    return sent.document_id


async def test_a_document_is_registered_then_recalled_and_given_back(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    ministry, province, platform = (agencies.clients[code] for code in (MINISTRY, PROVINCE, PLATFORM))
    document_id = await sent_to(agencies, PROVINCE, DEPARTMENT)
    await province.status(document=document_id, to=AgencyCode(MINISTRY), status="01")
    await province.status(document=document_id, to=AgencyCode(MINISTRY), status="03", staff=Staff(name="Trần Thị Bình"))
    arrived, registered = await statuses_of(agencies, MINISTRY, "01", "03")
    assert (arrived.from_, registered.document) == (PROVINCE, document_id)
    assert registered.staff is not None
    assert registered.staff.name == "Trần Thị Bình"

    recall = await ministry.revoke(document_id, to=(PROVINCE, DEPARTMENT), doc=facts(2, subject="Thu hồi văn bản"))
    await agencies.everyone_has([recall.document_id], 20, recipients=(PROVINCE, DEPARTMENT))
    await platform.status(
        document=recall.document_id, to=AgencyCode(MINISTRY), status="15", from_=AgencyCode(DEPARTMENT)
    )
    *_, agreed = await statuses_of(agencies, MINISTRY, "01", "03", "15")
    assert (agreed.from_, agreed.via, agreed.document) == (DEPARTMENT, PLATFORM, recall.document_id)

    original, recalling = [await traced(installation, item) for item in (document_id, recall.document_id)]
    (link,) = original["chain"]
    assert (link["action"], link["document_id"], link["refs"]) == ("revoke", recall.document_id, [document_id])
    assert {answer["recipient"]: answer["request"] for answer in link["answers"]} == {
        PROVINCE: "asked",
        DEPARTMENT: "agreed",
    }
    assert [link["document_id"] for link in recalling["chain"]] == [document_id]
    rows = {row["delivery"]["recipient"]: row for row in original["deliveries"]}
    assert rows[PROVINCE]["delivery"]["standing"] == {"progress": "03", "request": None}
    assert {due["duty"]: due["punctuality"] for due in rows[PROVINCE]["due"]} == {"notify": "met", "register": "met"}
    assert "vào sổ (03)" in rows[PROVINCE]["diagnosis"]["vi"]
    assert original["due"][0]["duty"] == "send"
    assert (await truc_json(installation, "audit"))["clean"]


async def test_a_recipient_that_is_asked_declines_and_goes_on(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    ministry, commune = agencies.clients[MINISTRY], agencies.clients[COMMUNE]
    document_id = await sent_to(agencies, COMMUNE)
    await commune.status(document=document_id, to=AgencyCode(MINISTRY), status="03")
    await statuses_of(agencies, MINISTRY, "03")
    await ministry.status(document=document_id, to=AgencyCode(COMMUNE), status="13", detail="Phát hành nhầm")
    (asked,) = await statuses_of(agencies, COMMUNE, "13")
    assert (asked.from_, asked.detail) == (MINISTRY, "Phát hành nhầm")
    await commune.status(
        document=document_id, to=AgencyCode(MINISTRY), status="16", detail="Đã ban hành văn bản trả lời"
    )
    await commune.status(document=document_id, to=AgencyCode(MINISTRY), status="01")  # too late: nobody is told
    await commune.status(document=document_id, to=AgencyCode(MINISTRY), status="06")
    await statuses_of(agencies, MINISTRY, "03", "16", "06")

    (row,) = (await traced(installation, document_id))["deliveries"]
    assert row["delivery"]["standing"] == {"progress": "06", "request": "declined"}
    events = [event["event"] for event in row["events"] if event["event"].startswith("status.")]
    assert sorted(events) == ["status.late", *["status.moved"] * 4]
    assert (await truc_json(installation, "audit"))["clean"]


async def test_a_document_that_came_to_the_wrong_agency_goes_back_with_its_reason(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    document_id = await sent_to(agencies, PROVINCE, COMMUNE)
    reason = "Văn bản thuộc thẩm quyền của [/bold]Sở Nội vụ"  # no markup of ours
    await agencies.clients[PROVINCE].status(document=document_id, to=AgencyCode(MINISTRY), status="02", detail=reason)
    (refused,) = await statuses_of(agencies, MINISTRY, "02")
    assert (refused.from_, refused.detail) == (PROVINCE, reason)

    found = await traced(installation, document_id)
    assert found["diagnosis"]["acts"] == "sender"
    assert reason in found["diagnosis"]["vi"]
    rows = {row["delivery"]["recipient"]: row for row in found["deliveries"]}
    assert rows[PROVINCE]["reason"] == reason
    assert rows[COMMUNE]["reason"] is None
    shown = await truc(installation, "trace", document_id)
    assert "từ chối tiếp nhận (02)" in shown
    assert "[/bold]Sở Nội vụ" in shown


async def test_a_document_is_updated_and_replaced_and_every_document_knows_the_whole_chain(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    ministry, to = agencies.clients[MINISTRY], (PROVINCE,)
    original = await sent_to(agencies, PROVINCE)
    updated = await ministry.update(original, to=to, doc=facts(1, subject="Bản đã sửa"))
    await agencies.everyone_has([updated.document_id], 20, recipients=to)
    replaced = await ministry.replace([original, updated.document_id], to=to, doc=facts(3))
    await agencies.everyone_has([replaced.document_id], 20, recipients=to)
    ids = [original, updated.document_id, replaced.document_id]
    for document_id in ids:
        chain = (await traced(installation, document_id))["chain"]
        assert [link["document_id"] for link in chain] == [other for other in ids if other != document_id]
    assert not agencies.notices


async def test_a_simulated_nation_answers_with_statuses_too(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    members = [
        {
            "code": code,
            "user": endpoint,
            "password": urlsplit(installation.accounts[AgencyCode(endpoint)].amqp_url).password,
            "key_file": str(installation.accounts[AgencyCode(endpoint)].key_file),
            "cert_file": str(installation.accounts[AgencyCode(endpoint)].certificate_file),
            "guard_file": str(tmp_path / f"{endpoint}.guard"),
        }
        for code, endpoint in ((MINISTRY, MINISTRY), (PROVINCE, PROVINCE), (DEPARTMENT, PLATFORM), (COMMUNE, COMMUNE))
    ]
    parts = urlsplit(installation.accounts[AgencyCode(MINISTRY)].amqp_url)
    config = {
        "amqp_url": f"amqp://{{user}}:{{password}}@{parts.hostname}:{parts.port}{parts.path}",
        "directory_file": str(installation.directory_file),
        "agencies": members,
        "documents_per_agency": 3,
        "statuses": ["01", "03"],
        "timeout_s": 60,
    }
    file = tmp_path / "nation.json"
    file.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapters.nation", "--config", str(file), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    summary = json.loads(out.splitlines()[-1])
    assert process.returncode == 0, summary
    assert summary["statuses"] == {"01": 36, "03": 36}
    assert summary["receipts"] == {"received": 36}
    assert (await truc_json(installation, "audit"))["clean"]
