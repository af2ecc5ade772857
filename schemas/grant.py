"""A grant: an agency's own signed word that the bearer of it asks the hub over HTTP in its name.

No secret is shared: the hub proves the grant like any other signed object, against the certificate in the directory.
It travels as `Authorization: Bearer <token>` and is short-lived; stolen, it repeats one question about one thing.
"""

from typing import Final, Literal

from pydantic import Field

from schemas.identifiers import AgencyCodeText, DocumentIdText, PlatformCodeText
from schemas.refusal import Problem
from schemas.wire import Digest, Instant, Version1, Wire, read_payload

GRANT_TYP: Final = "truc.grant.v1"

MAX_GRANT_AGE_S: Final = 300
"""How long after its signature a grant may be used."""

Act = Literal["upload", "fetch", "ask", "catch-up"]
"""Put a part into the blob store; read a part of a document; ask about documents and agencies; get again what was had."""


class Grant(Wire):
    """The payload of a `truc.grant.v1`.

    Attributes:
        v: Version of this format.
        from_: The agency in whose name is asked (`from` on the wire).
        via: The platform that speaks for it, or absent.
        act: What is asked for.
        part: Digest of the part, for `upload` and `fetch`.
        document: Identity of the document whose part is fetched, for `fetch`.
        since: From when on the agency wants its deliveries again, for `catch-up`.
        until: When the grant ends, at most `MAX_GRANT_AGE_S` after its signature.
    """

    v: Version1 = 1
    from_: AgencyCodeText = Field(alias="from")
    via: PlatformCodeText | None = None
    act: Act
    part: Digest | None = None
    document: DocumentIdText | None = None
    since: Instant | None = None
    until: Instant


def read_grant(payload: bytes) -> Grant | tuple[Problem, ...]:
    """Read a grant from the payload of a token, or say everything that is wrong with it."""
    return read_payload(Grant, payload)
