"""A simulated nation: many agencies in a process of their own, as real ones would be, each with its own connections.

`python -m adapters.nation --config FILE` sends documents between the agencies of the file, answers what arrives, and
waits until everything that was sent is answered: three receipts for a right document, a notice for a wrong one. The last
line on stdout is a JSON summary; with `events` one line for everything that happens comes before it. SIGTERM ends it in
order. Exit codes: 0 everything as expected, 1 not, 3 the file cannot be used, 4 the broker cannot be reached.

A share of the documents is wrong on purpose, each in one way of `FAULTS` (`document_office.py`), which names the code the hub must answer.
"""

import argparse
import asyncio
import json
import logging
import random
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.client import AgencyClient
from adapters.document_office import FAULTS, FILES, DocumentOffice, Drafted
from adapters.errors import AgencyError, BrokerError, RefusedByBroker
from adapters.inbox_guard import InboxGuard
from adapters.service import log_to_stderr
from adapters.signer import load_signer
from adapters.trust import Trust, View
from schemas.envelope import Part
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Notice, Receipt, Status, StatusCode
from schemas.signing import KeySigner, identity

log = logging.getLogger(__name__)

_WORKERS: Final = 16
_FILES_OF_AN_OFFICE: Final = 12


class Member(BaseModel):
    """One agency of the nation.

    Attributes:
        code: Its code.
        user: Broker user and owner of the key: its own code, or the platform that speaks for it.
        password: Of the broker user.
        key_file: Private key of the user.
        cert_file: Its certificate.
        guard_file: Where the user's guard lives; agencies of one platform share it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    user: str = ""
    password: str
    key_file: Path
    cert_file: Path
    guard_file: Path


class Config(BaseModel):
    """The file.

    Attributes:
        amqp_url: With `{user}` and `{password}`, which are filled in for each agency.
        hub_url: The hub's HTTP API; each agency brings a few small parts there once, which its documents name. Without
            it documents have no parts.
        directory_file: The agencies' copy of the directory.
        agencies: Who takes part in this process.
        recipients: Who is written to; by default the agencies of this process.
        documents_per_agency: How many each sends.
        recipients_per_document: Of different tiers as far as there are enough.
        statuses: Business statuses that each recipient sets after its receipt, in this order; none by default.
        wrong_share: Share of wrong documents, 0 to 1.
        pause_s: Mean pause of an agency between two documents, seconds.
        seed: Same seed, same documents but for times and ids.
        timeout_s: When to give up waiting, seconds; never with `stay`.
        events: Whether to print what happens.
        stay: Whether to go on receiving until SIGTERM when everything sent is answered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    amqp_url: str
    hub_url: str | None = None
    directory_file: Path
    agencies: tuple[Member, ...] = Field(min_length=1)
    recipients: tuple[str, ...] = ()
    documents_per_agency: int = Field(default=10, ge=0)
    recipients_per_document: int = Field(default=3, ge=1)
    statuses: tuple[StatusCode, ...] = ()
    wrong_share: float = Field(default=0.0, ge=0, le=1)
    pause_s: float = Field(default=0.0, ge=0)
    seed: int = 1
    timeout_s: float = Field(default=300.0, gt=0)
    events: bool = False
    stay: bool = False


@dataclass(slots=True)
class Sent:
    """A document on its way.

    Attributes:
        at: When it was handed to the broker, monotonic seconds.
        expected: Code that must come back; empty for a right one.
        unanswered: How many answers are awaited: of each delivery a receipt, and where they are set its last status.
    """

    at: float
    expected: str
    unanswered: int


@dataclass(slots=True)
class Tally:
    """What happened so far.

    Attributes:
        events: Whether to print it.
        last_status: The status that ends a delivery, after its receipt; none when recipients set no statuses.
        still_to_send: Documents that have not been drafted yet.
        under_way: What is not fully answered.
        awaited: The document of each delivery without a receipt.
        unstated: Documents and recipients whose last status is awaited.
        began: When the first document was sent, monotonic seconds.
    """

    events: bool
    still_to_send: int
    last_status: StatusCode | None = None
    under_way: dict[DocumentId, Sent] = field(default_factory=dict)
    awaited: dict[DeliveryId, DocumentId] = field(default_factory=dict)
    unstated: set[tuple[DocumentId, AgencyCode]] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    unexpected: list[dict[str, Any]] = field(default_factory=list)
    handed_over: set[DeliveryId] = field(default_factory=set)
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    began: float | None = None

    @property
    def finished(self) -> bool:
        """Whether everything has been sent and answered."""
        return self.still_to_send == 0 and not self.under_way

    def tell(self, event: str, **facts: Any) -> None:
        """Count an event, and print it when asked to."""
        self.counts[event] += 1
        if self.events:
            print(json.dumps({"event": event, **facts}, ensure_ascii=False, default=str), flush=True)  # noqa: T201
        self.changed.set()

    def going(self, document_id: DocumentId, drafted: Drafted, now: float) -> None:
        """Note what is about to be sent."""
        self.began = now if self.began is None else self.began
        self.still_to_send -= 1
        answers = len(drafted.to) * (1 if self.last_status is None else 2)
        self.under_way[document_id] = Sent(now, drafted.expected, answers)
        if not drafted.expected:
            self.awaited.update((delivery_id_of(document_id, code), document_id) for code in drafted.to)
            self.unstated.update((document_id, code) for code in drafted.to if self.last_status is not None)

    def delivered(self, delivery: Delivery) -> None:
        """Note a hand-over."""
        if delivery.delivery_id in self.handed_over:
            self.tell("handed-over-twice", delivery=delivery.delivery_id)
        self.handed_over.add(delivery.delivery_id)
        sent = self.under_way.get(delivery.document_id)
        if sent is not None:
            self.latencies_s["delivery"].append(time.monotonic() - sent.at)
            if sent.expected:
                self.unexpected.append({"document": delivery.document_id, "expected": sent.expected, "got": "delivery"})
        self.tell("handed-over", document=delivery.document_id, recipient=delivery.recipient)

    def read(self, letter: Receipt | Status | Notice) -> None:
        """Note a letter."""
        match letter:
            case Receipt():
                self.answered(letter)
            case Status():
                self.stated(letter)
            case Notice():
                self.noticed(letter)

    def answered(self, receipt: Receipt) -> None:
        """Note a receipt: it may answer several documents."""
        for answer in receipt.answers:
            self.outcomes[answer.outcome] += 1
            if answer.outcome == "received" and answer.delivery_id in self.awaited:
                self._strike_out(self.awaited.pop(answer.delivery_id), "receipt")
            self.tell("receipt", delivery=answer.delivery, outcome=answer.outcome, code=answer.code)

    def stated(self, status: Status) -> None:
        """Note a status."""
        self.statuses[status.status] += 1
        key = (status.document, status.from_)
        if status.status == self.last_status and key in self.unstated:
            self.unstated.remove(key)
            self._strike_out(status.document, "status")
        self.tell("status", document=status.document, status=status.status)

    def _strike_out(self, document_id: DocumentId, kind: str) -> None:
        sent = self.under_way.get(document_id)
        if sent is None:  # a notice has ended it, and been counted as unexpected
            return
        sent.unanswered -= 1
        self.latencies_s[kind].append(time.monotonic() - sent.at)
        if sent.unanswered == 0:
            del self.under_way[document_id]

    def noticed(self, notice: Notice) -> None:
        """Note a notice of the hub."""
        codes = [problem.code for problem in notice.problems]
        self.notices.update(set(codes))
        sent = self.under_way.pop(notice.document, None) if notice.document is not None else None
        if sent is not None:
            self.latencies_s["notice"].append(time.monotonic() - sent.at)
        if sent is None or sent.expected not in codes:
            expected = sent.expected if sent else None
            self.unexpected.append({"document": notice.document, "expected": expected, "got": codes})
        self.tell("notice", document=notice.document, kind=notice.kind, codes=codes)

    def summary(self, agencies: int, duration_s: float) -> dict[str, Any]:
        """Write everything down."""
        return {
            "event": "summary",
            "agencies": agencies,
            "sent": self.counts["sent"],
            "sent_wrong": self.counts["sent-wrong"],
            "handed_over": self.counts["handed-over"],
            "handed_over_twice": self.counts["handed-over-twice"],
            "rejected": self.counts["rejected"],
            "receipts": dict(self.outcomes),
            "statuses": dict(sorted(self.statuses.items())),
            "refusals": dict(sorted(self.notices.items())),
            "unexpected": self.unexpected[:100],
            "unanswered": len(self.under_way) + self.still_to_send,
            "latency_ms": {name: _spread(values) for name, values in sorted(self.latencies_s.items())},
            "duration_s": round(duration_s, 3),
        }


@dataclass(slots=True)
class Nation:
    """All agencies of this process."""

    config: Config
    trust: Trust
    tally: Tally
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def live(self) -> None:
        """Connect everybody, send, receive, until all is answered, time is over or somebody says stop."""
        users: dict[str, list[Member]] = defaultdict(list)
        for member in self.config.agencies:
            users[member.user or member.code].append(member)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            working = []
            offices = []
            for user, members in users.items():
                signer = load_signer(members[0].key_file, members[0].cert_file)
                guard = stack.enter_context(InboxGuard(members[0].guard_file))
                url = self.config.amqp_url.format(
                    user=quote(user, safe=""), password=quote(members[0].password, safe="")
                )
                client = await stack.enter_async_context(
                    AgencyClient(url, user, signer, self.trust, guard, hub_url=self.config.hub_url)
                )
                working += [tasks.create_task(self._receive(client)) for _ in range(_WORKERS)]
                offices += [self._furnish(client, self._office(member, user, signer)) for member in members]
            for client, office in await asyncio.gather(*offices):
                working.append(tasks.create_task(self._send(client, office)))
            await self._wait_for_the_end()
            for task in working:
                task.cancel()

    def _office(self, member: Member, user: str, signer: KeySigner) -> DocumentOffice:
        view = self.trust.view()
        codes = [AgencyCode(code) for code in self.config.recipients] or [
            AgencyCode(each.code) for each in self.config.agencies
        ]
        return DocumentOffice(
            code=AgencyCode(member.code),
            via=None if user == member.code else AgencyCode(user),
            signer=signer,
            dice=random.Random(f"{self.config.seed} {member.code}"),  # noqa: S311 - has to be repeatable
            recipients_by_tier=_by_tier(codes, view),
            how_many=self.config.recipients_per_document,
        )

    async def _furnish(self, client: AgencyClient, office: DocumentOffice) -> tuple[AgencyClient, DocumentOffice]:
        """Bring the files of an office to the hub before anybody sends."""
        if self.config.hub_url is None or not self.config.documents_per_agency:
            return client, office
        files = [await self._upload(client, office, n) for n in range(_FILES_OF_AN_OFFICE)]
        return client, replace(office, files=files)

    async def _send(self, client: AgencyClient, office: DocumentOffice) -> None:
        for _ in range(self.config.documents_per_agency):
            if self.stop.is_set():
                return
            is_wrong = office.dice.random() < self.config.wrong_share
            fault = office.dice.choice(sorted(FAULTS)) if is_wrong else None
            drafted = await asyncio.to_thread(office.draft, fault)
            await self._submit(client, drafted)
            if self.config.pause_s:
                await asyncio.sleep(office.dice.expovariate(1 / self.config.pause_s))

    async def _upload(self, client: AgencyClient, office: DocumentOffice, n: int) -> Part:
        name, media_type = FILES[n % len(FILES)]
        name = name.format(number=office.dice.randrange(1, 9999), n=n)
        content = f"{office.code} {name}\n".encode() + office.dice.randbytes(2000)
        return await client.upload(content, name=name, media_type=media_type, from_=office.code)

    async def _submit(self, client: AgencyClient, drafted: Drafted) -> None:
        document_id = identity(drafted.token)
        began = time.monotonic()
        self.tally.going(document_id, drafted, began)
        while not self.stop.is_set():
            try:
                await client.submit(drafted.token)
            except RefusedByBroker:
                raise
            except BrokerError as error:
                self.tally.tell("submit-again", document=document_id, code=error.code.code)
            else:
                break
        self.tally.latencies_s["confirm"].append(time.monotonic() - began)
        event = "sent-wrong" if drafted.expected else "sent"
        self.tally.tell(event, document=document_id, to=drafted.to, expected=drafted.expected)

    async def _receive(self, client: AgencyClient) -> None:
        async for arrival in client.arrivals():
            match arrival:
                case Delivery():
                    async with arrival:
                        self.tally.delivered(arrival)
                    await self._state(client, arrival)
                case Letter():
                    async with arrival:
                        self.tally.read(arrival.content)
                case Rejected():
                    codes = [problem.code for problem in arrival.problems]
                    self.tally.tell("rejected", delivery=arrival.delivery_id, codes=codes)

    async def _state(self, client: AgencyClient, delivery: Delivery) -> None:
        for status in self.config.statuses:
            await client.status(
                document=delivery.document_id, to=delivery.envelope.from_, status=status, from_=delivery.recipient
            )

    async def _wait_for_the_end(self) -> None:
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            async with asyncio.timeout(None if self.config.stay else self.config.timeout_s):
                while not stopping.done() and (self.config.stay or not self.tally.finished):
                    changing = asyncio.ensure_future(self.tally.changed.wait())
                    await asyncio.wait({stopping, changing}, return_when=asyncio.FIRST_COMPLETED)
                    changing.cancel()
                    self.tally.changed.clear()
        except TimeoutError:
            log.warning("nation.timeout after %g s", self.config.timeout_s)
        finally:
            stopping.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a nation; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m adapters.nation", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="JSON, see Config")
    log_to_stderr()
    try:
        config = Config.model_validate_json(parser.parse_args(arguments).config.read_bytes())
    except (OSError, ValidationError) as error:
        print(f"nation: {error}", file=sys.stderr)  # noqa: T201
        return 3
    return asyncio.run(_run(config))


async def _run(config: Config) -> int:
    tally = Tally(
        config.events,
        still_to_send=config.documents_per_agency * len(config.agencies),
        last_status=config.statuses[-1] if config.statuses else None,
    )
    nation = Nation(config, Trust(config.directory_file), tally)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, nation.stop.set)
    began = time.monotonic()
    code = 0
    try:
        await nation.live()
    except* AgencyError as errors:
        for error in errors.exceptions:
            print(f"nation: {error}", file=sys.stderr)  # noqa: T201
        code = 4
    summary = tally.summary(len(config.agencies), time.monotonic() - (tally.began or began))
    print(json.dumps(summary, ensure_ascii=False, default=str), flush=True)  # noqa: T201
    as_expected = tally.finished and not tally.unexpected and not tally.counts["handed-over-twice"]
    return code or (0 if as_expected else 1)


def _by_tier(codes: Sequence[AgencyCode], view: View) -> Mapping[str, Sequence[AgencyCode]]:
    now = datetime.now(UTC)
    tiers: dict[str, list[AgencyCode]] = defaultdict(list)
    for code in codes:
        entry = view.agency(code, now)
        if entry is not None:
            tiers[entry.tier].append(code)
    return {tier: sorted(tiers[tier]) for tier in sorted(tiers)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Give middle, 95th percentile and greatest, in milliseconds."""
    ordered = sorted(value * 1000 for value in values)
    at_95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return {"p50": round(statistics.median(ordered), 1), "p95": round(at_95, 1), "max": round(ordered[-1], 1)}


if __name__ == "__main__":
    sys.exit(main())
