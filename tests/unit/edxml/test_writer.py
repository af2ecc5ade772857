"""What a strict writer does not write."""

import dataclasses

import pytest

from schemas.edxml.packet import Attachment, Business, Earlier, ManifestEntry, Party, Replaced
from schemas.edxml.reader import read_packet
from schemas.edxml.writer import write_packet
from tests import packets

MESSAGE = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader"
ENCODED = "/edXML/AttachmentEncoded/Attachment[1]"


def problems(packet):
    written = write_packet(packet)
    assert isinstance(written, tuple)
    return [(problem.code, problem.pointer) for problem in written]


def test_it_begins_with_the_declaration_and_bears_the_prefixes_that_software_looks_for():
    data = packets.xml()

    assert data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<edXML xmlns=')
    assert b"<edXML:OrganId>" in data
    assert b"<AttachmentEncoded>" in data


def test_writing_twice_gives_the_same_bytes():
    assert packets.xml() == packets.xml()


@pytest.mark.parametrize(
    ("changes", "code", "place"),
    [
        ({"from_": Party(code="vxp.saas.03")}, "E512", f"{MESSAGE}/From/OrganId"),
        ({"to": (Party(code="H26"), Party(code="28.22.H17"))}, "E512", f"{MESSAGE}/To[2]/OrganId"),
        ({"number": "74fass22"}, "E512", f"{MESSAGE}/Code/CodeNumber"),
        ({"number": "12345678901234"}, "E512", f"{MESSAGE}/Code/CodeNumber"),
        ({"id": "G22,2026/02/27,12/TB-BTN"}, "E512", f"{MESSAGE}/DocumentId"),
        ({"subject": " x"}, "E512", ""),
        ({"subject": "null"}, "E512", f"{MESSAGE}/Subject"),
        ({"subject": "a\x00b"}, "E512", ""),
        ({"place": ""}, "E512", ""),
        (
            {"business": Business(kind="3", replaced=(Replaced(document="a"), Replaced(document="a")))},
            "E512",
            "/edXML/edXMLEnvelope/edXMLHeader/TraceHeaderList/Bussiness/ReplacementInfoList/ReplacementInfo",
        ),
        ({"attachments": ()}, "E513", "/edXML/edXMLEnvelope/edXMLBody/edXMLManifest/Reference[1]"),
    ],
)
def test_what_only_a_reader_accepts_is_refused(changes, code, place):
    assert problems(packets.packet(id="5e515fca", **changes) if "id" not in changes else packets.packet(**changes)) == [
        (code, place)
    ]


def test_a_recipient_that_is_named_twice_is_refused_at_both_places():
    twice = packets.packet(to=(Party(code="H26"), Party(code="H26")))

    assert problems(twice) == [("E406", f"{MESSAGE}/To[{number}]/OrganId") for number in (1, 2)]


@pytest.mark.parametrize("content", [packets.PDF, packets.zipped(("a", b""), ("b", b"")), b"PK\x03\x04", b""])
def test_an_attachment_that_is_no_zip_of_one_entry_is_refused(content):
    packet = packets.with_file("a.pdf", content)

    assert ("E512", f"{ENCODED}/ContentTransferEncoded") in problems(packet)


def test_an_unsafe_name_is_not_written():
    packet = packets.with_file("../a.pdf", packets.zipped(("a.pdf", packets.PDF)))

    assert problems(packet) == [("E508", f"{ENCODED}/AttachmentName")]


def test_a_status_to_nobody_is_refused():
    assert problems(packets.status(answered=Earlier(document="x"))) == [("E512", f"{MESSAGE}/ResponseFor/OrganId")]


def test_an_unsigned_number_with_a_letter_is_a_number():
    assert isinstance(write_packet(packets.packet(number="12a", id="x")), bytes)


def test_what_was_unmapped_at_reading_is_not_written():
    packet = dataclasses.replace(packets.packet(), unmapped=("/edXML/x",))

    assert write_packet(packet) == packets.xml()


def test_a_link_in_the_manifest_survives():
    entry = ManifestEntry(content_id="1", name="a.pdf", href="cid:1")
    attachment = Attachment(content_id="1", name="a.pdf", content=packets.zipped(("a.pdf", packets.PDF)))
    packet = packets.packet(manifest=(entry,), attachments=(attachment,))

    assert read_packet(packets.xml(packet)) == packet
