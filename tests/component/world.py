"""One hub and its agencies over a broker and a ledger in memory, in which any process can die at any point.

What is durable (queues, ledger, each agency's guard) outlives a death; what the process held does not.
"""

import asyncio
import functools
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from adapters.inbox_guard import HandedOver, InboxGuard
from hub.core.delivery import STATES, Posting
from hub.core.grant import Granted
from hub.core.ladder import Standing
from hub.core.part import Upload
from hub.core.policy import Policy
from hub.core.settlement import Handover
from hub.core.submission import Submission
from hub.core.trouble import Trouble
from hub.dispatch import Dispatch
from hub.intake import Aside, Intake
from hub.parts import Parts
from hub.receipts import Receipts
from hub.reconcile import Reconcile
from hub.replay import Replay
from hub.returns import Returns
from hub.sweep import Sweep
from schemas import addresses
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Envelope, Signer, new_envelope, read_envelope
from schemas.grant import Grant
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of, identity_of
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, Answer, Outcome, Receipt, Status, StatusCode, read_status
from schemas.signing import KeySigner, Verified, sign, verify
from tests.component.effects import Effectful, Effects, ProcessDied
from tests.component.memory import (
    MemoryBlobs,
    MemoryBroker,
    MemoryDeadInbox,
    MemoryInbox,
    MemoryLedger,
    MemoryOutbox,
    MemoryReplays,
)
from tests.component.memory_ways import MemoryCatchUps, MemoryParkedInbox
from tests.keys import make_certificate

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)

SENDER = AgencyCode("G22")
RECIPIENTS = (AgencyCode("H26"), AgencyCode("H26.01"), AgencyCode("H26.02.003"))
TIERS = ("ministry-province", "ministry-province", "department-district", "commune")

POLICY = Policy(receipt_deadline_s=600, retry_delay_s=5, max_retry_delay_s=60, max_attempts=6)


@dataclass(slots=True)
class Handed:
    """What a recipient's application was given."""

    recipient: AgencyCode
    delivery_id: DeliveryId


@dataclass(slots=True)
class World:
    """Everything at once.

    Attributes:
        effects: Where a process dies.
        answers: What a recipient answers to a delivery, by recipient and number of the time; `received` by default.
        statuses: What a recipient's office says about a document after its receipt, by recipient and envelope; nothing
            by default. A letter with a request of the sender is answered in the same way.
        fate: What the broker does with a publish, instead of taking it.
        after_receiving: Something more that agencies do after each round.
        suspended_until: Recipients that the directory suspends, from the first acceptance of a document on.
        second_death_after: How many points after the first death the process dies again.
        broadcast: Recipients from which on a document is set aside at intake.
        intake, dispatch, receipts: The loops; a test of the sweep itself puts wrong ones here.
    """

    effects: Effects
    answers: Callable[[AgencyCode, int], Outcome | None] = lambda _recipient, _time: "received"
    statuses: Callable[[AgencyCode, Envelope | Status], Sequence[StatusCode]] = lambda _recipient, _about: ()
    fate: Callable[[Posting], Handover | None] = lambda _posting: None
    after_receiving: Callable[[], None] = lambda: None
    suspended_until: dict[AgencyCode, datetime] = field(default_factory=dict)
    second_death_after: int | None = None
    broadcast: int = 1_000
    intake: type[Intake] = Intake
    dispatch: type[Dispatch] = Dispatch
    receipts: type[Receipts] = Receipts
    policy: Policy = POLICY
    now: datetime = START
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    replays: MemoryReplays = field(init=False)
    guards: dict[AgencyCode, InboxGuard] = field(default_factory=dict)
    handed: list[Handed] = field(default_factory=list)
    arrived: Counter[tuple[AgencyCode, DeliveryId]] = field(default_factory=Counter)
    letters: Counter[tuple[AgencyCode, DeliveryId]] = field(default_factory=Counter)
    together: list[tuple[AgencyCode, int]] = field(default_factory=list)
    unsent: list[tuple[str, Submission]] = field(default_factory=list)
    unsent_parts: list[bytes] = field(default_factory=list)
    blobs: MemoryBlobs = field(init=False)
    keys: dict[str, KeySigner] = field(default_factory=dict)
    directory: Directory = field(init=False)
    directory_file: DirectoryFile = field(init=False)
    deaths: int = 0

    def __post_init__(self) -> None:
        self.ledger.policy = self.policy
        self.replays = MemoryReplays(self.ledger)
        self.blobs = MemoryBlobs(clock=lambda: self.now)
        certificates = []
        for owner in (SENDER, *RECIPIENTS, AgencyCode("hub")):
            self.keys[owner], pem = _keys(owner)
            certificates.append(CertificateEntry(owner=owner, pem=pem))
        agencies = [
            AgencyEntry(code=code, name=code, tier=tier, endpoint=code, valid_from="2020-09-15")
            for code, tier in zip((SENDER, *RECIPIENTS), TIERS, strict=True)
        ]
        self.directory_file = DirectoryFile(agencies=tuple(agencies), certificates=tuple(certificates))
        self.directory = snapshot(self.directory_file, epoch=1, as_of=self.now)
        self.broker.bind(addresses.SUBMIT, addresses.submit_key("document", SENDER), addresses.INTAKE)
        self.broker.bind(addresses.SUBMIT, addresses.submit_key("status", SENDER), addresses.RECEIPTS)
        for recipient in RECIPIENTS:
            self.broker.bind(addresses.SUBMIT, addresses.submit_key("receipt", recipient), addresses.RECEIPTS)
            self.broker.bind(addresses.SUBMIT, addresses.submit_key("status", recipient), addresses.RECEIPTS)
        self.broker.declare(addresses.DEAD)
        for agency in agencies:
            self.broker.bind(addresses.tier_exchange(agency.tier), agency.code, addresses.agency_queue(agency.code))
            # The real guard; in memory, as this world's files outlive every process in it.
            self.guards[agency.code] = InboxGuard.unsafe_in_memory()

    # What the agencies do

    def envelope(self, **changes: Any) -> Envelope:
        facts = DocumentFacts(
            number="7816",
            notation="VPCP-TTĐT",
            kind="Công văn",
            subject="Về việc kết nối trục",
            issued_on="2026-11-23",
            signer=Signer(name="Nguyễn Văn A"),
        )
        values = {"from_": SENDER, "to": RECIPIENTS, "doc": facts, "now_s": int(self.now.timestamp())} | changes
        return new_envelope(**values)

    def token(self, envelope: Envelope, signer: str = SENDER) -> bytes:
        return sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=self.keys[signer], now_s=int(self.now.timestamp()))

    def submit(self, body: bytes, *, message_id: str = "m-1") -> DocumentId:
        key = addresses.submit_key("document", SENDER)
        self.unsent.append((addresses.SUBMIT, Submission(body, SENDER, key, message_id)))
        return identity_of(body[: body.rfind(b".")])

    def change_key(self, code: AgencyCode) -> CertificateEntry:
        """Let an agency sign with a key that the directory does not know yet; returns its entry."""
        self.keys[code], pem = _keys(f"{code} new")
        return CertificateEntry(owner=code, pem=pem)

    def register(self, certificate: CertificateEntry) -> None:
        """Enter a certificate into the directory."""
        certificates = (*self.directory_file.certificates, certificate)
        self.directory_file = self.directory_file.model_copy(update={"certificates": certificates})
        self.directory = snapshot(self.directory_file, epoch=2, as_of=self.now)

    def lose_disk(self, code: AgencyCode) -> None:
        """Let an agency lose everything that it was handed, and its guard with it."""
        self.guards[code].close()
        self.guards[code] = InboxGuard.unsafe_in_memory()
        self.handed = [item for item in self.handed if item.recipient != code]

    def ask_back(self, document_id: DocumentId, recipient: AgencyCode) -> None:
        """Let the sender ask a recipient for a document, as soon as agencies submit."""
        token = self._status(SENDER, recipient, document_id, "13")
        key = addresses.submit_key("status", SENDER)
        self.unsent.append((addresses.SUBMIT, Submission(token, SENDER, key)))

    def _status(self, from_: AgencyCode, to: AgencyCode, document_id: DocumentId, code: StatusCode) -> bytes:
        at = int(self.now.timestamp())
        status = Status(from_=from_, to=to, document=document_id, status=code, at=at, detail="Lý do")
        return sign(status.to_json(), typ=STATUS_TYP, signer=self.keys[from_], now_s=at)

    def _state(self, code: AgencyCode, to: AgencyCode, document_id: DocumentId, about: Envelope | Status) -> None:
        for status in self.statuses(code, about):
            token = self._status(code, to, document_id, status)
            self.broker.publish(addresses.SUBMIT, Submission(token, code, addresses.submit_key("status", code)))
            self.effects.point("after agency.status")

    def parts(self) -> Parts:
        """The hub's parts, as a new process would build them; chunks are tiny, so that there are many effects."""
        blobs, register = (
            Effectful(thing, name, self.effects)
            for thing, name in ((self.blobs, "blobs"), (self.ledger.parts, "register"))
        )
        return Parts(blobs, register, max_bytes=10**6, clock=lambda: self.now, chunk_bytes=10)

    async def agencies_upload(self) -> int:
        """The sender asks how far the hub has got and goes on from there, until the part is complete."""
        count = len(self.unsent_parts)
        while self.unsent_parts:
            content = self.unsent_parts[0]
            upload = Upload(hashlib.sha256(content).hexdigest(), SENDER)
            reached = await self.parts().progress(upload)
            if not reached.complete:
                await self.parts().append(
                    upload, _once(content[reached.offset :]), offset=reached.offset, length=len(content), is_last=True
                )
            else:
                self.unsent_parts.pop(0)
        return count

    async def agencies_submit(self) -> int:
        """An agency publishes and waits for the confirm; when it dies before it has it, it submits again."""
        count = len(self.unsent)
        while self.unsent:
            exchange, submission = self.unsent[0]
            self.effects.point("before agency.submit")
            self.broker.publish(exchange, submission)
            self.effects.point("after agency.submit")
            self.unsent.pop(0)
        return count

    async def agencies_receive(self) -> int:
        """Each agency: take, drop what the guard knows, hand over, mark, send the receipt, acknowledge."""
        count = 0
        for code, guard in self.guards.items():
            queue = addresses.agency_queue(code)
            while messages := self.broker.take(queue, 1):
                count += 1
                tokens = messages[0].submission.untied()
                self.together.append((code, len(tokens)))
                for submission in tokens:
                    await self._receive(code, guard, submission.body)
                self.broker.settle(messages)
                self.effects.point("after agency.acknowledge")
        return count

    async def _receive(self, code: AgencyCode, guard: InboxGuard, body: bytes) -> None:
        self.effects.point("after agency.take")
        delivery_id = delivery_id_of(identity_of(body[: body.rfind(b".")]), code)
        now_s = int(self.now.timestamp())
        verified = verify(body, typ=(ENVELOPE_TYP, STATUS_TYP), keys=self.directory.keys, now_s=now_s)
        if not isinstance(verified, Verified) or verified.typ == STATUS_TYP:
            self.letters[code, delivery_id] += 1
            status = read_status(verified.payload) if isinstance(verified, Verified) else None
            if isinstance(status, Status) and status.status == "13":
                self._state(code, status.from_, status.document, status)
            return
        self.arrived[code, delivery_id] += 1
        outcome = self.answers(code, self.arrived[code, delivery_id])
        if outcome is None:
            return
        envelope = read_envelope(verified.payload)
        assert isinstance(envelope, Envelope)
        for part in envelope.parts:
            await self._fetch(code, verified.document_id, part.sha256)
        if outcome == "received" and not isinstance(await guard.begin(delivery_id, self.now), HandedOver):
            self.effects.point("after agency.guard.begin")
            # One step: the application keeps what it is handed and its mark together, as the guard asks it to.
            self.handed.append(Handed(code, delivery_id))
            await guard.settle({delivery_id: HandedOver(b"")}, self.now)
            self.effects.point("after agency.hand_over")
        answer = Answer(delivery=str(delivery_id), outcome=outcome, at=int(self.now.timestamp()))
        receipt = Receipt(from_=code, to=envelope.from_, answers=(answer,))
        token = sign(receipt.to_json(), typ=RECEIPT_TYP, signer=self.keys[code], now_s=int(self.now.timestamp()))
        key = addresses.submit_key("receipt", code)
        self.broker.publish(addresses.SUBMIT, Submission(token, code, key))
        self.effects.point("after agency.receipt")
        self._state(code, envelope.from_, verified.document_id, envelope)

    async def _fetch(self, code: AgencyCode, document_id: DocumentId, sha256: str) -> None:
        """A recipient fetches a part before it answers; the hub has it as long as the document names it."""
        until = int(self.now.timestamp()) + 60
        grant = Grant(from_=code, act="fetch", part=sha256, document=document_id, until=until)
        kept = await self.parts().fetch(Granted(grant, code, receives=True))
        assert kept is not None, "a part of a delivered document is not there"
        content = b"".join([data async for data in self.parts().read(kept, 0, kept.length)])
        assert hashlib.sha256(content).hexdigest() == sha256
        self.effects.point("after agency.fetch")

    def close(self) -> None:
        """Let the guards' threads end."""
        for guard in self.guards.values():
            guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the hub does

    def loops(self) -> list[Callable[[], Any]]:
        """The real loops over durable things, as a new process would build them."""
        clock = lambda: self.now  # noqa: E731
        inbox = Effectful(MemoryInbox(self.broker, addresses.INTAKE), "intake.inbox", self.effects)
        answers = Effectful(MemoryInbox(self.broker, addresses.RECEIPTS), "receipts.inbox", self.effects)
        dead = Effectful(
            MemoryDeadInbox(self.broker, addresses.DEAD, _returned_delivery), "returns.inbox", self.effects
        )
        outbox = Effectful(MemoryOutbox(self.broker, self.effects.point, self.fate), "outbox", self.effects)
        ledger = Effectful(self.ledger, "ledger", self.effects)
        signer = self.keys["hub"]
        dispatch = self.dispatch(ledger, outbox, self, self.policy, clock)
        intake = self.intake(inbox, ledger, self, signer, self.policy, clock, Aside(self.broadcast))
        return [
            intake.turn,
            dispatch.turn if self.effects.pauses is None else _side_by_side(dispatch.turn),
            self.receipts(answers, ledger, self, signer, self.policy, clock).turn,
            Returns(dead, ledger, self.policy, clock).turn,
            Reconcile(ledger, self, signer, self.policy, clock).turn,
            intake.turn_aside,
            Replay(Effectful(self.replays, "replays", self.effects), self, self.policy, clock).turn,
            *(self._ways_of_replays(ledger, outbox) if self.replays.replays else ()),
        ]

    def _ways_of_replays(self, ledger: Effectful, outbox: Effectful) -> list[Callable[[], Any]]:
        """What the process of replays turns as well; without any replay these find nothing to do."""
        clock = lambda: self.now  # noqa: E731
        signer = self.keys["hub"]
        put_aside, answers_put_aside, catch_ups = (
            Effectful(thing, name, self.effects)
            for thing, name in (
                (MemoryParkedInbox(self.replays, "document", clock), "replay.documents"),
                (MemoryParkedInbox(self.replays, "answer", clock), "replay.answers"),
                (MemoryCatchUps(self.replays), "replay.catch_ups"),
            )
        )
        return [
            Intake(put_aside, ledger, self, signer, self.policy, clock).turn,
            Receipts(answers_put_aside, ledger, self, signer, self.policy, clock).turn,
            Dispatch(catch_ups, outbox, self, self.policy, clock).turn,
        ]

    def current(self) -> Directory:
        changed = {
            code: replace(self.directory.agencies[code], state="suspended")
            for code, until in self.suspended_until.items()
            if self.ledger.documents and self.now < until
        }
        return replace(self.directory, agencies={**self.directory.agencies, **changed}) if changed else self.directory

    # How time passes

    async def run_to_the_end(self, *, until: timedelta = timedelta(days=31)) -> None:
        """Let everybody work, with deaths and new processes, until nothing more would ever happen."""
        end = self.now + until
        loops = self.loops()
        while True:
            try:
                count = await self.agencies_upload()
                count += await self.agencies_submit()
                for turn in loops:
                    count += await _patiently(turn)
                count += await self.agencies_receive()
                self.after_receiving()
            except ProcessDied:
                self._restart()
                loops = self.loops()
                continue
            if count:
                continue
            moment = self._next_deadline()
            if moment is None or moment > end:
                return
            self.now = max(moment, self.now)

    async def sweep_after(self, time: timedelta) -> None:
        """Let time pass, and sweep the blob store once from end to end, with deaths and new processes."""
        self.now += time
        while True:
            blobs, register = (
                Effectful(thing, name, self.effects)
                for thing, name in ((self.blobs, "blobs"), (self.ledger.parts, "register"))
            )
            sweep = Sweep(register, blobs, 7 * 86_400, 86_400, lambda: self.now)
            try:
                while await sweep.turn():
                    pass
            except ProcessDied:
                self._restart()
                continue
            return

    def _restart(self) -> None:
        self.deaths += 1
        self.effects.dead = False
        again = self.second_death_after if self.deaths == 1 else None
        self.effects.die_at = None if again is None else len(self.effects.points) + again
        self.broker.release()
        self.ledger.forget_connections()
        self.blobs.forget_processes()

    def _next_deadline(self) -> datetime | None:
        moments = [
            moment
            for row in self.ledger.rows.values()
            for moment in (
                row.next_attempt_at,
                row.receipt_due_at,
                row.delivery.expires_at if row.delivery.state in ("pending", "held") or row.receipt_due_at else None,
                row.warn_at if row.delivery.state in ("pending", "held") or row.receipt_due_at else None,
            )
            if moment is not None and row.delivery.state in ("pending", "routed", "held")
        ]
        moments += [
            breaker.due_at
            for breaker in self.ledger.breakers.values()
            if breaker.due_at is not None and breaker.held_by is None
        ]
        items = (item for replay in self.replays.replays.values() for item in replay.items)
        moments += [item.next_attempt_at for item in items if item.next_attempt_at and not item.outcome]
        return min(moments, default=None)

    # What must hold

    def states_of(self, document_id: DocumentId) -> dict[AgencyCode, str]:
        return {
            row.delivery.recipient: row.delivery.state
            for row in self.ledger.rows.values()
            if row.delivery.object_id == document_id
        }

    def standings_of(self, document_id: DocumentId) -> dict[AgencyCode, Standing]:
        return {
            row.delivery.recipient: row.delivery.standing
            for row in self.ledger.rows.values()
            if row.delivery.object_id == document_id
        }

    def check_the_books(self) -> None:
        """The conservation law, on every world at its end."""
        documents = [row.delivery for row in self.ledger.rows.values() if row.delivery.typ == ENVELOPE_TYP]
        owed = sum(len(accept.addressees) for accept in self.ledger.documents.values())
        counts = Counter(delivery.state for delivery in documents)
        assert owed == len(documents) == sum(counts[state] for state in STATES)
        assert not self.broker.unsettled, "something was taken and never settled"
        handed = Counter((item.recipient, item.delivery_id) for item in self.handed)
        assert all(times == 1 for times in handed.values()), "handed over twice"
        for delivery in documents:
            if delivery.state == "received":
                assert handed[delivery.recipient, delivery.delivery_id] == 1, "received, but never handed over"
        for item in (item for replay in self.replays.replays.values() for item in replay.items):
            assert item.outcome is not None, "an item of a replay has no outcome"
        moves = Counter(event.delivery_id for event in self.ledger.events if event.event == "status.moved")
        passed_on = Counter(
            stated.delivery_id
            for status_id, stated in self.ledger.statuses.items()
            if delivery_id_of(status_id, stated.status.to) in self.ledger.rows
        )
        assert moves == passed_on, "a status moved something and did not go on once, or the other way round"
        for accept in self.ledger.documents.values():
            for part in accept.envelope.parts:
                content, _ = self.blobs.objects[self.ledger.parts.kept[part.sha256].object_key]
                assert hashlib.sha256(content).hexdigest() == part.sha256, "a part is not what its document says"
        for code, delivery_id in self.arrived:
            assert delivery_id in self.ledger.rows, f"{code} got a delivery that the ledger does not know"


@functools.cache
def _keys(owner: str) -> tuple[KeySigner, str]:
    signer, pem, _ = make_certificate(owner, not_before=START - timedelta(days=1))
    return signer, pem


async def _patiently(turn: Callable[[], Any]) -> int:
    """Turn a loop as its supervisor does: trouble is not the end, the next turn comes."""
    try:
        return await turn()
    except Trouble:
        return 1


def _side_by_side(turn: Callable[[], Any]) -> Callable[[], Any]:
    """Turn a loop twice at the same time, as one process does with dispatch; a death is that of both.

    Of what both raise, what nobody expects comes first, so that neither a death nor trouble hides it.
    """

    async def both() -> int:
        said = await asyncio.gather(turn(), turn(), return_exceptions=True)
        raised = [each for each in said if isinstance(each, BaseException)]
        if raised:
            raise min(raised, key=lambda error: (isinstance(error, Trouble), isinstance(error, ProcessDied)))
        return sum(said)

    return both


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _returned_delivery(submission: Submission) -> DeliveryId | None:
    _, _, text = submission.routing_key.partition("agency.")
    return DeliveryId(UUID(text)) if text else None
