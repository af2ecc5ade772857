"""What the checks decide about a submission: accept, refuse or park."""

from dataclasses import dataclass

from hub.core.ladder import ASKS_BACK
from hub.core.submission import Submission
from schemas.addresses import Tier
from schemas.checks.address import Addressee
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Receipt, Status
from schemas.refusal import Problem


@dataclass(frozen=True, slots=True)
class Accept:
    """The document is taken over; from the commit on the hub owes a delivery to every addressee.

    Attributes:
        document_id: Identity of the document.
        token: The signed bytes.
        envelope: What they say.
        sender_tier: Tier of the sender at acceptance.
        addressees: Each recipient once, groups expanded, in a fixed order.
        directory_epoch: The directory it was decided by.
        redelivered: Whether the broker handed the submission out before, so that a repetition is nobody's doing.
    """

    document_id: DocumentId
    token: bytes
    envelope: Envelope
    sender_tier: Tier
    addressees: tuple[Addressee, ...]
    directory_epoch: int
    redelivered: bool = False

    def delivery_id(self, addressee: Addressee) -> DeliveryId:
        """Id of the delivery to one addressee."""
        return delivery_id_of(self.document_id, addressee.code)


@dataclass(frozen=True, slots=True)
class Objection:
    """What only the ledger can know against a document that the checks have accepted; it is not written.

    Attributes:
        accept: The verdict of the checks.
        problems: What the ledger has found.
    """

    accept: Accept
    problems: tuple[Problem, ...]


def conflict(accept: Accept) -> Objection:
    """Object to a document whose sender has used its id before for other bytes."""
    envelope_id = accept.envelope.id
    return Objection(accept, (Problem("E603", "/id", envelope_id, envelope_id),))


@dataclass(frozen=True, slots=True)
class Refuse:
    """The signer is proven and has made mistakes; it is told all of them.

    Attributes:
        document_id: Identity of what was signed.
        submission: The arrival.
        signer: Whose key it was; the notice goes there, never to a claimed `from`.
        envelope_id: The sender's id, where the payload could be read.
        problems: All of them.
    """

    document_id: DocumentId
    submission: Submission
    signer: AgencyCode
    envelope_id: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Park:
    """Nobody is proven to have said anything; the bytes are kept for a person.

    Attributes:
        submission: The arrival.
        problems: Why, the first being the reason.
        tell: The broker user to tell, when the directory knows it. The broker has proven this user's connection and
            nothing more, so nobody else is told.
    """

    submission: Submission
    problems: tuple[Problem, ...]
    tell: AgencyCode | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A receipt whose signer is proven to be, or to speak for, the recipient it names.

    Attributes:
        receipt_id: Identity of the receipt.
        token: The signed bytes, which go on to the sender of the documents.
        receipt: What they say.
        signer: Whose key it was.
        submission: The arrival.
    """

    receipt_id: DocumentId
    token: bytes
    receipt: Receipt
    signer: AgencyCode
    submission: Submission


@dataclass(frozen=True, slots=True)
class Stated:
    """A status whose signer is proven to be, or to speak for, the agency it is from.

    Attributes:
        status_id: Identity of the status.
        token: The signed bytes, which go on to the other side of the delivery.
        status: What they say.
        signer: Whose key it was.
        submission: The arrival.
    """

    status_id: DocumentId
    token: bytes
    status: Status
    signer: AgencyCode
    submission: Submission

    @property
    def delivery_id(self) -> DeliveryId:
        """Id of the delivery that it is about, if there is one."""
        recipient = self.status.to if self.status.status == ASKS_BACK else self.status.from_
        return delivery_id_of(self.status.document, recipient)


Verdict = Accept | Refuse | Park
AnswerVerdict = Answered | Stated | Park
