"""The sentence on a document: where it is, who must act, whether the hub goes on by itself.

Pure functions over facts that the ledger keeps; the command line, the console and the API all show what these say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, assert_never

from hub.core.breaker import DOWN, HELD_BY_PERSON, SUSPENDED, Breaker
from hub.core.delivery import Delivery
from hub.core.due import DueTime, due_of_recipient, due_to_send
from hub.core.ladder import Progress, Request
from hub.core.working_calendar import WorkingCalendar
from schemas.directory_file import VIETNAM
from schemas.envelope import Action, AssuranceLevel
from schemas.identifiers import AgencyCode, DocumentId
from schemas.refusal import CATALOGUE, Actor, Code


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One ledger event, as people read it."""

    at: datetime
    event: str
    actor: str
    code: str | None
    state: str | None
    detail: Any


@dataclass(frozen=True, slots=True)
class DeliveryTrace:
    """Everything known about one delivery of a document.

    Attributes:
        delivery: As it stands.
        recipient_name: Name of the recipient in today's directory, or empty.
        code: Why it stands there, where something went wrong.
        changed_at: Since when.
        next_attempt_at: When it is tried again; for `pending`.
        receipt_due_at: Until when its receipt is awaited; for `routed`.
        events: Its history, oldest first.
        standing_since: Since when the recipient's office stands there with it.
        reason: Why the recipient does not accept it, or declines what it asks; in the recipient's words.
        breaker: How it stands with the recipient, unless all is well.
    """

    delivery: Delivery
    recipient_name: str
    code: str | None
    changed_at: datetime
    next_attempt_at: datetime | None
    receipt_due_at: datetime | None
    events: tuple[TraceEvent, ...]
    standing_since: datetime | None = None
    reason: str | None = None
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class LinkAnswer:
    """What one recipient has answered to a document that recalls, updates or replaces another one."""

    recipient: AgencyCode
    request: Request | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Link:
    """A document of the same chain: each recalls, updates or replaces others, or is what they do that to.

    Attributes:
        document_id: Identity of the document.
        action: What it does to those in `refs`.
        refs: Which those are.
        printed_number: Number and notation, or empty.
        accepted_at: When the hub took it over.
        recipients: How many it went to.
        answers: Of a document that asks for an answer: those of its recipients, the missing ones first, not all of
            very many.
    """

    document_id: DocumentId
    action: Action
    refs: tuple[DocumentId, ...]
    printed_number: str
    accepted_at: datetime
    recipients: int
    answers: tuple[LinkAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class PartTrace:
    """A part that a document names.

    Attributes:
        name: File name shown to people.
        media_type: Such as `application/pdf`.
        sha256: Its digest.
        length: Number of bytes.
        stored: Whether the blob store has it.
        level: What stands behind it when it is the national packet that the document came as, as its sender signed it.
    """

    name: str
    media_type: str
    sha256: str
    length: int
    stored: bool
    level: AssuranceLevel | None = None


@dataclass(frozen=True, slots=True)
class ArchiveTrace:
    """Where the bytes of an archived document are, and the events of its month; later events are in the ledger.

    Attributes:
        month: Such as `2026-11`.
        file: As it was written.
        archived_at: When.
    """

    month: str
    file: str
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentTrace:
    """Everything known about an accepted document.

    `chain` has the other documents of its chain, oldest first. When it is archived, `parts` have no names.
    """

    document_id: DocumentId
    envelope_id: str
    sender: AgencyCode
    via: AgencyCode | None
    printed_number: str
    kind: str
    subject: str
    action: Action
    accepted_at: datetime
    expires_at: datetime
    deliveries: tuple[DeliveryTrace, ...]
    events: tuple[TraceEvent, ...]
    issued_on: date
    refs: tuple[DocumentId, ...] = ()
    chain: tuple[Link, ...] = ()
    parts: tuple[PartTrace, ...] = ()
    archived: ArchiveTrace | None = None


@dataclass(frozen=True, slots=True)
class RefusalTrace:
    """Everything known about a refused document; `problems` as the sender was told them."""

    document_id: DocumentId
    envelope_id: str | None
    signer: AgencyCode
    code: str
    problems: Sequence[dict[str, str]]
    refused_at: datetime


@dataclass(frozen=True, slots=True)
class ParkedTrace:
    """Everything known about a submission that was put aside."""

    parked_id: str
    user: str | None
    code: str
    problems: Sequence[dict[str, str]]
    body_length: int
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One sentence for people, and what follows from it.

    Attributes:
        vi: The sentence in Vietnamese.
        en: The same in English.
        acts: Whose turn it is.
        hub_retries: Whether the hub goes on by itself.
        replay_helps: Whether sending again would change anything.
    """

    vi: str
    en: str
    acts: Actor
    hub_retries: bool = False
    replay_helps: bool = False


def diagnose_delivery(trace: DeliveryTrace, now: datetime) -> Diagnosis:  # noqa: PLR0911 - one return for each state
    """Say where one delivery is and who must act."""
    delivery = trace.delivery
    who = _named(trace)
    since = clock_time(trace.changed_at)
    code = CATALOGUE.get(trace.code or "")
    match delivery.state:
        case "received":
            return _received(trace, who, since)
        case "pending" if code is None:
            return Diagnosis("Đang chờ trục chuyển.", "Waiting for the hub to hand it over.", "hub", hub_retries=True)
        case "pending":
            assert code is not None
            at = clock_time(trace.next_attempt_at or now)
            why_vi, why_en = _why(trace, code)
            return Diagnosis(
                f"{why_vi} Trục tự thử lại lần {delivery.attempts + 1} lúc {at}.",
                f"{why_en} The hub makes attempt {delivery.attempts + 1} by itself at {at}.",
                code.acts,
                hub_retries=True,
            )
        case "routed" if trace.receipt_due_at is not None and trace.receipt_due_at <= now:
            return Diagnosis(
                f"Quá hạn chưa có biên nhận của {who}; văn bản an toàn, trục sắp tự gửi lại.",
                f"The receipt of {who} is overdue; the document is safe, the hub is about to send it again.",
                "hub",
                hub_retries=True,
            )
        case "routed":
            silent_vi, silent_en = _silent(trace)
            return Diagnosis(
                f"Đã vào hàng đợi của {who} từ {since}, chờ phần mềm kết nối của đơn vị lấy.{silent_vi}",
                f"In the queue of {who} since {since}, waiting for the agency's adapter to fetch it.{silent_en}",
                "recipient",
                hub_retries=True,
            )
        case "held":
            return _held(trace, who, since)
        case "expired":
            return Diagnosis(
                f"Hết hạn chuyển lúc {since}, {who} chưa trả lời; bên gửi đã được báo.",
                f"Its lifetime ended at {since} without an answer of {who}; the sender was told.",
                "sender",
            )
        case "dead":
            return _dead(trace, who, since)
        case _:
            assert_never(delivery.state)


def diagnose_document(trace: DocumentTrace, now: datetime) -> Diagnosis:
    """Say where a document is: the sentence of the delivery that needs somebody most."""
    # One that was redirected to a successor is owed no more.
    owed = [item for item in trace.deliveries if item.code != "E810"] or trace.deliveries
    total = len(owed)
    received = sum(item.delivery.state == "received" for item in owed)
    if received == total:
        return _received_by_all(trace, now)
    worst = min(owed, key=lambda item: _URGENCY_OF_STATE.index(item.delivery.state))
    worst_diagnosis = diagnose_delivery(worst, now)
    return Diagnosis(
        f"{received}/{total} đơn vị đã nhận. {_named(worst)}: {worst_diagnosis.vi}",
        f"{received} of {total} recipients have received it. {_named(worst)}: {worst_diagnosis.en}",
        worst_diagnosis.acts,
        hub_retries=worst_diagnosis.hub_retries,
        replay_helps=worst_diagnosis.replay_helps,
    )


def due_times(trace: DeliveryTrace, calendar: WorkingCalendar) -> tuple[DueTime, ...]:
    """Say until when the recipient ought to say something about a document."""
    received_at = next((event.at for event in trace.events if event.event == "delivery.received"), None)
    moves = [event for event in trace.events if event.event == "status.moved"]
    statuses = [(event.detail["said"], event.at) for event in moves if event.detail["said"] in PROGRESS]
    return due_of_recipient(received_at, statuses, calendar)


def due_time_to_send(trace: DocumentTrace, calendar: WorkingCalendar) -> DueTime:
    """Say until when the document ought to have been sent."""
    return due_to_send(trace.issued_on, trace.accepted_at, calendar)


def business_status(trace: DeliveryTrace) -> tuple[str, str]:
    """Say in Vietnamese and in English where the recipient's office stands; empty before its first status."""
    standing = trace.delivery.standing
    said = [PROGRESS[standing.progress]] if standing.progress else []
    said += [REQUESTS[standing.request]] if standing.request else []
    if not said or trace.standing_since is None:
        return "", ""
    since = clock_time(trace.standing_since)
    reason = f": {_on_one_line(trace.reason)}" if trace.reason else ""
    vi, en = (", ".join(texts) for texts in zip(*said, strict=True))
    return f"Nghiệp vụ: {vi} lúc {since}{reason}.", f"Business status: {en} at {since}{reason}."


def diagnose_refusal(trace: RefusalTrace) -> Diagnosis:
    """Say why a document was refused and who must act."""
    code = CATALOGUE[trace.code]
    return Diagnosis(
        f"Bị trục từ chối: {trace.code} {code.vi} {code.fix_vi}",
        f"Refused by the axis: {trace.code} {code.en} {code.fix_en}",
        code.acts,
    )


def diagnose_parked(trace: ParkedTrace) -> Diagnosis:
    """Say why a submission was put aside and who must act."""
    code = CATALOGUE[trace.code]
    return Diagnosis(
        f"Lượt gửi được để riêng: {trace.code} {code.vi} {code.fix_vi}",
        f"The submission was put aside: {trace.code} {code.en} {code.fix_en}",
        code.acts,
        replay_helps=code.retry,
    )


def clock_time(moment: datetime) -> str:
    """Write a moment as a document office does: `09:05 23/11/2026`, in the time of Vietnam."""
    return moment.astimezone(VIETNAM).strftime("%H:%M %d/%m/%Y")


PROGRESS: Final[Mapping[Progress, tuple[str, str]]] = {
    "01": ("đã đến (01)", "arrived (01)"),
    "02": ("từ chối tiếp nhận (02)", "not accepted (02)"),
    "03": ("đã tiếp nhận, vào sổ (03)", "accepted and registered (03)"),
    "04": ("phân công xử lý (04)", "assigned (04)"),
    "05": ("đang xử lý (05)", "in process (05)"),
    "06": ("hoàn thành xử lý (06)", "finished (06)"),
}
REQUESTS: Final[Mapping[Request, tuple[str, str]]] = {
    "asked": ("chờ trả lời yêu cầu lấy lại hoặc cập nhật", "asked to give it back or to update, unanswered"),
    "agreed": ("đồng ý lấy lại hoặc cập nhật (15)", "agreed to give it back or to update (15)"),
    "declined": ("từ chối lấy lại hoặc cập nhật (16)", "declined to give it back or to update (16)"),
}
"""What people read about where a recipient's office stands: Vietnamese, English."""


def _on_one_line(text: str) -> str:
    """Leave nothing in the words of others that would move or turn what is printed around them."""
    return "".join(each if each.isprintable() else " " for each in text)


def _received(trace: DeliveryTrace, who: str, since: str) -> Diagnosis:
    vi, en = business_status(trace)
    standing = trace.delivery.standing
    acts: Actor = "sender" if standing.progress == "02" else "recipient" if standing.request == "asked" else "nobody"
    return Diagnosis(f"{who} đã nhận lúc {since}. {vi}".strip(), f"{who} received it at {since}. {en}".strip(), acts)


def _received_by_all(trace: DocumentTrace, now: datetime) -> Diagnosis:
    """Say that everybody has it, how far the offices have come, and whose turn it is if it is anybody's."""
    vi = f"Tất cả {len(trace.deliveries)} đơn vị nhận đã nhận."
    en = f"All {len(trace.deliveries)} recipients have received it."
    counts = Counter(item.delivery.standing.progress for item in trace.deliveries)
    steps = [(count, PROGRESS[progress]) for progress, count in sorted(counts.items(), key=str) if progress is not None]
    if steps:
        vi += f" Nghiệp vụ: {', '.join(f'{count} {texts[0]}' for count, texts in steps)}."
        en += f" Business status: {', '.join(f'{count} {texts[1]}' for count, texts in steps)}."
    said = [(item, diagnose_delivery(item, now)) for item in trace.deliveries]
    waiting = sorted(((item, each) for item, each in said if each.acts != "nobody"), key=lambda pair: pair[1].acts)
    if not waiting:
        return Diagnosis(vi, en, "nobody")
    _, first = waiting[-1]  # the sender's turn comes before that of a recipient
    return Diagnosis(f"{vi} {first.vi}", f"{en} {first.en}", first.acts)


_URGENCY_OF_STATE: Final = ("dead", "expired", "held", "pending", "routed", "received")


def _held(trace: DeliveryTrace, who: str, since: str) -> Diagnosis:
    code, breaker = CATALOGUE[_why_held(trace)], trace.breaker
    vi, en = f"Tạm giữ từ {since} ({who}): {code.code} {code.vi}", f"Held since {since} ({who}): {code.code} {code.en}"
    if code.code == HELD_BY_PERSON and breaker is not None and breaker.held_by is not None:
        words = f"{_on_one_line(breaker.held_by)}: {_on_one_line(breaker.held_reason or '')}"
        return Diagnosis(f"{vi} {words}. {code.fix_vi}", f"{en} {words}. {code.fix_en}", code.acts)
    silent_vi, silent_en = _silent(trace)
    vi, en = f"{vi}{silent_vi} {code.fix_vi}", f"{en}{silent_en} {code.fix_en}"
    if code.code == DOWN and breaker is not None and breaker.phase == "open" and breaker.due_at is not None:
        at = clock_time(breaker.due_at)
        vi, en = f"{vi} Lần thử tới: {at}.", f"{en} Next try: {at}."
    return Diagnosis(vi, en, code.acts, hub_retries=code.code != HELD_BY_PERSON)


def _why_held(trace: DeliveryTrace) -> str:
    """Say why a delivery is held now, which may be for another reason than at first."""
    breaker = trace.breaker
    if breaker is not None and breaker.held_by is not None:
        return HELD_BY_PERSON
    if breaker is not None and breaker.suspended:
        return SUSPENDED
    return trace.code or DOWN


def _silent(trace: DeliveryTrace) -> tuple[str, str]:
    """Say since when the recipient is silent, or nothing."""
    if trace.breaker is None or trace.breaker.silent_since is None:
        return "", ""
    since = clock_time(trace.breaker.silent_since)
    return f" Đơn vị im lặng từ {since}.", f" The recipient is silent since {since}."


def _why(trace: DeliveryTrace, code: Code) -> tuple[str, str]:
    """Say what a code means, and for what was given back how often that happened and what the broker calls it."""
    returns = [event for event in trace.events if event.event == "delivery.returned"]
    if code.code != "E805" or not returns:
        return code.vi, code.en
    how = (returns[-1].detail or {}).get("reason")
    called = f" ({_on_one_line(how)})" if how else ""
    return (
        f"Phần mềm của đơn vị nhận đã lấy {len(returns)} lần nhưng không xử lý được{called}.",
        f"The recipient's software has taken it {len(returns)} times and could not process it{called}.",
    )


def _dead(trace: DeliveryTrace, who: str, since: str) -> Diagnosis:
    code = CATALOGUE.get(trace.code or "", CATALOGUE["E902"])
    vi, en = _why(trace, code)
    return Diagnosis(
        f"Không chuyển được tới {who} từ {since}: {trace.code} {vi} {code.fix_vi}",
        f"Could not be delivered to {who} since {since}: {trace.code} {en} {code.fix_en}",
        code.acts,
        replay_helps=code.retry,
    )


def _named(trace: DeliveryTrace) -> str:
    code = trace.delivery.recipient
    return f"{trace.recipient_name} ({code})" if trace.recipient_name else code
