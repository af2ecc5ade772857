"""Finds documents, refusals and parked submissions, with all that the ledger knows about them."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from hub.core.breaker import Breaker
from hub.core.diagnosis import (
    ArchiveTrace,
    DeliveryTrace,
    DocumentTrace,
    Link,
    LinkAnswer,
    ParkedTrace,
    PartTrace,
    RefusalTrace,
    TraceEvent,
)
from hub.store.pool import Connection, Pool
from hub.store.recipients import unwell
from hub.store.rows import DELIVERY_COLUMNS, bytes_of, delivery_of
from schemas.envelope import Envelope, read_envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.signing import payload_of

Finding = DocumentTrace | RefusalTrace | ParkedTrace

MAX_FOUND: Final = 20
"""Of each kind; the newest."""

MAX_LINKED: Final = 50
"""Other documents of a chain, the nearest; and answers to each of them."""

_IDENTITY: Final = re.compile(r"[0-9a-f]{8,64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def find(pool: Pool, text: str) -> list[Finding]:
    """Find what a person asks for, in whatever way it is named; documents first, the newest first.

    Args:
        pool: Where to look.
        text: A document id or at least its first 8 digits, a delivery id, an envelope id, the id of a parked
            submission, or the number printed on a document.

    Raises:
        Unavailable: When the database does not answer.
    """
    name = text.strip()
    if not name or "\0" in name:
        return []
    low, high = _range(name.lower())
    uuid = UUID(name) if _UUID.fullmatch(name.lower()) else None
    async with pool.reading() as connection:
        found = [row["document_id"] for row in await connection.fetch(_FIND_DOCUMENTS, low, high, uuid, name)]
        documents = await trace_documents(connection, found)
        refusals = await connection.fetch(_FIND_REFUSALS, low, high, uuid, MAX_FOUND)
        parked = await connection.fetch(_FIND_PARKED, low, high, MAX_FOUND)
    return [*documents, *map(_refusal_of, refusals), *map(_parked_of, parked)]


def _range(name: str) -> tuple[bytes | None, bytes | None]:
    """Say between which identities those lie that begin with these digits."""
    if not _IDENTITY.fullmatch(name):
        return None, None
    return bytes.fromhex(name.ljust(64, "0")), bytes.fromhex(name.ljust(64, "f"))


# Documents by the beginning of their identity, by an envelope's or a delivery's id, by the printed number. A union, so
# that each way of naming uses its own index.
_FIND_DOCUMENTS: Final = f"""
SELECT document_id FROM documents WHERE document_id BETWEEN $1::bytea AND $2::bytea
UNION
SELECT document_id FROM documents WHERE envelope_id = $3::uuid
UNION
SELECT object_id FROM deliveries WHERE delivery_id = $3::uuid
UNION
(
    SELECT document_id FROM documents WHERE lower(printed_number) = lower($4::text)
    ORDER BY accepted_at DESC LIMIT {MAX_FOUND}
)
"""  # noqa: S608 - a constant

_DOCUMENTS: Final = """
SELECT
    document_id, envelope_id, sender, via, printed_number, kind, subject, action, refs, issued_on, accepted_at, expires_at,
    month, file, archived_at
FROM documents
LEFT JOIN LATERAL (
    SELECT to_char(month, 'YYYY-MM') AS month, file, archived_at FROM archives
    WHERE until > accepted_at ORDER BY until LIMIT 1
) AS archive ON true
WHERE document_id = ANY($1::bytea[])
ORDER BY accepted_at DESC, document_id
LIMIT $2
"""

# The deliveries of documents, each with the name that the recipient has today.
_DELIVERIES: Final = f"""
SELECT {DELIVERY_COLUMNS}, delivery.code, changed_at, next_attempt_at, receipt_due_at, standing_since,
    coalesce(agency.name, '') AS recipient_name
FROM deliveries AS delivery
LEFT JOIN LATERAL (
    SELECT name
    FROM directory_agencies
    WHERE directory_agencies.code = delivery.recipient AND valid_from <= (now() + interval '7 hours')::date
    ORDER BY valid_from DESC
    LIMIT 1
) AS agency ON true
WHERE object_id = ANY($1::bytea[])
ORDER BY object_id, recipient
""".replace(DELIVERY_COLUMNS, ", ".join(f"delivery.{name}" for name in DELIVERY_COLUMNS.split(", ")))  # noqa: S608

# The events of documents; there are none of before the first of them was accepted.
_EVENTS: Final = """
SELECT document_id, delivery_id, at, event, actor, code, state, detail
FROM ledger
WHERE document_id = ANY($1::bytea[]) AND at >= $2
ORDER BY event_id
"""


async def trace_documents(connection: Connection, ids: Sequence[bytes]) -> list[DocumentTrace]:
    """Collect everything about accepted documents; ids that are none are left out."""
    documents = await connection.fetch(_DOCUMENTS, ids, MAX_FOUND)
    known = [row["document_id"] for row in documents]
    if not known:
        return []
    events: Mapping[Any, list[TraceEvent]] = defaultdict(list)
    for row in await connection.fetch(_EVENTS, known, min(row["accepted_at"] for row in documents)):
        events[row["delivery_id"] or row["document_id"]].append(event_of(row))
    deliveries: Mapping[bytes, list[DeliveryTrace]] = defaultdict(list)
    rows = await connection.fetch(_DELIVERIES, known)
    breakers = await unwell(connection, {AgencyCode(row["recipient"]) for row in rows})
    for row in rows:
        breaker = breakers.get(row["recipient"])
        deliveries[row["object_id"]].append(_delivery_of(row, events[row["delivery_id"]], breaker))
    chains = await _chains(connection, known)
    parts = await _parts(connection, known, [row["document_id"] for row in documents if row["month"]])
    return [
        _document_of(
            row,
            deliveries[row["document_id"]],
            events[row["document_id"]],
            chains[row["document_id"]],
            parts[row["document_id"]],
        )
        for row in documents
    ]


# What was signed, of the documents that name parts; and which of those parts are there.
_TOKENS_WITH_PARTS: Final = f"""
SELECT object_id, token,
    ARRAY(SELECT parts.sha256 FROM document_parts JOIN parts USING (sha256) WHERE document_id = object_id) AS stored
FROM (SELECT DISTINCT object_id, stored_at FROM deliveries WHERE object_id = ANY($1::bytea[])) AS document
CROSS JOIN LATERAL ({bytes_of("document")}) AS kept
WHERE EXISTS (SELECT FROM document_parts WHERE document_id = object_id)
"""  # noqa: S608 - constants only


# The parts of documents whose bytes are archived.
_PARTS: Final = """
SELECT document_id, sha256, length
FROM document_parts
JOIN parts USING (sha256)
WHERE document_id = ANY($1::bytea[])
ORDER BY document_id, sha256
"""


async def _parts(
    connection: Connection, ids: Sequence[bytes], archived: Sequence[bytes]
) -> Mapping[bytes, list[PartTrace]]:
    """Collect the parts of documents; their names stand only in what was signed."""
    found: Mapping[bytes, list[PartTrace]] = defaultdict(list)
    for row in await connection.fetch(_PARTS, archived):
        found[row["document_id"]].append(PartTrace("", "", row["sha256"].hex(), row["length"], stored=True))
    for row in await connection.fetch(_TOKENS_WITH_PARTS, ids):
        envelope = read_envelope(payload_of(row["token"]))
        if not isinstance(envelope, Envelope):  # accepted by an older version, which read it otherwise
            continue
        stored = {sha256.hex() for sha256 in row["stored"]}
        found[row["object_id"]].extend(
            PartTrace(
                part.name,
                part.media_type,
                part.sha256,
                part.length,
                part.sha256 in stored,
                envelope.edxml.level if envelope.edxml is not None and envelope.edxml.part == part.sha256 else None,
            )
            for part in envelope.parts
        )
    return found


# The other documents of each chain, followed both ways: to what a document refers to, and to what refers to it. A
# recursion that is read no further than its limit goes no further, so the nearest are found first.
_CHAINS: Final = f"""
SELECT root, document_id, action, refs, printed_number, accepted_at, recipients
FROM unnest($1::bytea[]) AS root
CROSS JOIN LATERAL (
    WITH RECURSIVE chain (document_id) AS (
        VALUES (root)
        UNION
        SELECT linked.document_id
        FROM chain
        CROSS JOIN LATERAL (
            SELECT unnest(refs) AS document_id FROM documents WHERE documents.document_id = chain.document_id
            UNION ALL
            (
                SELECT document_id FROM documents
                WHERE refs @> ARRAY[chain.document_id] AND refs <> '{{}}'
                LIMIT {MAX_LINKED}
            )
        ) AS linked
    )
    SELECT document_id FROM chain LIMIT {MAX_LINKED + 1}
) AS chain
JOIN documents USING (document_id)
WHERE document_id <> root
ORDER BY root, accepted_at, document_id
"""  # noqa: S608 - constants only

# What the recipients of these documents have answered; who has not, comes first.
_ANSWERS: Final = f"""
SELECT asking, recipient, request, standing_since
FROM unnest($1::bytea[]) AS asking
CROSS JOIN LATERAL (
    SELECT recipient, request, standing_since
    FROM deliveries
    WHERE object_id = asking
    ORDER BY request IS DISTINCT FROM 'asked', recipient
    LIMIT {MAX_LINKED}
) AS answer
"""  # noqa: S608 - constants only


async def _chains(connection: Connection, ids: Sequence[bytes]) -> Mapping[bytes, list[Link]]:
    rows = await connection.fetch(_CHAINS, ids)
    asking = sorted({row["document_id"] for row in rows if row["action"] != "new"})
    answers: Mapping[bytes, list[LinkAnswer]] = defaultdict(list)
    for row in await connection.fetch(_ANSWERS, asking):
        answers[row["asking"]].append(LinkAnswer(AgencyCode(row["recipient"]), row["request"], row["standing_since"]))
    chains: Mapping[bytes, list[Link]] = defaultdict(list)
    for row in rows:
        chains[row["root"]].append(_link_of(row, answers[row["document_id"]]))
    return chains


def _link_of(row: asyncpg.Record, answers: Sequence[LinkAnswer]) -> Link:
    return Link(
        document_id=DocumentId(row["document_id"].hex()),
        action=row["action"],
        refs=_ids(row["refs"]),
        printed_number=row["printed_number"],
        accepted_at=row["accepted_at"],
        recipients=row["recipients"],
        answers=tuple(answers),
    )


def _ids(values: Sequence[bytes]) -> tuple[DocumentId, ...]:
    return tuple(DocumentId(value.hex()) for value in values)


def event_of(row: asyncpg.Record) -> TraceEvent:
    """Read an event of the ledger."""
    return TraceEvent(row["at"], row["event"], row["actor"], row["code"], row["state"], row["detail"])


def _delivery_of(row: asyncpg.Record, events: Sequence[TraceEvent], breaker: Breaker | None) -> DeliveryTrace:
    return DeliveryTrace(
        delivery=delivery_of(row),
        recipient_name=row["recipient_name"],
        code=row["code"],
        changed_at=row["changed_at"],
        next_attempt_at=row["next_attempt_at"],
        receipt_due_at=row["receipt_due_at"],
        events=tuple(events),
        standing_since=row["standing_since"],
        reason=_reason(events),
        breaker=breaker,
    )


def _reason(events: Sequence[TraceEvent]) -> str | None:
    """Give the words of the last status that says no, unless something has followed it."""
    moves = [event.detail for event in events if event.event == "status.moved"]
    return moves[-1].get("reason") if moves and moves[-1]["said"] in ("02", "16") else None


def _document_of(
    row: asyncpg.Record,
    deliveries: Sequence[DeliveryTrace],
    events: Sequence[TraceEvent],
    chain: Sequence[Link],
    parts: Sequence[PartTrace],
) -> DocumentTrace:
    return DocumentTrace(
        document_id=DocumentId(row["document_id"].hex()),
        envelope_id=str(row["envelope_id"]),
        sender=AgencyCode(row["sender"]),
        via=AgencyCode(row["via"]) if row["via"] else None,
        printed_number=row["printed_number"],
        kind=row["kind"],
        subject=row["subject"],
        action=row["action"],
        accepted_at=row["accepted_at"],
        expires_at=row["expires_at"],
        deliveries=tuple(deliveries),
        events=tuple(events),
        issued_on=row["issued_on"],
        refs=_ids(row["refs"]),
        chain=tuple(chain),
        parts=tuple(parts),
        archived=ArchiveTrace(row["month"], row["file"], row["archived_at"]) if row["month"] else None,
    )


# Refusals by the beginning of the document's identity, or by the envelope's id.
_FIND_REFUSALS: Final = """
SELECT document_id, envelope_id, signer, code, problems, refused_at
FROM refusals
WHERE document_id BETWEEN $1::bytea AND $2::bytea OR envelope_id = $3::uuid
ORDER BY refused_at DESC
LIMIT $4
"""


def _refusal_of(row: asyncpg.Record) -> RefusalTrace:
    return RefusalTrace(
        document_id=DocumentId(row["document_id"].hex()),
        envelope_id=str(row["envelope_id"]) if row["envelope_id"] else None,
        signer=AgencyCode(row["signer"]),
        code=row["code"],
        problems=row["problems"],
        refused_at=row["refused_at"],
    )


# Parked submissions by their own id, or by the identity that they claim.
_FIND_PARKED: Final = """
SELECT parked_id, broker_user, code, problems, body_length, parked_at
FROM parked
WHERE parked_id BETWEEN $1::bytea AND $2::bytea OR claimed_id BETWEEN $1::bytea AND $2::bytea
ORDER BY parked_at DESC
LIMIT $3
"""


def _parked_of(row: asyncpg.Record) -> ParkedTrace:
    return ParkedTrace(
        parked_id=row["parked_id"].hex(),
        user=row["broker_user"],
        code=row["code"],
        problems=row["problems"],
        body_length=row["body_length"],
        parked_at=row["parked_at"],
    )
