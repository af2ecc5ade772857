"""How it stands with a recipient: what opens a breaker, what closes it, and what people are told."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.core.breaker import (
    Breaker,
    Sign,
    after_each,
    after_turn,
    allowance,
    before_turn,
    hold,
    is_probe,
    news,
    reason_to_hold,
    release,
    sign_of,
)
from hub.core.delivery import Delivery, Transition
from hub.core.failure import class_of
from hub.core.policy import BreakerPolicy
from schemas.checks.directory import Agency, Directory
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import NOTICE_TYP
from schemas.refusal import CATALOGUE

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
POLICY = BreakerPolicy(failures=3, silence_s=600, probe_delay_s=60, max_probe_delay_s=300)
RECIPIENT = AgencyCode("H26")
WELL = Breaker(RECIPIENT)
ONE = DeliveryId(UUID(int=1))
OTHER = DeliveryId(UUID(int=2))
FAILED = Sign("failed", ONE, "E807")
OVERDUE = Sign("overdue", ONE, "E804")


def after(breaker: Breaker, signs: Iterable[Sign], policy: BreakerPolicy, now: datetime) -> Breaker:
    return after_each(breaker, signs, policy, now)[-1]


OPEN = after(WELL, [FAILED] * 3, POLICY, NOW)
PROBING = after_turn(OPEN, [ONE], POLICY, NOW, left=True)


def delivery(**changes: object) -> Delivery:
    values = {
        "delivery_id": ONE,
        "object_id": DocumentId("ab" * 32),
        "typ": ENVELOPE_TYP,
        "sender": AgencyCode("G22"),
        "recipient": RECIPIENT,
        "state": "pending",
        "attempts": 0,
        "expires_at": NOW + timedelta(days=7),
    } | changes
    return Delivery(**values)


def directory(state: str = "open") -> Directory:
    agency = Agency(RECIPIENT, "Hà Nội", "ministry-province", None, RECIPIENT, state)
    return Directory(1, NOW, {RECIPIENT: agency}, {}, {}, {})


def test_failures_in_a_row_open_it() -> None:
    assert after(WELL, [FAILED] * 2, POLICY, NOW).phase == "closed"
    assert (OPEN.phase, OPEN.opened_at, OPEN.code) == ("open", NOW, "E807")
    assert OPEN.due_at == NOW + timedelta(seconds=60)


def test_an_answer_in_between_begins_the_row_anew() -> None:
    well = after(WELL, [FAILED, FAILED, Sign("answered", OTHER), FAILED, FAILED], POLICY, NOW)
    assert (well.phase, well.failures) == ("closed", 2)


@pytest.mark.parametrize(("silence_s", "lag_s"), [(900.0, 60.0), (600.0, 60.0), (20.0, 2.0)])
def test_moment_when_a_recipient_was_last_seen_never_lags_behind_by_much_of_the_silence_that_counts(silence_s, lag_s):
    assert BreakerPolicy(silence_s=silence_s).seen_lag_s == lag_s


def test_an_overdue_receipt_is_no_failure_of_a_recipient_that_was_heard_of_just_now() -> None:
    heard = after(WELL, [Sign("seen")], POLICY, NOW)
    assert after(heard, [OVERDUE] * 5, POLICY, NOW + timedelta(seconds=599)).phase == "closed"
    assert after(heard, [OVERDUE] * 5, POLICY, NOW + timedelta(seconds=600)).phase == "open"
    assert after(WELL, [OVERDUE] * 5, POLICY, NOW).phase == "open", "nobody has ever heard of it"


def test_waits_between_probes_double_up_to_their_bound() -> None:
    breaker, now, waits = OPEN, NOW, []
    for _ in range(5):
        now = breaker.due_at
        breaker = after(after_turn(breaker, [ONE], POLICY, now, left=True), [FAILED], POLICY, now)
        waits.append((breaker.due_at - now).total_seconds())
    assert waits == [120, 240, 300, 300, 300]
    assert breaker.opened_at == NOW


def test_a_failure_of_another_delivery_does_not_end_a_probe() -> None:
    assert after(PROBING, [replace(FAILED, delivery_id=OTHER)], POLICY, NOW).phase == "probing"
    assert after(PROBING, [FAILED], POLICY, NOW).phase == "open"
    assert after(PROBING, [Sign("ended", ONE)], POLICY, NOW).phase == "open"
    assert after(PROBING, [Sign("ended", OTHER)], POLICY, NOW).phase == "probing"


@pytest.mark.parametrize("breaker", [OPEN, PROBING], ids=["open", "probing"])
def test_any_answer_shows_that_it_is_back(breaker: Breaker) -> None:
    back = after(breaker, [Sign("answered", OTHER)], POLICY, NOW)
    assert (back.phase, back.due_at, back.probe, back.failures) == ("draining", NOW, None, 0)


def test_nothing_to_probe_with_lets_the_next_one_out_and_a_single_failure_opens_it_again() -> None:
    half = after_turn(OPEN, [], POLICY, NOW, left=False)
    assert (half.phase, half.due_at) == ("closed", None)
    assert after(half, [FAILED], POLICY, NOW).phase == "open"


def test_a_flapping_recipient_is_held_again_and_its_waits_go_on_growing() -> None:
    draining = after_turn(after(PROBING, [Sign("answered", ONE)], POLICY, NOW), [ONE] * 10, POLICY, NOW, left=True)
    again = after(draining, [FAILED] * 3, POLICY, NOW)
    assert again.phase == "open"
    assert again.due_at == NOW + timedelta(seconds=120)


def test_a_drain_that_does_not_come_to_an_end_begins_small_again() -> None:
    draining = Breaker(RECIPIENT, phase="draining", released=80, settled=79, due_at=NOW)
    assert allowance(draining, POLICY) == POLICY.drain_at_first
    assert allowance(replace(draining, settled=80), POLICY) == POLICY.drain_at_most


def test_what_was_held_upon_an_old_view_is_let_go_again() -> None:
    late = after(WELL, [Sign("held", ONE, "E811")], POLICY, NOW)
    assert (late.phase, late.due_at) == ("draining", NOW)


def test_a_suspended_recipient_gets_nothing_until_the_directory_opens_it() -> None:
    suspended = after(WELL, [Sign("suspended", ONE, "E812")], POLICY, NOW)
    assert allowance(before_turn(suspended, NOW, suspended=True), POLICY) == 0
    still = after_turn(before_turn(suspended, NOW, suspended=True), [], POLICY, NOW, left=True)
    assert still.due_at == NOW + timedelta(seconds=60)
    opened = before_turn(still, NOW, suspended=False)
    assert (opened.phase, allowance(opened, POLICY)) == ("draining", POLICY.drain_at_first)


def test_a_person_holds_everything_and_lets_it_go_a_few_at_a_time() -> None:
    held = hold(WELL, "an", "bảo trì", NOW)
    assert reason_to_hold(delivery(), held, directory()) == "E813"
    assert allowance(hold(PROBING, "an", "bảo trì", NOW), POLICY) == 0
    free = release(held, NOW)
    assert (free.phase, free.held_by, reason_to_hold(delivery(), free, directory())) == ("draining", None, None)


@pytest.mark.parametrize(
    ("breaker", "state", "code"),
    [
        (None, "open", None),
        (None, "suspended", "E812"),
        (OPEN, "open", "E811"),
        (PROBING, "open", None),
        (replace(PROBING, probe=OTHER), "open", "E811"),
        (Breaker(RECIPIENT, phase="draining", due_at=NOW), "open", None),
        (hold(OPEN, "an", "bảo trì", NOW), "suspended", "E812"),
    ],
)
def test_why_a_delivery_is_held(breaker: Breaker | None, state: str, code: str | None) -> None:
    assert reason_to_hold(delivery(), breaker, directory(state)) == code


def test_letters_are_never_held() -> None:
    assert reason_to_hold(delivery(typ=NOTICE_TYP), OPEN, directory("suspended")) is None


@pytest.mark.parametrize("had", [delivery(state="received"), delivery(state="routed", typ=NOTICE_TYP)])
def test_what_is_handed_out_again_waits_only_while_its_agency_is_suspended(had: Delivery) -> None:
    assert reason_to_hold(had, OPEN, directory("open")) is None
    assert reason_to_hold(had, None, directory("suspended")) == "E812"


def test_only_the_probe_is_the_probe() -> None:
    assert is_probe(delivery(), PROBING)
    assert not is_probe(delivery(delivery_id=OTHER), PROBING)
    assert not is_probe(delivery(), OPEN)
    assert not is_probe(delivery(), None)


@pytest.mark.parametrize(
    ("state", "code", "noticed"),
    [
        ("received", None, "answered"),
        ("dead", "E808", "answered"),
        ("dead", "E805", "failed"),
        ("pending", "E807", "failed"),
        ("pending", "E802", "failed"),
        ("pending", "E804", "overdue"),
        ("pending", "E801", None),
        ("pending", "E803", None),
        ("pending", None, None),
        ("routed", None, None),
        ("expired", "E809", "ended"),
        ("held", "E811", "held"),
        ("held", "E812", "suspended"),
        ("held", "E813", "held"),
    ],
)
def test_what_a_change_of_a_delivery_tells_about_its_recipient(
    state: str, code: str | None, noticed: str | None
) -> None:
    sign = sign_of(Transition(delivery(), "delivery.changed", state, 1, code=code))
    assert (sign and sign.noticed) == noticed
    assert sign_of(Transition(delivery(typ=NOTICE_TYP), "delivery.changed", state, 1, code=code)) is None


def test_silent_since_the_last_sign_of_life_and_only_while_an_answer_is_owed() -> None:
    heard = after(WELL, [Sign("seen")], POLICY, NOW)
    assert heard.silent_since is None
    later = NOW + timedelta(hours=1)
    assert after(heard, [OVERDUE], POLICY, later).silent_since == NOW
    assert after(WELL, [OVERDUE], POLICY, later).silent_since == later, (
        "never heard of: since it ought to have answered"
    )
    assert after(heard, [FAILED, Sign("seen")], POLICY, later + timedelta(hours=1)).silent_since is None
    fails_only = after(after(heard, [FAILED], POLICY, later), [Sign("seen")], POLICY, later + timedelta(seconds=1))
    assert fails_only.silent_since is None, "it answers, if only with failures"


def test_people_are_told_of_the_changes_that_they_ask_about() -> None:
    back = after(PROBING, [Sign("answered", ONE)], POLICY, NOW)
    assert news(WELL, OPEN) == "recipient.down"
    assert news(OPEN, PROBING) == "recipient.probed"
    assert news(PROBING, back) == "recipient.back"
    assert news(back, WELL) == "recipient.well"
    assert news(WELL, WELL) is None
    assert news(PROBING, OPEN) is None


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_has_a_class_that_agrees_with_the_catalogue(code: str) -> None:
    known = CATALOGUE[code]
    assert class_of(code) in (("passing", "unknown") if known.retry else ("permanent", "unknown"))


def test_what_nobody_knows_is_of_unknown_class() -> None:
    assert {class_of(code) for code in ("DIA-DAY", "", "E805", "E807", "E201", "E402")} == {"unknown"}
