"""A vhost with the real topology, and the hub's ends of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import aiormq

from hub.broker.connection import Connection
from hub.broker.management import Management
from hub.broker.topology import Bounds, Topology, desired, plan
from schemas.addresses import Tier
from schemas.checks.directory import Agency, Directory
from schemas.identifiers import AgencyCode
from tests.services import Broker

PROVINCE, COMMUNE, SECOND_COMMUNE = AgencyCode("H26"), AgencyCode("H26.01"), AgencyCode("H26.02")
OWN_QUEUE_COMMUNE = AgencyCode("H30.01")
PLATFORM = AgencyCode("lgsp-h26")


def agency(code: AgencyCode, tier: Tier, endpoint: AgencyCode | None) -> Agency:
    return Agency(code=code, name=code, tier=tier, parent=None, endpoint=endpoint, state="open")


def directory(*agencies: Agency, platforms: tuple[AgencyCode, ...] = (PLATFORM,)) -> Directory:
    return Directory(
        epoch=1,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        agencies={item.code: item for item in agencies},
        platforms={code: code for code in platforms},
        mandates={},
        keys={},
    )


SMALL = directory(
    agency(PROVINCE, "ministry-province", PROVINCE),
    agency(COMMUNE, "commune", PLATFORM),
    agency(SECOND_COMMUNE, "commune", PLATFORM),
    agency(OWN_QUEUE_COMMUNE, "commune", OWN_QUEUE_COMMUNE),
    agency(AgencyCode("H99"), "ministry-province", None),
)
"""A province and a commune with queues of their own, two communes behind a platform, a ministry without a queue."""


def management(vhost: Broker) -> Management:
    return Management(vhost.management_url, vhost.vhost)


async def provide(vhost: Broker, wanted: Topology | None = None, *, bounds: Bounds | None = None) -> Topology:
    """Make a topology without its users, which would outlive the vhost."""
    wanted = wanted or desired(SMALL, bounds)
    async with management(vhost) as api:
        await api.apply(plan(wanted, await api.topology()), passwords={})
    return wanted


@asynccontextmanager
async def connection(url: str, name: str = "test") -> AsyncIterator[Connection]:
    made = Connection(url, name=name)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def raw_channel(url: str, **options: bool) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel of somebody else."""
    made = await aiormq.connect(url)
    try:
        yield await made.channel(**options)
    finally:
        await made.close()


async def mail_in(url: str, queue: str) -> list[aiormq.abc.DeliveredMessage]:
    """Take everything out of a queue."""
    messages = []
    async with raw_channel(url) as channel:
        while isinstance((message := await channel.basic_get(queue, no_ack=True)).delivery, aiormq.spec.Basic.GetOk):
            messages.append(message)
    return messages


@asynccontextmanager
async def user(vhost: Broker, name: str, wanted: Topology) -> AsyncIterator[Callable[[], str]]:
    """Make one of the users that a topology wants; gives its AMQP URL."""
    password = "not-a-secret"
    async with management(vhost) as api:
        steps = [step for step in plan(wanted, await api.topology()) if getattr(step.item, "name", None) == name]
        await api.apply(steps, passwords={name: password})
    parts = urlsplit(vhost.amqp_url)
    try:
        yield lambda: parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
    finally:
        vhost.manage("DELETE", f"/users/{quote(name, safe='')}")
