"""The strict verifier, held against two libraries and against everything that they take beyond our profile."""

import base64
import hashlib
import hmac
import json

import joserfc.jwk
import joserfc.jws
import jwcrypto.jwk
import jwcrypto.jws
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from schemas.directory_file import key_record
from schemas.envelope import ENVELOPE_TYP
from schemas.refusal import CATALOGUE, Problem
from schemas.signing import (
    MAX_TOKEN_BYTES,
    Verified,
    algorithm_of,
    encode_base64url,
    identity,
    sign,
    verify,
)
from tests.unit.schemas import stage
from tests.unit.schemas.stage import NOW_S, certified, signer, token

PAYLOAD = '{"subject":"Về việc triển khai"}'.encode()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ALGORITHMS = pytest.mark.parametrize("name", ["G01", "G01 PS256"], ids=["ES256", "PS256"])


def checked(body: bytes, **options) -> Verified | Problem:
    options = {"typ": ENVELOPE_TYP, "keys": stage.directory().keys, "now_s": NOW_S, **options}
    return verify(body, **options)


def code(body: bytes, **options) -> str:
    result = checked(body, **options)
    assert isinstance(result, Problem), "verified what must be refused"
    assert result.code in CATALOGUE
    return result.code


def header(name: str = "G01", **changes) -> bytes:
    members = {"alg": signer(name).alg, "typ": ENVELOPE_TYP, "x5t#S256": signer(name).fingerprint, "iat": NOW_S}
    return json.dumps({**members, **changes}).encode()


def with_signature(body: bytes, signature: bytes) -> bytes:
    return body[: body.rindex(b".") + 1] + encode_base64url(signature)


def signature_of(body: bytes) -> bytes:
    segment = body.rpartition(b".")[2]
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def r_and_s(body: bytes) -> tuple[int, int]:
    signature = signature_of(body)
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:])


def public_pem(name: str) -> bytes:
    return (
        signer(name)
        .private_key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


# What both sides of the profile agree on.


@ALGORITHMS
def test_what_was_signed_verifies_and_names_its_signer(name):
    body = stage.signed(PAYLOAD, name)

    verified = checked(body)

    assert isinstance(verified, Verified)
    assert verified.key.owner == "G01"
    assert verified.payload == PAYLOAD
    assert verified.token == body
    assert verified.signed_at_s == NOW_S
    assert verified.typ == ENVELOPE_TYP


@ALGORITHMS
def test_identity_is_the_hash_of_the_signing_input(name):
    body = stage.signed(PAYLOAD, name)

    expected = hashlib.sha256(body.rpartition(b".")[0]).hexdigest()

    assert expected == identity(body) == checked(body).document_id


def test_bytes_without_a_dot_have_an_identity_too():
    assert identity(b"not a token") == hashlib.sha256(b"not a token").hexdigest()


@ALGORITHMS
def test_two_signatures_of_the_same_bytes_have_one_identity(name):
    """Both algorithms are randomised, and an honest retry may be signed anew."""
    first, second = stage.signed(PAYLOAD, name), stage.signed(PAYLOAD, name)

    assert first != second
    assert identity(first) == identity(second)


@ALGORITHMS
def test_joserfc_verifies_what_we_sign(name):
    key = joserfc.jwk.import_key(public_pem(name), "EC" if name == "G01" else "RSA")
    registry = joserfc.jws.JWSRegistry(algorithms=[signer(name).alg], strict_check_header=False)

    assert joserfc.jws.deserialize_compact(stage.signed(PAYLOAD, name), key, registry=registry).payload == PAYLOAD


@ALGORITHMS
def test_we_verify_what_joserfc_signs(name):
    key = joserfc.jwk.import_key(certified(name).private_key_pem, "EC" if name == "G01" else "RSA")
    registry = joserfc.jws.JWSRegistry(algorithms=[signer(name).alg], strict_check_header=False)
    body = joserfc.jws.serialize_compact(json.loads(header(name)), PAYLOAD, key, registry=registry)

    assert checked(body.encode()).payload == PAYLOAD


@ALGORITHMS
def test_jwcrypto_verifies_what_we_sign(name):
    theirs = jwcrypto.jws.JWS()
    theirs.deserialize(stage.signed(PAYLOAD, name).decode(), jwcrypto.jwk.JWK.from_pem(public_pem(name)))

    assert theirs.payload == PAYLOAD


@ALGORITHMS
def test_we_verify_what_jwcrypto_signs(name):
    theirs = jwcrypto.jws.JWS(PAYLOAD)
    key = jwcrypto.jwk.JWK.from_pem(certified(name).private_key_pem)
    theirs.add_signature(key, protected=header(name).decode())

    assert checked(theirs.serialize(compact=True).encode()).payload == PAYLOAD


# What they take and we do not.


def test_joserfc_takes_a_doubled_alg_and_we_do_not():
    """The reason for a verifier of our own."""
    doubled = header().replace(b'{"alg"', b'{"alg": "none", "alg"')
    body = token(doubled, PAYLOAD, signer("G01"))
    registry = joserfc.jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    theirs = joserfc.jws.deserialize_compact(body, joserfc.jwk.import_key(public_pem("G01"), "EC"), registry=registry)

    assert theirs.payload == PAYLOAD
    assert code(body) == "E104"


@pytest.mark.parametrize(
    "extra",
    [
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"x5c": ["MIIB"]},
        {"jku": "https://example.org/"},
        {"x5u": "https://example.org/"},
        {"kid": "G01"},
        {"cty": "json"},
    ],
    ids="+".join,
)
def test_a_member_beyond_the_four_is_refused(extra):
    assert code(token(header(**extra), PAYLOAD, signer("G01"))) == "E104"


def test_a_key_carried_along_is_not_looked_at():
    """Signed with a stranger's key that lies in the header: the classic of CVE-2018-0114."""
    stranger = signer("G01 unregistered")
    numbers = stranger.private_key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": hex(numbers.x), "y": hex(numbers.y)}

    assert code(token(header(jwk=jwk), PAYLOAD, stranger)) == "E104"
    assert code(token(header(), PAYLOAD, stranger)) == "E301"


@pytest.mark.parametrize("missing", ["alg", "typ", "x5t#S256", "iat"])
def test_each_of_the_four_is_needed(missing):
    members = json.loads(header())
    del members[missing]

    assert code(token(json.dumps(members).encode(), PAYLOAD, signer("G01"))) == "E104"


@pytest.mark.parametrize("member", ["alg", "typ", "x5t#S256", "iat"])
@pytest.mark.parametrize("value", [None, [], {}, True], ids=repr)
def test_each_of_the_four_has_its_type(member, value):
    assert code(token(header(**{member: value}), PAYLOAD, signer("G01"))) == "E104"


def test_the_members_may_come_in_any_order_and_with_spaces():
    members = dict(reversed(json.loads(header()).items()))

    body = token(json.dumps(members, indent=1).encode(), PAYLOAD, signer("G01"))

    assert checked(body).payload == PAYLOAD


@pytest.mark.parametrize("alg", ["none", "None", "", "HS256", "RS256", "ES384", "ES256K", "EdDSA", "es256", "PS256"])
def test_the_algorithm_of_the_certificate_is_the_only_one(alg):
    assert code(token(header(alg=alg), PAYLOAD, signer("G01"))) == "E205"


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "PS384", "PS512", "ES256"])
def test_the_same_for_an_rsa_certificate(alg):
    assert code(token(header("G01 PS256", alg=alg), PAYLOAD, signer("G01 PS256"))) == "E205"


@ALGORITHMS
def test_hs256_with_the_public_key_for_a_secret_is_refused(name):
    signing_input = encode_base64url(header(name, alg="HS256")) + b"." + encode_base64url(PAYLOAD)
    mac = hmac.digest(public_pem(name), signing_input, "sha256")

    assert code(signing_input + b"." + encode_base64url(mac)) == "E205"


def test_an_ecdsa_signature_under_an_rsa_certificate_is_refused():
    assert code(token(header("G01 PS256"), PAYLOAD, signer("G01"))) == "E301"
    assert code(token(header("G01 PS256", alg="ES256"), PAYLOAD, signer("G01"))) == "E205"


@pytest.mark.parametrize("salt", [0, 20, 31, 33, 64, padding.PSS.MAX_LENGTH], ids=["0", "20", "31", "33", "64", "max"])
def test_a_pss_signature_with_another_salt_length_is_refused(salt):
    key = signer("G01 PS256").private_key
    body = stage.signed(PAYLOAD, "G01 PS256")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)

    assert code(with_signature(body, key.sign(body.rpartition(b".")[0], pss, hashes.SHA256()))) == "E301"


@pytest.mark.parametrize("mask", [hashes.SHA1(), hashes.SHA512()], ids=lambda mask: mask.name)
def test_a_pss_signature_with_another_mask_hash_is_refused(mask):
    key = signer("G01 PS256").private_key
    body = stage.signed(PAYLOAD, "G01 PS256")
    pss = padding.PSS(padding.MGF1(mask), 32)

    assert code(with_signature(body, key.sign(body.rpartition(b".")[0], pss, hashes.SHA256()))) == "E301"


def test_a_pkcs1_signature_under_ps256_is_refused():
    key = signer("G01 PS256").private_key
    body = stage.signed(PAYLOAD, "G01 PS256")

    assert code(with_signature(body, key.sign(body.rpartition(b".")[0], padding.PKCS1v15(), hashes.SHA256()))) == "E301"


@pytest.mark.parametrize("length", [1, 255, 257, 512])
def test_a_pss_signature_of_another_length_is_refused(length):
    body = stage.signed(PAYLOAD, "G01 PS256")

    assert code(with_signature(body, signature_of(body)[:length].ljust(length, b"\0"))) == "E301"


def test_a_der_signature_is_refused():
    body = stage.signed(PAYLOAD)

    assert code(with_signature(body, encode_dss_signature(*r_and_s(body)))) == "E301"


@pytest.mark.parametrize(
    "forge",
    [
        lambda _r, s: (0, s),
        lambda r, _s: (r, 0),
        lambda _r, _s: (0, 0),
        lambda _r, s: (ORDER, s),
        lambda r, _s: (r, ORDER),
        lambda _r, _s: (ORDER, ORDER),
        lambda r, _s: (r, 2**256 - 1),
        lambda r, s: (s, r),
        lambda r, s: (ORDER - r, s),
    ],
    ids=["r=0", "s=0", "both 0", "r=n", "s=n", "both n", "s oversize", "swapped", "n-r"],
)
def test_an_impossible_r_or_s_is_refused(forge):
    body = stage.signed(PAYLOAD)
    r, s = forge(*r_and_s(body))

    assert code(with_signature(body, r.to_bytes(32) + s.to_bytes(32))) == "E301"


@pytest.mark.parametrize(
    "change",
    [
        lambda signature: signature[:63],
        lambda signature: signature[:32],
        lambda signature: signature + b"\0",
        lambda signature: b"\0" + signature,
        lambda signature: signature[:32] + b"\0" + signature[32:],
        lambda signature: b"\0" + signature[:32] + b"\0" + signature[32:],
    ],
    ids=["63", "32", "65", "65 from the left", "zero before s", "33 each"],
)
def test_r_and_s_take_32_bytes_each(change):
    body = stage.signed(PAYLOAD)

    assert code(with_signature(body, change(signature_of(body)))) == "E301"


def test_the_second_form_of_an_ecdsa_signature_is_the_same_document():
    """`(r, n - s)` verifies wherever `(r, s)` does, so the signature must not be a part of the identity."""
    body = stage.signed(PAYLOAD)
    r, s = r_and_s(body)
    twin = with_signature(body, r.to_bytes(32) + (ORDER - s).to_bytes(32))

    assert twin != body
    assert checked(twin).document_id == checked(body).document_id


# Framing.


FRAMES = {
    "nothing": (lambda body: b"", "E102"),
    "one dot": (lambda body: b".", "E102"),
    "two dots": (lambda body: b"..", "E102"),
    "two segments": (lambda body: body.partition(b".")[2], "E102"),
    "no header": (lambda body: b"." + body.partition(b".")[2], "E102"),
    "no payload": (lambda body: body.partition(b".")[0] + b".." + body.rpartition(b".")[2], "E102"),
    "doubled dot": (lambda body: body.replace(b".", b"..", 1), "E102"),
    "dot at the end": (lambda body: body + b".", "E102"),
    "fourth segment": (lambda body: body + b".AAAA", "E102"),
    "byte above 127": (lambda body: body + b"\x80", "E102"),
    "byte order mark": (lambda body: b"\xef\xbb\xbf" + body, "E102"),
    "no signature": (lambda body: body.rpartition(b".")[0] + b".", "E302"),
    "padding": (lambda body: body + b"=", "E103"),
    "line feed at the end": (lambda body: body + b"\n", "E103"),
    "space in front": (lambda body: b" " + body, "E103"),
    "line feed in the header": (lambda body: body.replace(b".", b"\n.", 1), "E103"),
    "padded header": (lambda body: body.replace(b".", b"=.", 1), "E103"),
    "plus": (lambda body: body[:-1] + b"+", "E103"),
    "slash": (lambda body: body[:-1] + b"/", "E103"),
    "NUL": (lambda body: body[:-1] + b"\0", "E103"),
    "impossible length": (lambda body: body + b"AAA", "E103"),
    "too large": (lambda body: b"A" * (MAX_TOKEN_BYTES + 1), "E101"),
    "long header": (lambda body: b"A" * 513 + b"." + body.partition(b".")[2], "E104"),
}


@pytest.mark.parametrize("what", FRAMES)
def test_a_frame_that_is_not_ours_is_refused(what):
    change, expected = FRAMES[what]

    assert code(change(stage.signed(PAYLOAD))) == expected


def test_left_over_bits_are_refused():
    """An ES256 signature ends in a character with four bits to spare, so fifteen others would decode alike."""
    body = stage.signed(PAYLOAD)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(body[-1])
    others = [body[:-1] + alphabet[spelling : spelling + 1] for spelling in range(last + 1, last + 16)]

    assert {signature_of(other) for other in others} == {signature_of(body)}
    assert {code(other) for other in others} == {"E103"}


@ALGORITHMS
def test_no_other_byte_at_any_place_verifies(name):
    """Strict base64url leaves no free bit: every position, every other value is refused."""
    body = stage.signed(b"{}", name)
    refused = 0
    for position in range(len(body)):
        for value in range(256):
            if value != body[position]:
                changed = body[:position] + bytes([value]) + body[position + 1 :]
                assert isinstance(checked(changed), Problem), (position, value)
                refused += 1

    assert refused == 255 * len(body)


# Types, keys and time.


def test_an_object_of_another_type_is_refused():
    body = stage.signed(PAYLOAD, typ="truc.receipt.v1")

    assert code(body) == "E105"
    assert checked(body, typ="truc.receipt.v1").typ == "truc.receipt.v1"


def test_an_unknown_certificate_is_refused_before_any_public_key_work():
    assert code(stage.signed(PAYLOAD, "G01 unregistered")) == "E201"
    assert code(stage.signed(PAYLOAD), keys={}) == "E201"


@pytest.mark.parametrize(
    ("offset_s", "expected"), [(-24 * 3600, None), (-24 * 3600 - 1, "E601"), (300, None), (301, "E601")]
)
def test_a_signature_is_fresh_for_24_hours_and_at_most_5_minutes_ahead(offset_s, expected):
    result = checked(stage.signed(PAYLOAD, iat_s=NOW_S + offset_s))

    assert expected == (result.code if isinstance(result, Problem) else None)


@pytest.mark.parametrize("iat", [0, -1, 2**53 - 1])
def test_an_absurd_time_is_refused(iat):
    assert code(token(header(iat=iat), PAYLOAD, signer("G01"))) in {"E202", "E601"}


def test_an_old_object_verifies_by_the_time_of_its_signature():
    """Accepted documents outlive certificates: who verifies later asks whether the key was good then."""
    body = stage.signed(PAYLOAD)
    years_later = NOW_S + 5 * 365 * 86400

    assert code(body, now_s=years_later) == "E202"
    assert checked(body, now_s=years_later, max_age_s=None).payload == PAYLOAD
    assert code(stage.signed(PAYLOAD, iat_s=NOW_S + 301), max_age_s=None) == "E601"


def test_validity_is_checked_at_signing_and_now():
    key = key_record(certified("G01").entry("G01"))
    first, last = key.not_before_s, key.not_after_s

    def at(iat_s: int, now_s: int) -> str | None:
        result = checked(stage.signed(PAYLOAD, iat_s=iat_s), now_s=now_s)
        return result.code if isinstance(result, Problem) else None

    assert at(first, first) is None
    assert at(first - 1, first) == "E202"
    assert at(last, last) is None
    assert at(last, last + 1) == "E202"


def test_revocation_counts_from_its_moment_whatever_the_signature_claims():
    """Who stole a key can write any `iat`, so a fresh object of a revoked key is refused even with an older one."""
    entry = certified("G01").entry("G01", revoked_at=NOW_S)
    keys = {signer("G01").fingerprint: key_record(entry)}

    assert code(stage.signed(PAYLOAD, iat_s=NOW_S - 3600), keys=keys) == "E203"
    assert code(stage.signed(PAYLOAD, iat_s=NOW_S), keys=keys, now_s=NOW_S - 1) == "E203"
    assert isinstance(checked(stage.signed(PAYLOAD, iat_s=NOW_S - 1), keys=keys, now_s=NOW_S - 1), Verified)


def test_an_object_from_before_the_revocation_still_verifies_later():
    """What the hub accepted before the revocation stays proven."""
    keys = {signer("G01").fingerprint: key_record(certified("G01").entry("G01", revoked_at=NOW_S))}

    def old(iat_s: int) -> Verified | Problem:
        return checked(stage.signed(PAYLOAD, iat_s=iat_s), keys=keys, now_s=NOW_S + 86400 * 90, max_age_s=None)

    assert isinstance(old(NOW_S - 1), Verified)
    assert old(NOW_S).code == "E203"


# Keys and signing.


def test_keys_of_other_kinds_and_sizes_have_no_algorithm():
    assert algorithm_of(ec.generate_private_key(ec.SECP256R1()).public_key()) == "ES256"
    assert algorithm_of(rsa.generate_private_key(65537, 2048).public_key()) == "PS256"
    assert algorithm_of(rsa.generate_private_key(65537, 1024).public_key()) is None
    assert algorithm_of(ec.generate_private_key(ec.SECP256K1()).public_key()) is None
    assert algorithm_of(None) is None


@ALGORITHMS
def test_a_signer_names_its_algorithm(name):
    assert signer(name).alg == key_record(certified(name).entry("G01")).alg


def test_nothing_larger_than_the_limit_is_signed():
    def size(payload_bytes: int) -> int:
        return len(sign(b"x" * payload_bytes, typ=ENVELOPE_TYP, signer=signer("G01"), now_s=NOW_S))

    largest = 0
    for step in (2**15, 2**10, 2**5, 1):
        while True:
            try:
                assert size(largest + step) <= MAX_TOKEN_BYTES
            except ValueError:
                break
            largest += step

    assert size(largest) > MAX_TOKEN_BYTES - 2
    with pytest.raises(ValueError, match="more than 262144"):
        size(largest + 1)


def test_r_and_s_are_written_in_32_bytes_even_when_small():
    """One signature in 128 has an r or s that begins with a zero byte."""
    bodies = (stage.signed(PAYLOAD) for _ in range(10_000))

    small = next(body for body in bodies if min(r_and_s(body)) < 2**248)

    assert len(signature_of(small)) == 64
    assert checked(small).payload == PAYLOAD
