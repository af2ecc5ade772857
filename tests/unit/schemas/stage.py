"""The world of the published examples: a clock that stands still, a directory, and a key for everyone in it."""

import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.core.policy import Policy
from hub.core.submission import Submission
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.receipt import RECEIPT_TYP, STATUS_TYP
from schemas.signing import KeySigner, encode_base64url, sign
from tests.keys import Certified, make_certificate

EXAMPLES = Path(__file__).parents[3] / "schemas" / "published" / "examples"
NOW_S = 1_772_416_800
NOW = datetime.fromtimestamp(NOW_S, UTC)
POLICY = Policy()
TYPS = {"document": ENVELOPE_TYP, "receipt": RECEIPT_TYP, "status": STATUS_TYP}

_DAY = timedelta(days=1)
_PARTIES = (
    "G01",
    "H26",
    "H26.01",
    "H26.02",
    "H26.01.07",
    "000.00.00.H27",
    "0100109106",
    "0100109106-001",
    "H31",
    "H32",
    "lgsp-h26",
    "lgsp-cu",
    "hub",
)


@functools.cache
def certified(name: str) -> Certified:
    """The key of a party by its code, or one of the special keys that schemas/README.md lists, such as `G01 expired`."""
    owner, _, special = name.partition(" ")
    match special:
        case "expired":
            return make_certificate(owner, not_before=NOW - 30 * _DAY, lifetime=29 * _DAY)
        case "early":
            return make_certificate(owner, not_before=NOW + _DAY)
        case "PS256":
            return make_certificate(owner, "PS256", not_before=NOW - 30 * _DAY)
        case _:
            return make_certificate(owner, not_before=NOW - 30 * _DAY)


def signer(name: str) -> KeySigner:
    return certified(name).signer


@functools.cache
def directory_file() -> DirectoryFile:
    """The published directory with the certificates of the session."""
    published = DirectoryFile.model_validate_json((EXAMPLES / "valid" / "directory.json").read_bytes())
    names = (*_PARTIES, "G01 PS256", "G01 expired", "G01 early")
    entries = [certified(name).entry(name.split()[0]) for name in names]
    revoked = certified("G01 revoked").entry("G01", revoked_at=NOW_S - 3600)
    return published.model_copy(update={"certificates": (*entries, revoked)})


@functools.cache
def directory() -> Directory:
    return snapshot(directory_file(), epoch=7, as_of=NOW)


def valid(name: str) -> dict[str, Any]:
    """The payload of a valid example."""
    payload: dict[str, Any] = json.loads((EXAMPLES / "valid" / name).read_bytes())
    return payload


def document(**changes: Any) -> dict[str, Any]:
    """The smallest valid envelope, from G01 to H26, with changes at its top level; `None` leaves a member out."""
    return {key: value for key, value in {**valid("document-least.json"), **changes}.items() if value is not None}


def receipt(**changes: Any) -> dict[str, Any]:
    """A valid receipt of H26 for G01, with changes as in `document`."""
    return {key: value for key, value in {**valid("receipt-received.json"), **changes}.items() if value is not None}


def status(**changes: Any) -> dict[str, Any]:
    """A valid status of H26 about a document of G01, with changes as in `document`."""
    return {key: value for key, value in {**valid("status-registered.json"), **changes}.items() if value is not None}


def signed(payload: Any, name: str = "G01", *, typ: str = ENVELOPE_TYP, iat_s: int = NOW_S) -> bytes:
    """Sign a payload, given as bytes or as what is to be written as JSON."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return sign(data, typ=typ, signer=signer(name), now_s=iat_s)


def submitted(body: bytes, user: str | None = "G01", *, lane: str = "document", key: str | None = None) -> Submission:
    """An arrival over the connection of a user, under its own routing key unless another is given."""
    return Submission(body=body, user=user, routing_key=f"{lane}.{user}" if key is None else key)


def token(header: bytes, payload: bytes, key: KeySigner) -> bytes:
    """Sign any header and payload, as `schemas.signing.sign` never would."""
    signing_input = encode_base64url(header) + b"." + encode_base64url(payload)
    return signing_input + b"." + encode_base64url(key.sign(signing_input))
