"""The round trip of a test: a small document to the echo agency, and what comes back about it.

| effect                                          | if the process dies after it                                     |
|-------------------------------------------------|------------------------------------------------------------------|
| the part is uploaded                            | nobody names it; the axis sweeps it                              |
| the document is submitted                       | its answers wait in our queue, for whoever reads that next       |
| messages are looked at, not settled             | all of them go back into the queue                               |
| a letter about this document alone is acked,    | –                                                                |
| when all of its message are                     |                                                                  |

Nothing is kept on our side: no guard is written, and what arrives for others goes back when the connection ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from adapters.channel import Channel, Message
from adapters.errors import BrokerError, Unusable
from adapters.inbox_guard import InboxGuard
from adapters.line import Consumer, Line, acknowledge
from adapters.trust import Trust
from schemas.addresses import agency_queue
from schemas.capabilities import Capabilities
from schemas.directory_file import VIETNAM
from schemas.envelope import DocumentFacts, Envelope, Part, new_envelope
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import Notice, Receipt, Status
from schemas.signing import Verified

Step = Literal["uploaded", "confirmed", "receipt", "01", "03"]
ANSWERS: Final[tuple[Step, ...]] = ("receipt", "01", "03")

SUBJECT: Final = "THỬ KẾT NỐI, không phải văn bản thật (truc-agency test)"
PART_NAME: Final = "thu-ket-noi.txt"
PART: Final = f"{SUBJECT}\n".encode()
LIFETIME_S: Final = 3600
PREFETCH: Final = 2000
"""As many messages are looked at; letters behind more than that are not seen."""

_NO_LETTER: Final = "E105"
_TURNED_DOWN: Final = frozenset({"refused", "parked", "expired"})


@dataclass(frozen=True, slots=True)
class Heard:
    """What a letter says about the test document.

    Attributes:
        steps: What has been reached with it.
        no: What was said against it, as (code, Vietnamese, English).
        final: Whether nothing else can come after it.
        whole: Whether the letter is about nothing else, so that it may be acknowledged.
    """

    steps: tuple[Step, ...] = ()
    no: tuple[tuple[str, str, str], ...] = ()
    final: bool = False
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is when something is missing.

    Attributes:
        who: As in the catalogue of codes.
        vi: What is known, and what to do.
        en: The same in English.
    """

    who: Literal["sender", "operator"]
    vi: str
    en: str


def trial_document(
    from_: AgencyCode, via: AgencyCode | None, to: AgencyCode, parts: Sequence[Part], now: datetime
) -> Envelope:
    """Write the document; whoever sees it sees that it is none."""
    day = now.astimezone(VIETNAM).date().isoformat()
    facts = DocumentFacts(notation="THU-KET-NOI", kind="Văn bản thử", subject=SUBJECT, issued_on=day)
    return new_envelope(
        from_=from_, via=via, to=(to,), doc=facts, parts=parts, now_s=int(now.timestamp()), lifetime_s=LIFETIME_S
    )


def hear(content: Receipt | Status | Notice, document_id: DocumentId, echo: AgencyCode) -> Heard | None:
    """Read what a letter says about a document; `None` when it is about something else."""
    match content:
        case Receipt():
            return _hear_receipt(content, document_id, echo)
        case Status(document=document, from_=sender, status=status) if document == document_id and sender == echo:
            if status in ("01", "03"):
                return Heard((status,))
            said = content.detail or ""
            return Heard(no=((status, said, said),))
        case Notice(document=document) if document == document_id:
            no = tuple((problem.code, problem.vi, problem.en) for problem in content.problems)
            return Heard(no=no, final=content.kind in _TURNED_DOWN)
        case _:
            return None


def _hear_receipt(receipt: Receipt, document_id: DocumentId, echo: AgencyCode) -> Heard | None:
    ours = delivery_id_of(document_id, echo)
    answers = [answer for answer in receipt.answers if answer.delivery_id == ours]
    if not answers:
        return None
    whole = len(answers) == len(receipt.answers)
    last = max(answers, key=lambda answer: answer.at)
    if last.outcome == "received":
        return Heard(("receipt",), whole=whole)
    said = " ".join(filter(None, (last.outcome, last.detail)))
    return Heard(no=((last.code or "", said, said),), final=last.outcome == "refused", whole=whole)


def whose_turn(missing: Step, echo: AgencyCode, *, asked: Capabilities | str | None, watch: "Watch") -> Turn:
    """Say who must act when an answer is missing at the time limit.

    Args:
        missing: The first step that was not reached.
        echo: The echo agency.
        asked: What the hub says about it, or the code with which it refuses to; `None` when it was not asked.
        watch: What was found in our own queue.
    """
    others = len(watch.others)
    if watch.unbelieved:
        codes = ", ".join(sorted(watch.unbelieved))
        return Turn(
            "sender",
            f"Có trả lời về tới nhưng không tin được ({codes}). Lấy lại tệp danh mục mới từ đơn vị vận hành.",
            f"Letters came that cannot be believed ({codes}). Fetch the directory file from the operator again.",
        )
    if others >= PREFETCH:
        return Turn(
            "sender",
            f"Hàng đợi của đơn vị còn từ {others} văn bản chưa lấy, nên không thấy được trả lời ở sau. Chạy phần mềm kết "
            "nối để lấy hết rồi thử lại.",
            f"At least {others} messages wait in your queue before the answers. Run the adapter until it is empty, try again.",
        )
    if missing in ("01", "03"):
        return Turn(
            "operator",
            f"{echo} đã nhận nhưng chưa báo trạng thái {missing}. Đơn vị vận hành xem nhật ký của truc-agency echo.",
            f"{echo} has received it and not set status {missing}. The operator looks at the log of truc-agency echo.",
        )
    return _silence_of(echo, asked)


def _silence_of(echo: AgencyCode, asked: Capabilities | str | None) -> Turn:
    """Say who must act when nothing at all has come back."""
    if asked == "E404":
        return Turn(
            "sender",
            f"Trục không biết đơn vị {echo}. Hỏi đơn vị vận hành mã của đơn vị phản hồi, đặt echo_code hoặc --to.",
            f"The axis knows no {echo}. Ask the operator for the code of the echo agency; set echo_code or --to.",
        )
    if isinstance(asked, Capabilities) and (asked.state != "open" or not asked.connected):
        return Turn(
            "operator",
            f"Đơn vị phản hồi {echo} chưa mở kết nối ({asked.state}). Đơn vị vận hành mở lại.",
            f"The echo agency {echo} is not connected ({asked.state}). The operator connects it.",
        )
    if isinstance(asked, Capabilities) and asked.silent_since is not None:
        since = datetime.fromtimestamp(asked.silent_since, VIETNAM)
        return Turn(
            "operator",
            f"Đơn vị phản hồi {echo} im lặng từ {since:%H:%M %d/%m/%Y}. Đơn vị vận hành chạy lại truc-agency echo.",
            f"The echo agency {echo} is silent since {since:%H:%M %d/%m/%Y}. The operator starts truc-agency echo again.",
        )
    return Turn(
        "operator",
        "Trục chưa chuyển văn bản, hoặc biên nhận chưa về tới. Đơn vị vận hành tra bằng truc trace và mã văn bản trên.",
        "The axis has not passed it on, or the receipt is not back. The operator looks with truc trace and the id above.",
    )


@dataclass(slots=True)
class Watch:
    """Looks through our queue for letters about one document; everything else stays as it is.

    Attributes:
        others: The messages with something else in them that were seen, by channel and number.
        unbelieved: Why letters could not be believed: codes.
        arrived: Where the consumer sets messages down.
    """

    trust: Trust
    clock: Callable[[], datetime]
    others: set[tuple[Channel, int]] = field(default_factory=set)
    unbelieved: set[str] = field(default_factory=set)
    arrived: "asyncio.Queue[Message | BrokerError | None]" = field(default_factory=asyncio.Queue)

    async def hear(self, document_id: DocumentId, echo: AgencyCode) -> Heard:
        """Wait for the next letter about the document.

        Raises:
            BrokerError: When the broker does not let us in or read, or there is no queue for us.
        """
        while True:
            message = await self.arrived.get()
            if isinstance(message, BrokerError):
                raise message
            assert message is not None  # nobody puts that here
            proven = (await self.trust.newest_view()).verify_letter(message.body, self.clock())
            heard = None
            if isinstance(proven[0], Verified):
                _, content = proven
                heard = hear(content, document_id, echo) if content.to == message.routing_key else None
            elif proven[0].code != _NO_LETTER:
                self.unbelieved.add(proven[0].code)
            if heard is None:
                self.others.add((message.channel, message.number))
                continue
            if heard.whole:
                acknowledge(message)
            return heard


@asynccontextmanager
async def watching(line: Line, code: AgencyCode, trust: Trust) -> AsyncIterator[Watch]:
    """Watch our queue; at the end everything that was not acknowledged is back in it."""
    watch = Watch(trust, lambda: datetime.now(UTC))
    consumer = Consumer(line, agency_queue(code), PREFETCH, watch.arrived, lambda: None)
    consuming = asyncio.create_task(consumer.run(), name=f"watch {code}")
    try:
        yield watch
    finally:
        consuming.cancel()
        await asyncio.wait({consuming})


@contextmanager
def no_adapter_beside(guard_file: Path) -> Iterator[None]:
    """Keep the adapters of this machine away meanwhile; leaves no file where there was none.

    Raises:
        Unusable: A108 when one is running, A104 when the file cannot be used.
    """
    if not guard_file.exists():
        yield
        return
    try:
        guard = InboxGuard(guard_file)
    except Unusable as error:
        if "locked" not in error.en:
            raise
        raise Unusable(
            "in use by another process", "một tiến trình khác đang dùng", place=str(guard_file), code="A108"
        ) from error
    with guard:
        yield
