"""Which bytes are signed, and the strict way to sign and to verify them.

```
token    = b64u(header) "." b64u(payload) "." b64u(signature)   ASCII, at most 256 KiB, exactly two dots
header   = exactly {"alg", "typ", "x5t#S256", "iat"}, each once, any order; iat in whole seconds
signed   = the received bytes left of the last dot, never re-encoded
identity = SHA-256 of those bytes
ES256    = 64 bytes r || s over P-256 with SHA-256           PS256 = RSA-PSS, SHA-256, MGF1-SHA-256, 32 bytes of salt
```

Compact JWS (RFC 7515, RFC 7518) with the freedoms taken away: no detached payload, no unprotected header, no embedded
key, no `crit`, no `b64`. `alg` selects nothing: it must equal the algorithm that the directory holds for the
certificate. Both algorithms are listed in Circular 15/2025/TT-BKHCN.

`verify` performs the first six checks, in order, and stops at the first that fails; until it has returned `Verified`
nobody is proven to have said anything. What the payload means, and whether the signer may say it, comes later.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

from schemas import strict_json
from schemas.identifiers import AgencyCode, DocumentId, identity_of
from schemas.refusal import Problem

Algorithm = Literal["ES256", "PS256"]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MAX_TOKEN_BYTES: Final = 256 * 1024
MAX_AGE_S: Final = 24 * 3600
MAX_AHEAD_S: Final = 5 * 60
MIN_RSA_BITS: Final = 2048

_HEADER_MEMBERS: Final = frozenset({"alg", "typ", "x5t#S256", "iat"})
_MAX_HEADER_CHARACTERS: Final = 512
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the directory knows about one certificate.

    Attributes:
        fingerprint: `x5t#S256`: base64url SHA-256 of the certificate's DER (RFC 7515, section 4.1.8).
        owner: The agency, platform or hub whose key it is; decided by the directory, never by the certificate's name.
        alg: The only algorithm that it may be used with.
        public_key: The key.
        not_before_s: Beginning of validity, seconds since 1970 UTC.
        not_after_s: End of validity, seconds since 1970 UTC.
        revoked_at_s: When it was revoked, if it was.
    """

    fingerprint: str
    owner: AgencyCode
    alg: Algorithm
    public_key: PublicKey
    not_before_s: int
    not_after_s: int
    revoked_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A signed object whose signer is proven.

    Attributes:
        document_id: Identity of the object.
        typ: Its type; always one that was asked for.
        key: The key that signed it.
        signed_at_s: The signer's `iat`.
        payload: The signed bytes of the payload, decoded from base64url and otherwise untouched.
        token: The object as received.
    """

    document_id: DocumentId
    typ: str
    key: KeyRecord
    signed_at_s: int
    payload: bytes
    token: bytes


class Signer(Protocol):
    """Something that can sign: a key in a file, or one that never leaves its device."""

    @property
    def alg(self) -> Algorithm:
        """Algorithm of the key."""

    @property
    def fingerprint(self) -> str:
        """`x5t#S256` of the certificate."""

    def sign(self, data: bytes) -> bytes:
        """Sign the bytes; returns the signature in JWS form."""


def verify(
    token: bytes,
    *,
    typ: str | tuple[str, ...],
    keys: Mapping[str, KeyRecord],
    now_s: int,
    max_age_s: int | None = MAX_AGE_S,
) -> Verified | Problem:
    """Prove who signed a token, or say the first thing that is wrong with it.

    Args:
        token: The bytes as received.
        typ: The only type that is expected here, or the only ones.
        keys: Known certificates by fingerprint.
        now_s: The present, seconds since 1970 UTC.
        max_age_s: Greatest age of the signature; `None` for objects that the hub has accepted long ago, in which case
            the certificate need not be valid now, only when it signed.

    Returns:
        `Verified`, or a problem with one of the codes E101 to E105, E201 to E205, E301, E302, E601.
    """
    frame = _open(token)
    if isinstance(frame, Problem):
        return frame
    header = frame.header
    expected = (typ,) if isinstance(typ, str) else typ
    if header.typ not in expected:
        return Problem("E105", "/header/typ", f"expected {' or '.join(expected)}", f"cần {' hoặc '.join(expected)}")
    key = keys.get(header.fingerprint)
    if key is None:
        return Problem("E201", "/header/x5t#S256")
    problem = _check_key(key, header, now_s if max_age_s is not None else header.iat)
    problem = problem or _check_age(header.iat, now_s, max_age_s)
    if problem is not None:
        return problem
    document_id = identity_of(frame.signing_input)
    if not _signature_fits(key, frame.signature, bytes.fromhex(document_id)):
        return Problem("E301")
    return Verified(
        document_id=document_id,
        typ=header.typ,
        key=key,
        signed_at_s=header.iat,
        payload=frame.payload,
        token=token,
    )


def sign(payload: bytes, *, typ: str, signer: Signer, now_s: int) -> bytes:
    """Sign a payload.

    Raises:
        ValueError: When the token would be larger than 256 KiB.
    """
    header = f'{{"alg":"{signer.alg}","typ":"{typ}","x5t#S256":"{signer.fingerprint}","iat":{now_s}}}'
    signing_input = encode_base64url(header.encode()) + b"." + encode_base64url(payload)
    token = signing_input + b"." + encode_base64url(signer.sign(signing_input))
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(f"the signed object has {len(token)} bytes, more than {MAX_TOKEN_BYTES}")
    return token


def identity(token: bytes) -> DocumentId:
    """Name a token by its signing input, verified or not."""
    return identity_of(token[: token.rfind(b".")] if b"." in token else token)


def payload_of(token: bytes) -> bytes:
    """Give the payload of a token that was verified before and has been in safe hands since."""
    payload = token.split(b".")[1]
    return base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))


def encode_base64url(data: bytes) -> bytes:
    """Encode without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Compute the `x5t#S256` of a certificate."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return encode_base64url(hashlib.sha256(der).digest()).decode()


def algorithm_of(key: object) -> Algorithm | None:
    """Say which algorithm a public key is used with, or `None` when it is of a kind or size that is not allowed."""
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return "PS256"
        case _:
            return None


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A private key held in memory, with the fingerprint of its certificate."""

    private_key: PrivateKey
    fingerprint: str

    @property
    def alg(self) -> Algorithm:
        """Algorithm of the key."""
        return "ES256" if isinstance(self.private_key, ec.EllipticCurvePrivateKey) else "PS256"

    def sign(self, data: bytes) -> bytes:
        """Sign the bytes; returns the signature in JWS form."""
        digest = hashlib.sha256(data).digest()
        if isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private_key.sign(digest, _ES256))
            return r.to_bytes(32) + s.to_bytes(32)
        return self.private_key.sign(digest, _PSS, _SHA256_DIGEST)


class _Header(NamedTuple):
    alg: str
    typ: str
    fingerprint: str
    iat: int


class _Frame(NamedTuple):
    """A token taken apart, with nothing proven about it."""

    header: _Header
    payload: bytes
    signature: bytes
    signing_input: bytes


# Of a digest that is there already, as it names the object too: hashed again in here, a proof costs a tenth more.
_SHA256_DIGEST = Prehashed(hashes.SHA256())
_ES256 = ec.ECDSA(_SHA256_DIGEST)
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def _decode(segment: bytes) -> bytes | None:
    try:
        data = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        return None
    # Characters of no meaning, padding, and left-over bits of the last character would give one signature many spellings.
    return data if encode_base64url(data) == segment else None


def _open(token: bytes) -> _Frame | Problem:
    if len(token) > MAX_TOKEN_BYTES:
        return Problem("E101", "", f"{len(token)} bytes", f"{len(token)} byte")
    segments = token.split(b".")
    if len(segments) != 3 or not token.isascii() or not segments[0] or not segments[1]:
        return Problem("E102")
    if not segments[2]:
        return Problem("E302")
    if len(segments[0]) > _MAX_HEADER_CHARACTERS:
        return Problem("E104", "/header")
    payload, signature = _decode(segments[1]), _decode(segments[2])
    if payload is None or signature is None:
        return Problem("E103")
    header = _read_header(segments[0])
    return header if isinstance(header, Problem) else _Frame(header, payload, signature, token[: token.rindex(b".")])


@lru_cache(maxsize=1024)  # one signer's headers of one second are the same bytes; a miss costs a tenth of the proof
def _read_header(segment: bytes) -> _Header | Problem:
    data = _decode(segment)
    if data is None:
        return Problem("E103")
    return _as_header(data) or Problem("E104", "/header")


def _as_header(data: bytes) -> _Header | None:
    try:
        header = strict_json.loads(data)
    except strict_json.NotStrictError:
        return None
    if not isinstance(header, dict) or header.keys() != _HEADER_MEMBERS:
        return None
    alg, typ, fingerprint, iat = header["alg"], header["typ"], header["x5t#S256"], header["iat"]
    if not (isinstance(alg, str) and isinstance(typ, str) and isinstance(fingerprint, str) and type(iat) is int):
        return None
    return _Header(alg, typ, fingerprint, iat)


def _check_age(iat: int, now_s: int, max_age_s: int | None) -> Problem | None:
    if iat <= now_s + MAX_AHEAD_S and (max_age_s is None or iat >= now_s - max_age_s):
        return None
    skew_s = iat - now_s
    return Problem("E601", "/header/iat", f"{skew_s} s from the clock here", f"lệch {skew_s} giây so với giờ ở đây")


def _check_key(key: KeyRecord, header: _Header, now_s: int) -> Problem | None:
    pointer = "/header/x5t#S256"
    if key.revoked_at_s is not None and key.revoked_at_s <= max(now_s, header.iat):
        return Problem("E203", pointer)
    if not all(key.not_before_s <= moment <= key.not_after_s for moment in (header.iat, now_s)):
        return Problem("E202", pointer)
    if key.alg != header.alg:  # also refuses everything that is no algorithm of ours
        return Problem("E205", "/header/alg", f"the certificate is for {key.alg}", f"chứng thư dùng cho {key.alg}")
    return None


def _signature_fits(key: KeyRecord, signature: bytes, digest: bytes) -> bool:
    try:
        if isinstance(key.public_key, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            if not (0 < r < _P256_ORDER and 0 < s < _P256_ORDER):
                return False
            key.public_key.verify(encode_dss_signature(r, s), digest, _ES256)
        else:
            key.public_key.verify(signature, digest, _PSS, _SHA256_DIGEST)
    except InvalidSignature:
        return False
    return True
