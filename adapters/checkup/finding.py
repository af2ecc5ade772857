"""What a check says, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from adapters.errors import AgencyError, entry_of
from adapters.inquiry import HubClock
from adapters.settings import AgencySettings
from adapters.trust import Trust

State = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Stable name.
        state: `skip` when an earlier failure leaves nothing to check, or it is not set up.
        evidence: What was seen.
        fix: What to do; empty for `pass`.
    """

    check: str
    state: State
    evidence: str
    fix: str = ""


@dataclass(slots=True)
class Case:
    """What all checks are given.

    Attributes:
        settings: Of the agency or platform.
        trust: Its view of the directory.
        now: The present, by our clock.
        choose: Chooses the Vietnamese or the English text.
        hub_clock: What the hub says about that clock, once it was asked.
    """

    settings: AgencySettings
    trust: Trust
    now: datetime
    choose: Callable[[str, str], str]
    hub_clock: HubClock | None = None

    def fix_of(self, code: str) -> str:
        """Give what the catalogue says is to be done."""
        entry = entry_of(code)
        return self.choose(entry.fix_vi, entry.fix_en)

    def failed(self, check: str, error: AgencyError, fix: str | None = None) -> Finding:
        """Make a finding of an error."""
        place = f"{error.place}: " if error.place else ""
        found = self.choose(error.vi, error.en) or self.choose(error.code.vi, error.code.en)
        evidence = f"{error.code.code} {place}{found}"
        return Finding(check, "fail", evidence, fix or self.choose(error.code.fix_vi, error.code.fix_en))
