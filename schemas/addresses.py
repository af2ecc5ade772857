"""Names of exchanges, queues and routing keys: pure functions, used by the hub and by the agencies.

Codes contain dots, so keys are bound with `#`, and a code is escaped before it goes into a pattern.
"""

import re
from typing import Final, Literal, get_args

from schemas.identifiers import AgencyCode

Tier = Literal["ministry-province", "department-district", "commune", "associate"]
Lane = Literal["document", "receipt", "status"]

TIERS: Final[tuple[Tier, ...]] = get_args(Tier)

SUBMIT: Final = "truc.submit"
INTAKE: Final = "truc.intake"
RECEIPTS: Final = "truc.receipts"
DEAD: Final = "truc.dead"
CANARY: Final = "truc.canary"
"""Queue and routing key of what the hub publishes to learn whether the broker stores and confirms."""

AGENCY_QUEUE_PREFIX: Final = "truc.agency."


def tier_exchange(tier: Tier) -> str:
    """Name the exchange of an administrative tier."""
    return f"truc.tier.{tier}"


def agency_queue(endpoint: AgencyCode) -> str:
    """Name the queue of an agency, or of a platform that receives for several."""
    return f"{AGENCY_QUEUE_PREFIX}{endpoint}"


def submit_key(lane: Lane, user: str) -> str:
    """Name the routing key under which a broker user publishes to `truc.submit`."""
    return f"{lane}.{user}"


def submit_permission(user: str) -> str:
    """Write the pattern of routing keys that the broker lets a user publish to `truc.submit`."""
    return rf"^(document|receipt|status)\.{re.escape(user)}$"


def queue_permission(user: str) -> str:
    """Write the pattern of queues that the broker lets a user read: its own and no other."""
    return rf"^truc\.agency\.{re.escape(user)}$"
