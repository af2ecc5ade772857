"""A ledger full of dead letters, a hub's loop of replays over it, and recipients that answer through the store."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hub.core.policy import Policy
from hub.core.replay import Mode, ReplayPace, needs_second_person
from hub.core.selection import Selection
from hub.core.settlement import Settling, settle_attempt
from hub.core.verdict import Accept
from hub.replay import Replay, rehearse_all
from hub.store import replay_orders
from hub.store.audit import audit
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.pool import Pool
from hub.store.replay import PostgresReplays
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile
from schemas.identifiers import DeliveryId
from schemas.receipt import Outcome
from tests import builders as a
from tests.keys import agency_keys

NOW = datetime.now(UTC).replace(microsecond=0)
SENDER = "G22"
PARENT = "H26"
RECIPIENTS = tuple(f"H26.{number:02}" for number in range(1, 41))
LATER = timedelta(minutes=1)


def directory_file(
    *more: AgencyEntry, without: Sequence[str] = (), certificate: CertificateEntry | None = None
) -> DirectoryFile:
    """The sender, its recipients below one province, whom a test adds, and a certificate that it adds."""
    replaced = {entry.code for entry in more} | set(without)
    agencies = [
        AgencyEntry(code=SENDER, name=SENDER, tier="ministry-province", endpoint=SENDER, valid_from="2020-01-01"),
        AgencyEntry(code=PARENT, name=PARENT, tier="ministry-province", endpoint=PARENT, valid_from="2020-01-01"),
        *(
            AgencyEntry(
                code=code, name=code, tier="department-district", parent=PARENT, endpoint=code, valid_from="2020-01-01"
            )
            for code in RECIPIENTS
        ),
    ]
    kept = [entry for entry in agencies if entry.code not in replaced]
    certificates = [agency_keys(owner).entry(owner) for owner in (SENDER, *RECIPIENTS[:2], "hub")]
    added = () if certificate is None else (certificate,)
    return DirectoryFile(agencies=(*kept, *more), certificates=(*certificates, *added))


@dataclass(slots=True)
class Stage:
    """All of it, with a clock that the test moves.

    Attributes:
        answer: What a recipient says to a delivery, by delivery and recipient; `None` for nothing.
        handed_over: How often each delivery was handed over; the guard of a recipient lets it happen once.
    """

    pool: Pool
    now: datetime = NOW
    directory: Directory = field(default_factory=lambda: snapshot(directory_file(), epoch=1, as_of=NOW))
    policy: Policy = field(default_factory=lambda: Policy(max_attempts=1))
    answer: Callable[[DeliveryId, str], Outcome | None] = lambda _delivery, _recipient: "received"
    handed_over: Counter[DeliveryId] = field(default_factory=Counter)
    _deliveries: PostgresDeliveries | None = None

    def current(self) -> Directory:
        return self.directory

    @property
    def ledger(self) -> PostgresLedger:
        return PostgresLedger(self.pool)

    def loop(self) -> Replay:
        return Replay(PostgresReplays(self.pool), self, self.policy, lambda: self.now)

    async def accepted(self, count: int, to: Sequence[str] = RECIPIENTS[:3], **more: object) -> list[Accept]:
        """Take documents over."""
        made = [a.accept(a.envelope(to=to, now=self.now, **more)) for _ in range(count)]
        assert await self.ledger.record([a.decided(accept) for accept in made], self.now) == []
        return made

    async def dead(self, count: int, to: Sequence[str] = RECIPIENTS[:3]) -> list[DeliveryId]:
        """Take documents over that all their recipients refuse."""
        made = await self.accepted(count, to)
        dying = [accept.delivery_id(addressee) for accept in made for addressee in accept.addressees]
        answer, chosen = self.answer, set(dying)
        self.answer = lambda delivery, recipient: "refused" if delivery in chosen else answer(delivery, recipient)
        await self.exchange()
        self.answer = answer
        self.now += LATER
        return dying

    async def exchange(self) -> int:
        """Hand over all that is due, and let the recipients answer; returns how many deliveries there were."""
        total = 0
        while count := await self.hand_over():
            total += count
        return total

    async def hand_over(self) -> int:
        """Do so with one claim."""
        if self._deliveries is None:
            self._deliveries = PostgresDeliveries(self.pool, max_batch=2000, wait_s=0.001)
        async with self._deliveries.claim(self.now) as claim:
            due = [item.delivery for item in claim.due]
            if due:
                await claim.settle([settle_attempt(item, "routed", self.policy, self.now) for item in due], self.now)
        if not due:
            return 0
        answers = []
        for delivery in due:
            outcome = self.answer(delivery.delivery_id, delivery.recipient) if delivery.wants_receipt else None
            if outcome is None:
                continue
            if outcome == "received" and not self.handed_over[delivery.delivery_id]:
                self.handed_over[delivery.delivery_id] += 1
            answers.append(
                a.receipt(
                    delivery.delivery_id,
                    from_=delivery.recipient,
                    to=delivery.sender,
                    outcome=outcome,
                    now=self.now,
                    signed=False,
                    # Each answer is another receipt, also to the same delivery.
                    detail=f"{delivery.attempts} {self.now.isoformat()}",
                )
            )
        settling = Settling(self.policy, agency_keys("hub").signer, self.now)
        await self.ledger.record_answers(answers, settling, self.now)
        return len(due)

    async def plan(self, selection: Selection | None = None, *, by: str = "an", above: int = 100_000) -> int:
        directory, policy, now = self.directory, self.policy, self.now
        return await replay_orders.plan(
            self.pool,
            selection or Selection(),
            rehearse=lambda candidates: rehearse_all(candidates, directory, policy, now),
            needs_second=lambda recipients, size: needs_second_person(recipients, size, directory, above),
            actor=by,
            now=now,
        )

    async def start(self, replay_id: int, mode: Mode = "all", *, per_minute: int = 60, per_recipient: int = 60) -> str:
        pace = ReplayPace(mode, per_minute, per_recipient)
        return await replay_orders.start(self.pool, replay_id, pace, "đã sửa phần mềm", actor="an", now=self.now)

    async def view(self, replay_id: int) -> replay_orders.ReplayView:
        seen = await replay_orders.view(self.pool, replay_id)
        assert seen is not None
        return seen

    async def run(self, replay_id: int, *, turns: int = 1000, step: timedelta = timedelta(seconds=1)) -> str:
        """Turn the loop and let the recipients answer, until the replay does not go on by itself."""
        loop = self.loop()
        for _ in range(turns):
            await loop.turn()
            await self.exchange()
            self.now += step
            state = (await self.view(replay_id)).state
            if state != "running":
                return state
        return "running"

    async def check_the_books(self) -> None:
        """The audit holds, no replay lacks an outcome, nothing was handed over twice, nothing received was not."""
        report = await audit(self.pool, identities=1000)
        assert report.violations == ()
        assert report.holds
        assert set(self.handed_over.values()) <= {1}
        async with self.pool.reading() as connection:
            received = await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 'received'")
            counts = await connection.fetch(
                """
                SELECT count(*) FILTER (WHERE outcome IS NOT NULL OR released_at IS NOT NULL OR state <> 'done') AS said,
                    count(*) AS items
                FROM replay_items JOIN replays USING (replay_id)
                """
            )
        assert received == len(self.handed_over)
        assert [row["said"] for row in counts] == [row["items"] for row in counts]
