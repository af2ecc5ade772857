"""Whether the documents that a document recalls, updates or replaces are its sender's own."""

from collections.abc import Mapping

from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.refusal import Problem


def check_references(envelope: Envelope, senders: Mapping[DocumentId, AgencyCode]) -> tuple[Problem, ...]:
    """Check that the sender has sent every document in `ref`.

    Args:
        envelope: What refers to them.
        senders: Who sent those that the ledger knows.

    Returns:
        One `E410` for each that is unknown or another agency's.
    """
    return tuple(
        Problem("E410", f"/ref/{index}", ref, ref)
        for index, ref in enumerate(envelope.ref)
        if senders.get(ref) != envelope.from_
    )
