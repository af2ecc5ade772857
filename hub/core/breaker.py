"""Whether a recipient is well, and what becomes of its deliveries when it is not: pure functions over what was noticed.

```
            failures in a row                 its time has come: one delivery
   closed ───────────────────► open ◄──────────────────────────────────► probing
     ▲                          │ ▲           the probe failed               │
     │ nothing is held any more │ │ failures in a row                        │ the probe, or anything else,
     └────────── draining ◄─────┘ │                                          │ was answered
                  │  ▲ └──────────┘                                          │
                  └──┼───────────────────────────────────────────────────────┘
```

While a recipient is *open* or *probing*, dispatch holds its documents instead of handing them over; a probe is one of
the held. *Draining* hands them out a few at a time, the next ones when the last ones have come to something, twice as
many each time, up to a bound. A person may hold a recipient too, and so does the directory while it is suspended.

A breaker belongs to a recipient, not to the endpoint that several may share: which one that is can change while it is
open, and the way into one agency's office may be broken while its neighbours on the same platform are well. Letters are
not held: nobody answers them, so they say nothing about a recipient, and wait in its queue.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final, Literal, get_args

from hub.core.delivery import Delivery, Transition
from hub.core.policy import BreakerPolicy
from schemas.checks.directory import Directory
from schemas.identifiers import AgencyCode, DeliveryId

Phase = Literal["closed", "open", "probing", "draining"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Breaker:
    """How it stands with one recipient.

    Attributes:
        recipient: Which one.
        phase: Whether its deliveries go out.
        failures: Failures in a row.
        code: Code of the last of them.
        failing_since: When the first of them was.
        seen_at: When anything signed by it came last; while it is well, may lag behind by the policy's `seen_lag_s`.
        opened_at: Since when its deliveries are held; until all of them are out again.
        probe: The delivery that tries whether it is back.
        probes: How many there were since then.
        released: How many deliveries the last turn of the drain has let go.
        settled: How many have come to something since.
        due_at: When something is to be done about it.
        suspended: Whether deliveries are held because the directory suspends it.
        held_by: The person who holds it.
        held_reason: Why, in that person's words.
        held_at: Since when.
    """

    recipient: AgencyCode
    phase: Phase = "closed"
    failures: int = 0
    code: str | None = None
    failing_since: datetime | None = None
    seen_at: datetime | None = None
    opened_at: datetime | None = None
    probe: DeliveryId | None = None
    probes: int = 0
    released: int = 0
    settled: int = 0
    due_at: datetime | None = None
    suspended: bool = False
    held_by: str | None = None
    held_reason: str | None = None
    held_at: datetime | None = None

    @property
    def silent_since(self) -> datetime | None:
        """Since when nothing came from a recipient that ought to have answered; `None` when it is not silent.

        One that answers only that it cannot process anything fails, but is not silent.
        """
        if self.failing_since is None or (self.seen_at is not None and self.seen_at >= self.failing_since):
            return None
        return self.seen_at or self.failing_since

    @property
    def is_held_back(self) -> bool:
        """Whether its deliveries are held, or go out a few at a time."""
        return self.phase != "closed" or self.suspended or self.held_by is not None

    @property
    def is_well(self) -> bool:
        """Whether nothing is known against it, nothing held for it."""
        return not self.failures and not self.is_held_back


Noticed = Literal["seen", "answered", "failed", "overdue", "ended", "held", "suspended"]
"""Anything signed by the recipient came; a delivery was answered, failed, not answered in time, ended otherwise; one was
held, or held because the directory suspends the recipient."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that says how it stands with a recipient."""

    noticed: Noticed
    delivery_id: DeliveryId | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Tended:
    """What was done about a recipient in one turn."""

    before: Breaker
    after: Breaker
    released: int


SEEN: Final = Sign("seen")

DOWN, SUSPENDED, HELD_BY_PERSON = "E811", "E812", "E813"
"""Why a delivery is held."""

_FAILURES: Final = frozenset({"E802", "E805", "E807"})


def sign_of(transition: Transition) -> Sign | None:
    """Say what the change of a delivery tells about its recipient; letters tell nothing."""
    delivery, code = transition.delivery, transition.code
    if not delivery.wants_receipt:
        return None
    noticed: Noticed
    if transition.state == "held":
        noticed = "suspended" if code == SUSPENDED else "held"
    elif transition.state == "received" or code == "E808":
        noticed = "answered"
    elif code in _FAILURES:
        noticed = "failed"
    elif code == "E804":
        noticed = "overdue"
    elif transition.state in ("expired", "dead"):
        noticed = "ended"
    else:
        return None
    return Sign(noticed, delivery.delivery_id, code)


def is_suspended(agency: AgencyCode, directory: Directory) -> bool:
    """Tell whether the directory suspends an agency."""
    known = directory.agencies.get(agency)
    return known is not None and known.state == "suspended"


def reason_to_hold(delivery: Delivery, breaker: Breaker | None, directory: Directory) -> str | None:
    """Say by which code a delivery that is due must be held instead of handed over; `None` when it goes out.

    What is handed out again to an agency that catches up is the copy of a delivery that is settled: no breaker is about it.
    """
    is_copy = delivery.state != "pending"
    if not (delivery.wants_receipt or is_copy):
        return None
    if is_suspended(delivery.recipient, directory):
        return SUSPENDED
    if breaker is None or is_copy:
        return None
    if breaker.held_by is not None:
        return HELD_BY_PERSON
    passes = breaker.phase in ("closed", "draining") or is_probe(delivery, breaker)
    return None if passes else DOWN


def is_probe(delivery: Delivery, breaker: Breaker | None) -> bool:
    """Tell whether a delivery tries whether its recipient is back."""
    return breaker is not None and breaker.phase == "probing" and breaker.probe == delivery.delivery_id


def after_each(breaker: Breaker, signs: Iterable[Sign], policy: BreakerPolicy, now: datetime) -> list[Breaker]:
    """Say how it stands with a recipient at first, and after each of the things that were noticed."""
    return list(accumulate(signs, lambda before, sign: _after_one(before, sign, policy, now), initial=breaker))


def allowance(breaker: Breaker, policy: BreakerPolicy) -> int:
    """Say how many held deliveries go out in this turn."""
    if breaker.held_by is not None or breaker.suspended:
        return 0
    match breaker.phase:
        case "closed":
            return 0
        case "open" | "probing":
            return 1
        case "draining":
            has_kept_up = breaker.settled >= breaker.released > 0
            return min(2 * breaker.released, policy.drain_at_most) if has_kept_up else policy.drain_at_first


def before_turn(breaker: Breaker, now: datetime, *, suspended: bool) -> Breaker:
    """Note what the directory says today; who is suspended no longer gets what was held meanwhile."""
    if breaker.suspended and not suspended:
        breaker = replace(breaker, suspended=False)
        return _draining(breaker, now) if breaker.phase == "closed" else breaker
    return replace(breaker, suspended=breaker.suspended or suspended)


def after_turn(  # noqa: PLR0911 - one return for each phase
    breaker: Breaker, released: Sequence[DeliveryId], policy: BreakerPolicy, now: datetime, *, left: bool
) -> Breaker:
    """Say how it stands with a recipient after its allowance went out.

    Args:
        breaker: As it was when the allowance was given.
        released: What went out.
        policy: By which rules.
        now: When.
        left: Whether more deliveries of it are held.
    """
    if breaker.suspended:
        return replace(breaker, due_at=now + timedelta(seconds=policy.probe_delay_s))
    match breaker.phase:
        case "closed":
            return replace(breaker, due_at=None)
        case "open" | "probing" if released:
            due_at = now + timedelta(seconds=policy.probe_patience_s)
            return replace(breaker, phase="probing", probe=released[0], probes=breaker.probes + 1, due_at=due_at)
        case "open" | "probing" if left:  # what is held is in other hands at this moment
            return replace(breaker, phase="open", probe=None, due_at=_soon(policy, now))
        case "open" | "probing":
            # There is nothing to try it with: what comes next goes out, and a single failure is enough then.
            failures = max(policy.failures - 1, 0)
            return replace(_closed(breaker), failures=failures, failing_since=breaker.failing_since, code=breaker.code)
        case "draining" if released:
            due_at = now + timedelta(seconds=policy.drain_patience_s)
            return replace(breaker, released=len(released), settled=0, due_at=due_at)
        case "draining" if left:
            return replace(breaker, due_at=_soon(policy, now))
        case "draining":
            return replace(_closed(breaker), probes=0)


def news(before: Breaker, now_is: Breaker) -> str | None:
    """Name the ledger event for a change of a recipient; `None` where nothing has changed that people ask about."""
    match before.phase, now_is.phase:
        case (("closed" | "draining"), "open"):
            return "recipient.down"
        case (("closed" | "open" | "probing"), "draining"):
            return "recipient.back"
        case _, "probing" if before.probe != now_is.probe:
            return "recipient.probed"
        case (("open" | "probing" | "draining"), "closed"):
            return "recipient.well"
        case _:
            return None


def hold(breaker: Breaker, actor: str, reason: str, now: datetime) -> Breaker:
    """Let a person hold everything for a recipient."""
    return replace(breaker, held_by=actor, held_reason=reason, held_at=now)


def release(breaker: Breaker, now: datetime) -> Breaker:
    """Let everything held for a recipient go, a few at a time; whoever does this knows that it is back."""
    freed = replace(breaker, held_by=None, held_reason=None, held_at=None, failures=0, failing_since=None, code=None)
    return _draining(freed, now)


def _after_one(  # noqa: PLR0911 - one return for each sign
    breaker: Breaker, sign: Sign, policy: BreakerPolicy, now: datetime
) -> Breaker:
    match sign.noticed:
        case "seen":
            return breaker if breaker.seen_at == now else replace(breaker, seen_at=now)
        case "answered":
            # Most signs of a batch say what the first of them has said.
            known = breaker.seen_at == now and (breaker.failures, breaker.failing_since, breaker.code) == (
                0,
                None,
                None,
            )
            well = breaker if known else replace(breaker, seen_at=now, failures=0, failing_since=None, code=None)
            return _draining(well, now) if well.phase in ("open", "probing") else _settled(well, policy, now)
        case "failed":
            return _failed(breaker, sign, policy, now)
        case "overdue":
            heard = breaker.seen_at is not None and now - breaker.seen_at < timedelta(seconds=policy.silence_s)
            if breaker.phase == "closed" and heard:
                return breaker  # it is alive; that one delivery is sent again
            return _failed(breaker, sign, policy, now)
        case "ended":
            is_the_probe = breaker.phase == "probing" and sign.delivery_id == breaker.probe
            return _open(breaker, policy, now) if is_the_probe else _settled(breaker, policy, now)
        case "held":
            # Decided upon what was true a moment ago: the last turn of the drain has not seen it.
            is_late = breaker.phase == "closed" and breaker.held_by is None
            return _draining(breaker, now) if is_late else breaker
        case "suspended":
            due_at = breaker.due_at or now + timedelta(seconds=policy.probe_delay_s)
            return replace(breaker, suspended=True, due_at=due_at)


def _failed(breaker: Breaker, sign: Sign, policy: BreakerPolicy, now: datetime) -> Breaker:
    failing_since = breaker.failing_since or now
    breaker = replace(breaker, failures=breaker.failures + 1, code=sign.code, failing_since=failing_since)
    match breaker.phase:
        case "open":
            return breaker
        case "probing":
            return _open(breaker, policy, now) if sign.delivery_id == breaker.probe else breaker
        case "closed" | "draining":
            too_many = breaker.failures >= policy.failures
            return _open(breaker, policy, now) if too_many else _settled(breaker, policy, now)


def _open(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> Breaker:
    wait_s = min(policy.probe_delay_s * 2.0 ** min(breaker.probes, 40), policy.max_probe_delay_s)
    opened_at = breaker.opened_at or now
    due_at = now + timedelta(seconds=wait_s)
    return replace(breaker, phase="open", opened_at=opened_at, probe=None, released=0, settled=0, due_at=due_at)


def _draining(breaker: Breaker, now: datetime) -> Breaker:
    return replace(breaker, phase="draining", probe=None, released=0, settled=0, due_at=now)


def _closed(breaker: Breaker) -> Breaker:
    return replace(breaker, phase="closed", probe=None, released=0, settled=0, opened_at=None, due_at=None)


def _settled(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> Breaker:
    """Count that a delivery came to something; the drain goes on when all of its last turn have."""
    if breaker.phase != "draining":
        return breaker
    breaker = replace(breaker, settled=breaker.settled + 1)
    due_at = _soon(policy, now)
    if breaker.settled < breaker.released or (breaker.due_at is not None and breaker.due_at <= due_at):
        return breaker
    return replace(breaker, due_at=due_at)


def _soon(policy: BreakerPolicy, now: datetime) -> datetime:
    return now + timedelta(seconds=policy.drain_pause_s)
