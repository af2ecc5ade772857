"""Keys and certificates for trials, FOR DEVELOPMENT ONLY.

The authority made here checks nobody and keeps its private key in a plain file, so whoever can read the folder can
speak for every agency. Its certificates say so in their names. Real ones come from the government's authority, and
their private keys stay with the agencies.

```
keys/authority.key.pem  authority.cert.pem     the authority; its certificate is the anchor for `truc directory check`
keys/H26.key.pem        H26.cert.pem           one pair for each owner
keys/FOR-DEVELOPMENT-ONLY.txt
```
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from schemas.directory_file import CertificateEntry, DirectoryFile
from schemas.signing import Algorithm, PrivateKey, PublicKey

NOTE: Final = "FOR-DEVELOPMENT-ONLY.txt"
RSA_BITS: Final = 2048
AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 825
PS256_EVERY: Final = 10
PS256_AT_MOST: Final = 3
"""RSA keys are slow to make; a few are enough to see both algorithms at work."""

_ORGANISATION: Final = "Trục - FOR DEVELOPMENT ONLY"
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_WARNING: Final = """\
CHỈ DÙNG ĐỂ THỬ NGHIỆM. Các khóa và chứng thư trong thư mục này do phần mềm tự tạo, không xác nhận ai là ai.
Không dùng để ký văn bản thật.

FOR DEVELOPMENT ONLY. The keys and certificates in this folder were made by the software and prove nobody's identity.
Do not sign real documents with them.
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority for trials that issues to anyone."""

    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, now: datetime) -> Self:
        """Make a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Trục development authority")
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @classmethod
    def load_or_create(cls, folder: Path, now: datetime) -> Self:
        """Take the authority that a folder holds, so that its certificates stay good; a new one where it holds none."""
        if (pair := _load_pair(folder, "authority", now)) is not None:
            return cls(*pair)
        authority = cls.create(now)
        write_pair(folder, "authority", authority.key, authority.certificate)
        return authority

    def issue(
        self, owner_name: str, *, now: datetime, alg: Algorithm = "ES256", days: int = LEAF_DAYS
    ) -> tuple[PrivateKey, x509.Certificate]:
        """Make a key and a certificate that may sign documents."""
        key = _new_key(alg)
        certificate = (
            _builder(_name(owner_name), self.certificate.subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return key, certificate

    def issued(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate comes from here, and not from another authority of the same name."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, InvalidSignature):
            return False
        return True


def equip(directory: DirectoryFile, owners: Iterable[str], folder: Path, now: datetime) -> DirectoryFile:
    """Give each owner a key, written into the folder, and enter its certificate into the directory.

    Keys that the folder holds already are used again while their certificates are valid. Every tenth owner, three at
    most, gets a PS256 key.

    Args:
        directory: The directory; returned with the certificates added.
        owners: Codes of agencies and platforms, or `hub`.
        folder: Where the keys are; made when missing.
        now: Beginning of validity.
    """
    authority = Authority.load_or_create(folder, now)
    entries = {entry.pem: entry for entry in directory.certificates}
    for number, owner in enumerate(owners):
        turn, rest = divmod(number, PS256_EVERY)
        alg: Algorithm = "PS256" if rest == PS256_EVERY - 1 and turn < PS256_AT_MOST else "ES256"
        pem = _certificate_of(authority, owner, alg, folder, now).public_bytes(Encoding.PEM).decode()
        entries[pem] = CertificateEntry.model_validate({"owner": owner, "pem": pem})
    return directory.model_copy(update={"certificates": tuple(entries.values())})


def key_file(folder: Path, owner: str) -> Path:
    """Say where the private key of an owner is."""
    return folder / f"{owner}.key.pem"


def certificate_file(folder: Path, owner: str) -> Path:
    """Say where the certificate of an owner is."""
    return folder / f"{owner}.cert.pem"


def write_pair(folder: Path, owner: str, key: PrivateKey, certificate: x509.Certificate) -> None:
    """Write a private key, readable by the user alone, and its certificate."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / NOTE).write_text(_WARNING, encoding="utf-8")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file(folder, owner).unlink(missing_ok=True)  # an existing file would keep its permissions
    descriptor = os.open(key_file(folder, owner), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    certificate_file(folder, owner).write_bytes(certificate.public_bytes(Encoding.PEM))


def _certificate_of(authority: Authority, owner: str, alg: Algorithm, folder: Path, now: datetime) -> x509.Certificate:
    pair = _load_pair(folder, owner, now)
    if pair is not None and authority.issued(pair[1]):
        return pair[1]
    key, certificate = authority.issue(owner, now=now, alg=alg)
    write_pair(folder, owner, key, certificate)
    return certificate


def _load_pair(folder: Path, owner: str, now: datetime) -> tuple[PrivateKey, x509.Certificate] | None:
    try:
        key = load_pem_private_key(key_file(folder, owner).read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(certificate_file(folder, owner).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return None
    fits = key.public_key() == certificate.public_key()
    return (key, certificate) if fits and now < certificate.not_valid_after_utc else None


def _new_key(alg: Algorithm) -> PrivateKey:
    if alg == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "VN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
