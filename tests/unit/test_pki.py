"""The development authority: its certificates pass every check, its files are not for others to read."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from hub.core.certificate_chain import check_chain
from hub.core.directory_check import check
from hub.dev.country import demo_country
from hub.dev.pki import NOTE, Authority, certificate_file, equip, key_file
from schemas.directory_file import CertificateEntry, DirectoryFile, key_record
from schemas.signing import KeySigner, Verified, fingerprint_of, sign, verify

NOW = datetime(2026, 8, 1, 1, 2, 3, tzinfo=UTC)
OWNERS = ("hub", "H26", "lgsp-h26")


@pytest.fixture(scope="module")
def authority():
    return Authority.create(NOW)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.mark.parametrize("alg", ["ES256", "PS256"])
def test_what_an_issued_key_signs_can_be_verified(authority, alg):
    key, certificate = authority.issue("H26", now=NOW, alg=alg)
    signer = KeySigner(key, fingerprint_of(certificate))
    pem = certificate.public_bytes(Encoding.PEM).decode()
    record = key_record(CertificateEntry(owner="H26", pem=pem))
    now_s = int(NOW.timestamp())

    token = sign(b"{}", typ="truc.document.v1", signer=signer, now_s=now_s)
    verified = verify(token, typ="truc.document.v1", keys={record.fingerprint: record}, now_s=now_s)

    assert isinstance(verified, Verified)
    assert (verified.key.owner, verified.key.alg) == ("H26", alg)


def test_an_issued_certificate_leads_to_its_authority_only(authority):
    _, certificate = authority.issue("H26", now=NOW)

    assert check_chain(certificate, [authority.certificate], NOW) is None
    assert check_chain(certificate, [Authority.create(NOW).certificate], NOW).code == "E207"


def test_certificates_say_that_they_are_for_development(authority):
    _, certificate = authority.issue("H26", now=NOW)

    assert "FOR DEVELOPMENT ONLY" in certificate.subject.rfc4514_string()
    assert "FOR DEVELOPMENT ONLY" in certificate.issuer.rfc4514_string()


def test_equipped_directory_has_no_findings(folder):
    directory = equip(demo_country(), OWNERS, folder, NOW)

    anchor = x509.load_pem_x509_certificate(certificate_file(folder, "authority").read_bytes())
    assert check(directory, now=NOW, anchors=[anchor]) == []
    assert tuple(entry.owner for entry in directory.certificates) == OWNERS


def test_private_keys_are_for_the_user_alone(folder):
    equip(DirectoryFile(), OWNERS, folder, NOW)

    assert {file.name: file.stat().st_mode & 0o777 for file in folder.glob("*.key.pem")} == {
        "authority.key.pem": 0o600,
        "hub.key.pem": 0o600,
        "H26.key.pem": 0o600,
        "lgsp-h26.key.pem": 0o600,
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "Không dùng" in (folder / NOTE).read_text(encoding="utf-8")


def test_files_of_an_owner_belong_together(folder):
    equip(DirectoryFile(), OWNERS, folder, NOW)

    key = load_pem_private_key(key_file(folder, "H26").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate(certificate_file(folder, "H26").read_bytes())
    assert key.public_key() == certificate.public_key()


def test_keys_are_used_again(folder):
    first = equip(DirectoryFile(), OWNERS, folder, NOW)

    assert equip(DirectoryFile(), OWNERS, folder, NOW + timedelta(days=1)) == first
    assert equip(first, OWNERS, folder, NOW) == first


def test_expired_certificates_are_replaced(folder):
    first = equip(DirectoryFile(), ["H26"], folder, NOW)

    second = equip(first, ["H26"], folder, NOW + timedelta(days=826))

    assert len(second.certificates) == 2
    assert second.certificates[0] == first.certificates[0]


def test_certificates_of_a_lost_authority_are_replaced(folder):
    first = equip(DirectoryFile(), ["H26"], folder, NOW)
    key_file(folder, "authority").unlink()

    assert equip(DirectoryFile(), ["H26"], folder, NOW) != first


def test_every_tenth_owner_has_an_rsa_key(folder):
    owners = [f"H{number:02}" for number in range(1, 13)]

    directory = equip(DirectoryFile(), owners, folder, NOW)

    algorithms = {entry.owner: key_record(entry).alg for entry in directory.certificates}
    assert [owner for owner, alg in algorithms.items() if alg == "PS256"] == ["H10"]
