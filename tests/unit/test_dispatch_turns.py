"""Two turns of dispatch at the same time: one marks while the other one hands over, and nothing overtakes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from hub.core.delivery import Due, Posting, Transition
from hub.core.policy import Policy
from hub.core.settlement import Handover
from hub.core.trouble import Unavailable
from hub.dispatch import Dispatch
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from tests.builders import delivery

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HERE = AgencyCode("H26.01")


@dataclass
class Claim:
    hub: "Hub"
    number: int
    due: Sequence[Due]

    @property
    def leaves_out(self) -> bool:
        return self.hub.leaves_out

    async def settle(self, _: Sequence[Transition], __: datetime) -> None:
        self.hub.did.append(f"marking {self.number}")
        await self.hub.may_mark.wait()


@dataclass
class Hub:
    """A ledger whose every claim has one document, and a broker that confirms when it is let."""

    did: list[str] = field(default_factory=list)
    may_confirm: asyncio.Event = field(default_factory=asyncio.Event)
    may_mark: asyncio.Event = field(default_factory=asyncio.Event)
    claims: int = 0
    is_empty: bool = False
    leaves_out: bool = False
    says: Handover = "routed"
    is_away: bool = False
    directory: Directory = field(default_factory=lambda: snapshot(DirectoryFile(), epoch=1, as_of=NOW))

    def __post_init__(self) -> None:
        self.dispatch = Dispatch(self, self, self, Policy(), lambda: NOW)

    @asynccontextmanager
    async def claim(self, _: datetime) -> AsyncIterator[Claim]:
        self.claims += 1
        number = self.claims
        self.did.append(f"claimed {number}")
        due = () if self.is_empty else (Due(delivery(number, HERE, typ=ENVELOPE_TYP), b"%d.b.c" % number),)
        try:
            yield Claim(self, number, due)
        finally:
            await _settle_down()  # a commit and a rollback take their time
            self.did.append(f"let go of {number}")

    async def ready(self) -> None:
        if self.is_away:
            raise Unavailable("broker", "gone")

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        number = postings[0].body.decode()[0]
        self.did.append(f"publishing {number}")
        await self.may_confirm.wait()
        self.did.append(f"confirmed {number}")
        return [self.says] * len(postings)

    def current(self) -> Directory:
        return self.directory


@pytest.fixture
async def hub() -> Hub:
    return Hub()


@pytest.fixture
async def turns(hub: Hub) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Two turns that have begun one after the other."""
    tasks = [asyncio.create_task(hub.dispatch.turn()) for _ in range(2)]
    await _settle_down()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_claimed_before_all_that_was_claimed_is_published(hub: Hub, turns: list[asyncio.Task[int]]):
    assert hub.did == ["claimed 1", "publishing 1"]


async def test_the_next_is_handed_over_while_the_last_is_marked(hub: Hub, turns: list[asyncio.Task[int]]):
    hub.may_confirm.set()
    await _settle_down()

    assert hub.did[:3] == ["claimed 1", "publishing 1", "confirmed 1"]
    assert set(hub.did[3:]) == {"marking 1", "claimed 2", "publishing 2", "confirmed 2", "marking 2"}
    assert not any(turn.done() for turn in turns)  # both are being marked

    hub.may_mark.set()
    assert await asyncio.gather(*turns) == [1, 1]
    assert {"let go of 1", "let go of 2"} < set(hub.did)


async def test_a_turn_that_is_given_up_lets_the_next_one_claim(hub: Hub, turns: list[asyncio.Task[int]]):
    turns[0].cancel()
    for _ in range(2):  # first the one that is given up, then the one behind it
        await _settle_down()

    assert hub.did == ["claimed 1", "publishing 1", "let go of 1", "claimed 2", "publishing 2"]


@pytest.mark.parametrize("different", [{"leaves_out": True}, {"says": "not-taken"}], ids=["leaves out", "failed"])
async def test_after_a_failure_or_when_something_is_left_out_the_next_waits_for_the_end(different: dict[str, object]):
    """Otherwise it would take what is behind that, or hand more to a recipient that is down."""
    hub = Hub(**different)
    hub.may_confirm.set()
    turns = [asyncio.create_task(hub.dispatch.turn()) for _ in range(2)]
    await _settle_down()
    assert hub.did == ["claimed 1", "publishing 1", "confirmed 1", "marking 1"]

    hub.may_mark.set()
    assert await asyncio.gather(*turns) == [1, 1]
    assert hub.did[4:6] == ["let go of 1", "claimed 2"]


async def test_a_turn_that_cannot_mark_in_order_lets_go_before_the_next_claims(monkeypatch):
    monkeypatch.setattr(Claim, "settle", out_of_reach)
    hub = Hub(leaves_out=True)
    hub.may_confirm.set()
    turns = [asyncio.create_task(hub.dispatch.turn()) for _ in range(2)]
    assert [type(each) for each in await asyncio.gather(*turns, return_exceptions=True)] == [Unavailable] * 2
    assert hub.did.index("let go of 1") < hub.did.index("claimed 2")


async def test_a_turn_that_cannot_mark_beside_the_next_lets_go_too(hub: Hub, monkeypatch):
    monkeypatch.setattr(Claim, "settle", out_of_reach)
    hub.may_confirm.set()
    with pytest.raises(Unavailable):
        await hub.dispatch.turn()
    assert hub.did[-1] == "let go of 1"


async def test_a_turn_in_trouble_lets_the_next_one_claim(hub: Hub):
    hub.is_away = True
    with pytest.raises(Unavailable):
        await hub.dispatch.turn()

    hub.is_away = False
    hub.may_confirm.set()
    hub.may_mark.set()
    assert await hub.dispatch.turn() == 1


async def test_a_turn_that_finds_nothing_lets_the_next_one_look(hub: Hub):
    hub.is_empty = True

    assert [await hub.dispatch.turn() for _ in range(2)] == [0, 0]
    assert hub.did == ["claimed 1", "let go of 1", "claimed 2", "let go of 2"]


async def out_of_reach(_: Claim, __: Sequence[Transition], ___: datetime) -> None:
    raise Unavailable("database", "gone")


async def _settle_down() -> None:
    """Let everybody go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)
