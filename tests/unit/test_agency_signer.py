from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from adapters.errors import Unusable
from adapters.signer import load_record, load_signer
from schemas.signing import Verified, sign, verify
from tests.keys import Certified, make_certificate

CODE = "H26.01"


def files(folder: Path, key: Certified, certificate: Certified | None = None) -> tuple[Path, Path]:
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(key.private_key_pem)
    certificate_file.write_text((certificate or key).pem)
    return key_file, certificate_file


@pytest.mark.parametrize("alg", ["ES256", "PS256"])
def test_what_is_signed_with_the_loaded_key_verifies_by_its_certificate(tmp_path, alg):
    key_file, certificate_file = files(tmp_path, make_certificate(CODE, alg))

    signer = load_signer(key_file, certificate_file)

    record = load_record(certificate_file)
    token = sign(b"{}", typ="truc.document.v1", signer=signer, now_s=record.not_before_s + 1)
    keys = {record.fingerprint: record}
    verified = verify(token, typ="truc.document.v1", keys=keys, now_s=record.not_before_s + 1)
    assert isinstance(verified, Verified)
    assert signer.alg == alg


def test_the_first_certificate_of_a_chain_counts(tmp_path):
    leaf = make_certificate(CODE)
    key_file, certificate_file = files(tmp_path, leaf)
    certificate_file.write_text(leaf.pem + make_certificate("authority", ca=True).pem)

    assert load_signer(key_file, certificate_file).fingerprint == leaf.signer.fingerprint


def test_an_encrypted_key_needs_its_password(tmp_path):
    leaf = make_certificate(CODE)
    key_file, certificate_file = files(tmp_path, leaf)
    encryption = serialization.BestAvailableEncryption("mật khẩu".encode())
    key_file.write_bytes(
        leaf.signer.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )

    assert load_signer(key_file, certificate_file, password="mật khẩu".encode()).fingerprint == leaf.signer.fingerprint
    for wrong in (None, b"wrong"):
        with pytest.raises(Unusable, match="A102"):
            load_signer(key_file, certificate_file, password=wrong)


def test_a_key_and_a_certificate_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(Unusable, match=r"A102.*is not the key of the certificate"):
        load_signer(*files(tmp_path, make_certificate(CODE), make_certificate(CODE)))


@pytest.mark.parametrize(
    ("alg", "options"), [("P-384", {}), ("Ed25519", {}), ("PS256", {"rsa_bits": 1024})], ids=["P-384", "Ed25519", "RSA"]
)
def test_weak_and_foreign_kinds_of_keys_are_refused(tmp_path, alg, options):
    with pytest.raises(Unusable, match="E206"):
        load_signer(*files(tmp_path, make_certificate(CODE, alg, **options)))


@pytest.mark.parametrize("options", [{"ca": True}, {"usages": ("key_agreement",)}], ids=["authority", "agreement"])
def test_a_certificate_that_may_not_sign_documents_is_refused(tmp_path, options):
    with pytest.raises(Unusable, match="E207"):
        load_signer(*files(tmp_path, make_certificate(CODE, **options)))


@pytest.mark.parametrize("which", [0, 1], ids=["key", "certificate"])
@pytest.mark.parametrize("content", [None, b"", b"not PEM"], ids=["missing", "empty", "rubbish"])
def test_files_that_cannot_be_read_are_named(tmp_path, which, content):
    pair = files(tmp_path, make_certificate(CODE))
    pair[which].unlink()
    if content is not None:
        pair[which].write_bytes(content)

    with pytest.raises(Unusable, match="A102") as caught:
        load_signer(*pair)

    assert caught.value.place == str(pair[which])
