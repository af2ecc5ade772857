"""From one agency to three others of all tiers, through the real broker, the real database and the real client."""

import time

from schemas.identifiers import delivery_id_of
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE, RECIPIENTS, Agencies, document
from tests.hub_process import HubProcess


async def test_every_recipient_gets_it_once_and_the_sender_gets_every_receipt(
    hub: HubProcess, agencies: Agencies
) -> None:
    sent = await agencies.clients[MINISTRY].submit(document(int(time.time())))
    await agencies.everyone_has([sent.document_id], 20)
    await agencies.all_receipts_are_back(1, 20)
    assert dict(agencies.handed_over) == {delivery_id_of(sent.document_id, code): 1 for code in RECIPIENTS}
    assert {receipt.from_ for receipt in agencies.receipts[MINISTRY]} == set(RECIPIENTS)
    assert {receipt.via for receipt in agencies.receipts[MINISTRY] if receipt.from_ == DEPARTMENT} == {PLATFORM}


async def test_a_platform_speaks_for_its_agency_under_its_mandate(hub: HubProcess, agencies: Agencies) -> None:
    envelope = document(int(time.time()), from_=DEPARTMENT, to=(MINISTRY, COMMUNE), via=PLATFORM)
    sent = await agencies.clients[PLATFORM].submit(envelope)
    await agencies.everyone_has([sent.document_id], 20, recipients=(MINISTRY, COMMUNE))
    await agencies.all_receipts_are_back(1, 20, sender=PLATFORM, each=2)


async def test_a_group_reaches_all_its_members(hub: HubProcess, agencies: Agencies) -> None:
    sent = await agencies.clients[MINISTRY].submit(document(int(time.time()), to=("children:H26", "tier:commune")))
    await agencies.everyone_has([sent.document_id], 20, recipients=(DEPARTMENT, COMMUNE))
    assert not agencies.documents[PROVINCE, sent.document_id]


async def test_the_same_document_twice_is_delivered_once(hub: HubProcess, agencies: Agencies) -> None:
    client = agencies.clients[MINISTRY]
    sent = await client.submit(document(int(time.time())))
    again = await client.submit(sent.token)
    other = await client.submit(document(int(time.time()), 2))
    await agencies.everyone_has([sent.document_id, other.document_id], 20)
    assert again.document_id == sent.document_id
    assert all(times == 1 for times in agencies.handed_over.values())
