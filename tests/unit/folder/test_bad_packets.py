"""What is put into outbox and must not go out: each ends in failed with its code and a reason, and nothing is queued.

The client here has nowhere to go: whatever was signed and sent would be trouble, and nothing is in the journal.
"""

import base64
import io
import json
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from lxml import etree

from adapters.errors import FileUnusable
from adapters.examination import Examiner, examine_file
from adapters.folder import drafting
from adapters.folder.journal import Key
from schemas.edxml.attachments import pack
from schemas.edxml.parsing import MAX_PACKET_BYTES
from tests import packets
from tests.folders import Folder, open_folder
from tests.unit.edxml.test_signature import E, signed
from tests.unit.schemas import stage

EXAMPLES = stage.EXAMPLES / "edxml" / "refused"
ONLY_LOWER_THE_LEVEL = ("E303-sha-1",)


@pytest.fixture
async def folder(tmp_path: Path):
    examiner = Examiner(stage.directory(), _certificates(), None, stage.NOW)
    async with open_folder(
        tmp_path / "home", tmp_path / "none.json", lambda: stage.NOW, code="G01", examiner=examiner
    ) as opened:
        yield opened


def _certificates() -> dict[str, list[x509.Certificate]]:
    return {"G01": [x509.load_pem_x509_certificate(stage.certified("G01").pem.encode())]}


async def failed(folder: Folder, name: str, data: bytes) -> list[str]:
    """Put a file into outbox; gives the codes of the reason that lies beside it then."""
    folder.put(name, data)
    await folder.send_all()
    assert [folder.names(place) for place in ("outbox", "sending", "sent")] == [[], [], []]
    assert folder.names("failed") == [name]
    assert (folder.root / "failed" / name).read_bytes() == data
    reason = json.loads((folder.root / "failed" / f"{name}.reason.json").read_bytes())
    text = (folder.root / "failed" / f"{name}.reason.txt").read_text()
    for problem in reason["problems"]:
        assert problem["code"] in text
        assert problem["fix_vi"] in text
    return sorted({problem["code"] for problem in reason["problems"]})


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXAMPLES.iterdir()) if path.stem not in ONLY_LOWER_THE_LEVEL],
    ids=lambda path: path.stem,
)
async def test_every_published_example_of_a_refused_packet_ends_in_failed(folder, path):
    assert await failed(folder, path.name, path.read_bytes()) == [path.name[:4]]


def a_zip_of_zeros() -> bytes:
    """300 MB of zeros, packed."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("so-0.pdf", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1_000_000))
    return packets.with_content(memory.getvalue())


def two_names_that_look_alike() -> bytes:
    """One composed as Windows writes it, one decomposed as a Mac does; on screen they are the same."""
    packed = [pack(f"{name}.pdf", packets.PDF, "application/pdf") for name in "AB"]
    entries, attachments = zip(*packed, strict=True)
    composed, decomposed = (unicodedata.normalize(form, "Thông báo.pdf") for form in ("NFC", "NFD"))
    data = packets.xml(packets.packet(manifest=entries, attachments=attachments))
    return packets.changed(("A.pdf", composed), ("B.pdf", decomposed), data=data)


def signed_in_part() -> bytes:
    return etree.tostring(
        signed(keys=stage.certified("G01"), ids={f"{E}edXMLEnvelope/{E}edXMLHeader": "one"}, references=("#one",))
    )


def without(tag: str) -> bytes:
    """The packet without the element of its attachment, here or there."""
    root = etree.fromstring(packets.xml())
    (element,) = root.iter(f"{E}{tag}")
    element.getparent().remove(element)
    return etree.tostring(root)


ONLY_THE_JOURNAL_KNOWS = ("revocation of what was never sent", "status about what never came")
BAD: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "UTF-16": (lambda: packets.xml().decode().replace("UTF-8", "UTF-16").encode("utf-16"), ["E510"]),
    "wrong namespace": (lambda: packets.changed(("QCVN_102_2016", "QCVN_102_2017")), ["E510"]),
    "empty To": (lambda: packets.changed(("<edXML:OrganId>H26</edXML:OrganId>", "<edXML:OrganId/>")), ["E512"]),
    "two documents in one file": (lambda: packets.xml() + packets.xml(), ["E510"]),
    "attachment listed but absent": (lambda: without("Attachment"), ["E513"]),
    "attachment that is not listed": (lambda: without("Reference"), ["E513"]),
    "two names that look alike": (two_names_that_look_alike, ["E508"]),
    "a name that leads out": (lambda: packets.changed(("Thông báo.pdf", "../Thông báo.pdf")), ["E508"]),
    "300 MB of zeros": (a_zip_of_zeros, ["E511"]),
    "comment inside an identifier": (lambda: packets.changed((">H26<", ">H2<!-- -->6<")), ["E510"]),
    "signature over the header only": (signed_in_part, ["E303"]),
    "no XML at all": (lambda: packets.PDF, ["E510"]),
    "nothing in it": (lambda: b"", ["E510"]),
    "larger than a packet may be": (lambda: packets.xml() + b" " * MAX_PACKET_BYTES, ["E511"]),
    "sender that the directory does not know": (lambda: packets.changed((">G01<", ">G02<")), ["E401"]),
    "revocation of what was never sent": (
        lambda: packets.changed(("<edXML:BussinessDocType>0<", "<edXML:BussinessDocType>1<")),
        ["E512"],
    ),
    "status about what never came": (lambda: packets.xml(packets.status("13")), ["E512"]),
    "damaged base64": (lambda: packets.with_content("%%%"), ["E512"]),
    "a photo in the place of a packet": (lambda: base64.b64decode("/9j/4AAQSkZJRg=="), ["E510"]),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_ends_in_failed_with_its_code_and_is_not_queued(folder, what):
    make, codes = BAD[what]

    assert await failed(folder, "xau.edxml", make()) == codes


@pytest.mark.parametrize("what", [what for what in BAD if what not in ONLY_THE_JOURNAL_KNOWS])
def test_verify_says_the_same_beforehand(what):
    make, codes = BAD[what]
    examiner = Examiner(stage.directory(), _certificates(), None, stage.NOW)

    assert sorted({problem.code for problem in examine_file(make(), examiner).problems}) == codes


async def test_a_file_that_nobody_lets_us_read_ends_in_failed(folder, monkeypatch):
    def closed(*_: object) -> bytes:
        error = FileUnusable("Permission denied", "không có quyền đọc")
        raise error from PermissionError(13, "Permission denied")

    monkeypatch.setattr(drafting, "read_whole", closed)

    assert await failed(folder, "kin.edxml", packets.xml()) == ["A120"]


async def test_the_same_bad_file_again_keeps_its_place_and_another_of_its_name_gets_its_own(folder):
    for data in (b"one", b"one", b"two"):
        folder.put("van-ban.edxml", data)
        await folder.send_all()

    failed = folder.root / "failed"
    assert folder.names("failed") == ["van-ban-2.edxml", "van-ban.edxml"]
    assert (failed / "van-ban.edxml").read_bytes() == b"one"
    assert (failed / "van-ban-2.edxml").read_bytes() == b"two"


async def test_a_clerk_reads_the_field_by_its_name_and_what_to_do(folder):
    folder.put("xau.edxml", packets.changed((">H26<", ">Sở Nội vụ<")))
    await folder.send_all()

    text = (folder.root / "failed" / "xau.edxml.reason.txt").read_text()
    assert "Mã định danh, bên nhận thứ 1" in text
    assert "Cách xử lý: " in text


async def test_a_bad_file_leaves_no_trace_in_the_journal(folder):
    folder.put("xau.edxml", packets.changed(("<edXML:OrganId>H26</edXML:OrganId>", "<edXML:OrganId/>")))
    await folder.send_all()

    assert await folder.outgoing.journal.other(Key("G01", packets.ID, "new", "")) is None
