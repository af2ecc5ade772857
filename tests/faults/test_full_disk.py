"""The agency's disk is full: nothing is acknowledged that could not be written, and everything goes on when there is room.

No file system is filled: the kernel is told to let the process write no byte beyond so many of any file (RLIMIT_FSIZE), so
that writes of packets, journal and guard fail as they would on a full disk, with another error number.
"""

import asyncio
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from hub.installation import Installation
from schemas.edxml.attachments import pack
from schemas.edxml.packet import Party
from tests import packets
from tests.agencies import MINISTRY, PROVINCE
from tests.folder_process import FolderProcess, running
from tests.hub_process import HubProcess

DAY = date(2026, 3, 2)
KIB = 1024


def written(number: int) -> bytes:
    entry, attachment = pack("7.pdf", packets.PDF + random.Random(number).randbytes(300 * KIB), "application/pdf")
    return packets.xml(
        packets.packet(
            from_=Party(code=MINISTRY),
            to=(Party(code=PROVINCE),),
            number=str(number),
            issued_on=DAY,
            id=f"{MINISTRY},2026/03/02,{number}/TB-BTN",
            manifest=(entry,),
            attachments=(attachment,),
        )
    )


def folder_process(installation: Installation, code: str, home: Path) -> FolderProcess:
    """Make a folder process that keeps no compiled modules.

    Python 3.11 takes what it could write of one for the whole, and every other process would fail to read it.
    """
    folder = FolderProcess(installation, code, home)
    folder.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return folder


@contextmanager
def full_disk(folder: FolderProcess, most_bytes: int) -> Iterator[None]:
    assert folder.process is not None
    pid = folder.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("most_bytes", "code"), [(KIB, "A104"), (200 * KIB, "A120")], ids=["guard", "packets"])
async def test_a_full_disk_at_the_recipient_delays_and_loses_nothing(
    hub: HubProcess, installation: Installation, tmp_path: Path, most_bytes: int, code: str
) -> None:
    ministry = folder_process(installation, MINISTRY, tmp_path / "ministry")
    province = folder_process(installation, PROVINCE, tmp_path / "province")
    sent = [written(number) for number in range(1, 6)]
    with running(ministry, province):
        await province.until((province.root / "unpacked").is_dir)
        with full_disk(province, most_bytes):
            for number, data in enumerate(sent, 1):
                ministry.put(f"{number}.edxml", data)
            await ministry.until(lambda: len(ministry.names("sent")) == 5)
            await province.until(lambda: f"folder.waiting {code}" in province.log())
            await asyncio.sleep(3)
            assert province.packets() == []
            assert all(not ministry.outcomes(f"{number}.edxml") for number in range(1, 6))
        await province.until(lambda: sorted(province.packets()) == sorted(sent), 60)
        await ministry.until(
            lambda: all(ministry.outcomes(f"{number}.edxml") == {PROVINCE: "received"} for number in range(1, 6))
        )
        assert province.log().count(f"folder.waiting {code}") == 1
        assert province.stop() == 0
    assert province.names("arriving") == []


async def test_a_full_disk_at_the_sender_delays_and_doubles_nothing(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    ministry = folder_process(installation, MINISTRY, tmp_path / "ministry")
    province = folder_process(installation, PROVINCE, tmp_path / "province")
    sent = [written(number) for number in range(1, 6)]
    with running(ministry, province):
        await ministry.until((ministry.root / "unpacked").is_dir)
        with full_disk(ministry, KIB):
            for number, data in enumerate(sent, 1):
                ministry.put(f"{number}.edxml", data)
            await ministry.until(lambda: len(ministry.names("sending")) == 5)
            await ministry.until(lambda: "folder.waiting A107" in ministry.log())
            await asyncio.sleep(3)
            assert ministry.names("sent") == province.packets() == []
        await province.until(lambda: sorted(province.packets()) == sorted(sent), 60)
        await ministry.until(lambda: len(ministry.names("sent")) == 5)
        assert (ministry.stop(), province.stop()) == (0, 0)
    assert len(province.packets()) == 5
