"""A delivery and its states.

```
pending ─► routed ─► received         failed receipt, rejection, no receipt in time: ─► pending (next_attempt_at)
   │                                  last attempt spent, refused ─► dead      lifetime over ─► expired
   └► held                            when it is due and its recipient is down, suspended, or held by a person
held ─► pending as probe or when the recipient is back (`hub.core.breaker`); held ─► received and expired as from routed
dead ─► pending by replay only; received and expired are final
```

What people see as *retrying* (pending after an attempt) and *overdue* (routed past its time for a receipt) is derived.
Receipts, statuses and notices travel as deliveries too; nobody answers them, so *routed* is where they end. What the
recipient's office does with a document is another matter: `hub.core.ladder`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, get_args

from hub.core.ladder import NOTHING_YET, Standing
from hub.core.letter import Letter
from schemas.bundle import BUNDLE_TYP
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId

if TYPE_CHECKING:  # which knows deliveries
    from hub.core.breaker import Breaker

State = Literal["pending", "routed", "received", "dead", "held", "expired"]
STATES: Final[tuple[State, ...]] = get_args(State)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed object for one recipient, as the ledger has it.

    Attributes:
        delivery_id: Function of object and recipient; never changes.
        object_id: Identity of the document, receipt, status or notice.
        typ: Its type.
        sender: Who signed it, or the agency it is from.
        recipient: Who gets it.
        state: Where it stands.
        attempts: Attempts whose outcome is known.
        expires_at: When it is given up.
        standing: Where the recipient's office stands with it.
    """

    delivery_id: DeliveryId
    object_id: DocumentId
    typ: str
    sender: AgencyCode
    recipient: AgencyCode
    state: State
    attempts: int
    expires_at: datetime
    standing: Standing = NOTHING_YET

    @property
    def wants_receipt(self) -> bool:
        """Whether the recipient answers this; only documents are answered."""
        return self.typ == ENVELOPE_TYP


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is to be handed over now.

    Attributes:
        delivery: The delivery.
        token: Its bytes.
        breaker: How it stands with the recipient, unless all is well.
    """

    delivery: Delivery
    token: bytes
    breaker: "Breaker | None" = None


@dataclass(frozen=True, slots=True)
class Posting:
    """One message for one recipient: where to, and the bytes.

    Attributes:
        exchange: Exchange of the recipient's tier today.
        routing_key: The recipient's code.
        body: The signed bytes, as received; of several, a bundle.
        deliveries: What it is: a document or a letter, or several letters.
        apart: Whether not all is well with the recipient, so that its mail goes where it can not stand before others'.
    """

    exchange: str
    routing_key: str
    body: bytes
    deliveries: tuple[Delivery, ...]
    apart: bool = False

    @property
    def typ(self) -> str:
        """What the message says that it is."""
        return self.deliveries[0].typ if len(self.deliveries) == 1 else BUNDLE_TYP

    @property
    def object_id(self) -> DocumentId:
        """Identity of what it is, or of the first."""
        return self.deliveries[0].object_id


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a delivery, written into the ledger with who, when and why.

    Attributes:
        delivery: As it was before.
        event: Kind of ledger event, such as `delivery.routed`.
        state: State afterwards.
        attempts: Attempts afterwards.
        code: Why, from the catalogue, where something went wrong.
        next_attempt_at: When it is tried again; for `pending`.
        receipt_due_at: Until when its receipt is awaited; for `routed`.
        detail: Facts for people, never content of a document.
        letter: What an agency is told because of it.
    """

    delivery: Delivery
    event: str
    state: State
    attempts: int
    code: str | None = None
    next_attempt_at: datetime | None = None
    receipt_due_at: datetime | None = None
    detail: str | None = None
    letter: Letter | None = None
