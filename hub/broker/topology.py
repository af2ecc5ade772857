"""What stands on the broker: exchanges, queues, bindings, the policy, the users. Values only; nothing is called here.

`desired` says what a directory wants, `plan` what is missing for it, `drift` also what is there otherwise or beyond it.
Nothing is ever deleted, and no queue is ever made anew: a queue that is taken away under traffic takes confirmed
messages with it. What is to go is reported, with the moment after which it may.

`truc.dead` comes first in everything. A letter that dies before it exists is dropped.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from schemas.addresses import (
    AGENCY_QUEUE_PREFIX,
    CANARY,
    DEAD,
    INTAKE,
    RECEIPTS,
    SUBMIT,
    TIERS,
    agency_queue,
    queue_permission,
    submit_permission,
    tier_exchange,
)
from schemas.checks.directory import PLATFORM_TIER, Directory
from schemas.identifiers import AgencyCode

AGENCY_LETTERS: Final = "agency"
INTAKE_LETTERS: Final = "intake"
RECEIPTS_LETTERS: Final = "receipts"
"""Keys under which dead letters arrive in `truc.dead`, by where they died."""

_TIER_PREFIX: Final = tier_exchange(PLATFORM_TIER).removesuffix(PLATFORM_TIER)
_NOTHING: Final = "^$"
_FILES_OF_QUEUE: Final = 3
_FILES_OF_USER: Final = 2  # one connection to publish, one to consume
_FILES_OF_NODE: Final = 500  # its own, and the connections of the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much the queues hold and how often a user may connect.

    Attributes:
        shared_queue_max_bytes: Of `truc.intake` and of `truc.receipts`. An argument of the queue: to change it later
            on a queue that exists is for a person.
        agency_queue_max_messages: Of each agency's queue; beyond it the broker takes nothing more for that agency.
        agency_queue_max_bytes: The same in bytes.
        user_max_connections: At a time, of each agency's or platform's user.
        user_max_channels: At a time, over all its connections.
    """

    shared_queue_max_bytes: int = 4 * 1024**3
    agency_queue_max_messages: int = 100_000
    agency_queue_max_bytes: int = 1024**3
    user_max_connections: int = 10
    user_max_channels: int = 40


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; an alternate exchange among its arguments would hide missing routes."""

    name: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"exchange {self.name} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)

    def __str__(self) -> str:
        return f"queue {self.name}"


@dataclass(frozen=True, slots=True)
class Binding:
    """A way from an exchange to a queue."""

    exchange: str
    key: str
    queue: str

    def __str__(self) -> str:
        return f"binding {self.exchange} ─ {self.key} → {self.queue}"


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of all queues whose name fits a pattern; of several policies only one applies."""

    name: str
    pattern: str
    definition: Mapping[str, Any] = field(hash=False)
    apply_to: str = "queues"
    priority: int = 0

    def __str__(self) -> str:
        return f"policy {self.name} on {self.pattern}"


@dataclass(frozen=True, slots=True)
class User:
    """A broker user of an agency or platform: publishes under its own name, reads its own queue, nothing else.

    Attributes:
        name: Code of the agency or platform.
        configure: Pattern of what it may declare.
        write: Pattern of exchanges that it may publish to.
        read: Pattern of queues that it may consume.
        submit_keys: Pattern of routing keys that it may publish under to `truc.submit`.
        max_connections: At a time.
        max_channels: At a time, over all connections.

    What is absent is not set: without a pattern the user may do nothing of that kind on this vhost, but may publish
    to `truc.submit` under any key when only `submit_keys` is absent.
    """

    name: str
    configure: str | None = None
    write: str | None = None
    read: str | None = None
    submit_keys: str | None = None
    max_connections: int | None = None
    max_channels: int | None = None

    def __str__(self) -> str:
        return f"user {self.name}"


Item = Exchange | Queue | Binding | Policy | User
_Named = TypeVar("_Named", Exchange, Queue)


@dataclass(frozen=True, slots=True)
class Topology:
    """All items, each kind in the order in which it is made."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    policies: tuple[Policy, ...] = ()
    users: tuple[User, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        item: What is to stand there.
        new: Whether it does not exist yet, so it is made; else it is changed.
    """

    item: Item
    new: bool = True

    def __str__(self) -> str:
        return f"{'make' if self.new else 'change'} {self.item}"


@dataclass(frozen=True, slots=True)
class Drift:
    """How the broker differs from what the directory wants.

    Attributes:
        missing: What `apply` does.
        wrong: Sentences on what exists otherwise and cannot be changed in place; a person must.
        surplus: Sentences on what nothing wants any more; it is never deleted by itself.
    """

    missing: tuple[Step, ...]
    wrong: tuple[str, ...]
    surplus: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong or self.surplus)


def desired(directory: Directory, bounds: Bounds | None = None) -> Topology:
    """Say what a directory wants on the broker."""
    bounds = bounds or Bounds()
    ways = {agency.code: agency.endpoint for agency in directory.agencies.values() if agency.endpoint is not None}
    ways |= {platform: platform for platform in directory.platforms}
    endpoints = sorted(set(ways.values()))
    return Topology(
        exchanges=(
            Exchange(DEAD, "topic"),
            Exchange(SUBMIT, "topic"),
            *(Exchange(tier_exchange(tier), "direct") for tier in TIERS),
        ),
        queues=(
            # Without a limit of its own, RabbitMQ 4 would drop a letter after 20 returns.
            Queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}),
            _shared_queue(INTAKE, INTAKE_LETTERS, bounds),
            _shared_queue(RECEIPTS, RECEIPTS_LETTERS, bounds),
            Queue(CANARY, {"x-queue-type": "quorum", "x-overflow": "drop-head", "x-max-length": 1}),
            *(Queue(agency_queue(code), {"x-queue-type": "quorum", "x-delivery-limit": 100}) for code in endpoints),
        ),
        bindings=(
            Binding(DEAD, "#", DEAD),
            Binding(SUBMIT, "document.#", INTAKE),
            Binding(SUBMIT, "receipt.#", RECEIPTS),
            Binding(SUBMIT, "status.#", RECEIPTS),
            Binding(tier_exchange(PLATFORM_TIER), CANARY, CANARY),
            *(
                Binding(tier_exchange(directory.tier_of(code) or PLATFORM_TIER), code, agency_queue(ways[code]))
                for code in sorted(ways)
            ),
        ),
        policies=(_agency_policy(bounds),),
        users=tuple(_user(code, bounds) for code in endpoints),
    )


def plan(wanted: Topology, actual: Topology) -> list[Step]:
    """List what is to be done, in order, so that everything wanted exists; empty when it does."""
    steps = [Step(item) for item in _absent(wanted.exchanges, actual.exchanges)]
    policies = {policy.name: policy for policy in actual.policies}
    users = {user.name: user for user in actual.users}
    # Before the queues, which are then born with it.
    steps += [Step(item, item.name not in policies) for item in wanted.policies if policies.get(item.name) != item]
    steps += [Step(item) for item in _absent(wanted.queues, actual.queues)]
    bindings = set(actual.bindings)
    steps += [Step(item) for item in wanted.bindings if item not in bindings]
    steps += [Step(item, item.name not in users) for item in wanted.users if users.get(item.name) != item]
    return sorted(steps, key=_after_the_safety_net)


def drift(wanted: Topology, actual: Topology) -> Drift:
    """Compare the broker with what is wanted, both ways."""
    return Drift(
        missing=tuple(plan(wanted, actual)),
        wrong=(*_wrong_exchanges(wanted, actual), *_wrong_queues(wanted, actual)),
        surplus=tuple(_surplus(wanted, actual)),
    )


def files_needed(wanted: Topology) -> int:
    """Count the open files for which a node of RabbitMQ 3 must have room, with every agency connected.

    Past its limit the node does not refuse: it takes no connection any more, from nobody, the hub included. Each quorum
    queue has three files reserved, in use or not (3.10.8: 6,002 for 2,000 queues that are empty).
    """
    return _FILES_OF_QUEUE * len(wanted.queues) + _FILES_OF_USER * len(wanted.users) + _FILES_OF_NODE


def _shared_queue(name: str, letters: str, bounds: Bounds) -> Queue:
    return Queue(
        name,
        {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-max-length-bytes": bounds.shared_queue_max_bytes,
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": letters,
            "x-dead-letter-strategy": "at-least-once",
        },
    )


def _agency_policy(bounds: Bounds) -> Policy:
    return Policy(
        name="truc-agency",
        pattern=rf"^{re.escape(AGENCY_QUEUE_PREFIX)}",
        definition={
            "overflow": "reject-publish",
            "max-length": bounds.agency_queue_max_messages,
            "max-length-bytes": bounds.agency_queue_max_bytes,
            "dead-letter-exchange": DEAD,
            "dead-letter-routing-key": AGENCY_LETTERS,
            "dead-letter-strategy": "at-most-once",
        },
    )


def _user(code: AgencyCode, bounds: Bounds) -> User:
    return User(
        name=code,
        configure=_NOTHING,
        write=rf"^{re.escape(SUBMIT)}$",
        read=queue_permission(code),
        submit_keys=submit_permission(code),
        max_connections=bounds.user_max_connections,
        max_channels=bounds.user_max_channels,
    )


def _after_the_safety_net(step: Step) -> bool:
    match step.item:
        case Exchange(name=name) | Queue(name=name) | Binding(queue=name):
            return name != DEAD
        case _:
            return True


def _absent(wanted: Iterable[_Named], actual: Iterable[_Named]) -> list[_Named]:
    """Leave out what exists under its name, right or wrong: what is wrong is not for a machine to replace."""
    names = {item.name for item in actual}
    return [item for item in wanted if item.name not in names]


def _wrong_exchanges(wanted: Topology, actual: Topology) -> Iterable[str]:
    exchanges = {item.name: item for item in actual.exchanges}
    for item in wanted.exchanges:
        found = exchanges.get(item.name, item)
        if found != item:
            yield f"{found} with arguments {dict(found.arguments)} should be {item} without: a person must replace it"


def _wrong_queues(wanted: Topology, actual: Topology) -> Iterable[str]:
    arguments = {item.name: item.arguments for item in actual.queues}
    for item in wanted.queues:
        found = arguments.get(item.name, item.arguments)
        names = sorted(name for name in {*found, *item.arguments} if found.get(name) != item.arguments.get(name))
        if names:
            differences = ", ".join(f"{name} {found.get(name)} ≠ {item.arguments.get(name)}" for name in names)
            yield f"{item} has other arguments ({differences}): a person must empty and replace it"


def _surplus(wanted: Topology, actual: Topology) -> Iterable[str]:
    for item in (*_absent(actual.exchanges, wanted.exchanges), *_absent(actual.queues, wanted.queues)):
        yield f"{item} is not in the plan"
    ways = {(binding.key, binding.queue): binding.exchange for binding in wanted.bindings}
    for binding in sorted(set(actual.bindings) - set(wanted.bindings), key=str):
        now = ways.get((binding.key, binding.queue))
        if now is not None and now.startswith(_TIER_PREFIX) and binding.exchange.startswith(_TIER_PREFIX):
            yield f"{binding} is still bound to old tier, remove after the last process knows {now}"
        else:
            yield f"{binding} is not in the plan"
    policies = {policy.name for policy in wanted.policies}
    yield from (f"{policy} is not in the plan" for policy in actual.policies if policy.name not in policies)
    users = {user.name for user in wanted.users}
    for user in actual.users:
        if user.submit_keys is not None and user.name not in users:
            yield f"{user} is not in the plan and may submit"
