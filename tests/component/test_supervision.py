"""How the loops are kept turning: trouble is waited out, a stale directory stops the taking, a check may fail."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

import hub.intake
from hub.core.submission import Submission
from hub.core.trouble import Stale, Unavailable, Unstorable
from hub.intake import Intake
from hub.returns import Returns
from hub.telemetry.health import Health
from hub.wiring import _guarded, keep_turning
from schemas import addresses
from schemas.checks.directory import Directory
from tests.component.effects import Effects
from tests.component.memory import Batch, MemoryDeadInbox, MemoryInbox, MemoryLedger, Message
from tests.component.world import World


@pytest.fixture
def enter() -> Iterator[Callable[[World], World]]:
    """Close the worlds that a test has made."""
    with ExitStack() as ending:
        yield ending.enter_context


class StaleDirectories:
    """The database has not confirmed the directory for too long."""

    def current(self) -> Directory:
        raise Stale("not confirmed for 61 s")


async def test_a_stale_directory_stops_the_taking_and_settles_nothing(enter: Callable[[World], World]) -> None:
    world = enter(World(Effects()))
    world.submit(world.token(world.envelope()))
    await world.agencies_submit()
    inbox = MemoryInbox(world.broker, addresses.INTAKE)
    intake = Intake(inbox, world.ledger, StaleDirectories(), world.keys["hub"], world.policy, lambda: world.now)
    with pytest.raises(Stale):
        await intake.turn()
    assert len(world.broker.queues[addresses.INTAKE]) == 1
    assert world.broker.queues[addresses.INTAKE][0].times_taken == 0


class ChokingLedger(MemoryLedger):
    """Cannot hold documents with a certain subject, as a database that meets a text it cannot store."""

    async def record(self, decisions, now):
        for decision in decisions:
            envelope = getattr(decision.verdict, "envelope", None)
            if envelope is not None and envelope.doc.subject == "nuốt không trôi":
                raise Unstorable("invalid byte sequence")
        return await super().record(decisions, now)


async def test_what_the_database_cannot_hold_is_parked_and_its_batch_goes_on(enter: Callable[[World], World]) -> None:
    world = enter(World(Effects()))
    world.ledger = ChokingLedger()
    good = [world.submit(world.token(world.envelope()), message_id="1")]
    bad = world.envelope()
    bad = bad.model_copy(update={"doc": bad.doc.model_copy(update={"subject": "nuốt không trôi"})})
    world.submit(world.token(bad), message_id="2")
    good.append(world.submit(world.token(world.envelope()), message_id="3"))
    await world.run_to_the_end()
    assert [set(world.states_of(document_id).values()) for document_id in good] == [{"received"}] * 2
    assert [park.problems[0].code for park in world.ledger.parked.values()] == ["E902"]


class LedgerThatCannotHoldNul(MemoryLedger):
    """Refuses a text with NUL, as PostgreSQL does."""

    async def record_returns(self, returned, parked, settle, now):
        if any("\0" in (park.submission.message_id or "") for park in parked):
            raise Unstorable("CharacterNotInRepertoireError (22021)")
        await super().record_returns(returned, parked, settle, now)


async def test_what_the_database_cannot_hold_of_a_return_is_parked_and_its_batch_goes_on(
    enter: Callable[[World], World],
) -> None:
    """An agency can let a submission of its own expire in the hub's queue, with any message id."""
    world = enter(World(Effects()))
    ledger = LedgerThatCannotHoldNul()
    for body, message_id in ((b"one", "1"), (b"two", "a\0b"), (b"three", "3")):
        world.broker.queues[addresses.DEAD].append(Message(Submission(body, "G22", "document.G22", message_id)))
    inbox = MemoryDeadInbox(world.broker, addresses.DEAD, lambda _: None)
    assert await Returns(inbox, ledger, world.policy, lambda: world.now).turn() == 3
    assert [park.submission.body for park in ledger.parked.values()] == [b"one", b"two", b"three"]
    assert not world.broker.unsettled
    assert not world.broker.queues[addresses.DEAD]


class MeasuringLedger(MemoryLedger):
    """Remembers how many deliveries each transaction makes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def record(self, decisions, now):
        conflicts = await super().record(decisions, now)
        self.sizes.append(sum(len(decision.verdict.addressees) for decision in decisions))
        return conflicts


async def test_a_batch_of_broadcasts_is_recorded_in_transactions_of_bounded_size(
    enter: Callable[[World], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.intake, "MAX_DELIVERIES", 5)
    world = enter(World(Effects()))
    world.ledger = ledger = MeasuringLedger()
    documents = [world.submit(world.token(world.envelope()), message_id=str(number)) for number in range(5)]
    await world.run_to_the_end()
    assert ledger.sizes == [6, 6, 3]
    assert [set(world.states_of(document_id).values()) for document_id in documents] == [{"received"}] * 5


class InboxThatLosesAcknowledgements(MemoryInbox):
    """Its channel is gone each time that something is settled."""

    async def acknowledge(self, batch: Batch) -> None:
        self.broker.release(self.queue)


async def test_a_conflict_that_the_broker_repeats_is_not_answered_twice(enter: Callable[[World], World]) -> None:
    world = enter(World(Effects()))
    first = world.envelope()
    world.submit(world.token(first), message_id="1")
    conflict = first.model_copy(update={"expires": first.expires + 1})
    world.submit(world.token(conflict), message_id="2")
    await world.agencies_submit()
    inbox = InboxThatLosesAcknowledgements(world.broker, addresses.INTAKE)
    take_in, hand_over, *_ = world.loops()
    await Intake(inbox, world.ledger, world, world.keys["hub"], world.policy, lambda: world.now).turn()
    await hand_over()
    await take_in()
    assert [refuse.problems[0].code for refuse, _ in world.ledger.refusals.values()] == ["E603"]
    assert "delivery.repeated" not in [event.event for event in world.ledger.events]


class BrokenLedger(MemoryLedger):
    """Has a defect."""

    async def record(self, decisions, now):
        raise AssertionError("a defect")


async def test_a_defect_gives_back_what_was_taken_asks_for_a_restart_and_the_loop_goes_on(
    enter: Callable[[World], World],
) -> None:
    world = enter(World(Effects()))
    world.submit(world.token(world.envelope()))
    await world.agencies_submit()
    inbox = MemoryInbox(world.broker, addresses.INTAKE)
    ledgers: deque[MemoryLedger] = deque([BrokenLedger(), world.ledger])
    health, stop = Health(), asyncio.Event()
    seen: list[bool] = []

    async def turn() -> int:
        if len(ledgers) == 1:
            seen.append(bool(health.alive()) and not world.broker.unsettled)
            stop.set()
        intake = Intake(inbox, ledgers.popleft(), world, world.keys["hub"], world.policy, lambda: world.now)
        return await intake.turn()

    await keep_turning("intake", _guarded("intake", turn, health), stop)
    assert seen == [True]
    assert not health.alive()
    assert len(world.ledger.documents) == 1


async def test_turns_that_fail_again_and_again_outlast_twenty_minutes_before_the_broker_puts_mail_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk, a privilege that is missing: the database answers, and cannot write."""
    stop = asyncio.Event()
    pauses: list[float] = []

    async def pause(seconds: float, _stop: asyncio.Event) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            stop.set()

    async def turn() -> int:
        raise Unavailable("database", "DiskFullError")

    async def store_is_back() -> None:
        return

    monkeypatch.setattr("hub.wiring._pause", pause)
    await keep_turning("intake", turn, stop, store_is_back=store_is_back)
    assert sum(pauses) > 20 * 60


async def test_a_check_that_fails_parks_that_submission_only(enter: Callable[[World], World]) -> None:
    world = enter(World(Effects()))
    good = world.submit(world.token(world.envelope()), message_id="1")
    world.submit(world.token(world.envelope(to=("children:H26",))), message_id="2")
    world.directory = replace(world.directory, children={"H26": ("H26.99",)})  # names an agency that is not there
    await world.run_to_the_end()
    assert set(world.states_of(good).values()) == {"received"}
    assert [park.problems[0].code for park in world.ledger.parked.values()] == ["E902"]


async def test_a_loop_waits_until_the_database_is_back_before_it_takes_again() -> None:
    """Each return to the broker is counted there; twenty would put healthy mail aside."""
    stop = asyncio.Event()
    happened: list[str] = []
    outcomes = deque(["away", "done"])

    async def turn() -> int:
        outcome = outcomes.popleft()
        happened.append(f"turn {outcome}")
        if outcome == "away":
            raise Unavailable("database", "restarting")
        stop.set()
        return 1

    async def store_is_back() -> None:
        happened.append("back")

    await keep_turning("intake", turn, stop, store_is_back=store_is_back)
    assert happened == ["turn away", "back", "turn done"]


async def test_a_loop_ends_after_the_turn_it_is_in() -> None:
    stop = asyncio.Event()
    turns = 0

    async def turn() -> int:
        nonlocal turns
        turns += 1
        stop.set()
        await asyncio.sleep(0)
        return 1

    await keep_turning("intake", turn, stop)
    assert turns == 1


async def test_a_turn_with_little_is_followed_by_a_wait_for_more_and_one_with_much_by_the_next_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = asyncio.Event()
    settled = deque([1, 29, 30, 300, 0])
    happened: list[object] = []

    async def pause(seconds: float, _stop: asyncio.Event) -> None:
        happened.append(f"wait {seconds}")

    async def turn() -> int:
        happened.append(settled[0])
        if len(settled) == 1:
            stop.set()
        return settled.popleft()

    monkeypatch.setattr("hub.wiring._pause", pause)
    await keep_turning("dispatch", turn, stop, linger_s=0.01)
    assert happened == [1, "wait 0.01", 29, "wait 0.01", 30, 300, 0]
