"""The folder adapter dies at every effect, before and after it, and is started again; the broker is real, the tests play
the hub.

Every effect passes one function that can stop before or after it. Nothing is listed: what the adapter calls is visited.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import PartError
from adapters.parts import PartStore
from schemas.addresses import INTAKE, RECEIPTS, agency_queue
from schemas.checks.directory import snapshot
from schemas.directory_file import DirectoryFile
from schemas.edxml.packet import Earlier, Party, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.envelope import EdxmlOrigin, Envelope, read_envelope
from schemas.identifiers import DocumentId, delivery_id_of, identity_of
from schemas.receipt import (
    NOTICE_TYP,
    RECEIPT_TYP,
    Answer,
    Notice,
    NoticeProblem,
    Receipt,
    Status,
    read_receipt,
    read_status,
)
from schemas.signing import identity, payload_of, sign
from tests import builders as a
from tests import packets
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.folders import Folder, open_folder
from tests.keys import agency_keys
from tests.parts_hub import PartsHub, serving
from tests.played_hub import Axis, envelope, now_s, open_axis, signed, status_to
from tests.services import Broker

EFFECTS = {
    "journal": ("draw", "draw_again", "confirm", "refuse", "doubt", "return_to", "keep", "ask"),
    "client": ("upload", "submit", "submit_status", "fetch", "status", "receipt", "acknowledge"),
    "places": ("take", "move", "write", "explain"),
}


class Died(BaseException):
    """The process is gone."""


class Stopper:
    """Counts points before and after effects, and dies at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.points: list[str] = []

    def point(self, name: str) -> None:
        if self.at is not None and len(self.points) > self.at:
            raise Died(name)  # the dead do nothing any more
        self.points.append(name)
        if self.at is not None and len(self.points) > self.at:
            raise Died(name)

    def wrap(self, name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        if name.startswith("places."):

            @functools.wraps(effect)
            def in_thread(*args: Any, **named: Any) -> Any:
                self.point(f"before {name}")
                result = effect(*args, **named)
                self.point(f"after {name}")
                return result

            return in_thread

        async def wrapped(*args: Any, **named: Any) -> Any:
            self.point(f"before {name}")
            result = await effect(*args, **named)
            self.point(f"after {name}")
            return result

        return wrapped


class Watched:
    """Stands before an object and lets its effects pass the stopper."""

    def __init__(self, inner: Any, name: str, stopper: Stopper) -> None:
        self._inner = inner
        self._effects = {each: stopper.wrap(f"{name}.{each}", getattr(inner, each)) for each in EFFECTS[name]}

    def __getattr__(self, name: str) -> Any:
        return self._effects[name] if name in self._effects else getattr(self._inner, name)


@dataclass
class Stage:
    """A played axis with a blob store, and where an adapter's files lie."""

    axis: Axis
    hub: PartsHub
    register: MemoryParts
    home: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @asynccontextmanager
    async def folder(self, stopper: Stopper) -> AsyncIterator[Folder]:
        axis = self.axis
        async with open_folder(
            self.home,
            axis.directory_file,
            self.clock,
            code=axis.agency,
            amqp_url=axis.url(axis.agency),
            hub_url=self.hub.url,
        ) as folder:
            for name in EFFECTS:
                setattr(folder.outgoing, name, Watched(getattr(folder.outgoing, name), name, stopper))
            yield folder

    def packet(self, **changes: Any) -> bytes:
        """A packet from our agency to the other side."""
        values = {"from_": Party(code=self.axis.agency), "to": (Party(code=self.axis.sender),), "id": "own-1"}
        return packets.xml(packets.packet(**values | changes))

    async def deliver_packet(self, number: int = 1) -> tuple[DocumentId, bytes]:
        """Let a packet of the other side arrive, its bytes in the store."""
        sender, agency = self.axis.sender, self.axis.agency
        name = f"their-{number}"
        values = {"from_": Party(code=sender), "to": (Party(code=agency),), "id": name, "number": str(number)}
        data = packets.xml(packets.packet(**values))
        store = PartStore(self.hub.url, sender, agency_keys(sender).signer, clock=self.clock)
        part = await store.upload(data, name="goi.edxml", media_type="application/xml", agency=sender)
        await store.close()
        document = envelope(sender, agency, parts=[part], edxml=EdxmlOrigin(id=name, part=part.sha256, level="A1"))
        token = signed(document)
        self.register.name(dataclasses.replace(a.accept(document, signed=False), document_id=identity(token)))
        await self.axis.deliver(token, agency)
        return identity(token), data

    async def tell(
        self, document_id: DocumentId, code: str, at_s: int | None = None, kind: str = "refused", **changes: Any
    ) -> None:
        """Let the hub say that it has refused a document, or that it gets late."""
        problem = NoticeProblem(code=code, en="no", vi="không")
        values = {"to": self.axis.agency, "kind": kind, "document": document_id, "problems": (problem,)}
        notice = Notice(**values, at=at_s or now_s(), **changes)
        token = sign(notice.to_json(), typ=NOTICE_TYP, signer=agency_keys("hub").signer, now_s=now_s())
        await self.axis.deliver(token, self.axis.agency)

    async def submitted(self) -> list[bytes]:
        """Take all documents that were published."""
        return [(await self.axis.take(INTAKE)).body for _ in range(await self.axis.waiting(INTAKE))]


@pytest.fixture
async def stage(vhost: Broker, tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_axis(vhost, tmp_path) as axis:
        blobs, register = MemoryBlobs(lambda: datetime.now(UTC)), MemoryParts()
        file = DirectoryFile.model_validate_json(axis.directory_file.read_bytes())
        who = snapshot(file, epoch=0, as_of=datetime.now(UTC))
        async with serving(blobs, register, who_is_who=who) as hub:
            yield Stage(axis, hub, register, tmp_path)


async def take_one(folder: Folder) -> None:
    async with asyncio.timeout(10):
        await folder.incoming.take_in(await anext(folder.outgoing.client.arrivals()))


async def take_what_waits(folder: Folder) -> None:
    """Take arrivals until none comes any more; a message that nobody acknowledged comes again soon."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(1):
                arrival = await anext(folder.outgoing.client.arrivals())
            await folder.incoming.take_in(arrival)


async def until_it_dies_nowhere(stage: Stage, story: Callable[[Stage, Stopper], Awaitable[None]]) -> list[str]:
    """Live through a story once in peace, then once for every point at which it can die."""
    peace = Stopper()
    await story(dataclasses.replace(stage, home=stage.home / "peace"), peace)
    for at in range(len(peace.points)):
        await story(dataclasses.replace(stage, home=stage.home / str(at)), Stopper(at))
    return peace.points


def around(*effects: str) -> list[str]:
    return [f"{when} {effect}" for effect in effects for when in ("before", "after")]


async def a_packet_is_put_into_outbox(stage: Stage, stopper: Stopper) -> None:
    data = stage.packet()
    with contextlib.suppress(Died):
        async with stage.folder(stopper) as folder:
            folder.put("7.edxml", data)
            await folder.outgoing.turn()
    async with stage.folder(Stopper()) as folder:
        await folder.send_all()
        folder.put("7.edxml", data)  # a clerk in doubt puts it there once more
        await folder.send_all()
        places = {place: folder.names(place) for place in ("outbox", "sending", "sent", "failed")}
    tokens = await stage.submitted()
    assert places == {"outbox": [], "sending": [], "sent": ["7.edxml"], "failed": []}
    assert len({identity(token) for token in tokens}) == 1
    document = read_envelope(payload_of(tokens[0]))
    assert isinstance(document, Envelope)
    assert {part.sha256 for part in document.parts} <= stage.register.kept.keys()
    assert document.parts[0].sha256 == identity_of(data)


async def test_a_packet_goes_out_as_one_document_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_packet_is_put_into_outbox)

    assert points == around(
        "places.take",
        "client.upload",
        "client.upload",
        "journal.draw",
        "client.submit",
        "journal.confirm",
        "places.move",
    )


async def a_packet_arrives(stage: Stage, stopper: Stopper) -> None:
    """The software of the agency takes what is in inbox away as soon as it is there."""
    document_id, data = await stage.deliver_packet()
    carried_away: list[bytes] = []

    def carry_away(folder: Folder) -> None:
        for name in folder.names("inbox"):
            carried_away.append((folder.root / "inbox" / name).read_bytes())
            (folder.root / "inbox" / name).unlink()

    with contextlib.suppress(Died):
        async with stage.folder(stopper) as folder:
            try:
                await take_one(folder)
            finally:
                carry_away(folder)
    async with stage.folder(Stopper()) as folder:
        await take_what_waits(folder)
        carry_away(folder)
        assert folder.names("arriving") == []
    assert carried_away == [data]
    answers, statuses = [], []
    while await stage.axis.waiting(RECEIPTS):
        message = await stage.axis.take(RECEIPTS)
        if message.routing_key.startswith("receipt."):
            answers.append(read_receipt(payload_of(message.body)).answers)
        else:
            statuses.append((identity(message.body), read_status(payload_of(message.body))))
    assert {answer.delivery_id for given in answers for answer in given} == {
        delivery_id_of(document_id, stage.axis.agency)
    }
    assert len(set(answers)) == 1  # repeated, it says the same
    assert len({known for known, _ in statuses}) == 1
    assert {(status.status, status.document, status.to) for _, status in statuses} == {
        ("01", document_id, stage.axis.sender)
    }
    assert await stage.axis.is_empty(agency_queue(stage.axis.agency))


async def test_a_packet_that_arrives_is_handed_over_once_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_packet_arrives)

    assert points == around("client.fetch", "journal.keep", "places.move", "client.status", "client.receipt")


async def sent_before(stage: Stage, name: str = "7.edxml") -> DocumentId:
    async with stage.folder(Stopper()) as folder:
        folder.put(name, stage.packet())
        await folder.send_all()
    (token,) = await stage.submitted()
    return identity(token)


async def a_packet_is_refused(stage: Stage, stopper: Stopper) -> None:
    await stage.tell(await sent_before(stage), "E404")
    with contextlib.suppress(Died):
        async with stage.folder(stopper) as folder:
            await take_one(folder)
    async with stage.folder(Stopper()) as folder:
        await take_what_waits(folder)
        assert (folder.names("sent"), folder.names("failed")) == ([], ["7.edxml"])
        reasons = sorted(path.name for path in (folder.root / "failed").glob("*.reason.*"))
        assert reasons == ["7.edxml.reason.json", "7.edxml.reason.txt"]
    assert await stage.axis.is_empty(agency_queue(stage.axis.agency))


async def test_a_packet_that_is_refused_comes_back_once_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_packet_is_refused)

    assert points == around("journal.refuse", "places.explain", "places.move", "client.acknowledge")


async def a_status_arrives(stage: Stage, stopper: Stopper) -> None:
    document_id = await sent_before(stage)
    token = status_to(stage.axis.agency, stage.axis.sender, document=document_id)
    await stage.axis.deliver(token, stage.axis.agency)
    with contextlib.suppress(Died):
        async with stage.folder(stopper) as folder:
            await take_one(folder)
    async with stage.folder(Stopper()) as folder:
        await take_what_waits(folder)
        (packet,) = (folder.root / "sent" / "7.edxml.status").iterdir()
        read = read_packet(packet.read_bytes())
    assert isinstance(read, StatusPacket)
    assert (read.status, read.answered.document) == ("03", "own-1")
    assert await stage.axis.is_empty(agency_queue(stage.axis.agency))


async def test_a_status_lies_once_beside_its_document_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_status_arrives)

    assert points == around("places.write", "client.acknowledge")


async def a_status_is_put_into_outbox(stage: Stage, stopper: Stopper) -> None:
    document_id, _ = await stage.deliver_packet()
    answered = Earlier(code=stage.axis.sender, document="their-1")
    data = packets.xml(packets.status("03", from_=Party(code=stage.axis.agency), answered=answered))
    async with stage.folder(Stopper()) as folder:
        await take_one(folder)
    while await stage.axis.waiting(RECEIPTS):
        await stage.axis.take(RECEIPTS)
    with contextlib.suppress(Died):
        async with stage.folder(stopper) as folder:
            folder.put("tt.edxml", data)
            await folder.outgoing.turn()
    async with stage.folder(Stopper()) as folder:
        await folder.send_all()
        assert [folder.names(place) for place in ("outbox", "sending", "failed")] == [[], [], []]
        assert folder.names("sent") == ["tt.edxml"]
    tokens = [(await stage.axis.take(RECEIPTS)).body for _ in range(await stage.axis.waiting(RECEIPTS))]
    assert len({identity(token) for token in tokens}) == 1
    status = read_status(payload_of(tokens[0]))
    assert isinstance(status, Status)
    assert (status.status, status.document) == ("03", document_id)


async def test_a_status_goes_out_as_one_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_status_is_put_into_outbox)

    assert points == around("places.take", "journal.draw", "client.submit_status", "journal.confirm", "places.move")


async def waited_two_days(stage: Stage, stopper: Stopper) -> None:
    """It was signed, and nobody knows whether it was published, when the machine stood still for two days."""
    with contextlib.suppress(Died):
        async with stage.folder(Stopper(8)) as folder:  # before it is published
            folder.put("7.edxml", stage.packet())
            await folder.outgoing.turn()
    later = dataclasses.replace(stage, clock=lambda: datetime.now(UTC) + timedelta(days=2))
    with contextlib.suppress(Died):
        async with later.folder(stopper) as folder:
            await folder.outgoing.turn()
    async with later.folder(Stopper()) as folder:
        await folder.send_all()
        assert folder.names("sent") == ["7.edxml"]


async def test_a_packet_that_waited_too_long_is_signed_anew_under_the_id_of_its_envelope(stage: Stage) -> None:
    """So the axis, had it got the first, would refuse the second; and then the first one counts."""
    await waited_two_days(stage, Stopper())
    (token,) = await stage.submitted()
    async with stage.folder(Stopper()) as folder:
        journal = folder.outgoing.journal
        younger = await journal.sent(identity(token))
        assert younger is not None
        assert younger.earlier is not None
        older = await journal.sent(younger.earlier)
        assert older is not None
        assert payload_of(older.token) == payload_of(younger.token)

        await stage.tell(younger.document_id, "E603")
        await take_one(folder)
        assert (folder.names("sent"), folder.names("failed")) == (["7.edxml"], [])
        standing = await journal.same(younger.key)
        assert standing is not None
        assert (standing.document_id, standing.confirmed) == (older.document_id, True)


async def test_a_packet_that_waited_too_long_goes_out_as_one_wherever_the_process_dies(stage: Stage) -> None:
    async def story(stage: Stage, stopper: Stopper) -> None:
        await waited_two_days(stage, stopper)
        tokens = await stage.submitted()
        assert len({payload_of(token) for token in tokens}) == 1

    points = await until_it_dies_nowhere(stage, story)

    assert points == around("places.take", "journal.draw_again", "client.submit", "journal.confirm", "places.move")


async def a_refusal_for_age(stage: Stage, stopper: Stopper) -> None:
    """The hub stood still for longer than a token lasts; what it refuses for that goes out again."""
    document_id = await sent_before(stage)
    later = dataclasses.replace(stage, clock=lambda: datetime.now(UTC) + timedelta(days=2))
    await stage.tell(document_id, "E601", at_s=now_s() + 2 * 86400)
    with contextlib.suppress(Died):
        async with later.folder(stopper) as folder:
            await take_one(folder)
            await folder.send_all()
    async with later.folder(Stopper()) as folder:
        await take_what_waits(folder)
        await folder.send_all()
        assert (folder.names("sent"), folder.names("failed")) == (["7.edxml"], [])
    tokens = await stage.submitted()
    assert len({payload_of(token) for token in tokens}) == 1
    assert document_id not in {identity(token) for token in tokens}


async def test_what_the_hub_refuses_for_its_age_goes_out_again_wherever_the_process_dies(stage: Stage) -> None:
    points = await until_it_dies_nowhere(stage, a_refusal_for_age)

    assert points[:4] == around("journal.doubt", "places.move")


async def test_a_refusal_that_outruns_the_move_to_sent_still_ends_in_failed(stage: Stage) -> None:
    async with stage.folder(Stopper()) as folder:
        folder.put("7.edxml", stage.packet())
        confirm = folder.outgoing.journal.confirm

        async def refused_meanwhile(document_id: DocumentId) -> None:
            await confirm(document_id)
            await stage.tell(document_id, "E404")
            await take_one(folder)

        folder.outgoing.journal._effects["confirm"] = refused_meanwhile
        await folder.send_all()
        assert (folder.names("sending"), folder.names("sent"), folder.names("failed")) == ([], [], ["7.edxml"])


async def test_a_packet_that_was_taken_out_of_sent_is_explained_all_the_same(stage: Stage) -> None:
    document_id = await sent_before(stage)
    async with stage.folder(Stopper()) as folder:
        (folder.root / "sent" / "7.edxml").unlink()
        await stage.tell(document_id, "E404")
        await take_one(folder)
        assert (folder.root / "failed" / "7.edxml.reason.txt").exists()


async def test_a_part_that_the_hub_does_not_take_is_told_with_its_code(stage: Stage) -> None:
    async with stage.folder(Stopper()) as folder:
        folder.put("7.edxml", stage.packet())

        async def refuses(*_: object, **__: object) -> None:
            raise PartError("at most 1 byte", "tối đa 1 byte", code="E520")

        folder.outgoing.client._effects["upload"] = refuses
        await folder.send_all()
        assert folder.names("failed") == ["7.edxml"]
        assert "E520" in (folder.root / "failed" / "7.edxml.reason.txt").read_text()
    assert await stage.submitted() == []


async def test_what_expires_for_one_recipient_is_told_and_stays_in_sent(stage: Stage) -> None:
    document_id = await sent_before(stage)
    late = stage.axis.sender
    async with stage.folder(Stopper()) as folder:
        beside = folder.root / "sent" / "7.edxml.status"
        await stage.tell(document_id, "N605", kind="expiring", recipient=late)
        await take_one(folder)
        assert [path.name for path in beside.iterdir()] == [f"{late}.expiring.txt"]
        assert folder.names("failed") == []

        await stage.tell(document_id, "E809", kind="expired", recipient=late)
        await take_one(folder)
        assert json.loads((beside / f"{late}.json").read_bytes())["outcome"] == "expired"
        reasons = sorted(path.name for path in (folder.root / "failed").iterdir())
        assert reasons == [f"7.edxml.{late}.reason.json", f"7.edxml.{late}.reason.txt"]
        assert folder.names("sent") == ["7.edxml", "7.edxml.status"]


async def test_a_refusal_of_one_recipient_is_told_and_a_later_failure_changes_nothing(stage: Stage) -> None:
    document_id = await sent_before(stage)
    recipient = stage.axis.sender
    delivery = str(delivery_id_of(document_id, recipient))
    async with stage.folder(Stopper()) as folder:
        for outcome, at_s in (("failed", now_s()), ("refused", now_s() + 1), ("failed", now_s() + 2)):
            answer = Answer(delivery=delivery, outcome=outcome, at=at_s, code="SAI", detail="Không thuộc thẩm quyền")
            receipt = Receipt(from_=recipient, to=stage.axis.agency, answers=(answer,))
            signer = agency_keys(recipient).signer
            token = sign(receipt.to_json(), typ=RECEIPT_TYP, signer=signer, now_s=now_s())
            await stage.axis.deliver(token, stage.axis.agency)
            await take_one(folder)
        file = folder.root / "sent" / "7.edxml.status" / f"{recipient}.json"
        assert json.loads(file.read_bytes())["outcome"] == "refused"
        text = (folder.root / "failed" / f"7.edxml.{recipient}.reason.txt").read_text()
        assert "Không thuộc thẩm quyền" in text


async def test_a_letter_about_something_that_never_passed_here_is_kept(stage: Stage) -> None:
    async with stage.folder(Stopper()) as folder:
        await stage.tell(DocumentId("ab" * 32), "E404")
        await take_one(folder)
        (file,) = (folder.root / "unpacked").iterdir()
        assert json.loads(file.read_bytes())["document"] == "ab" * 32
