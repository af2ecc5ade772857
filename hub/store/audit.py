"""Recomputes from the ledger what must be true, and lists everything that is not.

The law of conservation: every document that was accepted, times every recipient that was written down then, is exactly
one delivery, in exactly one state. It is checked against the ledger's events, not against what the other tables say
about themselves. All of it is read at one moment, while the hub works on.

Of months that are archived the events are in files, and their manifests say how many there were. What happened since the
end of the last of them (`archived`) is checked as ever; of what is older, that as much is there as the manifest says.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from hub.core.delivery import STATES, State
from hub.store.pool import Connection, Pool
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.signing import identity

MAX_LISTED: Final = 20
"""Violations of one rule that are listed; all are counted."""

_TIMEOUT_S: Final = 3600.0
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold.

    Attributes:
        rule: Its name in `RULES`.
        count: How often.
        ids: Where: documents, deliveries, receipts or signed objects; at most `MAX_LISTED`.
    """

    rule: str
    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The accounts of the ledger at one moment.

    Attributes:
        at: The database's time.
        documents: Documents accepted.
        archived_months: Months whose events and bytes are archived.
        owed: Recipients of all documents, by the events of their acceptance, or by the manifests of archived months.
        by_state: Deliveries of documents, by state.
        identities_checked: Signed objects whose identity was computed again.
        violations: Every rule that does not hold.
    """

    at: datetime
    documents: int
    archived_months: int
    owed: int
    by_state: Mapping[State, int]
    identities_checked: int
    violations: tuple[Violation, ...]

    @property
    def holds(self) -> bool:
        """Whether everything adds up."""
        return not self.violations and self.owed == sum(self.by_state.values())


RULES: Final[Mapping[str, str]] = {
    "every accepted document has one event of acceptance, and every such event its document": """
        SELECT encode(coalesce(recent.document_id, accepted.document_id), 'hex') AS id
        FROM (SELECT document_id FROM documents WHERE accepted_at >= (SELECT until FROM archived)) AS recent
        FULL JOIN (
            SELECT document_id, count(*) AS times FROM ledger WHERE event = 'document.accepted' GROUP BY document_id
        ) AS accepted USING (document_id)
        WHERE recent.document_id IS NULL OR accepted.times IS DISTINCT FROM 1
    """,
    "every recipient of an accepted document has a delivery": """
        SELECT encode(document_id, 'hex') || ' ' || recipient AS id
        FROM owed
        WHERE NOT EXISTS (
            SELECT FROM deliveries WHERE object_id = document_id AND deliveries.recipient = owed.recipient
        )
    """,
    "every delivery of a document is owed, once": """
        SELECT min(delivery_id::text) AS id
        FROM deliveries
        LEFT JOIN owed ON document_id = object_id AND owed.recipient = deliveries.recipient
        WHERE typ = 'truc.document.v1' AND stored_at >= (SELECT until FROM archived)
        GROUP BY object_id, deliveries.recipient
        HAVING count(document_id) <> 1 OR count(*) <> 1
    """,
    "every document has as many deliveries as it says": """
        SELECT encode(document_id, 'hex') AS id
        FROM documents
        WHERE accepted_at >= (SELECT until FROM archived) AND recipients + (
            SELECT count(*) FROM ledger
            WHERE ledger.document_id = documents.document_id AND event = 'document.redirected'
        ) <> (SELECT count(*) FROM deliveries WHERE object_id = document_id)
    """,
    "every redirected document has a delivery that was closed for it": """
        SELECT encode(redirected.document_id, 'hex') AS id
        FROM ledger AS redirected
        WHERE redirected.event = 'document.redirected' AND NOT EXISTS (
            SELECT FROM ledger AS closed
            WHERE closed.document_id = redirected.document_id AND closed.event = 'delivery.redirected'
                AND closed.delivery_id::text = redirected.detail ->> 'instead_of'
        )
    """,
    "every dead delivery and every submission put aside is a dead letter, and nothing else is": """
        SELECT coalesce(letter.letter_id, delivery_id::text) AS id
        FROM (SELECT delivery_id FROM deliveries WHERE state = 'dead' AND code IS DISTINCT FROM 'E810') AS dead
        FULL JOIN (SELECT * FROM dead_letters WHERE kind = 'delivery' AND state <> 'closed') AS letter
            USING (delivery_id)
        WHERE dead.delivery_id IS NULL OR letter.delivery_id IS NULL
        UNION ALL
        SELECT encode(parked_id, 'hex')
        FROM parked
        LEFT JOIN dead_letters AS letter USING (parked_id)
        LEFT JOIN LATERAL (
            SELECT 1 AS found FROM replay_items
            WHERE replay_items.letter_id = letter.letter_id AND outcome IN ('accepted', 'refused')
            LIMIT 1
        ) AS answered ON true
        WHERE letter.letter_id IS NULL OR (letter.state = 'closed' AND found IS NULL)
    """,
    "every group of dead letters has as many as it says": """
        SELECT coalesce(said.code, found.code) || '@' || coalesce(said.agency, found.agency) AS id
        FROM dead_groups AS said
        FULL JOIN (
            SELECT kind, code, agency, count(*) FILTER (WHERE state = 'open') AS open,
                count(*) FILTER (WHERE state = 'dismissed') AS dismissed, max(since) AS newest
            FROM dead_letters
            GROUP BY kind, code, agency
        ) AS found USING (kind, code, agency)
        WHERE coalesce(said.open, 0) <> coalesce(found.open, 0)
            OR coalesce(said.dismissed, 0) <> coalesce(found.dismissed, 0)
            OR found.newest > said.last_seen
    """,
    "every replay has as many items as it says": """
        SELECT replay_id::text AS id
        FROM replays
        WHERE size + excluded <> (SELECT count(*) FROM replay_items WHERE replay_items.replay_id = replays.replay_id)
    """,
    "every item of a replay that has ended has an outcome": """
        SELECT replay_id::text || ' ' || letter_id AS id
        FROM replay_items
        JOIN replays USING (replay_id)
        WHERE outcome IS NULL AND (state = 'done' OR (state = 'cancelled' AND released_at IS NULL))
    """,
    "every delivery that was replayed is an item of that replay, released once": """
        SELECT delivery_id::text AS id
        FROM (
            SELECT delivery_id, (detail ->> 'replay')::bigint AS replay_id, count(*) AS times
            FROM ledger
            WHERE event = 'delivery.replayed'
            GROUP BY delivery_id, replay_id
        ) AS replayed
        FULL JOIN (
            SELECT delivery_id, replay_id
            FROM replay_items
            JOIN replays USING (replay_id)
            WHERE kind = 'delivery' AND purpose = 'dead-letters' AND released_at >= (SELECT until FROM archived)
        ) AS released USING (delivery_id, replay_id)
        WHERE times IS DISTINCT FROM 1 OR released.replay_id IS NULL
    """,
    "every delivery is in the state of its last event": """
        SELECT delivery_id::text AS id
        FROM deliveries
        LEFT JOIN last_events AS last USING (delivery_id)
        WHERE deliveries.state <> coalesce(last.state, 'pending')
            AND (last.state IS NOT NULL OR changed_at >= (SELECT until FROM archived))
    """,
    "every event of a delivery has its delivery": """
        SELECT DISTINCT ledger.delivery_id::text AS id
        FROM ledger
        LEFT JOIN deliveries USING (delivery_id)
        WHERE ledger.delivery_id IS NOT NULL
            AND (deliveries.delivery_id IS NULL OR object_id IS DISTINCT FROM document_id)
    """,
    "every received delivery has a receipt of its recipient": """
        SELECT delivery_id::text AS id
        FROM deliveries
        LEFT JOIN last_events AS last USING (delivery_id)
        WHERE deliveries.state = 'received' AND changed_at >= (SELECT until FROM archived) AND NOT EXISTS (
            SELECT FROM receipts
            WHERE encode(receipt_id, 'hex') = last.detail ->> 'receipt' AND receipts.recipient = deliveries.recipient
        )
    """,
    "every receipt has answered a delivery, or was put aside": """
        SELECT encode(receipt_id, 'hex') AS id
        FROM receipts
        LEFT JOIN (
            SELECT DISTINCT detail ->> 'receipt' AS receipt FROM ledger WHERE detail ? 'receipt'
        ) AS answered ON receipt = encode(receipt_id, 'hex')
        WHERE receipt IS NULL AND received_at >= (SELECT until FROM archived)
            AND NOT EXISTS (SELECT FROM parked WHERE claimed_id = receipt_id)
    """,
    "every status has moved its delivery or come too late, once, or was put aside": """
        SELECT encode(status_id, 'hex') AS id
        FROM statuses
        LEFT JOIN (
            SELECT detail ->> 'status' AS noted_id, count(*) AS times, min(delivery_id::text) AS delivery_id
            FROM ledger
            WHERE event IN ('status.moved', 'status.late')
            GROUP BY detail ->> 'status'
        ) AS noted ON noted_id = encode(status_id, 'hex')
        WHERE times <> 1 OR noted.delivery_id <> statuses.delivery_id::text
            OR times IS NULL AND arrived_at >= (SELECT until FROM archived)
            AND NOT EXISTS (SELECT FROM parked WHERE claimed_id = status_id)
    """,
    "every status that moved a delivery went on once, and no other did": """
        SELECT status AS id
        FROM (SELECT detail ->> 'status' AS status, 1 AS move FROM ledger WHERE event = 'status.moved') AS moved
        FULL JOIN (
            SELECT encode(object_id, 'hex') AS status, 1 AS letter FROM deliveries
            WHERE typ = 'truc.status.v1' AND stored_at >= (SELECT until FROM archived)
        ) AS forwarded USING (status)
        GROUP BY status
        HAVING count(move) <> 1 OR count(letter) <> 1
    """,
    "every delivery stands where its last status has left it": """
        SELECT delivery_id::text AS id
        FROM deliveries
        LEFT JOIN documents ON document_id = object_id
        LEFT JOIN (
            SELECT DISTINCT ON (delivery_id) delivery_id, detail
            FROM ledger
            WHERE event = 'status.moved'
            ORDER BY delivery_id, event_id DESC
        ) AS last USING (delivery_id)
        WHERE coalesce(standing_since >= (SELECT until FROM archived), true)
            AND (progress IS DISTINCT FROM detail ->> 'progress'
                OR request IS DISTINCT FROM
                    CASE WHEN detail IS NULL AND action <> 'new' THEN 'asked' ELSE detail ->> 'request' END)
    """,
    "every reference names a document of the same sender": """
        SELECT DISTINCT encode(document_id, 'hex') AS id
        FROM documents
        CROSS JOIN LATERAL unnest(refs) AS ref
        WHERE NOT EXISTS (
            SELECT FROM documents AS earlier WHERE earlier.document_id = ref AND earlier.sender = documents.sender
        )
    """,
    "every held delivery says why, and its recipient's own events say so too": """
        SELECT delivery_id::text AS id
        FROM deliveries
        LEFT JOIN last_events AS last USING (delivery_id)
        LEFT JOIN recipients USING (recipient)
        LEFT JOIN (
            SELECT DISTINCT event, detail ->> 'recipient' AS recipient
            FROM ledger
            WHERE event IN ('recipient.down', 'recipient.held')
        ) AS reason
            ON reason.recipient = deliveries.recipient
            AND reason.event = CASE last.code WHEN 'E811' THEN 'recipient.down' WHEN 'E813' THEN 'recipient.held' END
        WHERE deliveries.state = 'held'
            AND (last.event <> 'delivery.held' OR last.code IS NULL OR last.code NOT IN ('E811', 'E812', 'E813')
                OR last.code <> 'E812' AND reason.event IS NULL
                    AND coalesce(least(opened_at, held_at), 'infinity') >= (SELECT until FROM archived))
    """,
    "every held delivery waits for a recipient that is not well": """
        SELECT delivery_id::text AS id
        FROM deliveries
        LEFT JOIN recipients USING (recipient)
        WHERE state = 'held' AND NOT coalesce(phase <> 'closed' OR suspended OR held_by IS NOT NULL, false)
    """,
    "a sender is warned of the end of a delivery at most once, and told of it at most once": """
        SELECT delivery_id::text AS id
        FROM ledger
        WHERE event IN ('delivery.expiring', 'delivery.expired')
        GROUP BY delivery_id, event
        HAVING count(*) > 1
    """,
    "every notice about a delivery has a delivery of its own": """
        SELECT ledger.delivery_id::text AS id
        FROM ledger
        LEFT JOIN deliveries AS notice ON notice.object_id = decode(detail ->> 'notice', 'hex')
        WHERE event IN ('delivery.expiring', 'delivery.expired') AND detail ? 'notice' AND notice.delivery_id IS NULL
    """,
    "every notice of a refusal has a delivery": """
        SELECT encode(document_id, 'hex') AS id
        FROM refusals
        WHERE notice_id IS NOT NULL AND NOT EXISTS (SELECT FROM deliveries WHERE object_id = notice_id)
    """,
    "every document, receipt and status has its signed bytes": """
        SELECT encode(id, 'hex') AS id
        FROM (
            SELECT document_id AS id, accepted_at AS at FROM documents
            UNION ALL
            SELECT receipt_id, received_at FROM receipts
            UNION ALL
            SELECT status_id, arrived_at FROM statuses
        ) AS known
        WHERE at >= (SELECT until FROM archived) AND NOT EXISTS (SELECT FROM signed_objects WHERE object_id = id)
    """,
    "every delivery has its signed bytes in the month that it names": """
        SELECT delivery_id::text AS id
        FROM deliveries
        WHERE stored_at >= (SELECT until FROM archived) AND NOT EXISTS (
            SELECT FROM signed_objects AS kept
            WHERE kept.object_id = deliveries.object_id AND kept.stored_at = deliveries.stored_at
        )
    """,
    "every signed object is kept once": """
        SELECT encode(object_id, 'hex') AS id FROM signed_objects GROUP BY object_id HAVING count(*) > 1
    """,
    "every archived month has left as much as its manifest says": """
        SELECT to_char(month, 'YYYY-MM') AS id
        FROM (SELECT *, coalesce(lag(until) OVER (ORDER BY month), '-infinity') AS since FROM archives) AS gone
        WHERE (manifest ->> 'documents')::bigint
                <> (SELECT count(*) FROM documents WHERE accepted_at >= since AND accepted_at < until)
            OR (manifest ->> 'deliveries')::bigint <> (
                SELECT count(*) FROM deliveries
                WHERE typ = 'truc.document.v1' AND stored_at >= since AND stored_at < until
            )
    """,
    "every event and every signed object lies in its month": """
        SELECT event_id::text AS id FROM ledger_default
        UNION ALL
        SELECT encode(object_id, 'hex') FROM signed_objects_default
    """,
}
"""What must be true, and the query that finds where it is not; `owed` and `last_events` are views of the ledger."""

_IDENTITY_RULE: Final = "every signed object has the identity of its bytes"
_DELIVERY_ID_RULE: Final = "every delivery has the id of its object and recipient"


async def audit(pool: Pool, *, identities: int | None = 10_000) -> AuditReport:
    """Check the whole ledger at one moment.

    Args:
        pool: Where to read.
        identities: How many signed objects, and deliveries, have their ids computed again, beginning anywhere; `None`
            for all.

    Raises:
        Unavailable: When the database does not answer.
    """
    async with pool.reading() as connection:
        await connection.execute(_WITHOUT_NESTED_LOOPS)
        violations = [await _check(connection, rule, query) for rule, query in RULES.items()]
        checked, wrong_objects = await _check_identities(connection, identities)
        wrong_deliveries = await _check_delivery_ids(connection, identities)
        totals = await connection.fetchrow(_TOTALS, timeout=_TIMEOUT_S)
        states = {
            row["state"]: row["number"] for row in await connection.fetch(_BY_STATE, ENVELOPE_TYP, timeout=_TIMEOUT_S)
        }
    assert totals is not None
    violations += [_violation(_IDENTITY_RULE, wrong_objects), _violation(_DELIVERY_ID_RULE, wrong_deliveries)]
    return AuditReport(
        at=totals["at"],
        documents=totals["documents"],
        archived_months=totals["archived_months"],
        owed=totals["owed"],
        by_state={state: states.get(state, 0) for state in STATES},
        identities_checked=checked,
        violations=tuple(violation for violation in violations if violation.count),
    )


# Only the months of the ledger are analysed, never all of it together, so that the planner takes it to be about two hundred
# deliveries. To go through them all for each delivery is the best plan then, which takes hours where a hash takes seconds.
_WITHOUT_NESTED_LOOPS: Final = "SET LOCAL enable_nestloop = off"

_TOTALS: Final = """
SELECT now() AS at, (SELECT count(*) FROM documents) AS documents, (SELECT count(*) FROM archives) AS archived_months,
    (SELECT count(*) FROM owed) + (SELECT coalesce(sum((manifest ->> 'owed')::bigint), 0) FROM archives)::bigint AS owed
"""
_BY_STATE: Final = "SELECT state, count(*) AS number FROM deliveries WHERE typ = $1 GROUP BY state"

_COUNT: Final = "SELECT id, count(*) OVER () AS total FROM ({query}) AS violation ORDER BY id LIMIT {limit}"


async def _check(connection: Connection, rule: str, query: str) -> Violation:
    rows = await connection.fetch(_COUNT.format(query=query, limit=MAX_LISTED), timeout=_TIMEOUT_S)
    return Violation(rule, rows[0]["total"] if rows else 0, tuple(row["id"] for row in rows))


def _violation(rule: str, ids: list[str]) -> Violation:
    return Violation(rule, len(ids), tuple(ids[:MAX_LISTED]))


# Ids are evenly spread, so what follows any of them is a fair sample; behind the last comes the first again.
_OBJECTS: Final = """
(SELECT object_id, token FROM signed_objects WHERE object_id >= $1 ORDER BY object_id)
UNION ALL
(SELECT object_id, token FROM signed_objects WHERE object_id < $1 ORDER BY object_id)
LIMIT $2
"""
_DELIVERY_IDS: Final = """
(SELECT delivery_id, object_id, recipient FROM deliveries WHERE delivery_id >= $1 ORDER BY delivery_id)
UNION ALL
(SELECT delivery_id, object_id, recipient FROM deliveries WHERE delivery_id < $1 ORDER BY delivery_id)
LIMIT $2
"""


async def _check_identities(connection: Connection, at_most: int | None) -> tuple[int, list[str]]:
    checked, wrong = 0, []
    beginning = secrets.token_bytes(32)
    async for row in connection.cursor(_OBJECTS, beginning, at_most, prefetch=_PAGE, timeout=_TIMEOUT_S):
        checked += 1
        if identity(row["token"]) != row["object_id"].hex():
            wrong.append(row["object_id"].hex())
    return checked, wrong


async def _check_delivery_ids(connection: Connection, at_most: int | None) -> list[str]:
    rows = connection.cursor(_DELIVERY_IDS, uuid4(), at_most, prefetch=_PAGE, timeout=_TIMEOUT_S)
    return [
        str(row["delivery_id"])
        async for row in rows
        if delivery_id_of(DocumentId(row["object_id"].hex()), AgencyCode(row["recipient"])) != row["delivery_id"]
    ]
