"""What XML allows and a packet does not."""

import pytest

from schemas.edxml import parsing
from schemas.edxml.parsing import MAX_PACKET_BYTES, Tree, parse
from schemas.edxml.reader import read_packet
from tests import packets

BILLION_LAUGHS = (
    '<!DOCTYPE edXML [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


def problems(data: bytes) -> list[tuple[str, str]]:
    read = read_packet(data)
    assert isinstance(read, tuple), "this packet is refused"
    return [(problem.code, problem.pointer) for problem in read]


def found(data: bytes) -> str:
    read = read_packet(data)
    assert isinstance(read, tuple)
    return " ".join(problem.en for problem in read)


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b""], ids=["with BOM", "without"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_utf_8_is_read_with_and_without_byte_order_mark_and_with_any_line_ends(before, end):
    assert read_packet(before + packets.xml().replace(b"\n", end)) == packets.packet()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_are_refused(encoding):
    assert "UTF-16" in found(packets.xml().decode().encode(encoding))


@pytest.mark.parametrize("declared", ["windows-1258", "ISO-8859-1", "UTF-16"])
def test_a_declaration_of_another_encoding_is_refused(declared):
    assert declared in found(packets.changed(('encoding="UTF-8"', f'encoding="{declared}"')))


def test_bytes_that_are_no_utf_8_are_refused():
    assert problems(packets.xml().replace("Hà Nội".encode(), b"H\xe0 N\xf4i")) == [("E510", "")]


def test_what_stands_before_the_declaration_is_told_with_what_is_wrong_behind_it():
    data = b"1212" + packets.changed((">Về việc kết nối thử với trục liên thông văn bản<", "><"))

    assert problems(data) == [("E510", ""), ("E512", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/Subject")]


def test_a_second_byte_order_mark_is_junk():
    assert "3 bytes stand before" in found(b"\xef\xbb\xbf" * 2 + packets.xml())


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE edXML SYSTEM "http://example.com/x.dtd">',
        '<!DOCTYPE edXML [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        "<!-- hidden --><!DOCTYPE edXML []>",
        BILLION_LAUGHS,
    ],
    ids=["external", "XXE", "behind a comment", "billion laughs"],
)
def test_a_dtd_never_reaches_the_parser(dtd, monkeypatch):
    data = packets.changed(('encoding="UTF-8"?>\n', f'encoding="UTF-8"?>\n{dtd}\n'))
    monkeypatch.setattr(parsing.etree, "fromstring", lambda *_: pytest.fail("parsed"))

    assert parse(data)[0].code == "E510"


def test_an_entity_that_is_not_declared_is_refused():
    assert "xxe" in found(packets.changed((">Hà Nội<", ">&xxe;<")))


def test_a_comment_within_an_identifier_does_not_cut_it_in_two():
    """A reader that takes the text up to the comment would deliver to another agency."""
    data = packets.changed(("<edXML:OrganId>H26<", "<edXML:OrganId>H26<!-- -->.02<"))

    assert problems(data) == [("E510", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/To/OrganId")]


def test_comments_and_instructions_are_told_all_with_their_places():
    data = packets.changed(
        ("<edXML:Subject>", "<!-- a --><?b?><edXML:Subject>"), ("<AttachmentEncoded>", "<AttachmentEncoded><!-- c -->")
    )

    assert problems(b"<!-- d -->" + data.split(b"\n", 1)[1] + b"<?e?>") == [
        ("E510", ""),
        ("E510", ""),
        *[("E510", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader")] * 2,
        ("E510", "/edXML/AttachmentEncoded"),
    ]


def test_an_unbound_prefix_is_told_once_with_the_comments():
    data = packets.changed(
        ("<edXML:Subject>", "<!-- a --><x:Subject>"),
        ("</edXML:Subject>", "</x:Subject>"),
        ("<AttachmentEncoded>", "<x:AttachmentEncoded>"),
        ("</AttachmentEncoded>", "</x:AttachmentEncoded>"),
    )

    assert problems(data) == [("E510", ""), ("E510", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader")]


@pytest.mark.parametrize("namespace", ["", "http://www.mic.gov.vn/TBT/QCVN_102_2018", "urn:x"])
def test_a_wrong_namespace_names_the_right_one(namespace):
    data = packets.changed(
        ("http://www.mic.gov.vn/TBT/QCVN_102_2016", namespace), ("edXML:", ""), ("xmlns:edXML", "xmlns")
    )

    assert "http://www.mic.gov.vn/TBT/QCVN_102_2016" in found(data)


def test_a_wrong_root_names_the_right_one():
    assert "not edXML" in found(b"<html><body/></html>")


def test_an_element_of_another_namespace_is_refused_with_its_place():
    data = packets.changed(("<edXML:Subject>", '<Subject xmlns="urn:x">a</Subject><edXML:Subject>'))

    place = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/Subject"
    assert ("E510", place) in problems(data)


def test_what_stands_inside_a_signature_is_the_matter_of_the_signature():
    signature = '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><Object><Q xmlns="http://uri.etsi.org/01903/v1.3.2#"/></Object></Signature>'
    data = packets.changed(("</edXML:edXMLHeader>", signature + "</edXML:edXMLHeader>"))

    assert read_packet(data) == packets.packet()


def test_two_documents_in_one_file_are_refused():
    assert "second document" in found(packets.xml() + packets.xml().split(b"\n", 1)[1])


def test_depth_is_bounded():
    data = packets.changed(("<edXML:Subject>", "<edXML:X>" * 40 + "</edXML:X>" * 40 + "<edXML:Subject>"))

    assert ("E511", "") in problems(data)


def test_size_is_bounded():
    assert problems(packets.xml() + b" " * MAX_PACKET_BYTES) == [("E511", "")]


@pytest.mark.parametrize("many", ["<edXML:X/>", ""], ids=["elements", "attributes"])
def test_what_makes_a_tree_large_is_bounded_before_there_is_one(many, monkeypatch):
    attributes = "".join(f' a{number}=""' for number in range(60_000)) if not many else ""

    data = packets.changed(("<edXML:Subject>", f"{many * 120_000}<edXML:Subject{attributes}>"))
    monkeypatch.setattr(parsing.etree, "fromstring", lambda *_: pytest.fail("parsed"))

    assert parse(data)[0].code == "E511"


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"%PDF-1.7", b"{}", b"eyJ.a.b", b"PK\x03\x04", b"<", b"<?xml", b"\xef\xbb\xbf"]
)
def test_what_is_no_packet_is_refused(data):
    assert problems(data)[0] == ("E510", "")


def test_a_text_of_more_than_ten_million_characters_is_read():
    """That is where libxml2 stops unless it is told otherwise."""
    data = packets.with_content(b"\x01" * 9_000_000, name="x.bin")

    assert isinstance(parse(data), Tree)
    assert len(read_packet(data).attachments[0].content) == 9_000_000
