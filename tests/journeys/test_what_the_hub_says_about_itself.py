"""Logs, metrics and health of a hub at work."""

import json
import re
import time
import urllib.request

from hub.installation import Installation
from tests.agencies import MINISTRY, Agencies, document
from tests.command_line import traced, truc, truc_json
from tests.hub_process import HubProcess, eventually
from tests.services import ask_sql


def figures(hub: HubProcess) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)}


async def test_counts_in_the_metrics_are_what_happened(hub: HubProcess, agencies: Agencies) -> None:
    client = agencies.clients[MINISTRY]
    sent = await client.submit(document(int(time.time())))
    await client.submit(document(int(time.time()), 2, to=("H99",)))
    await agencies.everyone_has([sent.document_id], 20)
    await agencies.all_receipts_are_back(1, 20)
    await eventually(lambda: agencies.notices.get(MINISTRY), 20)

    # Three receipts were passed on and one notice went out, beside the three deliveries.
    await eventually(lambda: figures(hub).get('truc_handovers_total{outcome="routed"}') == 7, 10, lambda: figures(hub))
    seen = figures(hub)
    assert seen['truc_submissions_total{code="",verdict="accept"}'] == 1
    assert seen['truc_submissions_total{code="E404",verdict="refuse"}'] == 1
    assert seen['truc_answers_total{outcome="received"}'] == 3
    states = ("pending", "routed", "held", "dead")
    assert [seen[f'truc_deliveries{{state="{state}"}}'] for state in states] == [0, 0, 0, 0]
    assert seen["truc_deliveries_overdue"] == 0


async def test_no_metric_names_an_agency_or_a_document(hub: HubProcess, agencies: Agencies) -> None:
    sent = await agencies.clients[MINISTRY].submit(document(int(time.time())))
    await agencies.everyone_has([sent.document_id], 20)
    assert not [name for name in figures(hub) if sent.document_id in name or "H26" in name or MINISTRY in name]


async def test_logs_are_json_with_stable_events_and_without_content(hub: HubProcess, agencies: Agencies) -> None:
    refused = await agencies.clients[MINISTRY].submit(document(int(time.time()), to=("H99",)))
    await eventually(lambda: "document.refused" in hub.log(), 20, hub.log)
    records = [json.loads(line) for line in hub.log().splitlines()]
    (record,) = [item for item in records if item["event"] == "document.refused"]
    assert (record["document_id"], record["signer"], record["codes"]) == (refused.document_id, MINISTRY, ["E404"])
    assert all({"event", "level", "timestamp"} <= item.keys() for item in records)
    assert "Về việc" not in hub.log()


async def test_health_names_nothing_when_all_is_well(hub: HubProcess) -> None:
    assert hub.dead() == {}
    assert hub.failing() == {}


async def test_a_role_that_could_rewrite_the_ledger_is_not_ready(hub: HubProcess, installation: Installation) -> None:
    await ask_sql(installation.settings["database_url"], "GRANT DELETE ON ledger TO truc_hub")
    await eventually(lambda: "DELETE" in (hub.failing() or {}).get("database", ""), 10, hub.failing)


async def test_a_trace_speaks_both_languages_and_knows_many_names(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    envelope = document(int(time.time()), 7816)
    sent = await agencies.clients[MINISTRY].submit(envelope)
    await agencies.all_receipts_are_back(1, 20)
    for name in (sent.document_id, sent.document_id[:12], envelope.id, "7816/VPCP-TTĐT"):
        vietnamese = await truc(installation, "trace", name)
        assert "Tất cả 3 đơn vị nhận đã nhận." in vietnamese
    assert "All 3 recipients have received it." in await truc(installation, "trace", sent.document_id, "--lang", "en")
    found = await traced(installation, "7816/VPCP-TTĐT")
    assert [row["delivery"]["state"] for row in found["deliveries"]] == ["received"] * 3
    assert found["document_id"] == sent.document_id
    await truc(installation, "trace", "9999/KHONG-CO", expect=6)


async def test_an_audit_that_does_not_hold_exits_with_one_and_names_the_place(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    sent = await agencies.clients[MINISTRY].submit(document(int(time.time())))
    await agencies.all_receipts_are_back(1, 20)
    assert (await truc_json(installation, "audit", "--full"))["clean"]
    await ask_sql(installation.settings["database_url"], "DELETE FROM deliveries WHERE recipient = 'H26.101'")
    report = await truc_json(installation, "audit", expect=1)
    assert not report["clean"]
    assert any(sent.document_id in item for violation in report["violations"] for item in violation["ids"])
