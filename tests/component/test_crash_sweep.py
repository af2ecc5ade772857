"""Every process may die at every point: nothing is lost, nothing is handed over twice.

The points are not listed anywhere. Each scenario is run once to count them and then once for each of them, dying
there and going on with a new process. A loop that begins to use another effect makes the sweep longer by itself.
"""

import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

import hub.dispatch
import hub.intake
import hub.parts
import hub.receipts
import hub.reconcile
import hub.replay
import hub.returns
import hub.sweep
from hub.core.delivery import Posting
from hub.core.ladder import Standing
from hub.core.policy import BreakerPolicy
from hub.core.replay import ReplayPace
from hub.core.settlement import Handover, settle_attempt
from hub.core.submission import Submission
from hub.dispatch import Dispatch
from hub.intake import Intake
from schemas import addresses
from schemas.addresses import tier_exchange
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DeliveryId, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Status, StatusCode
from schemas.signing import identity
from tests import builders
from tests.component.effects import Effects
from tests.component.world import POLICY, RECIPIENTS, SENDER, World

Scenario = Callable[[World], Awaitable[None]]


async def three_recipients(world: World) -> None:
    """The plain path: one document, three recipients, three receipts, passed on to the sender."""
    document_id = world.submit(world.token(world.envelope()))
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    receipts = {key for key in world.letters if key[0] == SENDER}
    assert len(receipts) == 3


async def mixed_batch(world: World) -> None:
    """Good, refused, conflicting, poisonous and repeated submissions in one batch."""
    first = world.envelope()
    good = world.submit(world.token(first), message_id="1")
    refused = world.submit(world.token(world.envelope(to=("H99",))), message_id="2")
    conflict = first.model_copy(update={"doc": first.doc.model_copy(update={"subject": "Nội dung khác"})})
    world.submit(world.token(conflict), message_id="3")
    world.submit(b"\x00 not a token", message_id="4")
    world.submit(world.token(first), message_id="5")
    other = world.submit(world.token(world.envelope(to=RECIPIENTS[:1])), message_id="6")
    await world.run_to_the_end()
    assert set(world.states_of(good).values()) == {"received"}
    assert set(world.states_of(other).values()) == {"received"}
    assert not world.states_of(refused).keys() - {SENDER}
    assert len(world.ledger.parked) == 1
    codes = sorted(refuse.problems[0].code for refuse, _ in world.ledger.refusals.values())
    assert codes in (["E404", "E603"], ["E404"]), codes
    if world.ledger.envelope_ids[SENDER, first.id] == good:
        assert codes == ["E404", "E603"]


async def answers_that_fail_first(world: World) -> None:
    """One recipient fails twice, one refuses for good, one loses the first message without an answer."""
    failing, refusing, silent = RECIPIENTS

    def answer(recipient: str, time: int) -> str | None:
        if recipient == failing:
            return "failed" if time <= 2 else "received"
        if recipient == refusing:
            return "refused"
        return None if time == 1 else "received"

    world.answers = answer
    document_id = world.submit(world.token(world.envelope()))
    await world.run_to_the_end()
    assert world.states_of(document_id) == {failing: "received", refusing: "dead", silent: "received"}


async def unwilling_broker(world: World) -> None:
    """The broker nacks, returns, refuses and is silent, each once for each recipient, before it takes anything."""
    tries: dict[str, int] = {}

    def fate(posting: object) -> str | None:
        recipient = posting.routing_key
        tries[recipient] = tries.get(recipient, 0) + 1
        return {1: "unsure", 2: "not-taken", 3: "broker-refused", 4: "unroutable"}.get(tries[recipient])

    world.fate = fate
    document_id = world.submit(world.token(world.envelope()))
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}


async def nobody_answers(world: World) -> None:
    """One recipient never answers: the sender is warned once and told once of the end; the others are not disturbed."""
    mute = RECIPIENTS[2]
    world.answers = lambda recipient, _: None if recipient == mute else "received"
    document_id = world.submit(world.token(world.envelope(lifetime_s=3600)))
    await world.run_to_the_end(until=timedelta(days=2))
    assert world.states_of(document_id)[mute] == "expired"
    notices = [row for row in world.ledger.rows.values() if row.delivery.typ == "truc.notice.v1"]
    assert len(notices) == 2
    assert {notice.delivery.recipient for notice in notices} == {SENDER}
    ends = [event.event for event in world.ledger.events if event.event in ("delivery.expiring", "delivery.expired")]
    assert ends == ["delivery.expiring", "delivery.expired"]


def _give_back_once(world: World, recipient: AgencyCode, delivery_id: DeliveryId) -> None:
    taken = world.arrived[recipient, delivery_id] == 1
    if taken and not any(event.event == "delivery.returned" for event in world.ledger.events):
        world.broker.publish("safety net", Submission(b"", None, f"agency.{delivery_id}"))


async def given_back(world: World) -> None:
    """A recipient's software gives a delivery back to the broker, and a submission killed the hub twenty times."""
    recipient = RECIPIENTS[0]
    world.answers = lambda code, time: None if code == recipient and time == 1 else "received"
    document_id = world.submit(world.token(world.envelope()))
    delivery_id = delivery_id_of(document_id, recipient)
    world.broker.bind("safety net", f"agency.{delivery_id}", addresses.DEAD)
    world.broker.bind("safety net", "intake", addresses.DEAD)
    world.broker.publish("safety net", Submission(b"killed the hub", None, "intake"))
    world.after_receiving = lambda: _give_back_once(world, recipient, delivery_id)
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    assert [park.problems[0].code for park in world.ledger.parked.values()] == ["E903"]


async def several_in_one_message(world: World) -> None:
    """Two documents, one of them twice, and something else share a message; so do the receipts, which are given back once."""
    tokens = [world.token(world.envelope()) for _ in range(2)]
    body = b"\n".join([tokens[0], tokens[0], b"no token", tokens[1]])
    world.unsent.append((addresses.SUBMIT, Submission(body, SENDER, addresses.submit_key("document", SENDER), "m-1")))
    await world.run_to_the_end()
    for token in tokens:
        assert set(world.states_of(identity(token)).values()) == {"received"}
    assert [park.problems[0].code for park in world.ledger.parked.values()] == ["E102"]

    receipts = [key for key, row in world.ledger.rows.items() if row.delivery.typ == RECEIPT_TYP]
    assert len(receipts) == 6
    if world.deaths == 0:
        assert max(many for code, many in world.together if code == SENDER) > 1, "no letters have shared a message"
    world.together.clear()
    for delivery_id in receipts:
        world.broker.bind("safety net", f"agency.{delivery_id}", addresses.DEAD)
        world.broker.publish("safety net", Submission(b"", None, f"agency.{delivery_id}"))
    await world.run_to_the_end()
    assert all(world.letters[SENDER, delivery_id] >= 2 for delivery_id in receipts)
    assert {many for _, many in world.together} == {1}, "a letter that failed took another with it"


async def document_before_its_part(world: World) -> None:
    """A document whose second part comes too late is refused, and taken over when it comes again; then all is swept."""
    first, second, unwanted = b"a part that is there", b"a part that comes later, in more chunks", b"nobody names it"
    world.unsent_parts += [first, unwanted]
    body = world.token(world.envelope(parts=[builders.part(first), builders.part(second)]))
    document_id = world.submit(body, message_id="1")
    await world.run_to_the_end()
    assert [refuse.problems[0].code for refuse, _ in world.ledger.refusals.values()] == ["E503"]
    world.unsent_parts.append(second)
    world.submit(body, message_id="2")
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    await world.sweep_after(timedelta(days=8))
    assert sorted(content for content, _ in world.blobs.objects.values()) == sorted([first, second])
    assert world.blobs.staged == []


async def database_away(world: World) -> None:
    """The database does not answer for a while, twice: what was taken goes back and comes again."""
    world.ledger.away = 3
    document_id = world.submit(world.token(world.envelope()))
    world.after_receiving = lambda: setattr(world.ledger, "away", 2) if len(world.handed) == 1 else None
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}


async def sent_again_after_they_were_mended(world: World) -> None:
    """Two recipients fail until they are given up, are mended, and a replay sends everything again, one item first."""
    broken = set(RECIPIENTS[:2])
    world.policy = replace(POLICY, max_attempts=1)
    world.answers = lambda recipient, _time: "failed" if recipient in broken else "received"
    document_id = world.submit(world.token(world.envelope()))
    await world.run_to_the_end()
    assert sorted(world.states_of(document_id).values()) == ["dead", "dead", "received"]
    broken.clear()
    replay = world.replays.replays[world.replays.start(ReplayPace("one", 60, 60), world.now)]
    await world.run_to_the_end()
    assert (replay.state, replay.said) == ("paused", "the-one-arrived")
    replay.pace, replay.state = ReplayPace("all", 60, 60), "running"
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    assert (replay.state, [item.outcome for item in replay.items]) == ("done", ["received", "received"])


async def lost_its_disk(world: World) -> None:
    """An agency loses all that it had, and its guard; it catches up, though its queue is full and it is suspended."""
    lost = RECIPIENTS[0]
    documents = [
        world.submit(world.token(world.envelope(to=RECIPIENTS[:1])), message_id=str(number)) for number in range(2)
    ]
    await world.run_to_the_end()
    open_again = world.now + timedelta(seconds=90)
    tried: set[DeliveryId] = set()

    def fate(posting: Posting) -> Handover | None:
        """Take the first one; when it comes to the second, the queue is full and the directory suspends the agency."""
        tried.add(posting.deliveries[0].delivery_id)
        if len(tried) == 1 or world.now >= open_again:
            return None
        world.suspended_until[lost] = open_again
        return "not-taken"

    world.fate = fate
    world.lose_disk(lost)
    replay = world.replays.replays[world.replays.start_catch_up(lost, ReplayPace("all", 60, 60), world.now)]
    await world.run_to_the_end()
    assert world.now >= open_again
    assert (replay.state, [item.outcome for item in replay.items]) == ("done", ["handed-out", "handed-out"])
    assert len([item for item in world.handed if item.recipient == lost]) == 2
    for document_id in documents:
        assert set(world.states_of(document_id).values()) == {"received"}


async def put_aside_and_taken_over(world: World) -> None:
    """A document and a status are signed with a key that nobody knows; it is registered, and they are replayed."""
    first = world.submit(world.token(world.envelope(to=RECIPIENTS[:1])), message_id="1")
    await world.run_to_the_end()
    certificate = world.change_key(SENDER)
    second = world.submit(world.token(world.envelope(to=RECIPIENTS[:1])), message_id="2")
    world.ask_back(first, RECIPIENTS[0])
    await world.run_to_the_end()
    assert [park.problems[0].code for park in world.ledger.parked.values()] == ["E201", "E201"]
    world.register(certificate)
    replay = world.replays.replays[world.replays.start(ReplayPace("all", 60, 60), world.now)]
    await world.run_to_the_end()
    assert (replay.state, [item.outcome for item in replay.items]) == ("done", ["accepted", "accepted"])
    assert set(world.states_of(second).values()) == {"received"}
    assert world.standings_of(first)[RECIPIENTS[0]] == Standing(None, "asked")


async def fails_twice_within_a_second(world: World) -> None:
    """Two equal answers within one second are one receipt; the second try then waits for its receipt, and arrives."""
    failing = RECIPIENTS[0]
    world.policy = replace(world.policy, retry_delay_s=0.1)
    world.answers = lambda recipient, time: "failed" if recipient == failing and time <= 2 else "received"
    document_id = world.submit(world.token(world.envelope(to=RECIPIENTS[:1])))
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    if world.deaths == 0:
        told = [event.event for event in world.ledger.events if event.event in ("delivery.failed", "delivery.overdue")]
        assert told == ["delivery.failed", "delivery.overdue"]


async def recalled(world: World) -> None:
    """A document comes further with each recipient; it is recalled; one gives it back, one declines, one is silent."""
    giving, declining, silent = RECIPIENTS

    def statuses(recipient: AgencyCode, about: Envelope | Status) -> tuple[StatusCode, ...]:
        if isinstance(about, Envelope) and about.action == "new":
            return ("03", "01")  # the second one late
        return {giving: ("15",), declining: ("16",), silent: ()}[recipient]

    world.statuses = statuses
    document_id = world.submit(world.token(world.envelope()), message_id="1")
    await world.run_to_the_end()
    assert set(world.standings_of(document_id).values()) == {Standing("03")}
    recall = world.submit(world.token(world.envelope(action="revoke", ref=[document_id])), message_id="2")
    await world.run_to_the_end()
    assert world.standings_of(recall) == {
        giving: Standing(None, "agreed"),
        declining: Standing(None, "declined"),
        silent: Standing(None, "asked"),
    }
    assert set(world.states_of(document_id).values()) == {"received"}


async def recalled_at_once(world: World) -> None:
    """A document and the one that recalls it come in one batch, and before a third that refers to nothing known."""
    envelope = world.envelope()
    document_id = world.submit(world.token(envelope), message_id="1")
    recall = world.submit(world.token(world.envelope(action="revoke", ref=[document_id])), message_id="2")
    refused = world.submit(world.token(world.envelope(action="revoke", ref=["ab" * 32])), message_id="3")
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == set(world.states_of(recall).values()) == {"received"}
    assert not world.states_of(refused)
    assert [refuse.problems[0].code for refuse, _ in world.ledger.refusals.values()] == ["E410"]


async def broadcast_set_aside(world: World) -> None:
    """A document to everybody is set aside with the one that recalls it; another one of their batch is not."""
    world.broadcast = len(RECIPIENTS)
    broadcast = world.submit(world.token(world.envelope()), message_id="1")
    recall = world.envelope(to=RECIPIENTS[:1], action="revoke", ref=[broadcast])
    recalling = world.submit(world.token(recall), message_id="2")
    other = world.submit(world.token(world.envelope(to=RECIPIENTS[:1])), message_id="3")
    await world.run_to_the_end()
    for document_id in (broadcast, recalling, other):
        assert set(world.states_of(document_id).values()) == {"received"}
    assert not world.ledger.refusals
    if world.deaths == 0:
        accepted = [event.document_id for event in world.ledger.events if event.event == "document.accepted"]
        assert accepted == [other, broadcast, recalling]


async def asked_back(world: World) -> None:
    """The sender asks one recipient for a document, which declines and goes on where it stood."""
    asked = RECIPIENTS[0]
    world.statuses = lambda _, about: ("03",) if isinstance(about, Envelope) else ("16", "06")
    document_id = world.submit(world.token(world.envelope(to=[asked])))
    await world.run_to_the_end()
    world.ask_back(document_id, asked)
    await world.run_to_the_end()
    assert world.standings_of(document_id) == {asked: Standing("06", "declined")}
    requests = [key for key in world.letters if key[0] == asked]
    assert len(requests) == 1


async def down_and_back(world: World) -> None:
    """One recipient fails several times in a row; what comes then is held, tried with one, and drained."""
    down = RECIPIENTS[2]
    world.ledger.policy = replace(world.policy, breaker=BreakerPolicy(failures=2, probe_delay_s=10.0))
    world.answers = lambda recipient, time: "failed" if recipient == down and time <= 2 else "received"
    documents = [world.submit(world.token(world.envelope(to=[down])), message_id="0")]
    await world.run_to_the_end(until=timedelta(seconds=20))
    documents += [world.submit(world.token(world.envelope(to=[down])), message_id=f"{number}") for number in (1, 2)]
    await world.run_to_the_end()
    for document_id in documents:
        assert world.states_of(document_id) == {down: "received"}
    assert all(breaker.is_well for breaker in world.ledger.breakers.values())
    if world.deaths == 0:  # a death may lose an answer, or repeat one, and so change what is told
        told = [event.event for event in world.ledger.events]
        assert "delivery.held" in told
        steps = [event for event in told if event.startswith("recipient.")]
        assert (steps[0], steps[1], steps[-1]) == ("recipient.down", "recipient.probed", "recipient.well")


async def suspended_and_opened(world: World) -> None:
    """The directory suspends a recipient after acceptance; what is owed to it waits until it is open again."""
    recipient = RECIPIENTS[0]
    opened_at = world.now + timedelta(minutes=3)
    world.suspended_until[recipient] = opened_at
    document_id = world.submit(world.token(world.envelope()))
    await world.run_to_the_end()
    assert set(world.states_of(document_id).values()) == {"received"}
    assert world.now >= opened_at
    codes = [event.code for event in world.ledger.events if event.event == "delivery.held"]
    assert codes == ["E812"]


SCENARIOS = [
    lost_its_disk,
    put_aside_and_taken_over,
    fails_twice_within_a_second,
    down_and_back,
    suspended_and_opened,
    document_before_its_part,
    database_away,
    recalled,
    recalled_at_once,
    broadcast_set_aside,
    asked_back,
    three_recipients,
    mixed_batch,
    answers_that_fail_first,
    unwilling_broker,
    nobody_answers,
    given_back,
    several_in_one_message,
    sent_again_after_they_were_mended,
]


async def die_at_each_point(scenario: Scenario, effects: Effects, world_of: Callable[[int], World]) -> None:
    """Go through a scenario once for each point at which a death is a case of its own, and check the books of each."""
    for index in effects.deaths:
        where = f"point {index}, {effects.points[index]}"
        with world_of(index) as world:
            try:
                await scenario(world)
                world.check_the_books()
            except AssertionError as error:
                raise AssertionError(f"died at {where}: {error}") from error
            assert world.deaths == 1, f"{where}, was not reached"


async def _effects_of(scenario: Scenario) -> Effects:
    effects = Effects()
    with World(effects) as world:
        await scenario(world)
        world.check_the_books()
    return effects


async def _points_of(scenario: Scenario) -> list[str]:
    return (await _effects_of(scenario)).points


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
async def test_a_death_at_any_point_loses_nothing_and_doubles_nothing(
    scenario: Scenario, record_testsuite_property: Callable[[str, object], None]
) -> None:
    effects = await _effects_of(scenario)
    await die_at_each_point(scenario, effects, lambda index: World(Effects(die_at=index)))
    record_testsuite_property(f"crash points of {scenario.__name__}", len(effects.deaths))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
async def test_two_deaths_lose_nothing_and_double_nothing(scenario: Scenario) -> None:
    points = await _points_of(scenario)
    chance = random.Random(20261123)
    for _ in range(40):
        first, gap = chance.randrange(len(points)), chance.randrange(1, 12)
        with World(Effects(die_at=first), second_death_after=gap) as world:
            await scenario(world)
            world.check_the_books()


async def test_the_sweep_visits_every_effect_that_a_loop_may_use() -> None:
    """What the loops may use is what their protocols name."""
    visited = {point for scenario in SCENARIOS for point in await _points_of(scenario)}
    effects = {
        f"{cls.__name__}.{name}"
        for module in (
            hub.intake,
            hub.dispatch,
            hub.receipts,
            hub.returns,
            hub.reconcile,
            hub.replay,
            hub.parts,
            hub.sweep,
        )
        for cls in vars(module).values()
        if isinstance(cls, type) and getattr(cls, "_is_protocol", False) and cls.__module__ == module.__name__
        for name, method in vars(cls).items()
        if inspect.iscoroutinefunction(method)
    }
    assert len(effects) >= 10
    unvisited = {
        effect
        for effect in effects
        for moment in ("before", "after")
        if not any(point.startswith(moment) and point.endswith("." + effect.split(".")[1]) for point in visited)
    }
    assert not unvisited


async def test_the_sweep_visits_the_ways_of_replays() -> None:
    """They use protocols of other loops, so that their effects would seem visited anyway."""
    visited = {point for scenario in (lost_its_disk, put_aside_and_taken_over) for point in await _points_of(scenario)}

    for effect in (
        "replay.documents.take",
        "replay.documents.acknowledge",
        "replay.answers.take",
        "replay.answers.acknowledge",
        "replay.catch_ups.claim",
        "replay.catch_ups.claim.settle",
        "end of replay.catch_ups.claim",
    ):
        assert {f"before {effect}", f"after {effect}"} <= visited, effect


class HastyIntake(Intake):
    """Acknowledges before the ledger has it."""

    async def turn(self) -> int:
        batch = await self.inbox.take()
        await self.inbox.acknowledge(batch)
        if batch.submissions:
            await self._record(batch.submissions)
        return len(batch.submissions)


class HastyDispatch(Dispatch):
    """Marks deliveries as routed before they are published."""

    async def turn(self) -> int:
        now = self.clock()
        async with self.deliveries.claim(now) as claim:
            await claim.settle([settle_attempt(due.delivery, "routed", self.policy, now) for due in claim.due], now)
        for due in claim.due:
            tier = self.directories.current().tier_of(due.delivery.recipient)
            posting = Posting(tier_exchange(tier), due.delivery.recipient, due.token, (due.delivery,))
            await self.outbox.publish([posting])
        return len(claim.due)


@pytest.mark.parametrize(
    "wrong", [{"intake": HastyIntake}, {"dispatch": HastyDispatch}], ids=["hasty intake", "hasty dispatch"]
)
async def test_the_sweep_notices_a_loop_with_the_effects_in_the_wrong_order(wrong: dict[str, type]) -> None:
    """A document whose recipients answer at most once is lost when the wrong loop dies between its effects."""
    effects = Effects()
    # Without a deadline for receipts nothing would make a lost message good again.
    policy = replace(POLICY, receipt_deadline_s=10**9)
    with World(effects, policy=policy, **wrong) as world:
        await three_recipients(world)
    losses = 0
    for index in range(len(effects.points)):
        with World(Effects(die_at=index), policy=policy, **wrong) as world:
            try:
                await three_recipients(world)
            except AssertionError:
                losses += 1
    assert losses > 0


async def test_the_right_loops_need_no_deadline_to_survive_a_death() -> None:
    """The counterpart: with the effects in order, no reconciling is needed after the death of a hub process."""
    effects = Effects()
    policy = replace(POLICY, receipt_deadline_s=10**9)
    with World(effects, policy=policy) as world:
        await three_recipients(world)
    for index in range(len(effects.points)):
        with World(Effects(die_at=index), policy=policy) as world:
            await three_recipients(world)
