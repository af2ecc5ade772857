"""What an XML signature is worth: levels, and what attackers try."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from lxml import etree
from signxml import DigestAlgorithm, SignatureConstructionMethod, SignatureMethod, XMLSigner

from schemas.edxml.packet import NAMESPACE, XMLDSIG
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import assess
from tests import packets
from tests.keys import agency_keys, make_certificate

E = f"{{{NAMESPACE}}}"
D = f"{{{XMLDSIG}}}"
NOW = datetime.now(UTC)


def certificates(*names: str, **owned):
    """Certificates of the session by owner."""
    found = {name: [x509.load_pem_x509_certificate(agency_keys(name).pem.encode())] for name in names}
    return {**found, **owned}


class Sha1Signer(XMLSigner):
    """Signs as software of ten years ago does."""

    def check_deprecated_methods(self):
        pass


def signed(
    data: bytes | None = None,
    *,
    keys=None,
    method: SignatureMethod = SignatureMethod.ECDSA_SHA256,
    digest: DigestAlgorithm = DigestAlgorithm.SHA256,
    signer: type[XMLSigner] = XMLSigner,
    references: tuple[str, ...] = (),
    ids: dict[str, str] | None = None,
    canonicalization: str = "http://www.w3.org/2001/10/xml-exc-c14n#",
) -> etree._Element:
    """The packet, signed within edXMLHeader as the standard has it; `ids` puts Id attributes on elements by path."""
    keys = keys or agency_keys("G01")
    root = etree.fromstring(data or packets.xml())
    for path, name in (ids or {}).items():
        root.find(path).set("Id", name)
    placeholder = etree.SubElement(root.find(f"{E}edXMLEnvelope/{E}edXMLHeader"), f"{D}Signature")
    placeholder.set("Id", "placeholder")
    return signer(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=method,
        digest_algorithm=digest,
        c14n_algorithm=canonicalization,
    ).sign(root, key=keys.signer.private_key, cert=keys.pem, reference_uri=list(references) or None)


def level(root: etree._Element | bytes, owners=None, now: datetime = NOW) -> tuple[str, str | None]:
    data = root if isinstance(root, bytes) else etree.tostring(root)
    packet = read_packet(data)
    assert not isinstance(packet, tuple), packet
    assurance = assess(data, packet, certificates("G01") if owners is None else owners, now=now)
    return assurance.level, assurance.reason.code if assurance.reason else None


def header(root: etree._Element) -> etree._Element:
    return root.find(f"{E}edXMLEnvelope/{E}edXMLHeader")


@pytest.mark.parametrize(
    ("alg", "method"),
    [
        ("ES256", SignatureMethod.ECDSA_SHA256),
        ("PS256", SignatureMethod.RSA_SHA256),
        ("PS256", SignatureMethod.SHA256_RSA_MGF1),
    ],
)
def test_a_signature_of_the_sender_over_everything_is_a2(alg, method):
    keys = agency_keys("G01", alg)
    owners = {"G01": [x509.load_pem_x509_certificate(keys.pem.encode())]}

    assert level(signed(keys=keys, method=method), owners) == ("A2", None)


@pytest.mark.parametrize(
    "canonicalization", ["http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "http://www.w3.org/2006/12/xml-c14n11"]
)
def test_other_canonicalizations_of_the_profile_are_a2(canonicalization):
    assert level(signed(canonicalization=canonicalization)) == ("A2", None)


def test_the_second_certificate_of_the_sender_counts_too():
    keys = make_certificate("G01")
    owned = [*certificates("G01")["G01"], x509.load_pem_x509_certificate(keys.pem.encode())]

    assert level(signed(keys=keys), {"G01": owned}) == ("A2", None)


def test_envelope_and_attachments_signed_apart_are_a2():
    ids = {f"{E}edXMLEnvelope": "id-1", f"{E}AttachmentEncoded": "id-2"}

    assert level(signed(ids=ids, references=("#id-1", "#id-2"))) == ("A2", None)


@pytest.mark.parametrize("remains", ["", "<Signature/>", "<DigitalSignature> </DigitalSignature>"])
def test_no_signature_and_an_empty_one_are_absent(remains):
    data = packets.changed(("</edXML:edXMLHeader>", remains + "</edXML:edXMLHeader>"))

    assert level(data) == ("A1", "E302")


def test_a_signature_without_its_namespace_proves_nothing():
    data = etree.tostring(signed()).replace(XMLDSIG.encode(), NAMESPACE.encode())

    assert level(data) == ("A0", "E303")


def test_a_signature_of_somebody_without_certificate_is_no_proof_and_no_fault():
    assert level(signed(), {}) == ("A1", "E201")


def test_the_certificate_in_the_signature_is_not_asked():
    """It says G01 and fits the signature; the directory knows another."""
    assert level(signed(keys=make_certificate("G01"))) == ("A0", "E301")


def test_a_signature_of_another_agency_proves_nothing():
    assert level(signed(keys=agency_keys("H26")), certificates("G01", "H26")) == ("A0", "E301")


@pytest.mark.parametrize("now", [NOW - timedelta(days=400), NOW + timedelta(days=400)])
def test_a_certificate_out_of_its_time_proves_nothing(now):
    assert level(signed(), now=now) == ("A0", "E301")


def test_sha_1_is_never_a2():
    keys = agency_keys("G01", "PS256")
    owners = {"G01": [x509.load_pem_x509_certificate(keys.pem.encode())]}
    root = signed(keys=keys, method=SignatureMethod.RSA_SHA1, digest=DigestAlgorithm.SHA1, signer=Sha1Signer)

    assert level(root, owners) == ("A0", "E303")


def test_a_digest_of_sha_1_under_a_strong_signature_is_never_a2():
    assert level(signed(digest=DigestAlgorithm.SHA1, signer=Sha1Signer)) == ("A0", "E303")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", b"http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        (b"http://www.w3.org/2000/09/xmldsig#enveloped-signature", b"http://www.w3.org/TR/1999/REC-xslt-19991116"),
        (b"http://www.w3.org/2000/09/xmldsig#enveloped-signature", b"http://www.w3.org/TR/1999/REC-xpath-19991116"),
        (b'URI=""', b'URI="http://example.com/x"'),
        (b'URI=""', b'URI="file:///etc/passwd"'),
        (b'URI=""', b'URI="#xpointer(/)"'),
        (b' URI=""', b""),
    ],
    ids=["HMAC", "XSLT", "XPath", "external", "file", "xpointer", "no URI"],
)
def test_what_lies_outside_the_profile_is_not_computed(old, new, monkeypatch):
    data = etree.tostring(signed())
    assert old in data
    monkeypatch.setattr("schemas.edxml.signature.XMLVerifier.verify", lambda *_, **__: pytest.fail("computed"))

    assert level(data.replace(old, new)) == ("A0", "E303")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<edXML:OrganId>H26<", "<edXML:OrganId>H31<"),
        (">Thông báo.pdf</edXML:AttachmentName>", ">Khác.pdf</edXML:AttachmentName>"),
        (">2026/03/15<", ">2026/03/16<"),
    ],
    ids=["recipient", "manifest", "deadline"],
)
def test_a_packet_that_was_changed_after_signing_is_broken(old, new):
    text = etree.tostring(signed(), encoding="unicode")

    assert level(
        text.replace(old, new)
        .replace(">Thông báo.pdf</Att", f"{'>Khác.pdf' if 'Khác' in new else '>Thông báo.pdf'}</Att")
        .encode()
    ) == ("A0", "E301")


def test_a_station_that_was_added_breaks_the_signature():
    """As the exchange of today does with every packet."""
    root = signed()
    station = etree.SubElement(header(root).find(f"{E}TraceHeaderList"), f"{E}TraceHeader")
    etree.SubElement(station, f"{E}OrganId").text = "G22"

    assert level(root) == ("A0", "E301")


def test_an_attachment_that_was_swapped_breaks_the_signature():
    root = signed()
    content = root.find(f"{E}AttachmentEncoded/{E}Attachment/{E}ContentTransferEncoded")
    content.text = "JVBERi0xLjcK"

    assert level(root) == ("A0", "E301")


def test_attachments_outside_the_signed_element_are_no_a2():
    root = signed(ids={f"{E}edXMLEnvelope": "one"}, references=("#one",))
    assert level(root) == ("A1", "E303")

    root.find(f"{E}AttachmentEncoded/{E}Attachment/{E}ContentTransferEncoded").text = "JVBERi0xLjcK"
    assert level(root) == ("A1", "E303")


def test_a_signature_over_the_header_only_is_no_a2():
    root = signed(ids={f"{E}edXMLEnvelope/{E}edXMLHeader": "one"}, references=("#one",))

    assert level(root) == ("A1", "E303")


def test_a_wrapped_header_is_no_a2():
    """The signed header moves aside, and another one takes its place with the signature in it."""
    root = signed(ids={f"{E}edXMLEnvelope": "one", f"{E}AttachmentEncoded": "two"}, references=("#one", "#two"))
    signature = header(root).find(f"{D}Signature")
    original = root.find(f"{E}edXMLEnvelope")
    forged = etree.fromstring(etree.tostring(original))
    del forged.attrib["Id"]
    forged.find(f"{E}edXMLHeader/{E}MessageHeader/{E}To/{E}OrganId").text = "H31"
    header(root).remove(signature)
    inside = forged.find(f"{E}edXMLHeader/{D}Signature")
    inside.getparent().replace(inside, signature)
    hiding = etree.SubElement(etree.SubElement(signature, f"{D}Object"), f"{E}Hidden")
    hiding.append(original)
    root.insert(0, forged)

    assert level(root)[0] != "A2"


def test_a_signature_that_moved_elsewhere_counts_for_nothing():
    root = signed()
    root.append(header(root).find(f"{D}Signature"))

    assert level(root)[0] != "A2"


def test_a_second_envelope_is_refused_before_anybody_asks_for_signatures():
    root = signed()
    root.append(etree.fromstring(etree.tostring(root.find(f"{E}edXMLEnvelope"))))

    assert [problem.code for problem in read_packet(etree.tostring(root))] == ["E512"]


def test_two_signatures_are_judged_by_the_first_and_both_are_left_out_of_the_packet():
    root = signed()
    header(root).append(etree.fromstring(etree.tostring(header(root).find(f"{D}Signature"))))

    assert level(root)[0] != "A2"


def test_a_status_can_be_signed_too():
    root = signed(packets.xml(packets.status()), keys=agency_keys("H26"))

    assert level(root, certificates("H26")) == ("A2", None)


def test_an_empty_signature_of_the_right_namespace_is_absent():
    data = packets.changed(("</edXML:edXMLHeader>", f'<Signature xmlns="{XMLDSIG}"/></edXML:edXMLHeader>'))

    assert level(data) == ("A1", "E302")
