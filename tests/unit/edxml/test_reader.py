"""What a lenient reader takes, and where its patience ends."""

import re
from datetime import date, datetime
from pathlib import Path

import pytest

from schemas.directory_file import VIETNAM
from schemas.edxml.packet import Packet, StatusPacket
from schemas.edxml.reader import read_packet
from tests import packets

MESSAGE = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader"


def read(*replacements: tuple[str, str]) -> Packet:
    packet = read_packet(packets.changed(*replacements))
    assert isinstance(packet, Packet), packet
    return packet


def problems(*replacements: tuple[str, str], data: bytes | None = None) -> list[tuple[str, str]]:
    found = read_packet(packets.changed(*replacements, data=data))
    assert isinstance(found, tuple)
    return [(problem.code, problem.pointer) for problem in found]


def test_elements_are_read_in_any_order():
    text = packets.xml().decode()
    message = re.search(r"<edXML:MessageHeader>(.*)</edXML:MessageHeader>", text, re.DOTALL)[1]
    children = re.findall(r"\n {8}<edXML:(\w+)(?:>| .*?>)(?:.*?)</edXML:\1>", message, re.DOTALL)
    blocks = [re.search(rf"\n {{8}}<edXML:{name}>.*?</edXML:{name}>", message, re.DOTALL)[0] for name in children]

    turned = text.replace(message, "".join(reversed(blocks)))

    assert len(blocks) > 10
    assert read_packet(turned.encode()) == packets.packet()


def test_business_may_stand_before_the_stations():
    text = packets.xml().decode()
    business = re.search(r"<edXML:Bussiness>.*</edXML:Bussiness>", text, re.DOTALL)[0]

    data = text.replace(business, "").replace(
        'version="1.0">\n        <edXML:TraceHeader', f'version="1.0">{business}<edXML:TraceHeader'
    )

    assert read_packet(data.encode()) == packets.packet()


def test_any_prefix_is_read():
    assert read(("edXML:", "ns7:"), ("xmlns:edXML", "xmlns:ns7")) == packets.packet()


@pytest.mark.parametrize("empty", ["", " \n ", "null", " null "])
def test_empty_texts_and_the_text_null_are_absent(empty):
    assert read((">Hà Nội<", f">{empty}<"), (">Bộ Thử nghiệm<", f">{empty}<")).place is None


def test_an_answered_document_of_empty_elements_is_none():
    empty = "<edXML:ResponseFor><edXML:OrganId/><edXML:Code> </edXML:Code><edXML:DocumentId>null</edXML:DocumentId></edXML:ResponseFor>"

    assert read(("<edXML:SteeringType>", empty + "<edXML:SteeringType>")).answers == ()


def test_a_station_needs_no_code_and_no_time():
    stations = "<edXML:TraceHeader><edXML:Timestamp>2026/03/02 08:00:00</edXML:Timestamp></edXML:TraceHeader>"
    bad = "<edXML:TraceHeader><edXML:OrganId>G01</edXML:OrganId><edXML:Timestamp>hôm qua</edXML:Timestamp></edXML:TraceHeader>"

    packet = read(("<edXML:Bussiness>", stations + bad + "<edXML:Bussiness>"))

    assert [(trace.code, trace.at) for trace in packet.traces[1:]] == [
        (None, datetime(2026, 3, 2, 8, tzinfo=VIETNAM)),
        ("G01", None),
    ]
    assert packet.unmapped == ("/edXML/edXMLEnvelope/edXMLHeader/TraceHeaderList/TraceHeader[3]/Timestamp",)


@pytest.mark.parametrize(
    "day",
    ["2026/02/27", "2026/2/27", "2026-02-27", "27/02/2026", "27-2-2026", "27/02/2026 10:00:00", "2026/02/27 10:00"],
)
def test_a_day_is_read_in_the_forms_that_producers_write(day):
    assert read((">2026/02/27<", f">{day}<")).issued_on == date(2026, 2, 27)


@pytest.mark.parametrize(
    "day", ["2026/02/30", "30/02/2026", "0026/02/27", "27.02.2026", "hôm nay", "2026/02/27 25h", "2026/02/271"]
)
def test_what_is_no_day_is_refused(day):
    assert problems((">2026/02/27<", f">{day}<")) == [("E512", f"{MESSAGE}/PromulgationInfo/PromulgationDate")]


def test_a_deadline_that_is_none_is_refused_and_not_lost():
    assert problems((">2026/03/15<", ">31/02/2026<")) == [("E512", f"{MESSAGE}/DueDate")]


@pytest.mark.parametrize(
    "name", ["000.00.00.G22,2014/02/30,7806/VPCP-TTĐT", "5e515fca-3627-4f2e-b517-7169acdc8bda", "x"]
)
def test_an_identifier_is_opaque_and_may_contradict_everything(name):
    assert read((packets.ID, name)).id == name


@pytest.mark.parametrize("code", ["28.22.H17", "vxp.saas.03", "000.1137.H53", "h26"])
def test_a_code_of_no_form_is_kept_as_text(code):
    assert read(("<edXML:OrganId>H26<", f"<edXML:OrganId>{code}<")).to[0].code == code


def test_a_document_that_is_replaced_twice_is_kept_as_it_stands():
    once = "<edXML:ReplacementInfo><edXML:DocumentId>a</edXML:DocumentId></edXML:ReplacementInfo>"

    packet = read(
        ("<edXML:StaffInfo>", f"<edXML:ReplacementInfoList>{once * 2}</edXML:ReplacementInfoList><edXML:StaffInfo>")
    )

    assert [each.document for each in packet.business.replaced] == ["a", "a"]


def test_unknown_elements_attributes_and_loose_texts_are_named():
    packet = read(
        ("<edXML:Subject>", '<edXML:MucDo a="1">x</edXML:MucDo>loose<edXML:Subject lang="vi">'),
        ("<edXML:Reference>", "<edXML:Reference><edXML:Size>3</edXML:Size>"),
    )

    assert set(packet.unmapped) == {
        f"{MESSAGE}/text()",
        f"{MESSAGE}/MucDo",
        f"{MESSAGE}/Subject/@lang",
        "/edXML/edXMLEnvelope/edXMLBody/edXMLManifest/Reference[1]/Size",
    }


@pytest.mark.parametrize("name", ["Signature", "DigitalSignature"])
def test_remains_of_a_signature_are_no_field(name):
    remains = f"<{name}><SignedInfo/></{name}>"

    assert read(("</edXML:edXMLHeader>", remains + "</edXML:edXMLHeader>")).unmapped == ()


def test_an_element_that_stands_twice_is_refused():
    """One reader takes the first, another the last."""
    assert problems(("</edXML:Subject>", "</edXML:Subject><edXML:Subject>Khác</edXML:Subject>")) == [
        ("E512", f"{MESSAGE}/Subject[2]")
    ]


def test_a_text_that_holds_elements_is_refused():
    assert problems(("<edXML:Subject>", "<edXML:Subject><edXML:b/>")) == [("E512", f"{MESSAGE}/Subject")]


def test_all_missing_fields_are_told_at_once():
    text = re.sub(
        r"<edXML:MessageHeader>.*</edXML:MessageHeader>",
        "<edXML:MessageHeader/>",
        packets.xml().decode(),
        flags=re.DOTALL,
    )

    assert problems(data=text.encode()) == [
        ("E512", f"{MESSAGE}/{name}")
        for name in (
            "From",
            "To",
            "Code/CodeNumber",
            "Code/CodeNotation",
            "PromulgationInfo/PromulgationDate",
            "Subject",
            "DocumentId",
        )
    ]


def test_an_empty_recipient_beside_another_is_passed_over():
    assert len(read(("<edXML:Code>", "<edXML:To><edXML:OrganId/></edXML:To><edXML:Code>")).to) == 1


def test_a_recipient_without_code_is_refused_with_its_place():
    nameless = "<edXML:To><edXML:OrganName>Sở Hai</edXML:OrganName></edXML:To>"

    assert problems(("<edXML:Code>", nameless + "<edXML:Code>")) == [("E512", f"{MESSAGE}/To[2]/OrganId")]


@pytest.mark.parametrize("side", ["edXML:ContentId", "ContentId"])
def test_the_scheme_of_a_content_id_may_stand_on_one_side_only(side):
    assert len(read((f"<{side}>cid:", f"<{side}>")).attachments) == 1


def test_attachments_and_manifest_are_told_apart_by_what_is_missing_where():
    found = problems(("<edXML:ContentId>cid:", "<edXML:ContentId>cid:other-"))

    assert found == [
        ("E513", "/edXML/edXMLEnvelope/edXMLBody/edXMLManifest/Reference[1]"),
        ("E513", "/edXML/AttachmentEncoded/Attachment[1]"),
    ]


def test_two_attachments_of_one_content_id_are_refused():
    attachment = re.search(r"<Attachment>.*</Attachment>", packets.xml().decode(), re.DOTALL)[0]

    assert ("E513", "/edXML/AttachmentEncoded/Attachment[2]") in problems((attachment, attachment * 2))


@pytest.mark.parametrize("text", ["${file}", "JVBE=Ri0=", "JVBERi0", "AAA", "%PDF", "AAAA====", "A-_A"])
def test_what_is_no_base64_is_refused(text):
    assert problems(data=packets.with_content(text)) == [
        ("E512", "/edXML/AttachmentEncoded/Attachment[1]/ContentTransferEncoded")
    ]


def test_base64_may_be_broken_into_lines():
    assert read_packet(packets.with_content("JVBERi0x\r\n  LjcK\n")).attachments[0].content == b"%PDF-1.7\n"


@pytest.mark.parametrize("ruined", ["\ufffd\ufffd\ufffd\ufffd%PDF", None], ids=["in the text", "in base64"])
def test_a_file_that_was_read_as_text_is_refused(ruined):
    binary = b"%PDF-1.7\n" + bytes(range(128, 256)) * 4
    data = packets.with_content(ruined or binary.decode(errors="replace").encode())

    found = read_packet(data)

    assert [problem.code for problem in found] == ["E512"]
    assert "EF BF BD" in found[0].en


def test_random_bytes_are_no_ruined_file():
    content = bytes(range(256)) * 400 + "\ufffd".encode() * 5

    assert isinstance(read_packet(packets.with_content(content)), Packet)


def test_a_status_is_told_by_its_code():
    assert read_packet(packets.xml(packets.status("06"))) == packets.status("06")


def test_a_status_may_be_older_than_its_document_or_have_no_time_that_can_be_read():
    old = read_packet(
        packets.changed((">2026/03/02 09:05:01<", ">2015/09/20 11:08:36<"), data=packets.xml(packets.status()))
    )
    never = read_packet(packets.changed((">2026/03/02 09:05:01<", ">sáng nay<"), data=packets.xml(packets.status())))

    assert isinstance(old, StatusPacket)
    assert old.at == datetime(2015, 9, 20, 11, 8, 36, tzinfo=VIETNAM)
    assert isinstance(never, StatusPacket)
    assert (never.at, never.unmapped) == (None, (f"{MESSAGE}/Timestamp",))


def test_a_packet_of_2014_has_the_places_of_its_own_format_and_the_id_that_the_standard_makes():
    path = Path(__file__).parents[3] / "schemas/published/examples/edxml/valid/document-2014.edxml"
    data = path.read_bytes()

    packet = read_packet(data)
    refused = read_packet(data.replace("Về việc thử nghiệm".encode(), b""))

    assert isinstance(packet, Packet)
    assert packet.id == "000.00.00.H27,2015/06/15,45/CV-UBND"
    assert packet.unmapped == ("/Envelope/Body/Manifest/Reference[1]",)
    assert [(problem.code, problem.pointer) for problem in refused] == [
        ("E512", "/Envelope/Header/MessageHeader/Subject")
    ]
