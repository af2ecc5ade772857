"""Dispatch turns twice at a time in one process, and the process may die at every point of both."""

from random import Random

import pytest

from tests.component.effects import Effects
from tests.component.test_crash_sweep import (
    Scenario,
    database_away,
    die_at_each_point,
    mixed_batch,
    recalled_at_once,
    three_recipients,
)
from tests.component.world import World


@pytest.mark.parametrize(
    ("scenario", "seed"),
    [
        (three_recipients, 0),
        (three_recipients, 1),
        (mixed_batch, 0),
        (recalled_at_once, 0),
        (database_away, 0),
    ],
    ids=lambda item: getattr(item, "__name__", str(item)),
)
async def test_a_death_while_one_turn_marks_and_the_next_goes_on_loses_and_doubles_nothing(
    scenario: Scenario, seed: int
) -> None:
    effects = Effects(pauses=Random(seed))
    with _world(effects) as world:
        await scenario(world)
        world.check_the_books()
        assert world.ledger.claims_at_once > 1, "no turn has claimed anything while another one had a claim"

    await die_at_each_point(scenario, effects, lambda index: _world(Effects(die_at=index, pauses=Random(seed))))


def _world(effects: Effects) -> World:
    """Make a world in which a claim leaves something to the next one."""
    world = World(effects)
    world.ledger.max_batch = 2
    return world
