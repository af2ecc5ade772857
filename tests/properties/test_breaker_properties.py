"""Whatever is noticed about a recipient, in whatever order: nothing is held for ever, nobody is flooded."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hub.core.breaker import (
    PHASES,
    Breaker,
    Sign,
    after_each,
    after_turn,
    allowance,
    before_turn,
    hold,
    reason_to_hold,
    release,
)
from hub.core.delivery import Delivery
from hub.core.policy import BreakerPolicy
from schemas.checks.directory import Directory
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
POLICY = BreakerPolicy()
RECIPIENT = AgencyCode("H26")
EMPTY = Directory(epoch=1, as_of=NOW, agencies={}, platforms={}, mandates={}, keys={})


def delivery(number: int) -> Delivery:
    return Delivery(
        delivery_id=DeliveryId(UUID(int=number)),
        object_id=DocumentId("ab" * 32),
        typ=ENVELOPE_TYP,
        sender=AgencyCode("G22"),
        recipient=RECIPIENT,
        state="pending",
        attempts=0,
        expires_at=NOW + timedelta(days=7),
    )


@dataclass
class Office:
    """A recipient that answers as it is told, with the hub's side of its deliveries."""

    breaker: Breaker = field(default_factory=lambda: Breaker(RECIPIENT))
    now: datetime = NOW
    pending: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    routed: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    suspended: bool = False
    made: int = 0

    def notice(self, *signs: Sign) -> None:
        self.breaker = after_each(self.breaker, signs, POLICY, self.now)[-1]

    def dispatch(self) -> None:
        for number in self.pending:
            code = "E812" if self.suspended else reason_to_hold(delivery(number), self.breaker, EMPTY)
            if code is None:
                self.routed.append(number)
            else:
                self.held.append(number)
                self.notice(Sign("suspended" if code == "E812" else "held", delivery(number).delivery_id, code))
        self.pending = []

    def answer(self, noticed: str) -> None:
        if not self.routed:
            return
        number = self.routed.pop(0)
        (self.received if noticed == "answered" else self.pending).append(number)
        self.notice(Sign(noticed, delivery(number).delivery_id, "E807"))

    def tend(self) -> int:
        """One turn of reconcile, when it is time; returns how many it has let go."""
        due_at = self.breaker.due_at
        if due_at is None or due_at > self.now or self.breaker.held_by is not None:
            return 0
        breaker = before_turn(self.breaker, self.now, suspended=self.suspended)
        out = self.held[: allowance(breaker, POLICY)]
        self.held = self.held[len(out) :]
        self.pending += out
        ids = [delivery(number).delivery_id for number in out]
        self.breaker = after_turn(breaker, ids, POLICY, self.now, left=bool(self.held) and not out)
        return len(out)

    def check(self) -> None:
        breaker = self.breaker
        assert breaker.phase in PHASES
        assert (breaker.due_at is None) == (breaker.phase == "closed" and not breaker.suspended), "would be forgotten"
        assert breaker.probe is None or breaker.phase == "probing"
        if self.held:
            waits = breaker.phase != "closed" or breaker.suspended or breaker.held_by is not None
            assert waits, "held for a recipient that is well"
        if breaker.phase == "closed" and breaker.opened_at is None:
            assert breaker.failures < POLICY.failures

    def submit(self) -> None:
        self.made += 1
        self.pending.append(self.made)

    def step(self, name: str) -> None:
        match name:
            case "dispatch" | "submit":
                getattr(self, name)()
            case "answered" | "failed" | "overdue" | "ended":
                self.answer(name)
            case "seen":
                self.notice(Sign("seen"))
            case "later":
                self.now += timedelta(minutes=20)
            case "hold":
                self.breaker = hold(self.breaker, "an", "bảo trì", self.now)
            case "release":
                self.breaker = release(self.breaker, self.now)
            case "suspend" | "reopen":
                self.suspended = name == "suspend"


NAMES = ("submit", "dispatch", "answered", "failed", "overdue", "ended", "seen", "later", "tend", "hold", "release")
STEPS = st.lists(st.sampled_from([*NAMES, "suspend", "reopen", "submit", "submit"]), max_size=120)


def walk(steps: list[str]) -> Office:
    office = Office()
    for step in steps:
        if step == "tend":
            phase, released = office.breaker.phase, office.tend()
            assert released <= (1 if phase in ("open", "probing") else POLICY.drain_at_most)
        else:
            office.step(step)
        office.check()
    return office


@given(STEPS)
def test_whatever_happens_nothing_is_held_without_a_reason_and_no_recipient_is_forgotten(steps: list[str]) -> None:
    walk(steps)


@given(STEPS)
def test_once_the_recipient_is_well_everything_comes_through(steps: list[str]) -> None:
    """From any past: the directory opens it, a person lets go, it answers. Then all is received and it is well."""
    office = walk(steps)
    office.suspended = False
    if office.breaker.held_by is not None:
        office.breaker = release(office.breaker, office.now)
    for _ in range(100):
        office.now += timedelta(days=2)
        office.tend()
        office.dispatch()
        while office.routed:
            office.answer("answered")
        office.check()
        if office.breaker.phase == "closed" and not office.held and not office.pending and not office.breaker.suspended:
            break
    assert sorted(office.received) == list(range(1, office.made + 1))
    assert office.breaker.is_well or not office.made or not office.received


@given(STEPS, st.integers(1, 30))
def test_a_recipient_that_never_answers_gets_one_probe_at_a_time(steps: list[str], hours: int) -> None:
    office = walk([*steps, "release"])
    office.suspended = False
    office.breaker = Breaker(RECIPIENT)
    office.pending, office.held, office.routed = list(range(1000, 1100)), [], []
    office.dispatch()
    while len(office.routed) and office.breaker.phase != "open":
        office.answer("failed")
    office.routed, office.pending = [], [*office.pending, *office.routed]
    office.dispatch()
    assert not office.routed
    probes = 0
    for _ in range(hours * 60):
        office.now += timedelta(minutes=1)
        office.tend()
        office.dispatch()
        assert len(office.routed) <= 1
        probes += len(office.routed)
        office.answer("failed")
        office.dispatch()
    # Waits of 1, 2, 4, … 32 minutes, then of an hour.
    assert probes <= 6 + hours
    assert len(office.held) == 100


@given(st.integers(1, 2000))
def test_a_drain_doubles_up_to_its_bound_and_waits_for_what_it_has_let_go(backlog: int) -> None:
    office = Office(held=list(range(backlog)))
    office.breaker = release(Breaker(RECIPIENT, phase="open", due_at=NOW), NOW)
    sizes = []
    while office.held:
        sizes.append(office.tend())
        office.dispatch()
        office.now += timedelta(seconds=1)
        assert office.tend() == 0, "the last turn has not come to anything yet"
        while office.routed:
            office.answer("answered")
        office.now += timedelta(seconds=1)
    expected = [min(10 * 2**turn, POLICY.drain_at_most) for turn in range(len(sizes))]
    assert sizes[:-1] == expected[:-1]
    assert sizes[-1] <= expected[-1]
    office.tend()
    assert office.breaker.is_well
