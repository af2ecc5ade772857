"""Knows the parts: what is stored under which key, who has uploaded it, who may fetch it, what nobody needs.

The lock order is that of `hub.store.ledger`, parts first. A part is deleted only while it is locked and no document names
it; a document that comes at the same moment waits, and finds the part gone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from hub.core.grant import Granted
from hub.core.part import Kept, digests_of
from hub.core.verdict import Accept
from hub.store.pool import Connection, Pool
from hub.store.rows import columns, to_bytes
from schemas.identifiers import AgencyCode, DocumentId


class PostgresParts:
    """The tables of parts, for uploads, downloads and the sweep.

    Args:
        pool: Where to read and write.
        batch_size: Most parts that one turn of the sweep forgets.
    """

    def __init__(self, pool: Pool, *, batch_size: int = 250) -> None:
        self._pool = pool
        self._batch_size = batch_size

    async def find(self, sha256: str, agency: AgencyCode, now: datetime) -> Kept | None:
        """Give a part that the agency has uploaded, and keep it as if it were uploaded now.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(_TOUCH, bytes.fromhex(sha256), agency, now)
        return Kept(sha256, row["length"], row["object_key"]) if row else None

    async def add(self, part: Kept, agency: AgencyCode, now: datetime) -> bool:
        """Enter a part that an agency has uploaded; returns whether its object is the one that is kept.

        Raises:
            Unavailable: When the database does not answer; the part may or may not be entered.
        """
        digest = bytes.fromhex(part.sha256)
        async with self._pool.transaction() as connection:
            kept: str = await connection.fetchval(_ADD, digest, part.length, part.object_key, now)
            await connection.execute(_ADD_HOLDER, digest, agency)
        return kept == part.object_key

    async def fetchable(self, granted: Granted) -> Kept | None:
        """Give the part that a grant asks for, when a document that names it was sent to or by its agency.

        Raises:
            Unavailable: When the database does not answer.
        """
        grant = granted.grant
        assert grant.part is not None
        assert grant.document is not None
        digest, document_id = bytes.fromhex(grant.part), to_bytes(grant.document)
        async with self._pool.reading() as connection:
            row = await connection.fetchrow(
                _FETCHABLE, document_id, digest, granted.agency, granted.receives, granted.signer
            )
        return Kept(grant.part, row["length"], row["object_key"]) if row else None

    async def forget(self, before: datetime) -> Sequence[str]:
        """Forget a batch of parts that no document names, last uploaded before a moment; returns their objects' keys.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.transaction() as connection:
            locked = await connection.fetch(_LOCK_UNUSED, before, self._batch_size)
            if not locked:
                return ()
            rows = await connection.fetch(_FORGET, [row["sha256"] for row in locked])
        return [row["object_key"] for row in rows]

    async def known(self, keys: Sequence[str]) -> frozenset[str]:
        """Say which of these objects belong to a part.

        Raises:
            Unavailable: When the database does not answer.
        """
        async with self._pool.reading() as connection:
            return frozenset(row["object_key"] for row in await connection.fetch(_KNOWN, list(keys)))


async def lock_parts(connection: Connection, accepts: Sequence[Accept]) -> Mapping[tuple[str, AgencyCode], int]:
    """Lock the parts of documents against the sweep until the end of the transaction.

    Returns:
        The length of each that is there, by digest and agency that has uploaded it.
    """
    digests = digests_of(accept.envelope for accept in accepts)
    if not digests:
        return {}
    rows = await connection.fetch(_LOCK, list(map(bytes.fromhex, digests)))
    return {(row["sha256"].hex(), AgencyCode(row["agency"])): row["length"] for row in rows}


async def name_parts(connection: Connection, accepts: Sequence[Accept]) -> None:
    """Note which parts new documents name; they are locked."""
    rows = [
        (to_bytes(DocumentId(accept.document_id)), bytes.fromhex(digest))
        for accept in accepts
        for digest in digests_of([accept.envelope])
    ]
    if rows:
        await connection.execute(_NAME, *columns(rows))


# A part that an agency holds, kept for longer.
_TOUCH: Final = """
UPDATE parts SET uploaded_at = greatest(uploaded_at, $3)
WHERE sha256 = $1 AND EXISTS (SELECT FROM part_holders WHERE part_holders.sha256 = $1 AND agency = $2)
RETURNING length, object_key
"""

# A part that has come. Whoever was first keeps its object.
_ADD: Final = """
INSERT INTO parts (sha256, length, object_key, uploaded_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (sha256) DO UPDATE SET uploaded_at = greatest(parts.uploaded_at, excluded.uploaded_at)
RETURNING object_key
"""
_ADD_HOLDER: Final = "INSERT INTO part_holders (sha256, agency) VALUES ($1, $2) ON CONFLICT DO NOTHING"

# A part of a document whose delivery to the agency is the signer's to read, or which the signer has sent for the agency.
_FETCHABLE: Final = """
SELECT length, object_key
FROM document_parts
JOIN parts USING (sha256)
JOIN documents USING (document_id)
WHERE document_id = $1 AND sha256 = $2 AND (
    ($4 AND EXISTS (SELECT FROM deliveries WHERE object_id = $1 AND recipient = $3))
    OR (sender = $3 AND $5 IN (sender, via))
)
"""

# Parts that no document names. Those that a document is taking at the moment are locked, and left alone.
_LOCK_UNUSED: Final = """
SELECT sha256
FROM parts
WHERE uploaded_at < $1 AND NOT EXISTS (SELECT FROM document_parts WHERE document_parts.sha256 = parts.sha256)
ORDER BY uploaded_at
LIMIT $2
FOR UPDATE SKIP LOCKED
"""

# The same, looked at again now that nobody else can take them.
_FORGET: Final = """
DELETE FROM parts
WHERE sha256 = ANY($1::bytea[]) AND NOT EXISTS (SELECT FROM document_parts WHERE document_parts.sha256 = parts.sha256)
RETURNING object_key
"""

# Which objects belong to a part.
_KNOWN: Final = "SELECT object_key FROM parts WHERE object_key = ANY($1::text[])"

# Parts with those who have uploaded them, locked in order.
_LOCK: Final = """
SELECT sha256, length, agency
FROM (SELECT sha256, length FROM parts WHERE sha256 = ANY($1::bytea[]) ORDER BY sha256 FOR KEY SHARE) AS locked
JOIN part_holders USING (sha256)
"""

# What documents name.
_NAME: Final = """
INSERT INTO document_parts (document_id, sha256)
SELECT document_id, sha256 FROM unnest($1::bytea[], $2::bytea[]) AS incoming (document_id, sha256)
"""
