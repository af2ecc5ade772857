"""The directory as a file: which certificates may sign, and when an entry holds."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier
from pydantic import ValidationError

from schemas.directory_file import CertificateEntry, MandateEntry, in_force, key_record, start_of
from schemas.refusal import Problem
from schemas.signing import KeyRecord
from tests.keys import make_certificate
from tests.unit.schemas import stage


def entry(pem: str, owner: str = "G01") -> CertificateEntry:
    return CertificateEntry(owner=owner, pem=pem)


def code(pem: str) -> str | None:
    result = key_record(entry(pem))
    return result.code if isinstance(result, Problem) else None


def pem_of(*extensions: x509.ExtensionType, der_patch: tuple[bytes, bytes] = (b"", b"")) -> str:
    """A self-signed certificate with any extensions; what is patched no longer fits its signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "H01")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(stage.NOW)
        .not_valid_after(stage.NOW + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert der_patch[0] in der
    text = base64.encodebytes(der.replace(*der_patch)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def usage(**granted: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})


@pytest.mark.parametrize(("alg", "bits"), [("ES256", 0), ("PS256", 2048), ("PS256", 3072)])
def test_a_registered_certificate_becomes_a_key(alg, bits):
    made = make_certificate("whoever", alg, not_before=stage.NOW, lifetime=timedelta(hours=1), rsa_bits=bits)

    record = key_record(made.entry("G01", revoked_at=5))

    assert record == KeyRecord(
        fingerprint=made.signer.fingerprint,
        owner="G01",
        alg=alg,
        public_key=made.signer.private_key.public_key(),
        not_before_s=stage.NOW_S,
        not_after_s=stage.NOW_S + 3600,
        revoked_at_s=5,
    )


def test_the_owner_is_who_the_directory_says_not_who_the_certificate_says():
    assert key_record(entry(make_certificate("H01").pem, "H26")).owner == "H26"
    assert key_record(entry(make_certificate("H01").pem, "hub")).owner == "hub"


@pytest.mark.parametrize("usages", [("digital_signature",), ("content_commitment",)])
def test_either_usage_for_signatures_is_enough(usages):
    assert code(make_certificate("G01", usages=usages).pem) is None


@pytest.mark.parametrize(
    "usages",
    [(), ("key_agreement",), ("crl_sign",), ("digital_signature", "key_cert_sign"), ("key_cert_sign",)],
    ids=str,
)
def test_a_certificate_for_something_else_is_refused(usages):
    assert code(make_certificate("G01", usages=usages).pem) == "E207"


def test_a_certificate_that_says_nothing_about_its_usage_is_refused():
    assert code(pem_of()) == "E207"
    assert code(pem_of(usage(digital_signature=True))) is None


def test_an_authority_signs_no_documents():
    assert code(make_certificate("G01", ca=True).pem) == "E207"


@pytest.mark.parametrize(("alg", "bits"), [("PS256", 1024), ("P-384", 0), ("Ed25519", 0)])
def test_a_key_of_another_kind_or_size_is_refused(alg, bits):
    assert code(make_certificate("G01", alg, rsa_bits=bits).pem) == "E206"


def test_a_key_that_cannot_be_read_is_refused():
    """An unknown curve: the last byte of the identifier of P-256 changed."""
    curve = bytes.fromhex("06082a8648ce3d030107")

    assert code(pem_of(usage(digital_signature=True), der_patch=(curve, curve[:-1] + b"\x63"))) == "E206"


def test_a_certificate_with_one_extension_twice_is_refused():
    """Two key usages: each reader would pick one."""
    other = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.99"), usage(key_agreement=True).public_bytes())

    doubled = pem_of(usage(digital_signature=True), other, der_patch=(b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d\x0f"))

    assert code(doubled) == "E207"


@pytest.mark.parametrize(
    "pem",
    [
        "MIIB",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
        "\u1ed7",
    ],
)
def test_what_is_no_certificate_is_refused(pem):
    assert code(pem) == "E207"


def test_a_private_key_or_a_second_certificate_in_the_same_entry_is_refused():
    """A directory is handed around; a key pasted into it by mistake must not travel on unseen."""
    made = make_certificate("G01")

    assert code(made.pem + made.private_key_pem.decode()) == "E207"
    assert code(made.pem + made.pem) == "E207"


@pytest.mark.parametrize("owner", ["h01", "somebody", "", "HUB"])
def test_an_owner_is_a_party_or_the_hub(owner):
    with pytest.raises(ValidationError):
        entry("x", owner)


def mandate(valid_from: str, valid_to: str | None) -> MandateEntry:
    return MandateEntry(platform="lgsp-h26", agency="H26", actions=("new",), valid_from=valid_from, valid_to=valid_to)


def test_a_day_begins_at_midnight_in_vietnam():
    assert start_of("2026-03-02") == datetime(2026, 3, 1, 17, tzinfo=UTC)
    assert start_of("1000-01-01").tzinfo is UTC
    assert start_of("2999-12-31").tzinfo is UTC


@pytest.mark.parametrize(
    ("valid_from", "valid_to", "holds"),
    [
        ("2026-03-02", None, True),
        ("2026-03-03", None, False),
        ("2026-03-01", "2026-03-02", False),
        ("2026-03-01", "2026-03-03", True),
        ("2026-03-02", "2026-03-02", False),
    ],
)
def test_an_entry_holds_from_its_first_day_to_before_its_last(valid_from, valid_to, holds):
    """`valid_to` is the first day on which it no longer holds."""
    assert in_force(mandate(valid_from, valid_to), stage.NOW) is holds


def test_the_moment_of_change_is_exact():
    """One entry ends and the next begins at the same moment: never both, never neither."""
    midnight = start_of("2026-03-02")
    old, new = mandate("2020-01-01", "2026-03-02"), mandate("2026-03-02", None)

    for moment in (midnight - timedelta(microseconds=1), midnight):
        assert in_force(old, moment) is not in_force(new, moment)
    assert in_force(new, midnight)
