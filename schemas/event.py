"""An event: what the gateway of an agency or platform tells the system behind it when something has arrived.

It says that there is something to come for, never what it says: the document itself is asked for under its delivery
id. It is signed like any other object, so that whoever is told knows who tells; `iat` says how fresh it is.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.identifiers import DocumentIdText, PartyCodeText, UuidText
from schemas.wire import Instant, Version1, Wire

EVENT_TYP: Final = "truc.event.v1"


class Event(Wire):
    """The payload of a `truc.event.v1`.

    Attributes:
        v: Version of this format.
        from_: The agency or platform whose gateway tells (`from` on the wire).
        to: Which of its agencies it has arrived for, or the platform itself.
        seq: Its number in the mailbox; `GET …?after=` lists what comes after a number.
        delivery: Never changes, so it tells a repetition; a document that was answered with `failed` comes again under
            the same delivery and a new number.
        kind: What has arrived.
        document: The document that it is or is about; absent for what is about several or none.
        at: When it arrived.
    """

    v: Version1 = 1
    from_: PartyCodeText = Field(alias="from")
    to: PartyCodeText
    seq: Annotated[int, Field(strict=True, ge=1)]
    delivery: UuidText
    kind: Literal["document", "receipt", "status", "notice"]
    document: DocumentIdText | None = None
    at: Instant
