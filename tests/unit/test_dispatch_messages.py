"""Which deliveries that are due together travel in one message, and what the broker's word about it means for each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hub.core.delivery import Due, Posting, Transition
from hub.core.policy import Policy
from hub.core.settlement import Handover
from hub.dispatch import Dispatch
from schemas.bundle import MAX_BUNDLED, untie
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP, STATUS_TYP
from tests.builders import delivery

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HERE, THERE = AgencyCode("H26.01"), AgencyCode("H26.02")


def due(number: int, typ: str = RECEIPT_TYP, to: AgencyCode = HERE, attempts: int = 0) -> Due:
    return Due(delivery(number, to, typ=typ, attempts=attempts), b"%d.b.c" % number)


@dataclass
class Hub:
    """A ledger in which some deliveries are due, and a broker that says the same about every message to a recipient."""

    due: Sequence[Due]
    leaves_out: bool = False
    says: dict[str, Handover] = field(default_factory=dict)
    published: list[Posting] = field(default_factory=list)
    settled: list[Transition] = field(default_factory=list)
    directory: Directory = field(default_factory=lambda: snapshot(DirectoryFile(), epoch=1, as_of=NOW))

    @asynccontextmanager
    async def claim(self, _: datetime) -> AsyncIterator["Hub"]:
        yield self

    async def settle(self, transitions: Sequence[Transition], _: datetime) -> None:
        self.settled.extend(transitions)

    async def ready(self) -> None:
        return

    async def publish(self, postings: Sequence[Posting]) -> list[Handover]:
        self.published.extend(postings)
        return [self.says.get(posting.routing_key, "routed") for posting in postings]

    def current(self) -> Directory:
        return self.directory

    async def turn(self) -> list[tuple[str, list[bytes]]]:
        """Hand over what is due; returns for whom each message is, and its lines."""
        assert await Dispatch(self, self, self, Policy(), lambda: NOW).turn() == len(self.due)
        return [(posting.routing_key, list(untie(posting.body))) for posting in self.published]


async def test_letters_to_one_recipient_travel_together_in_their_order_and_documents_alone():
    hub = Hub([due(1), due(2, to=THERE), due(3, ENVELOPE_TYP), due(4, STATUS_TYP), due(5, ENVELOPE_TYP), due(6)])

    assert sorted(await hub.turn()) == [
        (HERE, [b"1.b.c", b"4.b.c", b"6.b.c"]),
        (HERE, [b"3.b.c"]),
        (HERE, [b"5.b.c"]),
        (THERE, [b"2.b.c"]),
    ]


async def test_a_message_says_whether_it_is_one_thing_or_several():
    hub = Hub([due(1), due(2), due(3, to=THERE)])
    await hub.turn()

    assert {posting.routing_key: (posting.typ, posting.object_id) for posting in hub.published} == {
        HERE: ("truc.bundle.v1", f"{1:064x}"),
        THERE: (RECEIPT_TYP, f"{3:064x}"),
    }


async def test_a_letter_that_is_tried_again_takes_no_other_with_it():
    hub = Hub([due(1), due(2, attempts=1), due(3)])

    assert sorted(await hub.turn()) == [(HERE, [b"1.b.c", b"3.b.c"]), (HERE, [b"2.b.c"])]


async def test_very_many_letters_travel_in_several_messages():
    hub = Hub([due(number) for number in range(MAX_BUNDLED + 1)])

    assert [len(lines) for _, lines in await hub.turn()] == [MAX_BUNDLED, 1]


async def test_what_the_broker_says_about_a_message_holds_for_each_letter_in_it():
    letters = [due(1), due(2, to=THERE), due(3), due(4, to=THERE)]
    hub = Hub(letters, says={THERE: "not-taken"})
    await hub.turn()

    said = {item.delivery.delivery_id: (item.state, item.attempts) for item in hub.settled}
    assert said == {
        each.delivery.delivery_id: ("routed", 1) if each.delivery.recipient == HERE else ("pending", 1)
        for each in letters
    }
