"""What is wrong with an envelope whose signer is proven: every problem at once, with its place.

| step | check                                             | fails with            |
|------|---------------------------------------------------|-----------------------|
| 7    | times                                             | E601 E602             |
| 8    | signer, connection, `from`, `via` agree; mandate  | E401 E402 E403        |
| 9    | recipients known, open, once, not too many        | E404 E405 E406 E408   |

The steps are those of `hub/core/decide.py`, which performs the earlier ones. Not here: what only the ledger knows.
"""

from datetime import datetime

from schemas.checks.address import Addressee, address
from schemas.checks.authorise import authorise
from schemas.checks.directory import Directory
from schemas.envelope import MAX_LIFETIME_S, Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from schemas.signing import MAX_AHEAD_S


def examine(
    envelope: Envelope,
    *,
    signer: AgencyCode,
    signed_at_s: int,
    user: str | None,
    routing_key: str,
    directory: Directory,
    max_recipients: int,
    now: datetime,
) -> tuple[tuple[Addressee, ...], tuple[Problem, ...]]:
    """Examine an envelope.

    Args:
        envelope: What was signed.
        signer: Whose key signed it.
        signed_at_s: When, seconds since 1970 UTC.
        user: The broker user that brings it.
        routing_key: The key that it is published under.
        directory: Who is who.
        max_recipients: Most recipients after groups are expanded.
        now: The present.

    Returns:
        The addressees sorted by code, and every problem; nothing may be delivered when there is one.
    """
    addressees, address_problems = address(envelope, directory, max_recipients)
    problems = (
        *_check_times(envelope, signed_at_s, now),
        *authorise(envelope, signer=signer, user=user, routing_key=routing_key, directory=directory),
        *address_problems,
    )
    return addressees, problems


def _check_times(envelope: Envelope, signed_at_s: int, now: datetime) -> tuple[Problem, ...]:
    """Step 7, what the schema cannot say."""
    problems = []
    if envelope.created > signed_at_s + MAX_AHEAD_S:
        problems.append(Problem("E601", "/created", "later than the signature", "sau thời điểm ký"))
    if envelope.expires <= now.timestamp():
        problems.append(Problem("E602", "/expires", "in the past", "đã qua"))
    if not envelope.created < envelope.expires <= envelope.created + MAX_LIFETIME_S:
        problems.append(
            Problem("E602", "/expires", "not within 30 days after `created`", "không trong 30 ngày sau `created`")
        )
    return tuple(problems)
