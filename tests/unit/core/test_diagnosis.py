"""The sentence on a document: one test for each row of the table."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest

from hub.core.breaker import Breaker, hold
from hub.core.delivery import STATES, Delivery
from hub.core.diagnosis import (
    PROGRESS,
    REQUESTS,
    DeliveryTrace,
    DocumentTrace,
    ParkedTrace,
    RefusalTrace,
    TraceEvent,
    clock_time,
    diagnose_delivery,
    diagnose_document,
    diagnose_parked,
    diagnose_refusal,
)
from hub.core.ladder import Progress, Request, Standing
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.refusal import CATALOGUE

NOW = datetime(2026, 11, 23, 2, 5, tzinfo=UTC)


def trace(state: str, *, recipient: str = "H26", **changes: object) -> DeliveryTrace:
    held = Delivery(
        delivery_id=DeliveryId(UUID(int=1)),
        object_id=DocumentId("ab" * 32),
        typ=ENVELOPE_TYP,
        sender=AgencyCode("G22"),
        recipient=AgencyCode(recipient),
        state=state,
        attempts=2,
        expires_at=NOW + timedelta(days=7),
    )
    values = {
        "recipient_name": "UBND thành phố Hà Nội",
        "code": None,
        "changed_at": NOW,
        "next_attempt_at": NOW + timedelta(minutes=1) if state == "pending" else None,
        "receipt_due_at": NOW + timedelta(minutes=10) if state == "routed" else None,
        "events": (),
    } | changes
    return DeliveryTrace(delivery=held, **values)


def document(*deliveries: DeliveryTrace) -> DocumentTrace:
    return DocumentTrace(
        document_id=DocumentId("ab" * 32),
        envelope_id="0190",
        sender=AgencyCode("G22"),
        via=None,
        printed_number="7816/VPCP-TTĐT",
        kind="Công văn",
        subject="Về việc kết nối",
        action="new",
        accepted_at=NOW,
        expires_at=NOW + timedelta(days=7),
        deliveries=deliveries,
        events=(),
        issued_on=date(2026, 11, 20),
    )


def test_times_are_written_as_a_document_office_does() -> None:
    assert clock_time(NOW) == "09:05 23/11/2026"


@pytest.mark.parametrize(
    ("facts", "acts", "hub_retries", "replay_helps", "says"),
    [
        (trace("received"), "nobody", False, False, "đã nhận lúc 09:05"),
        (trace("pending"), "hub", True, False, "Đang chờ trục chuyển"),
        (trace("pending", code="E801"), "operator", True, False, "tự thử lại lần 3 lúc 09:06"),
        (trace("pending", code="E802"), "recipient", True, False, "đã đầy"),
        (trace("routed"), "recipient", True, False, "Đã vào hàng đợi"),
        (trace("routed", receipt_due_at=NOW), "hub", True, False, "Quá hạn chưa có biên nhận"),
        (trace("held", code="E811"), "recipient", True, False, "im lặng nhiều lần liên tiếp"),
        (trace("held", code="E812"), "operator", True, False, "tạm ngưng trong danh mục"),
        (trace("held", code="E813"), "operator", False, False, "`truc release`"),
        (trace("expired", code="E809"), "sender", False, False, "Hết hạn chuyển"),
        (trace("dead", code="E808"), "sender", False, False, "E808"),
        (trace("dead", code="E804"), "recipient", False, True, "E804"),
    ],
)
def test_each_state_has_its_sentence(
    facts: DeliveryTrace, acts: str, hub_retries: bool, replay_helps: bool, says: str
) -> None:
    diagnosis = diagnose_delivery(facts, NOW)
    assert (diagnosis.acts, diagnosis.hub_retries, diagnosis.replay_helps) == (acts, hub_retries, replay_helps)
    assert says in diagnosis.vi
    assert diagnosis.en != diagnosis.vi


SILENT = Breaker(
    AgencyCode("H26"), phase="open", failures=5, failing_since=NOW, opened_at=NOW, due_at=NOW + timedelta(minutes=2)
)


def test_a_held_delivery_says_since_when_the_recipient_is_silent_and_when_it_is_tried_again() -> None:
    diagnosis = diagnose_delivery(trace("held", code="E811", breaker=SILENT), NOW)
    assert "Đơn vị im lặng từ 09:05 23/11/2026." in diagnosis.vi
    assert "Lần thử tới: 09:07 23/11/2026." in diagnosis.vi
    assert "silent since 09:05 23/11/2026" in diagnosis.en


def test_a_delivery_in_the_queue_of_a_silent_recipient_says_so() -> None:
    assert "Đơn vị im lặng từ 09:05 23/11/2026." in diagnose_delivery(trace("routed", breaker=SILENT), NOW).vi
    assert "im lặng" not in diagnose_delivery(trace("routed"), NOW).vi


def test_what_a_person_holds_says_who_and_why_on_one_line() -> None:
    by_person = hold(SILENT, "an", "bảo trì\nđến thứ hai", NOW)
    diagnosis = diagnose_delivery(trace("held", code="E813", breaker=by_person), NOW)
    assert "an: bảo trì đến thứ hai." in diagnosis.vi
    assert diagnosis.acts == "operator"


def test_what_is_held_for_another_reason_by_now_says_that_one() -> None:
    suspended = replace(SILENT, suspended=True)
    assert "E812" in diagnose_delivery(trace("held", code="E813", breaker=suspended), NOW).vi


def test_what_was_given_back_says_how_often_and_what_the_broker_calls_it() -> None:
    back = TraceEvent(NOW, "delivery.returned", "returns", "E805", "pending", {"reason": "rejected"})
    for state in ("pending", "dead"):
        facts = trace(state, code="E805", events=(back, back, back))
        assert "đã lấy 3 lần nhưng không xử lý được (rejected)" in diagnose_delivery(facts, NOW).vi


def test_a_recipient_is_named_with_its_code() -> None:
    assert "UBND thành phố Hà Nội (H26)" in diagnose_delivery(trace("received"), NOW).vi
    assert "H26 " in diagnose_delivery(trace("received", recipient_name=""), NOW).vi


def test_a_document_is_told_by_the_delivery_that_needs_somebody_most() -> None:
    worst_first = ["dead", "expired", "held", "pending", "routed", "received"]
    assert sorted(worst_first) == sorted(STATES)
    for index in range(len(worst_first) - 1):
        deliveries = [trace(other, recipient=f"H{10 + n}", recipient_name="") for n, other in enumerate(worst_first)]
        diagnosis = diagnose_document(document(*deliveries[index:]), NOW)
        assert diagnose_delivery(deliveries[index], NOW).vi in diagnosis.vi
        assert diagnosis.vi.startswith(f"1/{len(deliveries[index:])} đơn vị đã nhận")


def test_a_document_that_everybody_has_needs_nobody() -> None:
    diagnosis = diagnose_document(document(trace("received"), trace("received")), NOW)
    assert diagnosis.acts == "nobody"
    assert "Tất cả 2" in diagnosis.vi


def standing(*, progress: str | None = None, request: str | None = None, **changes: object) -> DeliveryTrace:
    held = trace("received", standing_since=NOW, **changes)
    return replace(held, delivery=replace(held.delivery, standing=Standing(progress, request)))


@pytest.mark.parametrize(
    ("facts", "acts", "says"),
    [
        (standing(progress="03"), "nobody", "Nghiệp vụ: đã tiếp nhận, vào sổ (03) lúc 09:05 23/11/2026."),
        (
            standing(progress="02", reason="Gửi nhầm"),
            "sender",
            "từ chối tiếp nhận (02) lúc 09:05 23/11/2026: Gửi nhầm.",
        ),
        (standing(progress="03", request="asked"), "recipient", "(03), chờ trả lời yêu cầu lấy lại hoặc cập nhật lúc"),
        (standing(request="agreed"), "nobody", "Nghiệp vụ: đồng ý lấy lại hoặc cập nhật (15) lúc"),
        (standing(progress="05", request="declined", reason="Bận"), "nobody", "(16) lúc 09:05 23/11/2026: Bận."),
    ],
)
def test_what_the_office_does_is_said_behind_the_receipt(facts: DeliveryTrace, acts: str, says: str) -> None:
    diagnosis = diagnose_delivery(facts, NOW)
    assert diagnosis.acts == acts
    assert says in diagnosis.vi
    assert "Business status" in diagnosis.en


def test_the_words_of_a_recipient_stay_on_their_line() -> None:
    facts = standing(progress="02", reason="hai\ndòng \u202eđảo")
    assert "hai dòng  đảo." in diagnose_delivery(facts, NOW).vi


def test_every_progress_and_request_has_its_words() -> None:
    assert set(PROGRESS) == set(get_args(Progress))
    assert set(REQUESTS) == set(get_args(Request))


def test_a_document_that_everybody_has_says_how_far_the_offices_are_and_who_refuses() -> None:
    found = document(
        standing(progress="03", recipient="H26"),
        standing(progress="03", recipient="H27"),
        standing(progress="02", recipient="H28", recipient_name="", reason="Gửi nhầm"),
        standing(request="asked", recipient="H29"),
    )
    diagnosis = diagnose_document(found, NOW)
    assert diagnosis.acts == "sender"
    assert diagnosis.vi.startswith("Tất cả 4 đơn vị nhận đã nhận. Nghiệp vụ: 1 từ chối tiếp nhận (02), 2 đã tiếp nhận")
    assert "H28 đã nhận" in diagnosis.vi
    assert diagnosis.vi.endswith("Gửi nhầm.")


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_can_be_diagnosed(code: str) -> None:
    refusal = RefusalTrace(DocumentId("ab" * 32), None, AgencyCode("G22"), code, (), NOW)
    parked = ParkedTrace("ab" * 32, "G22", code, (), 10, NOW)
    dead = diagnose_delivery(trace("dead", code=code), NOW)
    for diagnosis in (diagnose_refusal(refusal), diagnose_parked(parked), dead):
        assert code in diagnosis.vi
        assert code in diagnosis.en
        assert diagnosis.acts == CATALOGUE[code].acts
