"""Keys and certificates for tests, made once for each session.

`agency_keys(code)` is what most tests want: the same key whenever the same owner is asked for. `make_certificate` makes
a fresh one, with whatever is to be wrong with it.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from schemas.directory_file import CertificateEntry
from schemas.signing import KeySigner, PrivateKey, fingerprint_of

_CLOCK_SLACK = timedelta(hours=1)
_LIFETIME = timedelta(days=365)


class Certified(NamedTuple):
    """A signer, the PEM text of its certificate, and its private key as unencrypted PKCS #8 PEM."""

    signer: KeySigner
    pem: str
    private_key_pem: bytes

    def entry(self, owner: str, *, revoked_at: int | None = None) -> CertificateEntry:
        """Write the entry of the directory that binds the certificate to its owner."""
        return CertificateEntry.model_validate({"owner": owner, "pem": self.pem, "revoked_at": revoked_at})


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that exists as long as the tests run."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@functools.cache
def authority() -> Authority:
    """Make the one authority of the session."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Truc test authority")
    certificate = (
        _builder(name, name, key.public_key(), datetime.now(UTC) - _CLOCK_SLACK, _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


@functools.cache
def agency_keys(code: str, alg: str = "ES256") -> Certified:
    """Give an owner (an agency, a platform or `hub`) its key of the session."""
    return make_certificate(code, alg)


def make_certificate(
    owner: str,
    alg: str = "ES256",
    *,
    not_before: datetime | None = None,
    lifetime: timedelta = _LIFETIME,
    usages: Iterable[str] = ("digital_signature", "content_commitment"),
    ca: bool = False,
    rsa_bits: int = 2048,
) -> Certified:
    """Make a fresh key with a certificate of the session's authority.

    Args:
        owner: Goes into the certificate's name.
        alg: `ES256` or `PS256`; `P-384` and `Ed25519` make keys that nobody may use.
        not_before: Beginning of validity; by default an hour ago.
        lifetime: Length of validity.
        usages: Names of the key usages.
        ca: Whether it claims to be an authority.
        rsa_bits: Size of the key of a `PS256`.
    """
    key = _private_key(alg, rsa_bits)
    issuer = authority()
    certificate = (
        _builder(
            _name(owner),
            issuer.certificate.subject,
            key.public_key(),
            not_before or datetime.now(UTC) - _CLOCK_SLACK,
            lifetime,
        )
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_usage(**dict.fromkeys(usages, True)), critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    return Certified(
        # A key that nobody may use cannot sign either, but the files made of it must exist to be refused.
        KeySigner(key, fingerprint_of(certificate)),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _private_key(alg: str, rsa_bits: int) -> PrivateKey:
    match alg:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "PS256":
            return rsa.generate_private_key(65537, rsa_bits)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()  # type: ignore[return-value]
        case _:
            raise ValueError(f"no keys are made for {alg}")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    not_before: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
    )


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _usage(**granted: bool) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: granted.get(usage, False) for usage in _USAGES})
