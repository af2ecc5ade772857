"""What a replay may send, how fast, and when it stops by itself: pure functions over what the ledger counts.

```
planned ─► running ─► done                   paused by a person, or after the one that was tried; a catch-up also while
   │                                         its agency is suspended, and then it goes on by itself
   │  └► awaiting-second ─► running          stopped by itself: more than a fifth of the first twenty failed again
   └─────────────┴──────────┴► cancelled     what has been released goes on; what has not is left alone
```

The first twenty go out alone: nothing follows them before it is certain that no more than a fifth of them fails, or
before they have had `PATIENCE`. A recipient that is silent is no failure, its mail waits safely in its queue.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from hub.core.decide import decide, decide_answer
from hub.core.delivery import Delivery, Due, State, Transition
from hub.core.policy import Policy
from hub.core.submission import Submission
from hub.core.verdict import Accept, Park
from schemas.checks.address import address
from schemas.checks.directory import Directory
from schemas.envelope import ENVELOPE_TYP, Envelope, read_envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from schemas.signing import Verified, verify

Purpose = Literal["dead-letters", "catch-up"]
Mode = Literal["one", "rate", "all"]
ReplayState = Literal["planned", "awaiting-second", "running", "paused", "stopped", "cancelled", "done"]
Outcome = Literal[
    "excluded", "skipped", "cancelled", "received", "dead", "expired", "accepted", "refused", "parked", "handed-out"
]

WATCHED: Final = 20
"""Items that must not fail before the rest follows."""

MAX_FAILING: Final = 0.2
"""Share of them that may."""

PATIENCE: Final = timedelta(minutes=5)
"""How long the rest waits for an answer to the first."""

SUSPENDED: Final = "agency-suspended"
"""Why a catch-up is paused that goes on by itself when its agency is open again."""

PLAN_LIFETIME: Final = timedelta(hours=24)
"""After which a plan that nobody started says nothing any more, and only keeps others from replaying its items."""

MINUTE: Final = timedelta(seconds=60)
MOMENT: Final = timedelta(seconds=6)
"""A tenth of a minute, within which a tenth of a minute's items may go out: a rate is no burst at each full minute."""

RELEASE_BATCH: Final = 250
"""Most items of one transaction."""


@dataclass(frozen=True, slots=True)
class ReplayPace:
    """How fast.

    Attributes:
        mode: One item and no more, a number each minute, or as fast as dispatch goes.
        per_minute: Most items a minute; for `rate`.
        per_recipient: Most items a minute for one recipient; for `rate`.
    """

    mode: Mode
    per_minute: int
    per_recipient: int


Fate = Literal["good", "failing", "unknown"]
"""What an item has come to so far."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is.

    Attributes:
        state: Where it stands.
        since: When it was planned, for one that has not begun.
        pace: How fast it shall go; absent until it is started.
        waiting: Items that are still to be released.
        in_hand: Items that are released and have no outcome.
        watched: What the first items since the last start have come to, at most `WATCHED`.
        watched_until: When the last of them was released.
        released_last_minute: Items released within the last `MINUTE`.
        released_just_now: Items released within the last `MOMENT`.
        purpose: What it is for.
        agency: Who catches up.
        said: Why it stands where it stands.
    """

    state: ReplayState
    since: datetime
    pace: ReplayPace | None
    waiting: int
    in_hand: int
    watched: Sequence[Fate] = ()
    watched_until: datetime | None = None
    released_last_minute: int = 0
    released_just_now: int = 0
    purpose: Purpose = "dead-letters"
    agency: AgencyCode | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Send some more.

    Attributes:
        at_most: How many.
        per_recipient: How many of one recipient within a minute; `None` for any number.
    """

    at_most: int
    per_recipient: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Go over to another state.

    Attributes:
        state: Which one.
        why: For people, a stable word.
    """

    state: ReplayState
    why: str


Step = Release | Turn | None
"""What comes next; `None` is to wait."""


def next_step(  # noqa: PLR0911 - one return for each rule
    progress: Progress, now: datetime, *, suspended: bool = False
) -> Step:
    """Say what a replay does now; total.

    Args:
        progress: How far it is.
        now: The present.
        suspended: Whether the directory suspends the agency that catches up.
    """
    pace = progress.pace
    if progress.state != "running" or pace is None:
        return _at_rest(progress, now, suspended=suspended)
    if not progress.waiting and not progress.in_hand:
        return Turn("done", "all-have-an-outcome")
    if suspended:
        return Turn("paused", SUSPENDED)
    if pace.mode == "one" and progress.watched:
        return _after_the_one(progress.watched[0])
    failing = progress.watched.count("failing")
    unknown = progress.watched.count("unknown")
    bearable = MAX_FAILING * min(WATCHED, progress.waiting + len(progress.watched))
    if failing > bearable:
        # A catch-up that nobody's queue has taken for a day is over: no cause is mended for it, its agency asks again.
        ends_as: ReplayState = "stopped" if progress.purpose == "dead-letters" else "cancelled"
        return Turn(ends_as, f"{failing}-of-{len(progress.watched)}-failed-again")
    if not progress.waiting:
        return None
    if pace.mode == "one":
        return Release(1)
    room = WATCHED - len(progress.watched)
    if room <= 0:
        patient = progress.watched_until is not None and now - progress.watched_until < PATIENCE
        if failing + unknown > bearable and patient:
            return None
        room = RELEASE_BATCH
    return _some(progress, pace, min(room, RELEASE_BATCH))


def _some(progress: Progress, pace: ReplayPace, room: int) -> Step:
    if pace.mode == "all":
        return Release(room)
    at_most = min(room, _allowed_now(progress, pace.per_minute))
    return Release(at_most, pace.per_recipient) if at_most > 0 else None


def _at_rest(progress: Progress, now: datetime, *, suspended: bool) -> Step:
    if progress.state in ("planned", "awaiting-second"):
        return Turn("cancelled", "not-started") if now - progress.since > PLAN_LIFETIME else None
    may_go_on = progress.state == "paused" and progress.said == SUSPENDED and not suspended
    return Turn("running", "agency-open-again") if may_go_on else None


def _after_the_one(fate: Fate) -> Step:
    match fate:
        case "good":
            return Turn("paused", "the-one-arrived")
        case "failing":
            return Turn("stopped", "the-one-failed-again")
        case "unknown":
            return None


def _allowed_now(progress: Progress, per_minute: int) -> int:
    a_moments = math.ceil(per_minute * MOMENT / MINUTE)
    return min(per_minute - progress.released_last_minute, a_moments - progress.released_just_now)


def fate_of(outcome: Outcome | None, state: State | None, attempts: int, code: str | None) -> Fate:
    """Say what a released item has come to.

    A delivery that is tried a second time has failed once since its release, whatever its state is by now. So has one
    that waits with a code: the last attempt that it has is never counted before it reaches the recipient. Only where the
    broker did not say what became of it (E803), nothing is known.
    """
    match outcome:
        case "received" | "accepted" | "handed-out":
            return "good"
        case "dead" | "expired" | "refused" | "parked":
            return "failing"
        case _:
            pass
    if state == "received":
        return "good"
    failed_once = attempts >= (2 if state == "routed" else 1) or (state == "pending" and code not in (None, "E803"))
    return "failing" if state in ("dead", "expired") or (state is not None and failed_once) else "unknown"


def needs_second_person(recipients: Collection[AgencyCode], size: int, directory: Directory, above: int) -> bool:
    """Tell whether one person is not enough: many items, or agencies below more than one ministry or province."""
    return size > above or len({top_of(code, directory) for code in recipients}) > 1


def top_of(code: AgencyCode, directory: Directory) -> AgencyCode:
    """Find the agency of the first level above one, which may be itself."""
    seen = {code}
    while (agency := directory.agencies.get(code)) is not None and agency.parent not in seen | {None}:
        assert agency.parent is not None
        code = agency.parent
        seen.add(code)
    return code


def rehearse_delivery(due: Due, directory: Directory, now: datetime) -> Problem | None:
    """Say why a delivery would fail again today, before it is sent.

    Who may speak for whom was decided when the document was accepted, and an accepted document is owed even if its
    sender was merged away or lost its platform since. What is asked today is what the recipient will ask again (a
    signature by a known certificate that was in force when it signed, a payload of today's form), and whether there is
    a recipient.
    """
    delivery = due.delivery
    if delivery.typ != ENVELOPE_TYP:
        known = directory.knows(delivery.recipient)
        return None if known else Problem("E404", "/to", delivery.recipient, delivery.recipient)
    verified = verify(due.token, typ=delivery.typ, keys=directory.keys, now_s=int(now.timestamp()), max_age_s=None)
    if not isinstance(verified, Verified):
        return verified
    envelope = read_envelope(verified.payload)
    if not isinstance(envelope, Envelope):
        return envelope[0]
    _, problems = address(envelope.model_copy(update={"to": (delivery.recipient,)}), directory, 1)
    return problems[0] if problems else None


def rehearse_submission(submission: Submission, directory: Directory, policy: Policy, now: datetime) -> Problem | None:
    """Say why a submission that was put aside would not be taken over today either."""
    if not submission.routing_key.startswith(("receipt", "status")):
        verdict = decide(submission, directory, policy, now)
        return None if isinstance(verdict, Accept) else verdict.problems[0]
    answer = decide_answer(submission, directory, now)
    return answer.problems[0] if isinstance(answer, Park) else None


def settle_replayed(delivery: Delivery, now: datetime) -> Transition | None:
    """Begin anew with a dead delivery, under the same id; `None` when it is dead no longer."""
    if delivery.state != "dead":
        return None
    return Transition(delivery, "delivery.replayed", "pending", 0, next_attempt_at=now)


def settle_redirected(delivery: Delivery) -> Transition | None:
    """Close a delivery whose document goes to the successor instead; `None` when its recipient has settled it."""
    if delivery.state in ("received", "expired"):
        return None
    return Transition(delivery, "delivery.redirected", "dead", delivery.attempts, code="E810")


def heirs_of(code: AgencyCode, directory: Directory) -> tuple[AgencyCode, ...]:
    """List the open agencies that an agency was merged into, over all mergers since; empty while it is open itself."""
    agency = directory.agencies.get(code)
    if agency is None or agency.state != "closed":
        return ()
    return tuple(sorted(set(_open_heirs(agency.successors, directory, {code}))))


def _open_heirs(successors: Iterable[AgencyCode], directory: Directory, seen: set[AgencyCode]) -> Iterable[AgencyCode]:
    for successor in successors:
        agency = directory.agencies.get(successor)
        if agency is None or successor in seen:
            continue
        seen.add(successor)
        if agency.state == "open":
            yield successor
        else:
            yield from _open_heirs(agency.successors, directory, seen)
