"""The numbers that decisions depend on: limits, deadlines and delays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.identifiers import AgencyCode


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator may set; the values here are the defaults of the settings.

    Attributes:
        max_recipients: Most recipients of one document after groups are expanded.
        max_recipients_by_sender: The same for some senders, instead.
        receipt_deadline_s: How long a routed delivery may wait for its receipt before it is sent again; doubles with
            every attempt, as each leaves one more copy in the queue of an agency that is away.
        max_receipt_deadline_s: Upper bound of that wait.
        retry_delay_s: Wait before the second attempt; doubles with every further one.
        max_retry_delay_s: Upper bound of that wait.
        max_attempts: Attempts after which a delivery is dead; the last one is always one that reached the recipient.
    """

    max_recipients: int = 20_000
    max_recipients_by_sender: Mapping[AgencyCode, int] = field(default_factory=dict)
    receipt_deadline_s: float = 900.0
    max_receipt_deadline_s: float = 86_400.0
    retry_delay_s: float = 5.0
    max_retry_delay_s: float = 3600.0
    max_attempts: int = 50

    def max_recipients_of(self, sender: AgencyCode) -> int:
        """Say how many recipients a document of this sender may have."""
        return self.max_recipients_by_sender.get(sender, self.max_recipients)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one document goes out to very many recipients, so that it never stands in the way of others.

    Attributes:
        at_once: Recipients that are served at once.
        per_s: Recipients of every further second.
    """

    at_once: int = 300
    per_s: float = 500.0

    def first_attempt_at(self, index: int, now: datetime, expires_at: datetime) -> datetime:
        """Say when the delivery to one of the recipients is due; at the latest in the middle of the lifetime."""
        wait = timedelta(seconds=max(0, index - self.at_once + 1) / self.per_s)
        return now + min(wait, max((expires_at - now) / 2, timedelta()))
