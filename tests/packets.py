"""National packets for tests: one that is as it should be, with whatever is to be different.

The real packets that agencies' software has produced lie outside the repository: `real_packets` finds them in the folder
that TRUC_TEST_EDXML names, else in `shared/edxml` beside the checkout or above it.
"""

import base64
import dataclasses
import io
import os
import stat
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

from schemas.directory_file import VIETNAM
from schemas.edxml.attachments import pack
from schemas.edxml.packet import (
    Attachment,
    Business,
    Earlier,
    ManifestEntry,
    Packet,
    Party,
    StaffMember,
    StatusPacket,
    Trace,
)
from schemas.edxml.writer import write_packet

TODAY = date(2026, 3, 2)
PDF = b"%PDF-1.7\n% a small file\n"
ID = "G01,2026/02/27,12/TB-BTN"


def packet(**changes: Any) -> Packet:
    """A notification of G01 to H26, with one PDF."""
    entry, attachment = pack("Thông báo.pdf", PDF, "application/pdf")
    whole = Packet(
        from_=Party(code="G01", name="Bộ Thử nghiệm", address="Số 1, phố Mẫu, Hà Nội", email="vanthu@example.vn"),
        to=(Party(code="H26", name="Ủy ban nhân dân tỉnh Mẫu"),),
        number="12",
        notation="TB-BTN",
        place="Hà Nội",
        issued_on=date(2026, 2, 27),
        kind_table="2",
        kind_row="7",
        kinds=("Thông báo",),
        subject="Về việc kết nối thử với trục liên thông văn bản",
        summary="Các đơn vị gửi thử một văn bản",
        competence="TL. BỘ TRƯỞNG",
        position="Chánh Văn phòng",
        signer="Nguyễn Văn Mẫu",
        due_on=date(2026, 3, 15),
        places=("Như trên", "Lưu: VT"),
        priority="0",
        sphere="Liên thông văn bản",
        drafter="NVM",
        copies="2",
        pages="1",
        appendixes=("Danh sách đơn vị",),
        steering="1",
        id=ID,
        trace_version="1.0",
        traces=(Trace(code="G01", at=datetime(2026, 3, 2, 8, 30, tzinfo=VIETNAM)),),
        business=Business(kind="0", paper="0", staff=StaffMember(department="Văn thư", name="Trần Thị Mẫu")),
        manifest_version="1.0",
        manifest=(entry,),
        attachments=(attachment,),
    )
    return dataclasses.replace(whole, **changes)


def with_file(name: str, content: bytes) -> Packet:
    """The packet with one attachment whose base64 holds these very bytes."""
    return packet(
        manifest=(ManifestEntry(content_id="cid:1", name=name),),
        attachments=(Attachment(content_id="cid:1", name=name, content=content),),
    )


def status(code: str = "03", **changes: Any) -> StatusPacket:
    """A status of H26 about the packet of G01; 13 is that of G01 itself."""
    sender, told = ("G01", "H26") if code == "13" else ("H26", "G01")
    whole = StatusPacket(
        from_=Party(code=sender),
        answered=Earlier(code=told, number="12/TB-BTN", issued_on=date(2026, 2, 27), document=ID),
        staff=StaffMember(department="Văn thư", name="Trần Thị Mẫu", email="vt@example.vn", mobile="0900000000"),
        status=code,
        description="Không thuộc thẩm quyền giải quyết",
        at=datetime(2026, 3, 2, 9, 5, 1, tzinfo=VIETNAM),
    )
    return dataclasses.replace(whole, **changes)


def xml(what: Packet | StatusPacket | None = None) -> bytes:
    """Write a packet that can be written."""
    written = write_packet(packet() if what is None else what)
    assert isinstance(written, bytes), written
    return written


def changed(*replacements: tuple[str, str], data: bytes | None = None) -> bytes:
    """The packet as text, with some of it replaced; each must be there."""
    text = (xml() if data is None else data).decode()
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text.encode()


def with_content(encoded: str | bytes, *, name: str = "Thông báo.pdf") -> bytes:
    """The packet with this text, or these bytes in base64, as its attachment."""
    text = encoded if isinstance(encoded, str) else base64.b64encode(encoded).decode()
    content = base64.b64encode(packet().attachments[0].content).decode()
    return changed((content, text), ("Thông báo.pdf", name))


def zipped(*entries: tuple[str, bytes], link: bool = False) -> bytes:
    """A ZIP of these entries."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            information = zipfile.ZipInfo(name)
            information.compress_type = zipfile.ZIP_DEFLATED
            information.external_attr = ((stat.S_IFLNK if link else stat.S_IFREG) | 0o644) << 16
            archive.writestr(information, data)
    return memory.getvalue()


def real_packets() -> Path | None:
    """The folder of real packets, where there is one."""
    named = os.environ.get("TRUC_TEST_EDXML")
    checkout = Path(__file__).parents[1]
    candidates = [Path(named)] if named else [above / "shared" / "edxml" for above in checkout.parents]
    return next((folder for folder in candidates if folder.is_dir()), None)
