"""What agencies ask by themselves: to get again what they had; and how far that is."""

from datetime import datetime
from typing import Any, Final

from hub.core.catch_up import CatchUpLimits, LastCatchUp, answer_to
from hub.core.replay import SUSPENDED
from hub.core.trouble import Conflict
from hub.store.pool import Connection, Pool
from hub.store.replay_orders import begin_catch_up
from schemas.catch_up import CatchUp
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

# Begun one at a time, so that two requests never both find that there is room.
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtext('truc catch-up'))"

# The newest catch-up of an agency, and what became of its items. What it has had lately of an archived document belongs
# to them, as what will not come.
_LAST: Final = """
SELECT replay_id, state, said, selection, per_minute, changed_at,
    size + (SELECT count(*) FROM replay_items AS item WHERE item.replay_id = replays.replay_id AND because = 'archived')
        AS size,
    (SELECT count(*) FROM replay_items AS item WHERE item.replay_id = replays.replay_id AND outcome = 'handed-out')
        AS handed_out,
    (SELECT count(*) FROM replay_items AS item
        WHERE item.replay_id = replays.replay_id AND (outcome IN ('cancelled', 'expired') OR because = 'archived'))
        AS not_handed_out
FROM replays
WHERE purpose = 'catch-up' AND selection ->> 'agency' = $1
ORDER BY replay_id DESC
LIMIT 1
"""
_ARCHIVED_UNTIL: Final = "SELECT max(until) FROM archives"
# Those that go on; who is suspended gets nothing, perhaps for months, and takes nobody's place.
_OPEN: Final = """
SELECT count(*) FROM replays
WHERE purpose = 'catch-up' AND state NOT IN ('done', 'cancelled') AND (state, said) IS DISTINCT FROM ('paused', $1)
"""


class PostgresCatchUpRequests:
    """The catch-ups that agencies begin.

    Args:
        pool: Where they are.
        limits: What agencies may do by themselves.
    """

    def __init__(self, pool: Pool, limits: CatchUpLimits) -> None:
        self._pool = pool
        self._limits = limits

    async def begin(
        self, agency: AgencyCode, since: datetime, *, signer: AgencyCode, now: datetime
    ) -> CatchUp | Problem:
        """Begin a catch-up, on the record, or say which one is meant or why none may begin.

        Args:
            agency: Whose deliveries.
            since: From when on.
            signer: Who has signed the grant; stands in the ledger as who did it.
            now: The present.

        Raises:
            Unavailable: When the database does not answer; a catch-up may have begun, and is meant when asked again.
        """
        try:
            async with self._pool.transaction() as connection:
                await connection.execute(_ONE_AT_A_TIME)
                last = await _last(connection, agency)
                open_count: int = await connection.fetchval(_OPEN, SUSPENDED)
                archived_until: datetime | None = await connection.fetchval(_ARCHIVED_UNTIL)
                answer = answer_to(since, last, open_count, self._limits, now, archived_until=archived_until)
                if answer is None:
                    await begin_catch_up(
                        connection,
                        agency,
                        since,
                        per_minute=self._limits.per_minute,
                        reason="asked for by the agency",
                        actor=signer,
                        now=now,
                    )
                    begun = await _last(connection, agency)
                    assert begun is not None
                    answer = begun.view
        except Conflict as conflict:
            return Problem("E424", "/since", str(conflict), "quá 100.000 văn bản")
        return answer

    async def latest(self, agency: AgencyCode) -> CatchUp | None:
        """Say how far the newest catch-up of an agency is; `None` when there is none.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            last = await _last(connection, agency)
        return None if last is None else last.view


async def _last(connection: Connection, agency: AgencyCode) -> LastCatchUp | None:
    row = await connection.fetchrow(_LAST, agency)
    if row is None:
        return None
    selection: dict[str, Any] = row["selection"]
    view = CatchUp(
        number=row["replay_id"],
        agency=agency,
        since=int(datetime.fromisoformat(selection["since"]).timestamp()),
        state="suspended" if (row["state"], row["said"]) == ("paused", SUSPENDED) else row["state"],
        size=row["size"],
        handed_out=row["handed_out"],
        not_handed_out=row["not_handed_out"],
        per_minute=row["per_minute"],
    )
    return LastCatchUp(view, row["changed_at"])
