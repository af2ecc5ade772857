"""Sends a frozen selection again: one, then at a rate, then the rest; stops by itself when it only fails again.

| effect                 | if the process dies after it                                                        |
|------------------------|-------------------------------------------------------------------------------------|
| `replays.settle`       | –  (one transaction: items whose delivery has ended, their outcomes)                |
| `replays.open_replays` | nothing has happened                                                                |
| `replays.step`         | –  (one transaction for each replay: items released, deliveries pending, or a turn) |

What is released is an ordinary pending delivery under its old id: dispatch hands it over, and a recipient that has had
it drops it. Two other things come out of here and go the ways that exist already: a submission that was put aside is
taken in again by `Intake` or `Receipts`, from an inbox that the ledger fills; what an agency catches up on is handed
over by `Dispatch`, from a claim that changes no state. While the directory suspends that agency, its catch-up is paused
here and held there, as there also is what people cancelled or paused after some of it was released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hub.core.breaker import is_suspended
from hub.core.delivery import Due
from hub.core.policy import Policy
from hub.core.replay import Progress, Step, next_step, rehearse_delivery, rehearse_submission
from hub.core.submission import Submission
from hub.telemetry import report
from schemas.checks.directory import Directory
from schemas.refusal import Problem

Candidate = Due | Submission


class Replays(Protocol):
    """The ledger, as far as replaying needs it."""

    async def settle(self, now: datetime) -> int:
        """Write the outcome of released items whose delivery has ended; returns how many there were."""

    async def open_replays(self) -> Sequence[int]:
        """List the replays that may have something to do by themselves."""

    async def step(
        self,
        replay_id: int,
        decide: Callable[[Progress], Step],
        rehearse: Callable[[Sequence[Candidate]], Sequence[Problem | None]],
        now: datetime,
    ) -> int:
        """Do what `decide` says about one replay, in one transaction; returns how many of its items changed."""


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The loop, one turn at a time."""

    replays: Replays
    directories: Directories
    policy: Policy
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Settle what has ended, and take each open replay one step further; returns how many items changed.

        Raises:
            Trouble: When something does not answer.
        """
        directory = self.directories.current()
        now = self.clock()
        changed = await self.replays.settle(now)
        for replay_id in await self.replays.open_replays():
            changed += await self._step(replay_id, directory, now)
        return changed

    async def _step(self, replay_id: int, directory: Directory, now: datetime) -> int:
        taken: list[Step] = []

        def decide(progress: Progress) -> Step:
            suspended = progress.agency is not None and is_suspended(progress.agency, directory)
            taken.append(next_step(progress, now, suspended=suspended))
            return taken[-1]

        def rehearse(candidates: Sequence[Candidate]) -> list[Problem | None]:
            return rehearse_all(candidates, directory, self.policy, now)

        changed = await self.replays.step(replay_id, decide, rehearse, now)
        report.replay_step(replay_id, taken[0] if taken else None, changed)
        return changed


def rehearse_all(
    candidates: Sequence[Candidate], directory: Directory, policy: Policy, now: datetime
) -> list[Problem | None]:
    """Say of each candidate why it would fail today; a check that fails itself is a reason as well."""
    return [_rehearse(candidate, directory, policy, now) for candidate in candidates]


def _rehearse(candidate: Candidate, directory: Directory, policy: Policy, now: datetime) -> Problem | None:
    try:
        if isinstance(candidate, Due):
            return rehearse_delivery(candidate, directory, now)
        return rehearse_submission(candidate, directory, policy, now)
    except Exception as error:  # noqa: BLE001 - one item must never stop a replay
        return Problem("E902", "", f"unexpected {type(error).__name__}", f"lỗi ngoài dự kiến {type(error).__name__}")
