"""Files out of packets, and what pretends to be one."""

import hashlib
import io
import struct
import tracemalloc
import unicodedata
import zipfile

import pytest

from schemas.edxml.attachments import MAX_ENTRIES, files, pack
from schemas.edxml.names import unsafe
from tests import packets

CONTENT = "/edXML/AttachmentEncoded/Attachment[1]/ContentTransferEncoded"
NAME = "/edXML/AttachmentEncoded/Attachment[1]/AttachmentName"


def parts(name: str, content: bytes):
    found, problems = files(packets.with_file(name, content))
    assert problems == ()
    return found


def problems(name: str, content: bytes) -> list[tuple[str, str]]:
    found, told = files(packets.with_file(name, content))
    assert found == ()
    return [(problem.code, problem.pointer) for problem in told]


def zeros(length: int) -> bytes:
    """A ZIP of so many zeros, made without holding them."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.pdf", "w") as entry:
        for _ in range(length // 1_000_000):
            entry.write(bytes(1_000_000))
    return memory.getvalue()


@pytest.mark.parametrize("content", [packets.PDF, packets.zipped(("7091b48b.pdf", packets.PDF))], ids=["raw", "ZIP"])
def test_a_file_is_found_whether_it_is_packed_or_not(content):
    [file] = parts("Thông báo.pdf", content)

    assert (file.part.name, file.part.media_type) == ("Thông báo.pdf", "application/pdf")
    assert (file.part.sha256, file.part.length) == (hashlib.sha256(packets.PDF).hexdigest(), len(packets.PDF))
    assert b"".join(file.chunks()) == packets.PDF


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("Công văn.docx", [("[Content_Types].xml", b"<a/>"), ("word/document.xml", b"<b/>")]),
        ("Hồ sơ.zip", [("a.pdf", b"1"), ("b.pdf", b"2")]),
        ("Hồ sơ.zip", [("a.pdf", b"1")]),
        ("không.pdf", [("a.pdf", b"1"), ("b.pdf", b"2")]),
    ],
    ids=["docx", "ZIP of two", "ZIP of one", "name and bytes disagree"],
)
def test_an_archive_that_is_the_file_itself_stays_packed(name, entries):
    content = packets.zipped(*entries)

    [file] = parts(name, content)

    assert b"".join(file.chunks()) == content


def test_an_archive_within_the_zip_of_the_standard_is_the_file():
    inner = packets.zipped(("a.pdf", b"1"), ("b.pdf", b"2"))

    [file] = parts("Hồ sơ.zip", packets.zipped(("7091b48b.zip", inner)))

    assert b"".join(file.chunks()) == inner


def test_a_name_is_composed():
    """Macs write decomposed letters: the same name, other bytes."""
    [file] = parts(unicodedata.normalize("NFD", "Quyết định.pdf"), packets.PDF)

    assert file.part.name == unicodedata.normalize("NFC", "Quyết định.pdf")


def test_names_that_differ_in_case_or_composition_only_are_twins():
    entries = [
        pack(name, packets.PDF, "application/pdf") for name in ("Điều.pdf", unicodedata.normalize("NFD", "điều.PDF"))
    ]
    packet = packets.packet(
        manifest=tuple(entry for entry, _ in entries), attachments=tuple(each for _, each in entries)
    )

    _, told = files(packet)

    assert [(problem.code, problem.pointer) for problem in told] == [
        ("E508", "/edXML/AttachmentEncoded/Attachment[2]/AttachmentName")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../x", "..", ".", "a/b.pdf", "C:\\x.pdf", "\\\\may\\x", "a\x00.pdf", "a\nb.pdf", "CON", "con.pdf", "Nul .txt", "COM1", "lpt9.doc",
        "a\u202efdp.exe", "a\u2066b", "x" * 256, "ă" * 128, "a.", "a ", "a:b.pdf", "a?.pdf", "a|b",
    ],
)  # fmt: skip
def test_an_unsafe_name_is_refused(name):
    assert problems(name, packets.PDF) == [("E508", NAME)]


@pytest.mark.parametrize(
    "name",
    ["Công văn số 12 (bản ký) - final.SIGNED.PDF", "1896_QD-TTg_m_294779.doc", ".ẩn", "console.pdf", "a..b.pdf", "COM.pdf", "ă" * 120, "#1&2.pdf"],
)  # fmt: skip
def test_an_ordinary_name_is_safe(name):
    assert unsafe(name) is None


def test_300_mb_of_zeros_are_refused_without_being_unpacked():
    content = zeros(300_000_000)
    tracemalloc.start()

    told = problems("x.pdf", content)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told == [("E511", CONTENT)]
    assert most < 4_000_000


def test_a_large_file_is_read_in_chunks():
    content = zeros(15_000_000)
    tracemalloc.start()

    [file] = parts("x.pdf", content)
    longest = max(len(chunk) for chunk in file.chunks())

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (file.part.length, longest) == (15_000_000, 65_536)
    assert most < 4_000_000


def test_an_archive_packed_a_thousand_to_one_is_refused():
    assert problems("x.pdf", zeros(20_000_000)) == [("E511", CONTENT)]


def test_a_bomb_inside_the_zip_of_the_standard_is_refused():
    inner = zeros(20_000_000)

    assert problems("x.zip", packets.zipped(("x.zip", inner))) == [("E511", CONTENT)]


@pytest.mark.parametrize("wrapped", [False, True])
def test_65_536_entries_are_refused_before_they_are_listed(wrapped):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for number in range(65_536):
            archive.writestr(str(number), b"")
    content = packets.zipped(("a.zip", memory.getvalue())) if wrapped else memory.getvalue()
    tracemalloc.start()

    told = problems("a.zip", content)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told == [("E511", CONTENT)]
    assert most < 16_000_000


def test_more_entries_than_allowed_are_refused():
    content = packets.zipped(*((str(number), b"") for number in range(MAX_ENTRIES + 1)))

    assert problems("a.zip", content) == [("E511", CONTENT)]


def test_an_archive_in_an_archive_is_refused():
    nested = packets.zipped(("a.zip", packets.zipped(("b.pdf", b""))), ("c.pdf", b""))

    assert problems("x.zip", nested) == [("E511", CONTENT)]
    assert problems("x.zip", packets.zipped(("x.zip", nested))) == [("E511", CONTENT)]


def test_a_symbolic_link_is_refused():
    assert problems("x.pdf", packets.zipped(("x.pdf", b"/etc/passwd"), link=True)) == [("E511", CONTENT)]


@pytest.mark.parametrize("entry", ["../x.pdf", "/etc/x", "a/../../x", "..\\x", "C:/x"])
def test_a_path_in_an_archive_that_leads_out_is_refused(entry):
    assert problems("x.pdf", packets.zipped((entry, packets.PDF))) == [("E508", CONTENT)]
    assert problems("x.zip", packets.zipped((entry, packets.PDF), ("a", b""))) == [("E508", CONTENT)]


def test_an_encrypted_zip_is_refused():
    content = bytearray(packets.zipped(("x.pdf", packets.PDF)))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1

    assert problems("x.pdf", bytes(content)) == [("E511", CONTENT)]


def test_overlapping_entries_are_refused():
    content = packets.zipped(("a", b"1" * 100), ("b", b"2" * 100))
    second = content.rindex(b"PK\x01\x02")
    overlapping = content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]

    assert problems("x.zip", overlapping)[0][0] in ("E511", "E512")


def test_a_length_that_lies_is_refused():
    """The directory promises a small file; what follows is longer, or shorter."""
    content = packets.zipped(("x.pdf", b"a" * 5000))
    directory = content.rindex(b"PK\x01\x02")
    for length in (10, 6000):
        lying = content[: directory + 24] + struct.pack("<L", length) + content[directory + 28 :]

        assert problems("x.pdf", lying) == [("E512", CONTENT)]


@pytest.mark.parametrize("cut", [1, 10, 30, 60])
def test_a_damaged_zip_is_refused(cut):
    assert problems("x.pdf", packets.zipped(("x.pdf", packets.PDF))[:-cut]) == [("E512", CONTENT)]


def test_an_entry_without_a_name_is_a_file_like_any_other():
    """`ZipInfo.is_dir` looks at the last character of the name."""
    content = bytearray(packets.zipped(("x", packets.PDF)))
    directory = content.rindex(b"PK\x01\x02")
    for name_length in (26, directory + 28):
        content[name_length], content[name_length + 2] = 0, 1  # the one letter becomes an extra field

    [file] = parts("a.pdf", bytes(content))

    assert b"".join(file.chunks()) == packets.PDF


def test_names_and_archives_are_told_at_once():
    assert problems("../x.pdf", packets.zipped(("x.pdf", b""), link=True)) == [("E508", NAME), ("E511", CONTENT)]


def test_packing_the_same_file_twice_gives_the_same_bytes():
    assert pack("a.pdf", packets.PDF, "application/pdf") == pack("a.pdf", packets.PDF, "application/pdf")


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("a.PDF", "application/zip", "application/pdf"),
        ("a.dgn", "application/zip", "application/octet-stream"),
        ("a.dgn", "image/vnd.dgn", "image/vnd.dgn"),
        ("a", None, "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_name_before_the_declared_one(name, declared, expected):
    packet = packets.packet(
        manifest=(packets.ManifestEntry(content_id="1", name=name, media_type=declared),),
        attachments=(packets.Attachment(content_id="1", name=name, content=b"x"),),
    )

    [file], _ = files(packet)

    assert file.part.media_type == expected
