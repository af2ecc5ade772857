"""From a private key and its certificate in PEM files to something that signs."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from adapters.errors import Unusable
from schemas.directory_file import CertificateEntry, key_record
from schemas.refusal import Problem
from schemas.signing import KeyRecord, KeySigner


def load_signer(key_file: Path, certificate_file: Path, *, password: bytes | None = None) -> KeySigner:
    """Load a private key that belongs to a certificate and may sign documents.

    Args:
        key_file: Private key, PEM: PKCS #8, or the older form of its kind.
        certificate_file: Its certificate, PEM; of a chain the first one is taken.
        password: For an encrypted key.

    Raises:
        Unusable: A102 when a file cannot be read or the two do not belong together, E206 when the key is weak or of a
            kind that is not allowed, E207 when the certificate may not sign documents.
    """
    record = load_record(certificate_file)
    try:
        key = serialization.load_pem_private_key(_read(key_file), password)
    except (ValueError, TypeError) as error:  # TypeError: encrypted without a password, or the other way round
        raise Unusable(
            f"not a usable PEM private key: {error}",
            "không phải khóa riêng PEM dùng được",
            place=str(key_file),
            code="A102",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Unusable("a key of this kind", "loại khóa này", place=str(key_file), code="E206")
    if key.public_key() != record.public_key:
        raise Unusable(
            f"is not the key of the certificate {certificate_file}",
            f"không phải khóa của chứng thư {certificate_file}",
            place=str(key_file),
            code="A102",
        )
    return KeySigner(key, record.fingerprint)


def load_record(certificate_file: Path) -> KeyRecord:
    """Load a certificate and check that it may sign documents; whose it is, only the directory says.

    Raises:
        Unusable: A102 when the file cannot be read, E206 or E207 as in `load_signer`.
    """
    try:
        certificate = x509.load_pem_x509_certificate(_read(certificate_file))
    except ValueError as error:
        raise Unusable(
            "not a PEM certificate", "không phải chứng thư dạng PEM", place=str(certificate_file), code="A102"
        ) from error
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    record = key_record(CertificateEntry(owner="hub", pem=pem))  # the owner plays no part in these checks
    if isinstance(record, Problem):
        raise Unusable(record.en, record.vi, place=str(certificate_file), code=record.code)
    return record


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unusable(
            error.strerror or "cannot be read", "không đọc được tệp", place=str(file), code="A102"
        ) from error
