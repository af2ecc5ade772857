"""A simulated nation: many agencies in a process of their own, as real ones would be, each with its own connections.

`python -m adapters.nation --config FILE` sends documents between the agencies of the file, answers what arrives, and
waits until everything that was sent is answered: three receipts for a right document, a notice for a wrong one. The last
line on stdout is a JSON summary; with `events` one line for everything that happens comes before it. SIGTERM ends it in
order. Exit codes: 0 everything as expected, 1 not, 3 the file cannot be used, 4 the broker cannot be reached.

A share of the documents is wrong on purpose, each in one way of `FAULTS`, which names the code the hub must answer.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.client import AgencyClient
from adapters.errors import AgencyError, BrokerError, RefusedByBroker
from adapters.inbox_guard import InboxGuard
from adapters.service import log_to_stderr
from adapters.signer import load_signer
from adapters.trust import Trust, View
from schemas.directory_file import VIETNAM
from schemas.envelope import ENVELOPE_TYP, URGENCIES, DocumentFacts, Envelope, Part, Signer, new_envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Notice, Receipt, Status, StatusCode
from schemas.signing import KeySigner, identity, sign

log = logging.getLogger(__name__)

_WORKERS: Final = 16
_FILES_OF_AN_OFFICE: Final = 12
_UNKNOWN: Final = AgencyCode("Z99.KHONGCO")


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


# Kinds of documents with their abbreviations (Nghị định 30/2020/NĐ-CP, Appendix III); an official letter has none.
_KINDS: Final = (
    ("Công văn", ""),
    ("Quyết định", "QĐ"),
    ("Tờ trình", "TTr"),
    ("Báo cáo", "BC"),
    ("Kế hoạch", "KH"),
    ("Thông báo", "TB"),
    ("Chỉ thị", "CT"),
    ("Giấy mời", "GM"),
    ("Chương trình", "CTr"),
)
_BODIES: Final = ("UBND", "VP", "STC", "SNV", "SYT", "SGDĐT", "SXD", "SNNMT", "SKHCN", "SCT")
_SUBJECTS: Final = (
    "Về việc triển khai kết nối, liên thông văn bản điện tử qua Trục liên thông văn bản quốc gia",
    "Về việc báo cáo tình hình thực hiện nhiệm vụ phát triển kinh tế - xã hội {month} tháng đầu năm {year}",
    "Phê duyệt kế hoạch sử dụng đất năm {year} và danh mục công trình, dự án phải thu hồi đất",
    "Về việc tăng cường công tác phòng, chống thiên tai và tìm kiếm cứu nạn trong mùa mưa bão năm {year}",
    "Về việc rà soát, sắp xếp tổ chức bộ máy và biên chế các đơn vị sự nghiệp công lập",
    "Ban hành Quy chế quản lý, sử dụng chữ ký số chuyên dùng công vụ trong hoạt động của cơ quan nhà nước",
    "Về việc đẩy nhanh tiến độ giải ngân vốn đầu tư công quý {quarter} năm {year}",
    "Triển khai tháng cao điểm chuyển đổi số và nâng cao chất lượng dịch vụ công trực tuyến toàn trình",
    "Về việc góp ý dự thảo Nghị quyết quy định mức thu học phí đối với cơ sở giáo dục công lập",
    "Mời dự hội nghị sơ kết công tác cải cách hành chính quý {quarter} năm {year}",
    "Về việc xử lý kiến nghị của cử tri gửi tới kỳ họp Hội đồng nhân dân",
    "Công bố danh mục thủ tục hành chính được sửa đổi, bổ sung trong lĩnh vực đất đai, môi trường",
)
_FAMILIES: Final = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Vũ", "Đặng", "Bùi", "Đỗ", "Hồ", "Dương")
_MIDDLES: Final = ("Văn", "Thị", "Minh", "Quốc", "Thanh", "Đức", "Ngọc", "Hữu")
_GIVEN: Final = ("An", "Bình", "Cường", "Dũng", "Hạnh", "Hương", "Khánh", "Lan", "Phượng", "Thắng", "Thủy", "Việt")
_OFFICES: Final = (
    (None, "Chủ tịch"),
    ("KT. CHỦ TỊCH", "Phó Chủ tịch"),
    ("TL. BỘ TRƯỞNG", "Chánh Văn phòng"),
    (None, "Giám đốc"),
    ("KT. GIÁM ĐỐC", "Phó Giám đốc"),
    ("TM. ỦY BAN NHÂN DÂN", "Chủ tịch"),
)
_FILES: Final = (
    ("{number}.signed.pdf", "application/pdf"),
    ("Phụ lục {n} - Biểu tổng hợp số liệu.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("Dự thảo kèm theo {n}.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("Bản đồ hiện trạng {n}.pdf", "application/pdf"),
)


@dataclass(frozen=True, slots=True)
class Drafted:
    """A signed document that is ready to go.

    Attributes:
        token: The signed bytes.
        expected: Code that the hub must answer; empty for a right document.
        to: Its recipients.
    """

    token: bytes
    expected: str
    to: tuple[AgencyCode, ...]


@dataclass(frozen=True, slots=True)
class DocumentOffice:
    """Writes the documents of one agency."""

    code: AgencyCode
    via: AgencyCode | None
    signer: KeySigner
    dice: random.Random
    recipients_by_tier: Mapping[str, Sequence[AgencyCode]]
    how_many: int
    files: Sequence[Part] = ()

    def draft(self, fault: str | None = None) -> Drafted:
        """Write a right document, or one with a fault."""
        to = self._choose_recipients()
        right = self._envelope(to)
        if fault is None:
            return Drafted(self._sign(right.to_json()), "", to)
        return Drafted(_MAKERS[fault](self, right), FAULTS[fault], to)

    def _choose_recipients(self) -> tuple[AgencyCode, ...]:
        tiers = list(self.recipients_by_tier)
        self.dice.shuffle(tiers)
        chosen: list[AgencyCode] = []
        while len(chosen) < self.how_many:
            before = len(chosen)
            for tier in tiers:
                others = [code for code in self.recipients_by_tier[tier] if code != self.code and code not in chosen]
                if others and len(chosen) < self.how_many:
                    chosen.append(self.dice.choice(others))
            if len(chosen) == before:
                break
        return tuple(chosen)

    def _envelope(self, to: Sequence[str], **changes: Any) -> Envelope:
        now = datetime.now(UTC)
        return new_envelope(
            **{
                "from_": self.code,
                "via": self.via,
                "to": to,
                "doc": self._facts(now),
                "now_s": int(now.timestamp()),
                "parts": self._parts(),
                **changes,
            }
        )

    def _facts(self, now: datetime) -> DocumentFacts:
        kind, abbreviation = self.dice.choice(_KINDS)
        day = now.astimezone(VIETNAM).date()
        competence, position = self.dice.choice(_OFFICES)
        subject = self.dice.choice(_SUBJECTS).format(month=day.month, quarter=(day.month + 2) // 3, year=day.year)
        return DocumentFacts(
            number=str(self.dice.randrange(1, 9999)),
            notation="-".join(item for item in (abbreviation, self.dice.choice(_BODIES)) if item),
            kind=kind,
            subject=subject,
            issued_on=day.isoformat(),
            urgency=self.dice.choices(URGENCIES, weights=(80, 12, 4, 3, 1))[0],
            signer=Signer(
                name=" ".join(map(self.dice.choice, (_FAMILIES, _MIDDLES, _GIVEN))),
                position=position,
                competence=competence,
            ),
            due_on=(day + timedelta(days=10)).isoformat() if self.dice.random() < 0.3 else None,
        )

    def _parts(self) -> Sequence[Part]:
        how_many = min(len(self.files), self.dice.randrange(7, 12))
        return self.dice.sample(self.files, how_many)

    def _sign(self, payload: bytes, signer: KeySigner | None = None) -> bytes:
        return sign(payload, typ=ENVELOPE_TYP, signer=signer or self.signer, now_s=int(time.time()))

    def _to_nobody(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"to": (*right.to, _UNKNOWN)}).to_json())

    def _to_one_twice(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"to": (*right.to, right.to[0])}).to_json())

    def _against_schema(self, right: Envelope) -> bytes:
        members = json.loads(right.to_json())
        del members["doc"]["subject"]
        return self._sign(json.dumps(members, ensure_ascii=False).encode())

    def _in_another_name(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"from_": right.to[0], "via": None}).to_json())

    def _expired(self, right: Envelope) -> bytes:
        return self._sign(self._envelope(right.to, now_s=right.created - 10 * 86400).to_json())

    def _with_foreign_key(self, right: Envelope) -> bytes:
        stranger = KeySigner(ec.generate_private_key(ec.SECP256R1()), "A" * 43)
        return self._sign(right.to_json(), stranger)

    def _with_broken_signature(self, right: Envelope) -> bytes:
        token = self._sign(right.to_json())
        return token[: token.rindex(b".") + 1] + b"A" * 86

    def _not_json(self, right: Envelope) -> bytes:
        return self._sign(right.to_json()[:-1])


FAULTS: Final[Mapping[str, str]] = {
    "unknown-recipient": "E404",
    "recipient-twice": "E406",
    "bad-schema": "E502",
    "not-json": "E501",
    "wrong-from": "E401",
    "expired": "E602",
    "foreign-key": "E201",
    "broken-signature": "E301",
}
"""Ways to be wrong, and the code that the hub must answer."""

_MAKERS: Final[Mapping[str, Callable[[DocumentOffice, Envelope], bytes]]] = {
    "unknown-recipient": DocumentOffice._to_nobody,  # noqa: SLF001 - the table stands beside the class
    "recipient-twice": DocumentOffice._to_one_twice,  # noqa: SLF001
    "bad-schema": DocumentOffice._against_schema,  # noqa: SLF001
    "not-json": DocumentOffice._not_json,  # noqa: SLF001
    "wrong-from": DocumentOffice._in_another_name,  # noqa: SLF001
    "expired": DocumentOffice._expired,  # noqa: SLF001
    "foreign-key": DocumentOffice._with_foreign_key,  # noqa: SLF001
    "broken-signature": DocumentOffice._with_broken_signature,  # noqa: SLF001
}


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
        name, media_type = _FILES[n % len(_FILES)]
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
