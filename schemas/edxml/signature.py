"""Which assurance stands behind a packet: its XML signature, judged by the certificates of the directory.

| level | what stands behind the packet                                                                 |
|-------|-----------------------------------------------------------------------------------------------|
| A2    | the sender's own signature is valid and covers header, manifest and every attachment          |
| A1    | no signature, or one that says nothing about the whole: whoever signs the envelope vouches    |
| A0    | a signature that proves nothing any more: SHA-1, outside the profile, broken                  |

The profile: one `Signature` of the XML signature namespace below `edXMLHeader`; RSA-SHA256, RSA-PSS or ECDSA-SHA256;
SHA-256 digests; references within the packet; enveloped signature and canonicalisation as the only transforms. The
certificate comes from the directory; what the signature says about keys is ignored.

A library calls a signature valid whatever it covers. So what was signed is read as a packet of its own, and only when
it says exactly what the whole packet says is the whole packet signed: a wrapped header, a swapped attachment or one
outside the signed element makes a difference.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from schemas.edxml.mapping import Level
from schemas.edxml.packet import ENCODED, ENVELOPE, HEADER, NAMESPACE, SIGNATURES, XMLDSIG, Packet, StatusPacket
from schemas.edxml.parsing import Tree, local_name, parse, parser
from schemas.edxml.reader import read_tree
from schemas.refusal import Problem

_PLACE: Final = f"/edXML/{HEADER}/Signature"
_LOCATION: Final = "./" + "/".join(f"{{{NAMESPACE}}}{step}" for step in HEADER.split("/")) + "/"
_MOST_REFERENCES: Final = 4

_WITHIN: Final = re.compile(r"(?:#[A-Za-z_][A-Za-z0-9_.-]{0,99})?")
"""The packet as a whole, or an element of it by its Id."""

_METHODS: Final = frozenset({
    SignatureMethod.RSA_SHA256,
    SignatureMethod.SHA256_RSA_MGF1,
    SignatureMethod.ECDSA_SHA256,
})  # fmt: skip
_DIGESTS: Final = frozenset({DigestAlgorithm.SHA256})
_CANONICALIZATIONS: Final = frozenset({
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
    "http://www.w3.org/2006/12/xml-c14n11",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
})  # fmt: skip
_TRANSFORMS: Final = _CANONICALIZATIONS | {"http://www.w3.org/2000/09/xmldsig#enveloped-signature"}


@dataclass(frozen=True, slots=True)
class Assurance:
    """The level of a packet and why it is no higher; A2 has no reason.

    Attributes:
        level: `A2`, `A1` or `A0`.
        reason: E302 no signature, E303 outside the profile or not covering all, E201 no certificate of the sender, E301
            invalid.
    """

    level: Level
    reason: Problem | None


def assess(
    data: bytes,
    packet: Packet | StatusPacket,
    certificates: Mapping[str, Sequence[x509.Certificate]],
    *,
    now: datetime,
) -> Assurance:
    """Judge the signature of a packet.

    Args:
        data: The packet.
        packet: What was read from these bytes; what was signed must say the same.
        certificates: Those that may sign, by owner as the packet names it in From/OrganId.
        now: The present; an expired certificate proves nothing.
    """
    tree = parse(data) if b"Signature" in data else None
    if not isinstance(tree, Tree):
        return Assurance("A1", Problem("E302", _PLACE))
    signature = tree.root.find(f"{_LOCATION}{{{XMLDSIG}}}Signature")
    if signature is None or not len(signature):
        return _unsigned(tree)
    outside = None if tree.old else _outside_profile(signature)
    if tree.old or outside is not None:
        return Assurance("A0", outside or _profile("a packet of 2014", "gói tin theo định dạng 2014"))
    owned = certificates.get(packet.from_.code, ())
    if not owned:
        code = packet.from_.code[:60]
        return Assurance("A1", Problem("E201", _PLACE, f"none of {code}", f"không có chứng thư của {code}"))
    references = len(signature.findall(f"{{{XMLDSIG}}}SignedInfo/{{{XMLDSIG}}}Reference"))
    return _verified(data, packet, owned, references, now)


def _unsigned(tree: Tree) -> Assurance:
    """Tell no signature from the remains of one: software strips the namespace, and leaves what nobody can verify."""
    remains = [
        element
        for element in tree.root.iter()
        if isinstance(element.tag, str) and local_name(element) in SIGNATURES and len(element)
    ]
    if not remains:
        return Assurance("A1", Problem("E302", _PLACE))
    return Assurance(
        "A0",
        _profile(
            "not a Signature of the XML signature namespace below edXMLHeader",
            f"không phải Signature thuộc không gian tên {XMLDSIG} trong edXMLHeader",
        ),
    )


def _outside_profile(signature: etree._Element) -> Problem | None:
    """Compare algorithms, references and transforms with the profile, before anything is computed."""
    information = signature.find(f"{{{XMLDSIG}}}SignedInfo")
    if information is None:
        return _profile("no SignedInfo", "thiếu SignedInfo")
    references = information.findall(f"{{{XMLDSIG}}}Reference")
    if not 1 <= len(references) <= _MOST_REFERENCES:
        return _profile(f"{len(references)} references", f"có {len(references)} tham chiếu")
    allowed = (
        ("SignatureMethod", {method.value for method in _METHODS}),
        ("CanonicalizationMethod", _CANONICALIZATIONS),
        ("DigestMethod", {digest.value for digest in _DIGESTS}),
        ("Transform", _TRANSFORMS),
    )
    for name, algorithms in allowed:
        for element in information.iter(f"{{{XMLDSIG}}}{name}"):
            algorithm = str(element.get("Algorithm"))
            if algorithm not in algorithms:
                return _profile(f"{name} {algorithm[:100]}", f"{name} {algorithm[:100]} không được chấp nhận")
    for reference in references:
        uri = reference.get("URI")
        if uri is None or _WITHIN.fullmatch(uri) is None:
            return _profile(f"reference to {str(uri)[:100]}", f"tham chiếu tới {str(uri)[:100]}")
    return None


def _verified(
    data: bytes, packet: Packet | StatusPacket, owned: Sequence[x509.Certificate], references: int, now: datetime
) -> Assurance:
    configuration = SignatureConfiguration(
        location=_LOCATION,
        expect_references=references,
        signature_methods=_METHODS,
        digest_algorithms=_DIGESTS,
        ignore_ambiguous_key_info=True,  # the key is that of the directory, whatever stands there
        verification_time=now,
    )
    invalid = Assurance("A0", Problem("E301", _PLACE))
    for certificate in owned:
        try:
            results = XMLVerifier().verify(
                data, x509_cert=certificate, parser=parser(len(data)), expect_config=configuration
            )
        except (SignXMLException, ValueError, etree.LxmlError):
            continue
        signed = [each.signed_xml for each in (results if isinstance(results, list) else [results])]
        if _says_the_same(signed, packet):
            return Assurance("A2", None)
        return Assurance(
            "A1",
            _profile(
                "the signature does not cover header, manifest and every attachment",
                "chữ ký không bao gồm đủ phần đầu, danh mục tệp và mọi tệp đính kèm",
            ),
        )
    return invalid


def _says_the_same(signed: Sequence[etree._Element | None], packet: Packet | StatusPacket) -> bool:
    """Read what was signed, and nothing else, and compare."""
    elements = [element for element in signed if element is not None]
    whole = next((element for element in elements if local_name(element) == "edXML"), None)
    if whole is None:
        whole = etree.Element(f"{{{NAMESPACE}}}edXML")
        whole.extend([element for element in elements if local_name(element) in (ENVELOPE, ENCODED)])
    read = read_tree(Tree(whole))
    return not isinstance(read, tuple) and replace(read, unmapped=()) == replace(packet, unmapped=())


def _profile(english: str, vietnamese: str) -> Problem:
    return Problem("E303", _PLACE, english, vietnamese)
