"""Parts by claim check, from one agency to the others, through the real broker, database, store and client."""

import time
from pathlib import Path

import pytest

from adapters.arrivals import Delivery
from adapters.errors import PartError
from hub.installation import Installation
from schemas.identifiers import AgencyCode
from tests import builders as a
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE, RECIPIENTS, Agencies, document
from tests.bench.parts import LIMIT_MIB, extra_mib, transfers
from tests.command_line import truc_json
from tests.hub_process import HubProcess, eventually

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4096 * 10  # 10 MiB: more than a chunk
TABLE = "Biểu tổng hợp số liệu".encode()


def now_s() -> int:
    return int(time.time())


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def problems_of(agencies: Agencies, code: str = MINISTRY) -> list[tuple[str, str]]:
    """Code and place of everything that the hub has told an agency."""
    return [(problem.code, problem.pointer) for notice in agencies.notices.get(code, ()) for problem in notice.problems]


async def test_every_recipient_fetches_the_parts_of_its_document_as_they_were_sent(
    hub: HubProcess, agencies: Agencies, tmp_path: Path
) -> None:
    (tmp_path / "7816.pdf").write_bytes(PDF)
    client = agencies.clients[MINISTRY]
    parts = [
        await client.upload(tmp_path / "7816.pdf", name="7816.pdf", media_type="application/pdf"),
        await client.upload(TABLE, name="Phụ lục 1.csv", media_type="text/csv"),
    ]
    fetched: dict[tuple[str, str], bytes] = {}

    async def fetch(code: str, delivery: Delivery) -> None:
        for part in delivery.envelope.parts:
            into = tmp_path / f"{delivery.recipient} {part.name}"
            await agencies.clients[code].fetch(delivery, part, into)
            fetched[delivery.recipient, part.name] = into.read_bytes()

    agencies.before_receipt = fetch
    sent = await client.submit(document(now_s(), parts=parts))
    await agencies.everyone_has([sent.document_id], 30)
    assert fetched == {
        (code, name): content for code in RECIPIENTS for name, content in (("7816.pdf", PDF), ("Phụ lục 1.csv", TABLE))
    }
    assert not [name for name in names_in(tmp_path) if name.endswith(".part")]


async def test_e503_document_sent_before_its_part_is_refused_and_taken_over_when_it_comes_again(
    hub: HubProcess, agencies: Agencies, installation: Installation
) -> None:
    client = agencies.clients[MINISTRY]
    part = a.part(TABLE, "7816.pdf")
    sent = await client.submit(document(now_s(), parts=[part]))
    await eventually(lambda: problems_of(agencies) == [("E503", "/parts/0/sha256")], 20, agencies.notices)
    (notice,) = agencies.notices[MINISTRY]
    assert (notice.kind, notice.document) == ("refused", sent.document_id)

    assert await client.upload(TABLE, name="7816.pdf", media_type="application/pdf") == part
    await client.submit(sent.token)
    await agencies.everyone_has([sent.document_id], 20)
    await agencies.all_receipts_are_back(1, 20)
    assert (await truc_json(installation, "audit"))["clean"]


async def test_e505_document_that_gives_a_part_another_length_is_refused(hub: HubProcess, agencies: Agencies) -> None:
    client = agencies.clients[MINISTRY]
    part = await client.upload(TABLE, name="7816.pdf", media_type="application/pdf")
    wrong = part.model_copy(update={"length": part.length + 1})
    await client.submit(document(now_s(), parts=[part, wrong]))
    await eventually(lambda: problems_of(agencies) == [("E505", "/parts/1/length")], 20, agencies.notices)


async def test_who_did_not_get_a_document_cannot_fetch_its_part(
    hub: HubProcess, agencies: Agencies, tmp_path: Path
) -> None:
    """An agency that learns of everything but the bytes: document, part, even the delivery."""
    client = agencies.clients[MINISTRY]
    part = await client.upload(TABLE, name="7816.pdf", media_type="application/pdf")
    stolen: list[Delivery] = []

    async def leak(_: str, delivery: Delivery) -> None:
        stolen.append(delivery)

    agencies.before_receipt = leak
    sent = await client.submit(document(now_s(), to=(PROVINCE,), parts=[part]))
    await agencies.everyone_has([sent.document_id], 20, recipients=(PROVINCE,))
    (delivery,) = stolen
    for thief, claimed, code in (
        (COMMUNE, COMMUNE, "E421"),
        (PLATFORM, DEPARTMENT, "E421"),
        (PLATFORM, PROVINCE, "E402"),
    ):
        delivery.recipient = AgencyCode(claimed)
        with pytest.raises(PartError, match=code):
            await agencies.clients[thief].fetch(delivery, part, tmp_path / "stolen.pdf")
    forged = await agencies.clients[COMMUNE].submit(document(now_s(), from_=COMMUNE, to=(PROVINCE,), parts=[part]))
    await eventually(lambda: problems_of(agencies, COMMUNE) == [("E503", "/parts/0/sha256")], 20, agencies.notices)
    assert agencies.notices[COMMUNE][0].document == forged.document_id
    assert not [name for name in names_in(tmp_path) if "stolen" in name]


async def test_platform_sends_and_fetches_for_its_agency(hub: HubProcess, agencies: Agencies, tmp_path: Path) -> None:
    client = agencies.clients[PLATFORM]
    fetched: list[bytes] = []

    async def fetch(code: str, delivery: Delivery) -> None:
        await agencies.clients[code].fetch(delivery, delivery.envelope.parts[0], tmp_path / "fetched")
        fetched.append((tmp_path / "fetched").read_bytes())

    agencies.before_receipt = fetch
    part = await client.upload(TABLE, name="1.csv", media_type="text/csv", from_=AgencyCode(DEPARTMENT))
    there = await client.submit(document(now_s(), from_=DEPARTMENT, to=(MINISTRY,), via=PLATFORM, parts=[part]))
    await agencies.everyone_has([there.document_id], 20, recipients=(MINISTRY,))
    part = await agencies.clients[MINISTRY].upload(TABLE, name="1.csv", media_type="text/csv")
    back = await agencies.clients[MINISTRY].submit(document(now_s(), to=(DEPARTMENT,), parts=[part]))
    await agencies.everyone_has([back.document_id], 20, recipients=(DEPARTMENT,))
    assert fetched == [TABLE, TABLE]


async def test_part_of_any_size_costs_hub_and_client_little_memory(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    """`make bench-parts` does the same with 1 GB."""
    result = await transfers(160 * 1024 * 1024, installation, hub, tmp_path)
    assert max(extra_mib(result)) < LIMIT_MIB, result
