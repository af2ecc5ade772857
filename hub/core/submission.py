"""What arrives: bytes, and what the broker vouches for about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.bundle import untie
from schemas.identifiers import DeliveryId


@dataclass(frozen=True, slots=True)
class Submission:
    """One arrival of bytes at the hub, before anything is known about them.

    Attributes:
        body: The bytes, as received.
        user: The broker user that sent them, proven by the broker; absent when the sender did not set `user_id`.
        routing_key: The key under which they were published; a hint that must not contradict the signature.
        message_id: The sender's id of this publish.
        redelivered: Whether the broker handed them out before; such a repetition is nobody's doing.
        put_aside_at: When they were put aside, for what is decided again; the signature is as old as it was then.
    """

    body: bytes
    user: str | None
    routing_key: str
    message_id: str | None = None
    redelivered: bool = False
    put_aside_at: datetime | None = None

    def untied(self) -> "Sequence[Submission]":
        """Give one submission for each token that came in this message; all share what the broker says about it."""
        tokens = untie(self.body)
        return (self,) if len(tokens) == 1 else [replace(self, body=token) for token in tokens]


@dataclass(frozen=True, slots=True)
class Return:
    """One message from `truc.dead`.

    Attributes:
        submission: What it carried and under which key it was first published.
        delivery_id: The delivery that a recipient gave back; absent for a submission of the hub's own queues.
        how: What the broker says about it, such as `rejected`: for people, nothing is decided by it.
    """

    submission: Submission
    delivery_id: DeliveryId | None
    how: str | None = None
