"""From outbox to inbox: the folder adapters are processes, hub, broker, database and blob store are real."""

import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hub.installation import Installation
from schemas.edxml.attachments import files, pack
from schemas.edxml.packet import Business, Earlier, Packet, Party, Replaced, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.refusal import CATALOGUE
from tests import packets
from tests.agencies import COMMUNE, DEPARTMENT, MINISTRY, PLATFORM, PROVINCE, Agencies, document, facts
from tests.folder_process import FolderProcess, running
from tests.hub_process import HubProcess, eventually

ISSUED = date(2026, 3, 2)


def own_id(number: int, code: str = MINISTRY) -> str:
    return f"{code},{ISSUED:%Y/%m/%d},{number}/TB-BTN"


def written(number: int, *to: str, from_: str = MINISTRY, pdf: bytes | None = None, **changes: Any) -> bytes:
    """A packet of ours, with a PDF of its own."""
    entry, attachment = pack("Thông báo.pdf", pdf or f"%PDF-1.7 {number}\n".encode() * 200, "application/pdf")
    values = {
        "from_": Party(code=from_, name="Bộ Thử nghiệm"),
        "to": tuple(Party(code=code) for code in to),
        "number": str(number),
        "issued_on": ISSUED,
        "id": own_id(number, from_),
        "manifest": (entry,),
        "attachments": (attachment,),
    }
    return packets.xml(packets.packet(**values | changes))


def status(code: str, number: int, *, from_: str, to: str = MINISTRY, **changes: Any) -> bytes:
    answered = Earlier(code=to, number=f"{number}/TB-BTN", issued_on=ISSUED, document=own_id(number))
    return packets.xml(packets.status(code, from_=Party(code=from_), answered=answered, **changes))


def codes(folder: FolderProcess, name: str, place: str = "sent") -> list[str]:
    """The statuses beside a document, as its software reads them."""
    read = [read_packet(path.read_bytes()) for path in folder.statuses(name, place)]
    assert all(isinstance(each, StatusPacket) for each in read), read
    return sorted(each.status for each in read if isinstance(each, StatusPacket))


@pytest.fixture
def ministry(installation: Installation, tmp_path: Path):
    folder = FolderProcess(installation, MINISTRY, tmp_path / "ministry")
    with running(folder):
        yield folder


@pytest.fixture
def province(installation: Installation, tmp_path: Path):
    folder = FolderProcess(installation, PROVINCE, tmp_path / "province")
    with running(folder):
        yield folder


async def test_a_packet_arrives_as_it_was_and_its_sender_sees_receipt_and_statuses(
    hub: HubProcess, ministry: FolderProcess, province: FolderProcess
) -> None:
    packet = written(7, PROVINCE)
    ministry.put("Văn bản 7.edxml", packet)
    await province.until(lambda: province.packets() == [packet])
    await ministry.until(lambda: ministry.outcomes("Văn bản 7.edxml") == {PROVINCE: "received"})
    await ministry.until(lambda: codes(ministry, "Văn bản 7.edxml") == ["01"])

    province.put("tt.edxml", status("03", 7, from_=PROVINCE))
    await ministry.until(lambda: codes(ministry, "Văn bản 7.edxml") == ["01", "03"])
    last = read_packet(ministry.statuses("Văn bản 7.edxml")[0].read_bytes())
    assert isinstance(last, StatusPacket)
    assert (last.from_.code, last.answered.document, last.staff) == (
        PROVINCE,
        own_id(7),
        packets.status("03").staff,
    )
    assert ministry.names("outbox") == ministry.names("sending") == ministry.names("failed") == []
    assert province.names("sent") == ["tt.edxml"]


async def test_a_document_is_updated_and_recalled_and_the_answers_close_the_loop(
    hub: HubProcess, ministry: FolderProcess, province: FolderProcess
) -> None:
    """The software of the recipient knows only DocumentIds; the axis hears which document is answered."""
    ministry.put("goc.edxml", written(1, PROVINCE))
    changed = written(2, PROVINCE, business=Business(kind="2", document=own_id(1)))
    ministry.put("sua.edxml", changed)
    await province.until(lambda: len(province.packets()) == 2)
    province.put("dong-y.edxml", status("15", 1, from_=PROVINCE))
    await ministry.until(lambda: codes(ministry, "sua.edxml") == ["01", "15"])

    ministry.put("thu-hoi.edxml", written(2, PROVINCE, business=Business(kind="1")))
    await province.until(lambda: len(province.packets()) == 3)
    province.put("khong.edxml", status("16", 2, from_=PROVINCE))
    await ministry.until(lambda: codes(ministry, "thu-hoi.edxml") == ["01", "16"])
    ministry.put(
        "thay.edxml", written(3, PROVINCE, business=Business(kind="3", replaced=(Replaced(document=own_id(2)),)))
    )
    await ministry.until(lambda: codes(ministry, "thay.edxml") == ["01"])
    assert ministry.names("failed") == province.names("failed") == []


async def test_a_sender_asks_for_a_document_and_gets_it_back(
    hub: HubProcess, ministry: FolderProcess, province: FolderProcess
) -> None:
    ministry.put("goc.edxml", written(1, PROVINCE))
    await province.until(lambda: len(province.packets()) == 1)
    ministry.put("xin-lai.edxml", packets.xml(_asked_back(1)))
    (delivery,) = [Path(name).stem for name in province.names("inbox")]
    await province.until(lambda: codes(province, delivery, "inbox") == ["13"])

    province.put("tra-lai.edxml", status("15", 1, from_=PROVINCE))
    await ministry.until(lambda: codes(ministry, "goc.edxml") == ["01", "15"])


def _asked_back(number: int) -> StatusPacket:
    answered = Earlier(code=PROVINCE, number=f"{number}/TB-BTN", issued_on=ISSUED, document=own_id(number))
    return packets.status("13", from_=Party(code=MINISTRY), answered=answered)


async def test_the_same_packet_again_is_the_same_document_and_another_one_under_its_id_is_a_conflict(
    hub: HubProcess, ministry: FolderProcess, province: FolderProcess
) -> None:
    packet = written(7, PROVINCE)
    ministry.put("7.edxml", packet)
    await ministry.until(lambda: ministry.names("sent") == ["7.edxml"])
    ministry.put("7.edxml", packet)
    ministry.put("7 bản sao.edxml", packet)
    ministry.put("khac.edxml", written(7, PROVINCE, subject="Trích yếu khác"))
    await ministry.until(lambda: ministry.names("failed") == ["khac.edxml"])
    ministry.put("8.edxml", written(8, PROVINCE))
    await province.until(lambda: len(province.packets()) == 2)

    assert ministry.codes("khac.edxml") == ["A301"]
    assert ministry.names("sent") == ["7.edxml", "8.edxml"]
    assert sorted(province.packets()) == sorted([packet, written(8, PROVINCE)])


async def test_what_the_hub_refuses_comes_back_with_its_reason_and_goes_out_when_it_is_corrected(
    hub: HubProcess, installation: Installation, province: FolderProcess, tmp_path: Path
) -> None:
    """The directory here says that there is such an agency; the hub knows better."""
    directory = installation.directory_file.read_text().replace(f'"{COMMUNE}"', '"H26.999"')
    (tmp_path / "old.json").write_text(directory)
    ministry = FolderProcess(installation, MINISTRY, tmp_path / "ministry", directory_file=tmp_path / "old.json")
    wrong = written(7, "H26.999")
    with running(ministry):
        ministry.put("7.edxml", wrong)
        await ministry.until(lambda: ministry.names("failed") == ["7.edxml"])
        assert ministry.codes("7.edxml") == ["E404"]
        text = (ministry.root / "failed" / "7.edxml.reason.txt").read_text()
        assert "CHƯA GỬI ĐƯỢC" in text
        assert CATALOGUE["E404"].fix_vi in text
        assert (ministry.root / "failed" / "7.edxml").read_bytes() == wrong

        ministry.put("7.edxml", written(7, PROVINCE))
        await province.until(lambda: province.packets() == [written(7, PROVINCE)])
        await ministry.until(lambda: ministry.names("sent") == ["7.edxml"])


async def test_a_platform_carries_the_packets_of_its_agency_both_ways(
    hub: HubProcess, installation: Installation, ministry: FolderProcess, tmp_path: Path
) -> None:
    platform = FolderProcess(installation, PLATFORM, tmp_path / "platform")
    with running(platform):
        there = written(7, DEPARTMENT)
        ministry.put("7.edxml", there)
        await platform.until(lambda: platform.packets() == [there])
        platform.put("tt.edxml", status("03", 7, from_=DEPARTMENT))
        await ministry.until(lambda: codes(ministry, "7.edxml") == ["01", "03"])

        back = written(9, MINISTRY, from_=DEPARTMENT)
        platform.put("9.edxml", back)
        await ministry.until(lambda: ministry.packets() == [back])
        platform.put("la.edxml", written(10, MINISTRY, from_=PROVINCE))
        await platform.until(lambda: platform.names("failed") == ["la.edxml"])
        assert platform.codes("la.edxml") == ["E402"]


async def test_a_document_that_never_was_a_packet_arrives_as_one(
    hub: HubProcess, agencies: Agencies, installation: Installation, tmp_path: Path
) -> None:
    await agencies.leave(PROVINCE)
    client = agencies.clients[MINISTRY]
    part = await client.upload(packets.PDF, name="Phụ lục.pdf", media_type="application/pdf")
    province = FolderProcess(installation, PROVINCE, tmp_path / "province")
    with running(province):
        await client.submit(document(int(time.time()), to=(PROVINCE,), parts=[part]))
        await province.until(lambda: len(province.packets()) == 1)
        read = read_packet(province.packets()[0])
        assert isinstance(read, Packet)
        ((file,), problems) = files(read)
        assert (read.from_.code, read.from_.name, problems) == (MINISTRY, "Văn phòng Chính phủ", ())
        assert (file.part, b"".join(file.chunks())) == (part, packets.PDF)

        unnumbered = document(int(time.time()), to=(PROVINCE,), parts=[part])
        unnumbered = unnumbered.model_copy(update={"doc": facts(number=None, notation=None)})
        await client.submit(unnumbered)
        await province.until(lambda: len(list((province.root / "unpacked").glob("*/001-*"))) == 1)
        (folder,) = (province.root / "unpacked").iterdir()
        assert (folder / "001-Phụ lục.pdf").read_bytes() == packets.PDF
        assert "ĐÃ NHẬN" in (folder / "reason.txt").read_text()
        await agencies.all_receipts_are_back(2, 20, each=1)


async def test_a_packet_that_says_another_sender_than_was_signed_is_refused(
    hub: HubProcess, agencies: Agencies, installation: Installation, tmp_path: Path
) -> None:
    """A commune signs as itself, and puts a packet of the ministry into its document."""
    await agencies.leave(PROVINCE)
    client = agencies.clients[COMMUNE]
    forged = written(7, PROVINCE, from_=MINISTRY)
    part = await client.upload(forged, name="7.edxml", media_type="application/xml")
    origin = {"id": own_id(7), "part": part.sha256, "level": "A1"}
    province = FolderProcess(installation, PROVINCE, tmp_path / "province")
    with running(province):
        honest = document(int(time.time()), from_=COMMUNE, to=(PROVINCE,), parts=[part])
        await client.submit(type(honest).model_validate(honest.model_dump(by_alias=True) | {"edxml": origin}))

        def refused() -> list[tuple[str, str | None]]:
            receipts = agencies.receipts.get(COMMUNE, [])
            return [(answer.outcome, answer.code) for receipt in receipts for answer in receipt.answers]

        await eventually(lambda: refused() == [("refused", "A302")], 20, refused)
        assert province.names("inbox") == province.names("arriving") == []


async def test_nothing_is_lost_or_doubled_when_both_sides_are_killed_again_and_again(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    ministry = FolderProcess(installation, MINISTRY, tmp_path / "ministry")
    province = FolderProcess(installation, PROVINCE, tmp_path / "province")
    sent = {f"{number}.edxml": written(number, PROVINCE) for number in range(1, 41)}
    carried_away: list[bytes] = []

    def carry_away() -> None:
        """The software of the province takes each packet as soon as it is there."""
        for name in province.names("inbox"):
            path = province.root / "inbox" / name
            carried_away.append(path.read_bytes())
            path.unlink()

    with running(ministry, province):
        for name, data in sent.items():
            ministry.put(name, data)
        for goal in (5, 12, 20, 30):
            await eventually(lambda goal=goal: (carry_away(), len(carried_away) >= goal)[1], 60, ministry.log)
            for folder in (ministry, province):
                folder.kill()
                folder.start()
        await eventually(lambda: (carry_away(), len(carried_away) >= len(sent))[1], 60, ministry.tree)
        await ministry.until(lambda: ministry.names("sent") == sorted(sent))
        await ministry.until(lambda: all(ministry.outcomes(name) == {PROVINCE: "received"} for name in sent), 60)
        await ministry.until(lambda: all(codes(ministry, name) == ["01"] for name in sent))
        carry_away()
        assert (ministry.stop(), province.stop()) == (0, 0)
    assert sorted(carried_away) == sorted(sent.values())
    assert ministry.names("failed") == ministry.names("sending") == province.names("arriving") == []


async def test_once_carries_what_waits_on_either_side_and_ends(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    ministry = FolderProcess(installation, MINISTRY, tmp_path / "ministry", folder_settle_s=0)
    province = FolderProcess(installation, PROVINCE, tmp_path / "province")
    ministry.put("7.edxml", written(7, PROVINCE))
    for folder in (ministry, province, ministry):
        with running():
            process = folder.start("--once")
            await folder.until(lambda process=process: process.poll() is not None)
        assert process.returncode == 0, folder.log()
    assert province.packets() == [written(7, PROVINCE)]
    assert ministry.outcomes("7.edxml") == {PROVINCE: "received"}
