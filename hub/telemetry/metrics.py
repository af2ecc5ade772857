"""Prometheus metrics of one process. Labels are bounded: codes, states, loops; never an agency or a document."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry(auto_describe=True)

SUBMISSIONS: Final = Counter(
    "truc_submissions_total", "Submissions by what the checks decided.", ["verdict", "code"], registry=REGISTRY
)
HANDOVERS: Final = Counter(
    "truc_handovers_total", "Attempts to hand a delivery to the broker, by outcome.", ["outcome"], registry=REGISTRY
)
HELD: Final = Counter(
    "truc_held_total", "Deliveries held because of their recipient, by code.", ["code"], registry=REGISTRY
)
ANSWERS: Final = Counter("truc_answers_total", "Answers in receipts, by outcome.", ["outcome"], registry=REGISTRY)
STATUSES: Final = Counter(
    "truc_statuses_total", "Business statuses that agencies have set, by code.", ["status"], registry=REGISTRY
)
RESETTLED: Final = Counter(
    "truc_deadlines_total", "Deliveries settled because a deadline passed.", ["deadline"], registry=REGISTRY
)
RETURNS: Final = Counter(
    "truc_returns_total", "Messages that the broker put aside, by kind.", ["kind"], registry=REGISTRY
)
REPLAYED: Final = Counter(
    "truc_replayed_total", "Items of replays that were released, or left out at the last moment.", registry=REGISTRY
)
PARTS: Final = Counter(
    "truc_parts_total", "Requests for parts that were answered, by act and code.", ["act", "code"], registry=REGISTRY
)
SWEPT: Final = Counter("truc_swept_total", "Objects removed from the blob store, by kind.", ["kind"], registry=REGISTRY)
TURN_SECONDS: Final = Histogram(
    "truc_turn_seconds",
    "Duration of a turn that settled something, waiting included.",
    ["loop"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
BATCH_SIZE: Final = Histogram(
    "truc_batch_size",
    "Things settled by one turn.",
    ["loop"],
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
    registry=REGISTRY,
)
TROUBLES: Final = Counter(
    "truc_troubles_total", "Turns that ended because a part did not answer.", ["loop", "part"], registry=REGISTRY
)
UNFINISHED: Final = Gauge(
    "truc_deliveries", "Deliveries that are not settled, in the whole ledger, by state.", ["state"], registry=REGISTRY
)
OVERDUE: Final = Gauge(
    "truc_deliveries_overdue", "Routed deliveries whose time for a receipt is over.", registry=REGISTRY
)
PART_UP: Final = Gauge("truc_part_up", "Whether a part answered when last asked.", ["part"], registry=REGISTRY)


def exposition() -> bytes:
    """Write all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
