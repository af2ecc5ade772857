"""Which days are working days: Monday to Friday, less holidays, with the days that were swapped for others.

The holidays of a year are decided anew each year, so they are data (`hub/data/working-days.json`). Of a year that is not
in the data, every day from Monday to Friday counts.
"""

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class WorkingCalendar:
    """The working days of the offices; without data Monday to Friday of every week.

    Attributes:
        closed: Holidays, and days off for which another day is worked.
        open: Saturdays and Sundays that are worked instead.
    """

    closed: frozenset[date] = frozenset()
    open: frozenset[date] = frozenset()

    def is_working_day(self, day: date) -> bool:
        """Tell whether offices work on a day."""
        return day in self.open or (day.weekday() < 5 and day not in self.closed)

    def next_working_day(self, day: date) -> date:
        """Give the first working day after a day."""
        following = day + timedelta(days=1)
        while not self.is_working_day(following):
            following += timedelta(days=1)
        return following
