"""The numbers that decisions depend on: limits, deadlines and delays."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator may set; the values here are the defaults of the settings.

    Attributes:
        max_recipients: Most recipients of one document after groups are expanded.
        receipt_deadline_s: How long a routed delivery may wait for its receipt before it is sent again; doubles with
            every attempt, as each leaves one more copy in the queue of an agency that is away.
        max_receipt_deadline_s: Upper bound of that wait.
        retry_delay_s: Wait before the second attempt; doubles with every further one.
        max_retry_delay_s: Upper bound of that wait.
        max_attempts: Attempts after which a delivery is dead; the last one is always one that reached the recipient.
    """

    max_recipients: int = 20_000
    receipt_deadline_s: float = 900.0
    max_receipt_deadline_s: float = 86_400.0
    retry_delay_s: float = 5.0
    max_retry_delay_s: float = 3600.0
    max_attempts: int = 50
