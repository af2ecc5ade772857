"""Until when something ought to be done by the rules on electronic documents; nothing here delays or refuses anything.

| what      | until                                                  | rule                                             |
|-----------|--------------------------------------------------------|--------------------------------------------------|
| send      | 12:00 of the working day after promulgation            | Quyết định 28/2018/QĐ-TTg, Article 6             |
| notify    | 24:00 of the day of receipt: a status, such as 01, 02  | Nghị định 30/2020/NĐ-CP, Article 21.2            |
| register  | 12:00 of the working day after 01: 03 or what follows  | Quyết định 28/2018/QĐ-TTg: at once; the hour ours |

Sending runs from the day printed on the document to its acceptance, notifying from the receipt of the document to the
first status of its recipient. Times are those of Vietnam, as people read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final, Literal

from hub.core.ladder import Progress
from hub.core.working_calendar import WorkingCalendar
from schemas.directory_file import VIETNAM

Duty = Literal["send", "notify", "register"]
Punctuality = Literal["met", "late", "open", "overdue"]

_NOON: Final = time(12)
_MIDNIGHT: Final = time(0)


@dataclass(frozen=True, slots=True)
class DueTime:
    """One thing that ought to be done until a moment.

    Attributes:
        duty: What.
        at: Until when.
        done_at: When it was done, if it was.
    """

    duty: Duty
    at: datetime
    done_at: datetime | None

    def punctuality(self, now: datetime) -> Punctuality:
        """Say how it stands: done in time or late, still open, or overdue."""
        if self.done_at is not None:
            return "met" if self.done_at <= self.at else "late"
        return "open" if now <= self.at else "overdue"


def due_to_send(issued_on: date, accepted_at: datetime, calendar: WorkingCalendar) -> DueTime:
    """Say until when a document ought to be sent."""
    return DueTime("send", _at(calendar.next_working_day(issued_on), _NOON), accepted_at)


def due_of_recipient(
    received_at: datetime | None, statuses: Sequence[tuple[Progress, datetime]], calendar: WorkingCalendar
) -> tuple[DueTime, ...]:
    """Say until when a recipient ought to say something about a document.

    Args:
        received_at: When its receipt came; nothing is due before.
        statuses: How it came further, and when, oldest first.
        calendar: Which days are worked.
    """
    due: list[DueTime] = []
    first_at = statuses[0][1] if statuses else None
    if received_at is not None:
        tomorrow = received_at.astimezone(VIETNAM).date() + timedelta(days=1)
        due.append(DueTime("notify", _at(tomorrow, _MIDNIGHT), first_at))
    if statuses and statuses[0][0] == "01":
        arrived_at = statuses[0][1]
        further_at = statuses[1][1] if len(statuses) > 1 else None
        morning = calendar.next_working_day(arrived_at.astimezone(VIETNAM).date())
        due.append(DueTime("register", _at(morning, _NOON), further_at))
    return tuple(due)


def _at(day: date, hour: time) -> datetime:
    return datetime.combine(day, hour, VIETNAM)
