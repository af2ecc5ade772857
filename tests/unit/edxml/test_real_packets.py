"""What real software writes: each packet of the folder of samples, with what becomes of it."""

import pytest

from schemas.edxml import documents, statuses
from schemas.edxml.attachments import files
from schemas.edxml.packet import Packet, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import assess
from schemas.edxml.writer import write_packet
from tests import packets
from tests.unit.schemas import stage

FOLDER = packets.real_packets()
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="no real packets: name their folder in TRUC_TEST_EDXML, or put it in ../shared/edxml"
)

MESSAGE = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader"
VPCP = "000.00.00.G22"
OWN = f"{VPCP},2015/09/30,7816/VPCP-TTĐT"

REFUSED = {
    "2025_10_874e0f18-90dc-45fb-989a-65401470ba84": [
        ("E512", f"{MESSAGE}/From/OrganId"),
        ("E404", f"{MESSAGE}/To[1]/OrganId"),
    ],
    "edoc": [
        *[("E510", "")] * 2,
        ("E510", "/edXML/edXMLEnvelope"),
        ("E510", MESSAGE),
        ("E510", "/edXML/edXMLEnvelope/edXMLHeader/Signature/KeyInfo"),
        ("E510", "/edXML/edXMLEnvelope/edXMLHeader/Signature"),
        ("E510", "/edXML/edXMLEnvelope/edXMLBody/edXMLManifest/Reference"),
    ],
    "edoc_new": [("E510", "")],
    "edoc_new_wellformed": [("E404", f"{MESSAGE}/To[1]/OrganId")],
}
DOCUMENTS = {
    "edoc_replacement": ("replace", [f"{VPCP},2014/01/30,7806/VPCP-TTĐT"]),
    "edoc_revocation": ("revoke", [OWN]),
    "edoc_update": ("update", [f"{VPCP},2014/02/30,7806/VPCP-TTĐT"]),
}
STATUSES = {
    "status": "01",
    "status_inbox_01": "01",
    "status_rejection_02": "02",
    "status_acceptance_03": "03",
    "status_assignment_04": "04",
    "status_processing_05": "05",
    "status_finish_06": "06",
    "status_cancellation_13": "13",
    "status_change-acceptance_15": "15",
    "status_change-rejection_16": "16",
}


def data_of(name: str) -> bytes:
    assert FOLDER is not None
    return (FOLDER / f"{name}.edxml").read_bytes()


def problems_of(packet) -> list[tuple[str, str]]:
    if isinstance(packet, Packet):
        packet = documents.draft_of(packet, today=packets.TODAY)
    return [(problem.code, problem.pointer) for problem in packet]


def test_every_packet_of_the_folder_is_in_a_table():
    assert FOLDER is not None
    assert {path.stem for path in FOLDER.glob("*.edxml")} == {*REFUSED, *DOCUMENTS, *STATUSES}


@pytest.mark.parametrize("name", REFUSED)
def test_a_packet_with_a_fault_is_refused_for_all_of_it(name):
    assert problems_of(read_packet(data_of(name))) == REFUSED[name]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_read_whole_and_means_what_it_says(name):
    packet = read_packet(data_of(name))

    assert isinstance(packet, Packet)
    assert packet.unmapped == ()
    draft = documents.draft_of(packet, today=packets.TODAY)
    action, refs = DOCUMENTS[name]
    assert (draft.action, [ref.document for ref in draft.ref]) == (action, refs)
    assert (draft.from_, draft.to) == (VPCP, ("000.00.00.H41", "000.00.00.H14", "000.00.00.G17"))
    assert draft.id == OWN


@pytest.mark.parametrize("name", [*DOCUMENTS, "edoc_new_wellformed", "2025_10_874e0f18-90dc-45fb-989a-65401470ba84"])
def test_every_attachment_can_be_unpacked(name):
    found, problems = files(read_packet(data_of(name)))

    assert problems == ()
    assert [file.part.length for file in found] == [sum(map(len, file.chunks())) for file in found]


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_is_read_whole_and_names_the_senders_document(name):
    packet = read_packet(data_of(name))

    assert isinstance(packet, StatusPacket)
    assert packet.unmapped == ()
    draft = statuses.draft_of(packet, now_s=stage.NOW_S)
    assert (draft.status, draft.document.agency, draft.document.document) == (STATUSES[name], VPCP, OWN)


@pytest.mark.parametrize("name", [*DOCUMENTS, *STATUSES, "edoc_new_wellformed"])
def test_no_signature_of_them_is_worth_anything(name):
    data = data_of(name)

    assurance = assess(data, read_packet(data), {}, now=stage.NOW)

    assert assurance.level == ("A1" if name in STATUSES else "A0")


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_is_written_again_as_it_was_read(name):
    packet = read_packet(data_of(name))
    written = write_packet(packet)

    assert isinstance(written, bytes)
    assert read_packet(written) == packet


@pytest.mark.parametrize("name", [*DOCUMENTS, "edoc_new_wellformed", "2025_10_874e0f18-90dc-45fb-989a-65401470ba84"])
def test_a_document_with_contradictions_is_not_written_again(name):
    """Its id names another day, agency or number than the rest, or its codes have no form."""
    assert isinstance(write_packet(read_packet(data_of(name))), tuple)
