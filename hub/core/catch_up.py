"""Whether an agency may begin by itself to get its deliveries again: pure, over what the ledger knows.

| asked while                                       | then                                                         |
|---------------------------------------------------|--------------------------------------------------------------|
| its last one goes on, and begins no later         | that one is meant: an answer that was lost is asked for again |
| its last one goes on, and begins later            | E423                                                         |
| its last one ended less than the pause ago        | E423: each may hand out very much                            |
| as many agencies as may at a time catch up        | E423                                                         |
| `since` is not in the past, or too long ago       | E424                                                         |
| what came then is archived                        | E424                                                         |

Not here: whether the asker receives the agency's mail (`hub.core.grant`); how many deliveries there are.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.catch_up import CatchUp
from schemas.directory_file import VIETNAM
from schemas.refusal import Problem


@dataclass(frozen=True, slots=True)
class CatchUpLimits:
    """What agencies may do by themselves.

    Attributes:
        per_minute: Deliveries a minute that are handed out again.
        max_age_s: How far back.
        pause_s: How long after the end of one the next may begin.
        at_once: Most catch-ups of all agencies at a time.
    """

    per_minute: int = 600
    max_age_s: float = 31 * 86_400.0
    pause_s: float = 3600.0
    at_once: int = 20


@dataclass(frozen=True, slots=True)
class LastCatchUp:
    """The newest catch-up of an agency.

    Attributes:
        view: How far it is.
        changed_at: When it came into the state that it is in.
    """

    view: CatchUp
    changed_at: datetime

    @property
    def goes_on(self) -> bool:
        """Whether it is not at its end."""
        return self.view.state not in ("done", "cancelled")


def answer_to(  # noqa: PLR0911 - one return for each rule
    since: datetime,
    last: LastCatchUp | None,
    open_count: int,
    limits: CatchUpLimits,
    now: datetime,
    *,
    archived_until: datetime | None = None,
) -> CatchUp | Problem | None:
    """Say which catch-up is meant, or why none may begin; `None` when a new one begins.

    Args:
        since: From when on the agency wants its deliveries.
        last: Its newest catch-up, whoever began it.
        open_count: Catch-ups of all agencies that go on.
        limits: What may be.
        now: The present.
        archived_until: Until when what the hub has accepted is archived, if anything is.
    """
    earliest = now - timedelta(seconds=limits.max_age_s)
    if archived_until is not None:
        earliest = max(earliest, archived_until)
    if last is not None and last.goes_on:
        if last.view.since <= since.timestamp():
            return last.view
        number = last.view.number
        return Problem("E423", "/since", f"number {number} goes on", f"đợt số {number} đang tiếp tục")
    if since >= now:
        return Problem("E424", "/since", f"{_clock(since)} is to come", f"{_clock(since)} chưa tới")
    if since < earliest:
        return Problem(
            "E424", "/since", f"possible from {_clock(earliest)} on", f"chỉ nhận bù được từ {_clock(earliest)}"
        )
    if last is not None and now < (again := last.changed_at + timedelta(seconds=limits.pause_s)):
        return Problem("E423", "", f"possible from {_clock(again)} on", f"có thể yêu cầu lại từ {_clock(again)}")
    if open_count >= limits.at_once:
        return Problem("E423", "", f"{open_count} agencies catch up", f"{open_count} đơn vị đang nhận bù")
    return None


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(VIETNAM):%H:%M %d/%m/%Y}"
