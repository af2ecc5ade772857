"""The AsyncAPI 3.0 description of the axis, made from the names and types that hub and agencies share.

It is written from the side of the axis: it receives what agencies submit, and sends into their queues.
"""

from typing import Any, Final

from schemas import addresses
from schemas.bundle import BUNDLE_TYP, MAX_BUNDLE_BYTES, MAX_BUNDLED
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AGENCY_CODE_PATTERN, AgencyCode
from schemas.receipt import NOTICE_TYP, RECEIPT_TYP, STATUS_TYP
from schemas.signing import MAX_TOKEN_BYTES

_MESSAGES: Final = {"document": ENVELOPE_TYP, "receipt": RECEIPT_TYP, "status": STATUS_TYP, "notice": NOTICE_TYP}
_SUBMITTED: Final[tuple[addresses.Lane, ...]] = ("document", "receipt", "status")
_SCHEMAS: Final = {"document": "envelope", "receipt": "receipt", "status": "status", "notice": "notice"}
_SUMMARIES: Final = {
    "document": "One signed envelope, from its sender, unchanged all the way to every recipient.",
    "receipt": "A recipient's signed answers about deliveries of one sender, passed on to that sender unchanged.",
    "status": "What an agency does with a document, passed on unchanged to the other side of its delivery.",
    "notice": "What the hub tells an agency: a submission was refused or put aside, a delivery expired.",
}

_COMPACT_JWS: Final = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
_TOKEN: Final = {
    "type": "string",
    "description": "Compact JWS: base64url header, payload and signature; the payload obeys `x-truc-payload`.",
    "maxLength": MAX_TOKEN_BYTES,
    "pattern": f"^{_COMPACT_JWS}$",
}
_BUNDLE: Final = {
    "type": "string",
    "description": "Several tokens in one message, one to a line, no line end behind the last. The hub sends only letters "
    f"so, which may be of different types, with `{BUNDLE_TYP}` as the property `type` of the message; never documents. Each "
    "token is handed over and known by itself. The message is acknowledged when all are; given back, all of them come again.",
    "maxLength": MAX_BUNDLE_BYTES,
    "pattern": f"^{_COMPACT_JWS}(\\n{_COMPACT_JWS}){{1,{MAX_BUNDLED - 1}}}$",
}
_PROTECTED_HEADER: Final = {
    "type": "object",
    "description": "Protected header of the JWS: exactly these four members.",
    "required": ["alg", "typ", "x5t#S256", "iat"],
    "additionalProperties": False,
    "properties": {
        "alg": {"enum": ["ES256", "PS256"], "description": "The algorithm registered with the certificate."},
        "typ": {"enum": sorted(_MESSAGES.values())},
        "x5t#S256": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$", "description": "Fingerprint (RFC 7515)."},
        "iat": {"type": "integer", "description": "When it was signed, seconds since 1970 UTC."},
    },
}


def asyncapi() -> dict[str, Any]:
    """Describe exchanges, queues, operations and messages."""
    tiers = {f"tier-{tier}": _tier(tier) for tier in addresses.TIERS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Trục",
            "version": "1",
            "description": "Exchange of signed documents between agencies over RabbitMQ (AMQP 0-9-1). "
            "Every publish is persistent, mandatory and confirmed, with a fresh `message_id` and with `user_id` set.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/jose",
        "channels": {
            **{f"submit-{lane}": _submit(lane) for lane in _SUBMITTED},
            **tiers,
            "agency-queue": _agency_queue(),
        },
        "operations": {
            **{f"receive-{lane}": _operation("receive", f"submit-{lane}", [lane]) for lane in _SUBMITTED},
            **{f"send-{channel}": _operation("send", channel, list(_MESSAGES)) for channel in tiers},
        },
        "components": {
            "messages": {name: _message(name) for name in _MESSAGES},
            "schemas": {"token": _TOKEN, "bundle": _BUNDLE, "protectedHeader": _PROTECTED_HEADER},
        },
    }


def _submit(lane: addresses.Lane) -> dict[str, Any]:
    return {
        "address": addresses.submit_key(lane, "{user}"),
        "description": f"Agencies and platforms publish every {lane} here, under their own name.",
        "messages": _references([lane]),
        "parameters": {"user": {"description": "The broker user: the code of the agency or platform."}},
        "bindings": _exchange(addresses.SUBMIT, "topic"),
    }


def _tier(tier: addresses.Tier) -> dict[str, Any]:
    return {
        "address": "{recipient}",
        "description": f"The hub delivers to members of the tier {tier} here; each queue is bound with its codes.",
        "messages": _references(list(_MESSAGES)),
        "parameters": {"recipient": {"description": f"Code of the recipient: {AGENCY_CODE_PATTERN}"}},
        "bindings": _exchange(addresses.tier_exchange(tier), "direct"),
    }


def _agency_queue() -> dict[str, Any]:
    name = addresses.agency_queue(AgencyCode("{endpoint}"))
    return {
        "address": name,
        "description": "The durable quorum queue that an agency, or a platform for its agencies, consumes from. "
        "The hub declares it; a consumer acknowledges after it has handed over and sent its receipt.",
        "messages": _references(list(_MESSAGES)),
        "parameters": {"endpoint": {"description": "Code of the agency, or of the platform that receives for it."}},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": "/"},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _exchange(name: str, kind: str) -> dict[str, Any]:
    exchange = {"name": name, "type": kind, "durable": True, "autoDelete": False, "vhost": "/"}
    return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}}


def _references(messages: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _operation(action: str, channel: str, messages: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _message(name: str) -> dict[str, Any]:
    return {
        "name": _MESSAGES[name],
        "summary": _SUMMARIES[name],
        "contentType": "application/jose",
        "payload": {"oneOf": [{"$ref": "#/components/schemas/token"}, {"$ref": "#/components/schemas/bundle"}]},
        "correlationId": {
            "description": "Identity of the signed object, of the first where there are several: SHA-256 of header and "
            "payload as signed, hexadecimal.",
            "location": "$message.header#/correlation_id",
        },
        "x-truc-protected-header": {"$ref": "#/components/schemas/protectedHeader"},
        "x-truc-payload": {"$ref": f"./{_SCHEMAS[name]}.schema.json"},
    }
