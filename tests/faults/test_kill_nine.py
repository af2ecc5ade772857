"""kill -9 of the hub, the broker and the database in the middle of traffic: every document arrives, once."""

import asyncio
from pathlib import Path

from hub.dev.postgresql import PrivatePostgreSQL
from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation
from tests.agencies import Agencies
from tests.faults.conftest import Traffic, audit
from tests.hub_process import HubProcess, eventually

QUICK = {"receipt_deadline_s": 8, "retry_delay_s": 0.5, "confirm_timeout_s": 4}


async def test_the_hub_dies_again_and_again(installation: Installation, agencies: Agencies, tmp_path: Path) -> None:
    hub = HubProcess(installation, tmp_path / "hub.log", **QUICK).start()
    traffic = Traffic(agencies, [])

    async def kill_and_start() -> None:
        for _ in range(4):
            hub.kill()
            hub.start()
            await asyncio.sleep(1.7)

    try:
        await hub.ready()
        await traffic.during(kill_and_start)
        await traffic.has_arrived()
    finally:
        hub.end()
    assert (await audit(installation))["clean"]


async def test_one_of_several_processes_dies_and_the_others_take_over(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    """Two processes of each loop; one of each is killed and never comes back."""
    loops = ("intake", "dispatch", "receipts")
    first = [HubProcess(installation, tmp_path / f"{loop}-1.log", loop, **QUICK).start() for loop in loops]
    second = [HubProcess(installation, tmp_path / f"{loop}-2.log", loop, **QUICK).start() for loop in loops]
    rest = HubProcess(installation, tmp_path / "rest.log", "returns", "reconcile", "web", **QUICK).start()
    traffic = Traffic(agencies, [])

    async def kill_the_first() -> None:
        for process in first:
            process.kill()

    try:
        for process in (*first, *second, rest):
            await process.ready()
        await traffic.during(kill_the_first)
        await traffic.has_arrived()
    finally:
        for process in (*first, *second, rest):
            process.end()
    assert (await audit(installation))["clean"]


async def test_the_broker_dies(
    own_rabbitmq: PrivateRabbitMQ, mortal_broker: Installation, mortal_agencies: Agencies, tmp_path: Path
) -> None:
    hub = HubProcess(mortal_broker, tmp_path / "hub.log", **QUICK).start()
    traffic = Traffic(mortal_agencies, [])

    async def kill_and_restart() -> None:
        await asyncio.to_thread(own_rabbitmq.kill)
        await eventually(lambda: "broker" in (hub.failing() or {}), 20, hub.failing)
        await asyncio.to_thread(own_rabbitmq.restart)

    try:
        await hub.ready()
        await traffic.during(kill_and_restart)
        await traffic.has_arrived()
        await hub.ready()
    finally:
        hub.end()
    assert (await audit(mortal_broker))["clean"]


async def test_the_database_dies(
    own_postgresql: PrivatePostgreSQL, mortal_database: Installation, tmp_path: Path
) -> None:
    hub = HubProcess(mortal_database, tmp_path / "hub.log", **QUICK).start()

    async def kill_and_restart() -> None:
        await asyncio.to_thread(own_postgresql.kill)
        await eventually(lambda: "database" in (hub.failing() or {}), 20, hub.failing)
        await asyncio.to_thread(own_postgresql.restart)

    try:
        async with Agencies(mortal_database, tmp_path) as agencies:
            traffic = Traffic(agencies, [])
            await hub.ready()
            await traffic.during(kill_and_restart)
            await traffic.has_arrived()
            await hub.ready()
    finally:
        hub.end()
    assert (await audit(mortal_database))["clean"]


async def test_sigterm_drains_and_settles(installation: Installation, agencies: Agencies, tmp_path: Path) -> None:
    """Stopped in the middle of traffic, the hub ends with code 0; the next one finds everything as it must be."""
    hub = HubProcess(installation, tmp_path / "hub.log", **QUICK).start()
    traffic = Traffic(agencies, [])

    async def stop_and_start() -> None:
        assert await asyncio.to_thread(hub.stop) == 0
        assert "hub.stopped" in hub.log()
        assert (await audit(installation))["clean"]
        hub.start()

    try:
        await hub.ready()
        await traffic.during(stop_and_start)
        await traffic.has_arrived()
    finally:
        hub.end()
    assert "Traceback" not in hub.log()
    assert (await audit(installation))["clean"]
