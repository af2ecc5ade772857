"""How the loops are kept turning: trouble is waited out, a stale directory stops the taking, a check may fail."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from hub.core.directory import Directory
from hub.core.trouble import Stale, Unavailable, Unstorable
from hub.intake import Intake
from hub.wiring import keep_turning
from schemas import addresses
from tests.component.effects import Effects
from tests.component.memory import MemoryInbox, MemoryLedger
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
