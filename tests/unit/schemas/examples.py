"""Builds the submission that a refused example describes; schemas/README.md explains the format."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.core.decide import decide, decide_answer
from hub.core.submission import Submission
from hub.core.verdict import Accept, Answered, Stated
from schemas.directory_file import CertificateEntry, key_record
from schemas.refusal import Problem
from schemas.signing import encode_base64url
from tests.keys import make_certificate
from tests.unit.schemas import stage

MEMBERS = {
    "what",
    "at",
    "lane",
    "like",
    "payload",
    "payload_text",
    "payload_base64",
    "payload_after_signing",
    "header",
    "header_text",
    "header_of",
    "signer",
    "signed_at",
    "signature",
    "append",
    "append_base64",
    "body",
    "user",
    "routing_key",
    "certificate",
}


def refused() -> Sequence[Path]:
    return sorted((stage.EXAMPLES / "refused").glob("*.json"))


def code_of(path: Path) -> str:
    return path.name[:4]


def problems_of(example: dict[str, Any]) -> tuple[Problem, ...]:
    """Put an example through the checks; no problems when it passes."""
    if "certificate" in example:
        record = key_record(_certificate(example["certificate"]))
        return (record,) if isinstance(record, Problem) else ()
    arrival = submission(example)
    verdict = (
        decide(arrival, stage.directory(), stage.POLICY, stage.NOW)
        if _lane(example) == "document"
        else decide_answer(arrival, stage.directory(), stage.NOW)
    )
    return () if isinstance(verdict, Accept | Answered | Stated) else verdict.problems


def submission(example: dict[str, Any]) -> Submission:
    payload = payload_of(example)
    claims = payload if isinstance(payload, dict) else {}
    from_ = claims.get("via") or claims.get("from", "G01")
    user = example.get("user", from_)
    lane = _lane(example)
    return stage.submitted(_body(example, from_), user, lane=lane, key=example.get("routing_key"))


def payload_of(example: dict[str, Any]) -> Any:
    """The payload as JSON; `None` when the example gives bytes instead."""
    if "like" not in example:
        return None
    return _merged(stage.valid(example["like"]), example.get("payload", {}))


def _lane(example: dict[str, Any]) -> str:
    return str(example.get("lane") or example.get("like", "document").partition("-")[0])


def _body(example: dict[str, Any], from_: str) -> bytes:
    if "body" in example:
        body = example["body"]
        return body.encode() if isinstance(body, str) else (body["repeat"] * body["times"]).encode()
    key = stage.signer(example.get("signer", from_))
    signing_input = _header(example, from_) + b"." + encode_base64url(_payload_bytes(example))
    signature = encode_base64url(key.sign(signing_input))
    if "payload_after_signing" in example:
        changed = json.dumps(_merged(payload_of(example), example["payload_after_signing"])).encode()
        signing_input = _header(example, from_) + b"." + encode_base64url(changed)
    token = signing_input + b"." + example.get("signature", signature.decode()).encode()
    return token + example.get("append", "").encode() + base64.b64decode(example.get("append_base64", ""))


def _header(example: dict[str, Any], from_: str) -> bytes:
    if "header_text" in example:
        return encode_base64url(example["header_text"].encode())
    named = stage.signer(example.get("header_of", example.get("signer", from_)))
    typ = stage.TYPS[example.get("like", _lane(example)).partition("-")[0]]
    iat = stage.NOW_S + example.get("signed_at", 0)
    header = {"alg": named.alg, "typ": typ, "x5t#S256": named.fingerprint, "iat": iat}
    return encode_base64url(json.dumps(_merged(header, example.get("header", {}))).encode())


def _payload_bytes(example: dict[str, Any]) -> bytes:
    if "payload_text" in example:
        return str(example["payload_text"]).encode()
    if "payload_base64" in example:
        return base64.b64decode(example["payload_base64"])
    return json.dumps(payload_of(example), ensure_ascii=False).encode()


def _certificate(wanted: dict[str, Any]) -> CertificateEntry:
    options = dict(wanted)
    pem, behind = options.pop("pem", None), options.pop("append", "")
    return CertificateEntry(owner="G01", pem=(pem or make_certificate("G01", **options).pem) + behind)


def _merged(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
