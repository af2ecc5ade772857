"""The numbers that decisions depend on: limits, deadlines and delays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Final, TypeVar

from schemas.identifiers import AgencyCode


@dataclass(frozen=True, slots=True)
class Retry:
    """How a delivery that failed is tried again, as far as it differs from the general rules.

    Attributes:
        retry_delay_s: Wait before the second attempt.
        max_retry_delay_s: Upper bound of the wait.
        max_attempts: Attempts after which a delivery needs a person, whatever the class of the failure.
        receipt_deadline_s: How long a routed delivery may wait for its receipt; of a recipient only.
    """

    retry_delay_s: float | None = None
    max_retry_delay_s: float | None = None
    max_attempts: int | None = None
    receipt_deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a recipient's deliveries are held, and how they go out again.

    Attributes:
        failures: Failures in a row after which they are held.
        silence_s: How long nothing may come from a recipient before an overdue receipt counts as such a failure.
        probe_delay_s: Wait before the first probe; doubles with every further one.
        max_probe_delay_s: Upper bound of that wait.
        probe_patience_s: After which another probe goes out although nobody knows what became of the last.
        drain_at_first: Deliveries of the first turn of a drain.
        drain_at_most: Upper bound of a turn, which doubles.
        drain_pause_s: Pause between two turns.
        drain_patience_s: After which the next turn begins small although the last has not come to an end.
    """

    failures: int = 5
    silence_s: float = 900.0
    probe_delay_s: float = 60.0
    max_probe_delay_s: float = 3600.0
    probe_patience_s: float = 86_400.0
    drain_at_first: int = 10
    drain_at_most: int = 50
    drain_pause_s: float = 0.5
    drain_patience_s: float = 900.0

    @property
    def seen_lag_s(self) -> float:
        """How far the moment when a recipient was last seen may lag behind while it is well.

        Most of what comes needs to write nothing then. It is little beside the silence that counts as a failure.
        """
        return min(60.0, self.silence_s / 10)


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
        max_attempts: Attempts after which a delivery that fails for an unknown reason is dead; the last one is always
            one that reached the recipient.
        retry_by_code: Other numbers for some codes.
        retry_by_recipient: Other numbers for some recipients; these come first.
        expiry_warning_s: How long before the end of its lifetime the sender of a delivery is warned; at most a quarter
            of the lifetime.
        breaker: When a recipient's deliveries are held.
    """

    max_recipients: int = 20_000
    max_recipients_by_sender: Mapping[AgencyCode, int] = field(default_factory=dict)
    receipt_deadline_s: float = 900.0
    max_receipt_deadline_s: float = 86_400.0
    retry_delay_s: float = 5.0
    max_retry_delay_s: float = 3600.0
    max_attempts: int = 20
    retry_by_code: Mapping[str, Retry] = field(default_factory=dict)
    retry_by_recipient: Mapping[AgencyCode, Retry] = field(default_factory=dict)
    expiry_warning_s: float = 86_400.0
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)

    def max_recipients_of(self, sender: AgencyCode) -> int:
        """Say how many recipients a document of this sender may have."""
        return self.max_recipients_by_sender.get(sender, self.max_recipients)

    def retry(self, code: str, recipient: AgencyCode) -> Retry:
        """Say how a failure of this code at this recipient is tried again."""
        rules = (self.retry_by_recipient.get(recipient, _NO_RULE), self.retry_by_code.get(code, _NO_RULE))
        return Retry(
            retry_delay_s=_first((rule.retry_delay_s for rule in rules), self.retry_delay_s),
            max_retry_delay_s=_first((rule.max_retry_delay_s for rule in rules), self.max_retry_delay_s),
            max_attempts=_first((rule.max_attempts for rule in rules), None),
        )

    def receipt_deadline_s_of(self, recipient: AgencyCode) -> float:
        """Say how long the first attempt may wait for its receipt."""
        return self.retry_by_recipient.get(recipient, _NO_RULE).receipt_deadline_s or self.receipt_deadline_s

    def warn_at(self, created_at: datetime, expires_at: datetime) -> datetime:
        """Say when a sender is warned that the lifetime of a delivery ends."""
        quarter = max((expires_at - created_at) / 4, timedelta())
        return expires_at - min(timedelta(seconds=self.expiry_warning_s), quarter)


_NO_RULE: Final = Retry()
_STEPS_PER_S: Final = 10

_Number = TypeVar("_Number", float, int | None)


def _first(values: Iterable[_Number | None], otherwise: _Number) -> _Number:
    return next((value for value in values if value is not None), otherwise)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one document goes out to very many recipients, so that it never stands in the way of others.

    What goes out in the same tenth of a second is due at its end, so that it is claimed, published and marked together: one
    by one, a delivery costs three times as much CPU.

    Attributes:
        at_once: Recipients that are served at once.
        per_s: Recipients of every further second.
    """

    at_once: int = 100
    per_s: float = 500.0

    def first_attempt_at(self, index: int, now: datetime, expires_at: datetime) -> datetime:
        """Say when the delivery to one of the recipients is due; at the latest in the middle of the lifetime."""
        steps = ceil(max(0, index - self.at_once + 1) / self.per_s * _STEPS_PER_S)
        wait = timedelta(seconds=steps / _STEPS_PER_S)
        return now + min(wait, max((expires_at - now) / 2, timedelta()))
