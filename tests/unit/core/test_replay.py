"""How a replay goes on, when it stops by itself, what it would not send."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.core.delivery import Delivery, Due
from hub.core.policy import Policy
from hub.core.replay import (
    MAX_FAILING,
    MINUTE,
    MOMENT,
    PATIENCE,
    PLAN_LIFETIME,
    RELEASE_BATCH,
    SUSPENDED,
    WATCHED,
    Fate,
    Progress,
    Release,
    ReplayPace,
    ReplayState,
    Turn,
    fate_of,
    heirs_of,
    needs_second_person,
    next_step,
    rehearse_delivery,
    rehearse_submission,
    settle_redirected,
    settle_replayed,
    top_of,
)
from hub.core.submission import Submission
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import NOTICE_TYP
from tests import builders as a
from tests.keys import agency_keys, make_certificate

NOW = datetime.now(UTC).replace(microsecond=0)
ALL = ReplayPace("all", 60, 60)
ONE = ReplayPace("one", 60, 60)
RATE = ReplayPace("rate", 60, 10)


def progress(**changes: object) -> Progress:
    values = {"state": "running", "since": NOW, "pace": ALL, "waiting": 1000, "in_hand": 0} | changes
    return Progress(**values)


def watched(good: int = 0, failing: int = 0, unknown: int = 0) -> list[Fate]:
    return ["good"] * good + ["failing"] * failing + ["unknown"] * unknown


@pytest.mark.parametrize("pace", [ALL, RATE, ONE])
def test_nothing_but_the_watched_goes_out_first(pace: ReplayPace) -> None:
    step = next_step(progress(pace=pace), NOW)
    assert isinstance(step, Release)
    assert step.at_most == {"all": WATCHED, "rate": 6, "one": 1}[pace.mode]


def test_more_than_a_fifth_of_the_watched_stops_it() -> None:
    assert isinstance(next_step(progress(watched=watched(good=16, failing=4)), NOW), Release)
    assert next_step(progress(watched=watched(good=15, failing=5)), NOW) == Turn("stopped", "5-of-20-failed-again")


def test_it_stops_as_soon_as_a_fifth_of_twenty_have_failed() -> None:
    assert next_step(progress(watched=watched(failing=5)), NOW) == Turn("stopped", "5-of-5-failed-again")


def test_of_a_few_items_one_that_fails_is_enough() -> None:
    assert isinstance(next_step(progress(waiting=2, watched=watched(good=1, failing=1)), NOW), Turn)


def test_catch_up_that_nobody_takes_is_over() -> None:
    seen = progress(purpose="catch-up", watched=watched(failing=5), waiting=7)
    assert next_step(seen, NOW) == Turn("cancelled", "5-of-5-failed-again")


def test_catch_up_pauses_while_its_agency_is_suspended_and_goes_on_by_itself() -> None:
    running = progress(purpose="catch-up", pace=RATE)
    paused = replace(running, state="paused", said=SUSPENDED)
    assert next_step(running, NOW, suspended=True) == Turn("paused", SUSPENDED)
    assert next_step(paused, NOW, suspended=True) is None
    assert next_step(paused, NOW, suspended=False) == Turn("running", "agency-open-again")


@pytest.mark.parametrize("state", ["paused", "stopped", "cancelled", "done"])
def test_catch_up_that_a_person_stopped_does_not_go_on_when_its_agency_is_open_again(state: ReplayState) -> None:
    stopped = progress(purpose="catch-up", state=state, said="by-a-person")
    assert next_step(stopped, NOW, suspended=True) is next_step(stopped, NOW, suspended=False) is None


def test_catch_up_of_a_suspended_agency_ends_when_nothing_is_left() -> None:
    assert next_step(progress(purpose="catch-up", waiting=0), NOW, suspended=True) == Turn(
        "done", "all-have-an-outcome"
    )


def test_the_rest_waits_until_the_watched_cannot_fail_any_more_or_patience_ends() -> None:
    undecided = progress(watched=watched(good=15, unknown=5), watched_until=NOW)
    assert next_step(undecided, NOW + PATIENCE - timedelta(seconds=1)) is None
    assert next_step(undecided, NOW + PATIENCE) == Release(RELEASE_BATCH)
    decided = progress(watched=watched(good=16, unknown=4), watched_until=NOW)
    assert next_step(decided, NOW) == Release(RELEASE_BATCH)


@pytest.mark.parametrize(
    ("fate", "after"),
    [
        ("good", Turn("paused", "the-one-arrived")),
        ("failing", Turn("stopped", "the-one-failed-again")),
        ("unknown", None),
    ],
)
def test_after_the_one_nothing_follows_by_itself(fate: Fate, after: Turn | None) -> None:
    assert next_step(progress(pace=ONE, watched=[fate]), NOW) == after


def test_it_is_done_when_no_item_is_open_and_waits_while_one_is_in_hand() -> None:
    assert next_step(progress(waiting=0, watched=watched(good=20)), NOW) == Turn("done", "all-have-an-outcome")
    assert next_step(progress(waiting=0, in_hand=1, watched=watched(good=19, unknown=1)), NOW) is None


@pytest.mark.parametrize("state", ["planned", "awaiting-second"])
def test_a_plan_that_nobody_starts_ends(state: str) -> None:
    plan = progress(state=state, pace=None)
    assert next_step(plan, NOW + PLAN_LIFETIME) is None
    assert next_step(plan, NOW + PLAN_LIFETIME + timedelta(seconds=1)) == Turn("cancelled", "not-started")


@pytest.mark.parametrize("state", ["paused", "stopped", "cancelled", "done"])
def test_what_does_not_run_does_nothing(state: str) -> None:
    assert next_step(progress(state=state), NOW + timedelta(days=9)) is None


@settings(deadline=None)
@given(st.integers(1, 5000), st.lists(st.floats(0.2, 30), min_size=30, max_size=120))
def test_no_minute_has_more_than_the_rate(per_minute: int, pauses: Sequence[float]) -> None:
    released: list[tuple[datetime, int]] = []
    now = NOW
    for pause_s in pauses:
        now += timedelta(seconds=pause_s)
        step = next_step(
            progress(
                pace=ReplayPace("rate", per_minute, per_minute),
                waiting=10**6,
                watched=watched(good=WATCHED),
                released_last_minute=sum(count for at, count in released if at > now - timedelta(seconds=60)),
                released_just_now=sum(count for at, count in released if at > now - MOMENT),
            ),
            now,
        )
        if isinstance(step, Release):
            released.append((now, step.at_most))
    for begin, _ in released:
        assert sum(count for at, count in released if begin <= at < begin + MINUTE) <= per_minute
        assert sum(count for at, count in released if begin <= at < begin + MOMENT) <= -(-per_minute // 10)


class AReplay(RuleBasedStateMachine):
    """Recipients answer in any order, or not at all, while the loop turns: the promises hold at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 120
        self.now = NOW
        self.fates: list[Fate] = []
        self.state = "running"
        self.released_at: list[datetime] = []

    @precondition(lambda self: self.state == "running")
    @rule()
    def turn(self) -> None:
        self.now += timedelta(seconds=1)
        step = next_step(self._progress(), self.now)
        if isinstance(step, Release):
            count = min(step.at_most, self.size - len(self.fates))
            self.fates += ["unknown"] * count
            self.released_at += [self.now] * count
        elif isinstance(step, Turn):
            self.state = step.state

    @precondition(lambda self: "unknown" in self.fates)
    @rule(data=st.data(), fate=st.sampled_from(["good", "good", "good", "failing"]))
    def answer(self, data: st.DataObject, fate: Fate) -> None:
        open_ones = [index for index, known in enumerate(self.fates) if known == "unknown"]
        self.fates[data.draw(st.sampled_from(open_ones))] = fate

    @rule()
    def time_passes(self) -> None:
        self.now += PATIENCE

    def _progress(self) -> Progress:
        first = self.fates[:WATCHED]
        return progress(
            waiting=self.size - len(self.fates),
            in_hand=self.fates.count("unknown"),
            watched=first,
            watched_until=self.released_at[len(first) - 1] if first else None,
        )

    @invariant()
    def the_rest_never_follows_too_many_failures(self) -> None:
        if self.state == "stopped":
            assert self.fates[:WATCHED].count("failing") > MAX_FAILING * WATCHED
        if self.state == "done":
            assert len(self.fates) == self.size
            assert "unknown" not in self.fates


TestAReplay = AReplay.TestCase


@pytest.mark.parametrize(
    ("outcome", "state", "attempts", "code", "fate"),
    [
        ("received", "received", 1, None, "good"),
        ("accepted", None, 0, None, "good"),
        ("handed-out", None, 0, None, "good"),
        ("dead", "dead", 1, "E807", "failing"),
        ("refused", None, 0, None, "failing"),
        ("parked", None, 0, None, "failing"),
        (None, "pending", 0, None, "unknown"),
        (None, "routed", 1, None, "unknown"),
        (None, "received", 1, None, "good"),
        (None, "pending", 1, "E807", "failing"),
        (None, "routed", 2, None, "failing"),
        (None, "dead", 1, "E807", "failing"),
        (None, None, 0, None, "unknown"),
        # Where one attempt is all that there is, what never reached the recipient has not counted one.
        (None, "pending", 0, "E801", "failing"),
        (None, "pending", 0, "E802", "failing"),
        (None, "pending", 0, "E806", "failing"),
        (None, "pending", 0, "E803", "unknown"),
        (None, "held", 0, "E811", "unknown"),
    ],
)
def test_what_an_item_has_come_to(
    outcome: str | None, state: str | None, attempts: int, code: str | None, fate: Fate
) -> None:
    assert fate_of(outcome, state, attempts, code) == fate


def agency(code: str, parent: str | None = None, **more: object) -> AgencyEntry:
    return AgencyEntry(code=code, name=code, tier="commune", parent=parent, valid_from="2020-01-01", **more)


def directory(*agencies: AgencyEntry, owners: Sequence[str] = ("G22",)) -> Directory:
    certificates = tuple(agency_keys(owner).entry(owner) for owner in owners)
    return snapshot(DirectoryFile(agencies=agencies, certificates=certificates), epoch=1, as_of=NOW)


COUNTRY = directory(agency("G22"), agency("H26"), agency("H26.01", "H26"), agency("H26.01.02", "H26.01"), agency("H27"))


def test_one_person_is_enough_below_one_ministry_and_not_too_many() -> None:
    inside = [AgencyCode("H26"), AgencyCode("H26.01.02")]
    assert not needs_second_person(inside, 1000, COUNTRY, 1000)
    assert needs_second_person(inside, 1001, COUNTRY, 1000)
    assert needs_second_person([*inside, AgencyCode("H27")], 2, COUNTRY, 1000)
    assert needs_second_person([*inside, AgencyCode("H99")], 2, COUNTRY, 1000)


def test_agencies_that_are_each_others_parents_end() -> None:
    circle = directory(agency("H26", "H27"), agency("H27", "H26"))
    assert top_of(AgencyCode("H26"), circle) == "H27"


def test_heirs_are_the_open_agencies_over_all_mergers() -> None:
    merged = directory(
        agency("H01", state="closed", successors=("H02", "H03")),
        agency("H02", state="closed", successors=("H04", "H01", "H09")),
        agency("H03"),
        agency("H04"),
    )
    assert heirs_of(AgencyCode("H01"), merged) == ("H03", "H04")
    assert heirs_of(AgencyCode("H03"), merged) == ()
    assert heirs_of(AgencyCode("H99"), merged) == ()


def due(to: Sequence[str] = ("H26",), recipient: str = "H26", **changes: object) -> Due:
    accept = a.accept(a.envelope(to=to, now=NOW))
    values = {
        "delivery_id": DeliveryId(UUID(int=7)),
        "object_id": accept.document_id,
        "typ": ENVELOPE_TYP,
        "sender": AgencyCode("G22"),
        "recipient": AgencyCode(recipient),
        "state": "dead",
        "attempts": 5,
        "expires_at": NOW + timedelta(days=7),
    } | changes
    return Due(Delivery(**values), accept.token)


def code_of(found: object) -> str | None:
    return getattr(found, "code", None)


def test_what_can_be_delivered_today_is_sent() -> None:
    assert rehearse_delivery(due(), COUNTRY, NOW) is None


def test_only_the_own_recipient_of_a_delivery_counts() -> None:
    """That another recipient of the document has left the directory is no matter of this delivery."""
    assert rehearse_delivery(due(to=("H26", "H99")), COUNTRY, NOW) is None
    assert code_of(rehearse_delivery(due(to=("H26", "H99"), recipient="H99"), COUNTRY, NOW)) == "E404"


def test_recipient_that_is_closed_or_suspended_is_not_sent_to() -> None:
    today = directory(agency("G22"), agency("H26", state="closed"), agency("H27", state="suspended"))
    assert code_of(rehearse_delivery(due(), today, NOW)) == "E408"
    assert code_of(rehearse_delivery(due(to=("H27",), recipient="H27"), today, NOW)) == "E405"


def test_signature_whose_certificate_left_the_directory_is_not_sent() -> None:
    assert code_of(rehearse_delivery(due(), directory(agency("H26"), owners=()), NOW)) == "E201"


def test_sender_that_was_merged_away_since_keeps_no_accepted_document_back() -> None:
    assert rehearse_delivery(due(), directory(agency("G22", state="closed"), agency("H26")), NOW) is None


def test_notice_needs_no_more_than_a_recipient() -> None:
    assert rehearse_delivery(due(typ=NOTICE_TYP), COUNTRY, NOW) is None
    assert code_of(rehearse_delivery(due(typ=NOTICE_TYP, recipient="H99"), COUNTRY, NOW)) == "E404"


def test_submission_is_as_old_as_it_was_when_it_was_put_aside() -> None:
    token = a.accept(a.envelope(to=("H26",), now=NOW)).token
    later = NOW + timedelta(days=3)
    submission = Submission(token, "G22", "document.G22")
    assert code_of(rehearse_submission(submission, COUNTRY, Policy(), later)) == "E601"
    assert rehearse_submission(replace(submission, put_aside_at=NOW), COUNTRY, Policy(), later) is None
    late = replace(submission, put_aside_at=NOW + timedelta(days=2))
    assert code_of(rehearse_submission(late, COUNTRY, Policy(), later)) == "E601"


def test_submission_is_decided_by_todays_certificates() -> None:
    short = make_certificate("G22", lifetime=timedelta(days=1))
    file = DirectoryFile(agencies=(agency("G22"), agency("H26")), certificates=(short.entry("G22"),))
    token = a.accept(a.envelope(to=("H26",), now=NOW)).token
    submission = Submission(token, "G22", "document.G22", put_aside_at=NOW)
    today = snapshot(file, epoch=1, as_of=NOW)
    assert code_of(rehearse_submission(submission, today, Policy(), NOW)) == "E201"


def test_receipt_that_was_put_aside_is_decided_as_a_receipt() -> None:
    token = a.receipt(DeliveryId(UUID(int=7)), from_="G22", to=None, now=NOW).token
    submission = Submission(token, "G22", "receipt.G22", put_aside_at=NOW)
    assert rehearse_submission(submission, COUNTRY, Policy(), NOW) is None
    wrong_lane = replace(submission, routing_key="document.G22")
    assert code_of(rehearse_submission(wrong_lane, COUNTRY, Policy(), NOW)) == "E105"


def test_replayed_delivery_begins_anew_under_its_id() -> None:
    after = settle_replayed(due().delivery, NOW)
    assert after is not None
    assert (after.state, after.attempts, after.next_attempt_at) == ("pending", 0, NOW)
    assert settle_replayed(replace(due().delivery, state="received"), NOW) is None


@pytest.mark.parametrize("state", ["pending", "routed", "held", "dead"])
def test_redirected_delivery_is_closed(state: str) -> None:
    after = settle_redirected(replace(due().delivery, state=state))
    assert after is not None
    assert (after.state, after.code) == ("dead", "E810")


@pytest.mark.parametrize("state", ["received", "expired"])
def test_settled_delivery_is_not_redirected(state: str) -> None:
    assert settle_redirected(replace(due().delivery, state=state)) is None
    assert DocumentId(due().delivery.object_id)
