"""Every packet of the folder of samples, put into an outbox: what came out at the other end is what went in.

The samples name documents that were sent before them; packets of ours with their DocumentIds stand for those.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.arrivals import Delivery
from adapters.client import AgencyClient
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from hub.installation import Installation, install
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.edxml.attachments import files
from schemas.edxml.packet import Packet, Party, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.identifiers import AgencyCode
from tests import packets
from tests.folder_process import FolderProcess, running
from tests.hub_process import HubProcess, free_port
from tests.services import Broker
from tests.unit.edxml.test_real_packets import DOCUMENTS, FOLDER, REFUSED, STATUSES, data_of

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="no real packets: name their folder in TRUC_TEST_EDXML, or put it in ../shared/edxml"
)

SENDER, RECIPIENT, OTHER, THIRD = (f"000.00.00.{code}" for code in ("G22", "H41", "H14", "G17"))
ORIGINALS = {
    "goc-7816.edxml": f"{SENDER},2015/09/30,7816/VPCP-TTĐT",
    "goc-7806.edxml": f"{SENDER},2014/01/30,7806/VPCP-TTĐT",
    "goc-7806-khac.edxml": f"{SENDER},2014/02/30,7806/VPCP-TTĐT",
}
BY_THE_RECIPIENT_OF = {
    "goc-7816.edxml": (
        "status",
        "status_acceptance_03",
        "status_assignment_04",
        "status_processing_05",
        "status_change-rejection_16",
        "status_finish_06",
    ),
    "edoc_update.edxml": ("status_rejection_02",),
    "edoc_replacement.edxml": ("status_change-acceptance_15",),
}
"""Which document each status is about when it comes, by the order in which documents and statuses are sent here."""
AGAIN, BY_THE_SENDER = "status_inbox_01", "status_cancellation_13"


@pytest.fixture
async def installation(vhost: Broker, database_url: str, tmp_path: Path) -> Installation:
    """A hub whose agencies bear the codes of the samples."""
    agencies = tuple(
        AgencyEntry(code=code, name=f"Đơn vị {code}", tier="ministry-province", endpoint=code, valid_from="2025-07-01")
        for code in (SENDER, RECIPIENT, OTHER, THIRD)
    )
    return await install(
        amqp_url=vhost.amqp_url,
        management_url=vhost.management_url,
        database_url=database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=tmp_path / "installation",
        country=DirectoryFile(agencies=agencies),
    )


@pytest.fixture
def sender(installation: Installation, tmp_path: Path) -> FolderProcess:
    return FolderProcess(installation, SENDER, tmp_path / "sender")


@pytest.fixture
def recipient(installation: Installation, tmp_path: Path) -> FolderProcess:
    return FolderProcess(installation, RECIPIENT, tmp_path / "recipient", folder_sends_arrival="false")


@pytest.fixture
async def other(installation: Installation, tmp_path: Path) -> AsyncIterator[AgencyClient]:
    """A recipient that fetches every part by itself."""
    account = installation.accounts[AgencyCode(OTHER)]
    signer = load_signer(account.key_file, account.certificate_file)
    with InboxGuard(tmp_path / "other.db") as guard:
        trust = Trust(installation.directory_file)
        async with AgencyClient(account.amqp_url, OTHER, signer, trust, guard, hub_url=account.hub_url) as client:
            yield client


def original(own_id: str) -> bytes:
    to = tuple(Party(code=code) for code in (RECIPIENT, OTHER, THIRD))
    packet = packets.packet(from_=Party(code=SENDER), to=to, id="own-id")
    return packets.changed(("own-id", own_id), data=packets.xml(packet))


async def parts_of(client: AgencyClient, into: Path, documents: int) -> dict[str, list[bytes]]:
    """Fetch every part of what arrives, by the packet's own digest; the packet itself comes first."""
    found: dict[str, list[bytes]] = {}
    async with asyncio.timeout(60):
        async for delivery in client.deliveries():
            found[delivery.document_id] = await fetched(client, delivery, into)
            if len(found) == documents:
                break
    return found


async def fetched(client: AgencyClient, delivery: Delivery, into: Path) -> list[bytes]:
    contents = []
    async with delivery:
        for part in delivery.envelope.parts:
            await client.fetch(delivery, part, into)
            contents.append(await asyncio.to_thread(into.read_bytes))
    return contents


def statuses_beside(folder: FolderProcess, name: str, place: str = "sent") -> list[StatusPacket]:
    read = [read_packet(path.read_bytes()) for path in folder.statuses(name, place)]
    return [each for each in read if isinstance(each, StatusPacket)]


def said(packet: object) -> tuple[object, ...]:
    """What of a status survives the way: everything but the names and addresses of the agencies, and old times."""
    assert isinstance(packet, StatusPacket)
    return (packet.status, packet.from_.code, packet.answered.code, packet.description, packet.staff)


def sample(name: str) -> object:
    return read_packet(data_of(name))


async def test_every_sample_comes_out_as_it_went_in(
    hub: HubProcess, sender: FolderProcess, recipient: FolderProcess, other: AgencyClient, tmp_path: Path
) -> None:
    sent: dict[str, bytes] = {name: original(own_id) for name, own_id in ORIGINALS.items()}
    with running(sender, recipient):
        for name, data in sent.items():
            sender.put(name, data)
        await recipient.until(lambda: sorted(recipient.packets()) == sorted(sent.values()))
        for name, statuses in BY_THE_RECIPIENT_OF.items():
            if name not in sent:
                sent[name] = data_of(name.removesuffix(".edxml"))
                sender.put(name, sent[name])
                await recipient.until(lambda: sorted(recipient.packets()) == sorted(sent.values()))
            for number, status in enumerate(statuses, 1):
                if status == "status_change-rejection_16":
                    await asked_back(sender, recipient)
                recipient.put(f"{status}.edxml", data_of(status))
                await sender.until(lambda name=name, number=number: len(statuses_beside(sender, name)) == number)
        recipient.put(f"{AGAIN}.edxml", data_of(AGAIN))  # the document is long beyond that: nobody is told
        sent["edoc_revocation.edxml"] = data_of("edoc_revocation")
        sender.put("edoc_revocation.edxml", sent["edoc_revocation.edxml"])
        for name in REFUSED:
            sender.put(f"{name}.edxml", data_of(name))
        await sender.until(lambda: sender.names("failed") == sorted(f"{name}.edxml" for name in REFUSED))
        await recipient.until(lambda: sorted(recipient.packets()) == sorted(sent.values()))
        await recipient.until(lambda: recipient.names("outbox") == recipient.names("sending") == [])
        by_parts = await parts_of(other, tmp_path / "part", len(sent))

    for name, statuses in BY_THE_RECIPIENT_OF.items():
        assert sorted(map(said, statuses_beside(sender, name))) == sorted(said(sample(each)) for each in statuses)
    assert {f"edoc_{name}" for name in ("update", "replacement", "revocation")} == set(DOCUMENTS)
    assert {AGAIN, BY_THE_SENDER, *(each for group in BY_THE_RECIPIENT_OF.values() for each in group)} == set(STATUSES)
    assert sorted(whole for whole, *_ in by_parts.values()) == sorted(sent.values())
    for whole, *attached in by_parts.values():
        assert attached == list(unpacked(whole))
    assert recipient.names("failed") == []
    for name, problems in REFUSED.items():
        assert sorted(set(sender.codes(f"{name}.edxml"))) == sorted({code for code, _ in problems})


async def asked_back(sender: FolderProcess, recipient: FolderProcess) -> None:
    """Let the sender ask for its document by the sample that does so."""
    (delivery,) = [
        Path(name).stem
        for name in recipient.names("inbox")
        if f"{ORIGINALS['goc-7816.edxml']}<" in (recipient.root / "inbox" / name).read_text()
    ]
    sender.put(f"{BY_THE_SENDER}.edxml", data_of(BY_THE_SENDER))
    await recipient.until(lambda: len(statuses_beside(recipient, delivery, "inbox")) == 1)
    (asked,) = statuses_beside(recipient, delivery, "inbox")
    assert said(asked) == said(sample(BY_THE_SENDER))


def unpacked(data: bytes) -> Iterator[bytes]:
    packet = read_packet(data)
    assert isinstance(packet, Packet)
    found, problems = files(packet)
    assert problems == ()
    for file in found:
        yield b"".join(file.chunks())
