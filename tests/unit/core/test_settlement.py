"""What becomes of a delivery after an attempt, an answer, a deadline."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.delivery import STATES, Delivery, Transition
from hub.core.policy import Policy, Retry
from hub.core.settlement import (
    retry_at,
    settle_attempt,
    settle_expired,
    settle_overdue,
    settle_receipt,
    settle_returned,
    warn_of_end,
)
from hub.core.submission import Submission
from hub.core.verdict import Answered
from schemas.directory_file import VIETNAM, key_record
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import NOTICE_TYP, Answer, Receipt, read_notice
from schemas.refusal import CATALOGUE
from schemas.signing import verify
from tests.keys import agency_keys

NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = Policy(receipt_deadline_s=600, retry_delay_s=5, max_retry_delay_s=3600, max_attempts=5)


def delivery(**changes: object) -> Delivery:
    values = {
        "delivery_id": DeliveryId(UUID(int=7)),
        "object_id": DocumentId("ab" * 32),
        "typ": ENVELOPE_TYP,
        "sender": AgencyCode("G22"),
        "recipient": AgencyCode("H26"),
        "state": "pending",
        "attempts": 0,
        "expires_at": NOW + timedelta(days=7),
    } | changes
    return Delivery(**values)


def answered(*answers: Answer, from_: str = "H26", to: str | None = "G22") -> Answered:
    receipt = Receipt(from_=from_, to=to, answers=answers)
    submission = Submission(b"token", from_, f"receipt.{from_}")
    return Answered(DocumentId("cd" * 32), b"token", receipt, AgencyCode(from_), submission)


def answer(outcome: str = "received", delivery_id: UUID = UUID(int=7)) -> Answer:  # noqa: B008 - immutable
    return Answer(delivery=str(delivery_id), outcome=outcome, at=int(NOW.timestamp()), code="X1", detail="đĩa đầy")


def test_a_document_that_is_taken_waits_for_its_receipt_until_the_deadline() -> None:
    after = settle_attempt(delivery(), "routed", POLICY, NOW)
    assert (after.state, after.attempts, after.code) == ("routed", 1, None)
    assert after.receipt_due_at == NOW + timedelta(seconds=600)


def test_a_notice_that_is_taken_waits_for_nothing() -> None:
    after = settle_attempt(delivery(typ=NOTICE_TYP), "routed", POLICY, NOW)
    assert (after.state, after.receipt_due_at) == ("routed", None)


@pytest.mark.parametrize(
    ("handover", "code"), [("unroutable", "E801"), ("not-taken", "E802"), ("broker-refused", "E806")]
)
def test_a_failed_attempt_counts_and_is_made_again_later(handover: str, code: str) -> None:
    after = settle_attempt(delivery(), handover, POLICY, NOW)
    assert (after.state, after.attempts, after.code, after.event) == ("pending", 1, code, f"delivery.{handover}")
    assert NOW < after.next_attempt_at <= NOW + timedelta(seconds=5)


def test_an_attempt_without_a_word_costs_nothing_and_is_made_again_soon() -> None:
    after = settle_attempt(delivery(attempts=4), "unsure", POLICY, NOW)
    assert (after.state, after.attempts, after.code) == ("pending", 4, "E803")
    assert after.next_attempt_at == NOW + timedelta(seconds=5)


@pytest.mark.parametrize("handover", ["unroutable", "not-taken", "broker-refused"])
@pytest.mark.parametrize("attempts", [3, 4, 5, 400])
def test_what_never_reached_the_recipient_is_never_given_up(handover: str, attempts: int) -> None:
    after = settle_attempt(delivery(attempts=attempts), handover, POLICY, NOW)
    assert (after.state, after.attempts) == ("pending", max(attempts, 4))
    assert after.next_attempt_at > NOW


def test_the_time_for_a_receipt_doubles_with_every_copy_up_to_its_bound() -> None:
    policy = replace(POLICY, receipt_deadline_s=600, max_receipt_deadline_s=3000)
    waits = [settle_attempt(delivery(attempts=n), "routed", policy, NOW).receipt_due_at - NOW for n in range(5)]
    assert [wait.total_seconds() for wait in waits] == [600, 1200, 2400, 3000, 3000]


def test_an_overdue_delivery_is_sent_again_without_counting_the_attempt_twice() -> None:
    after = settle_overdue(delivery(state="routed", attempts=2), POLICY, NOW)
    assert (after.state, after.attempts, after.code) == ("pending", 2, "E804")


def test_an_overdue_delivery_is_sent_again_as_long_as_it_lives() -> None:
    assert settle_overdue(delivery(state="routed", attempts=500), POLICY, NOW).state == "pending"


def test_a_failure_of_an_unknown_kind_is_given_up_when_its_attempts_are_spent() -> None:
    assert settle_returned(delivery(state="routed", attempts=4), POLICY, NOW).state == "pending"
    assert settle_returned(delivery(state="routed", attempts=5), POLICY, NOW).state == "dead"


def failed(code: str | None, attempts: int, policy: Policy = POLICY) -> Transition:
    held = delivery(state="routed", attempts=attempts)
    said = Answer(delivery=str(held.delivery_id), outcome="failed", at=int(NOW.timestamp()), code=code)
    (after,) = settle_receipt(answered(said), {held.delivery_id: held}, policy, NOW).transitions
    return after


@pytest.mark.parametrize(
    ("code", "attempts", "state", "of"),
    [
        pytest.param("E301", 1, "dead", "E808", id="permanent: never again"),
        pytest.param("E502", 1, "dead", "E808", id="permanent: never again, whatever the number"),
        pytest.param("E901", 500, "pending", "E807", id="passing: within the lifetime"),
        pytest.param("DIA-DAY", 4, "pending", "E807", id="unknown: up to the number of attempts"),
        pytest.param("DIA-DAY", 5, "dead", "E807", id="unknown: and no further"),
        pytest.param(None, 5, "dead", "E807", id="without a code: unknown"),
        pytest.param("E201", 4, "pending", "E807", id="another directory: unknown"),
    ],
)
def test_what_the_recipient_says_decides_whether_it_is_tried_again(
    code: str | None, attempts: int, state: str, of: str
) -> None:
    after = failed(code, attempts)
    assert (after.state, after.code) == (state, of)


def test_rules_of_a_recipient_come_before_those_of_a_code_and_both_before_the_general_ones() -> None:
    policy = replace(POLICY, retry_by_code={"E807": Retry(retry_delay_s=60, max_attempts=2)})
    own = replace(policy, retry_by_recipient={AgencyCode("H26"): Retry(retry_delay_s=600, receipt_deadline_s=7200)})
    assert timedelta(seconds=45) <= failed("X", 1, policy).next_attempt_at - NOW <= timedelta(seconds=60)
    assert timedelta(seconds=450) <= failed("X", 1, own).next_attempt_at - NOW <= timedelta(seconds=600)
    assert [failed("X", 2, each).state for each in (POLICY, policy, own)] == ["pending", "dead", "dead"]
    due = [settle_attempt(delivery(), "routed", each, NOW).receipt_due_at - NOW for each in (policy, own)]
    assert due == [timedelta(seconds=600), timedelta(seconds=7200)]


def test_a_rule_may_limit_the_attempts_of_a_passing_failure() -> None:
    policy = replace(POLICY, retry_by_code={"E804": Retry(max_attempts=3)})
    assert settle_overdue(delivery(state="routed", attempts=2), policy, NOW).state == "pending"
    assert settle_overdue(delivery(state="routed", attempts=3), policy, NOW).state == "dead"


def test_a_probe_costs_no_attempt() -> None:
    after = settle_attempt(delivery(attempts=3), "routed", POLICY, NOW, probe=True)
    assert (after.state, after.attempts, after.detail) == ("routed", 3, "probe")
    assert settle_attempt(delivery(attempts=3), "not-taken", POLICY, NOW, probe=True).attempts == 3


def test_a_warning_names_the_recipient_and_the_end() -> None:
    letter = warn_of_end(delivery(state="held"), agency_keys("hub").signer, NOW)
    notice = read_notice(_payload(letter.token))
    assert (letter.to, notice.kind, notice.recipient, notice.document) == ("G22", "expiring", "H26", "ab" * 32)
    until = (NOW + timedelta(days=7)).astimezone(VIETNAM).strftime("%H:%M %d/%m/%Y")
    assert until in notice.problems[0].vi
    assert until in notice.problems[0].en


def test_a_warning_comes_a_day_before_the_end_or_after_three_quarters_of_a_short_life() -> None:
    week, hour = NOW + timedelta(days=7), NOW + timedelta(hours=1)
    assert POLICY.warn_at(NOW, week) == week - timedelta(days=1)
    assert POLICY.warn_at(NOW, hour) == hour - timedelta(minutes=15)
    assert POLICY.warn_at(NOW, NOW - timedelta(hours=1)) == NOW - timedelta(hours=1)


@pytest.mark.parametrize("state", [state for state in STATES if state != "routed"])
def test_a_return_of_something_that_is_not_in_a_queue_changes_nothing(state: str) -> None:
    assert settle_returned(delivery(state=state), POLICY, NOW) is None


def test_a_returned_delivery_is_a_failed_attempt() -> None:
    after = settle_returned(delivery(state="routed", attempts=1), POLICY, NOW)
    assert (after.state, after.attempts, after.code) == ("pending", 1, "E805")


def test_the_sender_of_an_expired_document_is_told_by_a_notice_of_the_hub() -> None:
    keys = agency_keys("hub")
    after = settle_expired(delivery(state="routed"), keys.signer, NOW)
    assert (after.state, after.code) == ("expired", "E809")
    assert after.letter.to == "G22"
    notice = read_notice(_payload(after.letter.token))
    assert (notice.kind, notice.recipient, notice.document) == ("expired", "H26", "ab" * 32)
    assert notice.problems[0].code == "E809"
    assert CATALOGUE["E809"].vi in notice.problems[0].vi


def _payload(token: bytes) -> bytes:
    record = key_record(agency_keys("hub").entry("hub"))
    verified = verify(
        token, typ=NOTICE_TYP, keys={record.fingerprint: record}, now_s=int(NOW.timestamp()), max_age_s=None
    )
    return verified.payload


def test_nobody_is_told_when_a_notice_expires() -> None:
    assert settle_expired(delivery(typ=NOTICE_TYP), agency_keys("hub").signer, NOW).letter is None


@pytest.mark.parametrize("state", ["pending", "routed", "held", "dead"])
def test_received_counts_from_every_state_that_is_not_final(state: str) -> None:
    held = delivery(state=state, attempts=1)
    settlement = settle_receipt(answered(answer()), {held.delivery_id: held}, POLICY, NOW)
    assert [item.state for item in settlement.transitions] == ["received"]
    assert settlement.park is None
    assert settlement.forward.to == "G22"


@pytest.mark.parametrize("state", ["received", "expired"])
@pytest.mark.parametrize("outcome", ["received", "failed", "refused"])
def test_nothing_changes_a_final_state(state: str, outcome: str) -> None:
    held = delivery(state=state)
    settlement = settle_receipt(answered(answer(outcome)), {held.delivery_id: held}, POLICY, NOW)
    assert settlement.transitions == ()
    assert settlement.park is None


def test_refused_is_dead_with_the_words_of_the_recipient() -> None:
    held = delivery(state="routed", attempts=1)
    (after,) = settle_receipt(answered(answer("refused")), {held.delivery_id: held}, POLICY, NOW).transitions
    assert (after.state, after.code, after.detail) == ("dead", "E808", "X1 đĩa đầy")


def test_failed_is_tried_again_later() -> None:
    held = delivery(state="routed", attempts=1)
    (after,) = settle_receipt(answered(answer("failed")), {held.delivery_id: held}, POLICY, NOW).transitions
    assert (after.state, after.code, after.attempts) == ("pending", "E807", 1)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(None, id="unknown delivery"),
        pytest.param(delivery(state="routed", recipient="H49"), id="another recipient's"),
        pytest.param(delivery(state="routed", sender="G01"), id="another sender's"),
        pytest.param(delivery(state="routed", typ=NOTICE_TYP), id="a notice"),
    ],
)
def test_an_answer_about_what_is_not_its_own_is_parked_and_changes_nothing(held: Delivery | None) -> None:
    known = {held.delivery_id: held} if held else {}
    settlement = settle_receipt(answered(answer()), known, POLICY, NOW)
    assert settlement.transitions == ()
    assert settlement.forward is None
    assert [problem.code for problem in settlement.park.problems] == ["E409"]


def test_a_wrong_answer_does_not_harm_the_right_one_beside_it() -> None:
    held = delivery(state="routed")
    receipt = answered(answer(), answer(delivery_id=UUID(int=8)))
    settlement = settle_receipt(receipt, {held.delivery_id: held}, POLICY, NOW)
    assert [item.state for item in settlement.transitions] == ["received"]
    assert settlement.park.problems[0].pointer == "/answers/1/delivery"


def test_a_receipt_without_a_known_sender_is_not_passed_on() -> None:
    held = delivery(state="routed")
    settlement = settle_receipt(answered(answer("failed"), to=None), {held.delivery_id: held}, POLICY, NOW)
    assert settlement.forward is None
    assert len(settlement.transitions) == 1


@given(attempts=st.integers(1, 10_000), seed=st.integers(0, 2**128 - 1), lifetime_s=st.integers(0, 10**7))
def test_waits_grow_to_their_bound_and_never_beyond_the_lifetime(attempts: int, seed: int, lifetime_s: int) -> None:
    held = delivery(delivery_id=DeliveryId(UUID(int=seed)), expires_at=NOW + timedelta(seconds=lifetime_s))
    at = retry_at(held, attempts, "E807", POLICY, NOW)
    assert NOW <= at <= NOW + timedelta(seconds=min(3600, lifetime_s))
    longest_s = min(5 * 2 ** min(attempts - 1, 20), 3600)
    assert at >= NOW + timedelta(seconds=min(0.75 * longest_s, lifetime_s))


@given(handovers=st.lists(st.sampled_from(["unroutable", "not-taken", "unsure", "routed"]), max_size=60))
def test_attempts_that_reach_the_recipient_end(handovers: list[str]) -> None:
    """However the broker behaves: after the allowed attempts, the one that reached the recipient last is the last."""
    held = delivery()
    reached = 0
    for handover in handovers:
        after = settle_attempt(held, handover, POLICY, NOW)
        if after.state == "routed":
            reached += 1
            after = settle_returned(delivery(state="routed", attempts=after.attempts), POLICY, NOW)
        held = delivery(state=after.state, attempts=after.attempts)
        if after.state == "dead":
            assert handover == "routed"
            break
    assert held.attempts <= POLICY.max_attempts
    assert reached <= POLICY.max_attempts
