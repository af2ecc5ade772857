"""Until when something ought to be done, by the rules on electronic documents."""

from datetime import UTC, date, datetime, timedelta

import pytest

from hub.core.due import DueTime, due_of_recipient, due_to_send
from hub.core.working_calendar import WorkingCalendar
from hub.settings import SettingsError, load_settings
from schemas.directory_file import VIETNAM

PLAIN = WorkingCalendar()
HOLIDAYS = WorkingCalendar(closed=frozenset({date(2026, 11, 24)}), open=frozenset({date(2026, 11, 28)}))


def local(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=VIETNAM)


@pytest.mark.parametrize(
    ("issued_on", "calendar", "until"),
    [
        pytest.param(date(2026, 11, 25), PLAIN, local(26, 12), id="Wednesday"),
        pytest.param(date(2026, 11, 20), PLAIN, local(23, 12), id="over the weekend"),
        pytest.param(date(2026, 11, 23), HOLIDAYS, local(25, 12), id="over a holiday"),
        pytest.param(date(2026, 11, 27), HOLIDAYS, local(28, 12), id="a Saturday that is worked"),
    ],
)
def test_document_is_sent_by_noon_of_the_next_working_day(issued_on, calendar, until):
    assert due_to_send(issued_on, until, calendar).at == until
    assert due_to_send(issued_on, until, calendar).punctuality(until) == "met"
    assert due_to_send(issued_on, until + timedelta(seconds=1), calendar).punctuality(until) == "late"


def test_sender_is_told_something_within_the_day_of_receipt():
    [due] = due_of_recipient(local(23, 23, 59), [], PLAIN)

    assert (due.duty, due.at, due.done_at) == ("notify", local(24), None)
    assert due.punctuality(local(24)) == "open"
    assert due.punctuality(local(24, 0, 1)) == "overdue"


def test_the_day_is_that_of_vietnam():
    [due] = due_of_recipient(datetime(2026, 11, 23, 17, 30, tzinfo=UTC), [], PLAIN)

    assert due.at == local(25)


def test_arrived_is_followed_by_registered_the_next_working_morning():
    notify, register = due_of_recipient(local(20, 10), [("01", local(20, 11))], PLAIN)

    assert (notify.duty, notify.done_at) == ("notify", local(20, 11))
    assert (register.duty, register.at, register.done_at) == ("register", local(23, 12), None)
    assert register.punctuality(local(23, 13)) == "overdue"


def test_any_further_status_ends_the_alarm():
    for further in ("02", "03", "06"):
        _, register = due_of_recipient(local(20, 10), [("01", local(20, 11)), (further, local(20, 12))], PLAIN)
        assert register.punctuality(local(30)) == "met"


def test_who_registers_at_once_owes_nothing_more():
    assert [due.duty for due in due_of_recipient(local(20, 10), [("03", local(20, 11))], PLAIN)] == ["notify"]


def test_nothing_is_due_before_the_receipt():
    assert due_of_recipient(None, [], PLAIN) == ()


def test_status_before_the_receipt_counts_as_told():
    [due, _] = due_of_recipient(local(23, 10), [("01", local(23, 9))], PLAIN)

    assert due == DueTime("notify", local(24), local(23, 9))


def test_shipped_calendar_knows_holidays_and_swapped_days():
    calendar = load_settings().calendar()

    assert calendar.next_working_day(date(2026, 2, 13)) == date(2026, 2, 23)  # Tết
    assert calendar.next_working_day(date(2026, 8, 21)) == date(2026, 8, 22)  # worked for 31 August
    assert calendar.next_working_day(date(2026, 8, 28)) == date(2026, 9, 3)
    assert calendar.next_working_day(date(2027, 1, 1)) == date(2027, 1, 4)  # a year without data
    assert all(day.weekday() < 5 for day in calendar.closed)
    assert all(day.weekday() >= 5 for day in calendar.open)


def test_calendar_of_the_operator_replaces_the_shipped_one(tmp_path):
    file = tmp_path / "days.json"
    file.write_text('{"source": "here", "closed": ["2027-01-01"], "open": []}')

    assert load_settings(working_days_file=file).calendar().closed == {date(2027, 1, 1)}

    file.write_text('{"closed": ["never"]}')
    with pytest.raises(SettingsError, match="working_days_file"):
        load_settings(working_days_file=file).calendar()
