"""A network that swallows some frames and says nothing: confirms only, deliveries only, everything."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hub.dev.rabbitmq import PrivateRabbitMQ
from hub.installation import Installation
from tests.agencies import Agencies
from tests.faults.conftest import Traffic, audit
from tests.faults.proxy import Hole, Proxy
from tests.hub_process import HubProcess, eventually

QUICK = {"receipt_deadline_s": 8, "retry_delay_s": 0.5, "confirm_timeout_s": 2}


@pytest.mark.parametrize("hole", ["confirms", "deliveries", "everything"])
async def test_frames_between_broker_and_hub_are_swallowed(
    hole: Hole, installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    async with Proxy(installation.settings["amqp_url"]) as proxy:
        behind = replace(installation, settings={**installation.settings, "amqp_url": proxy.url})
        hub = HubProcess(behind, tmp_path / "hub.log", **QUICK).start()
        traffic = Traffic(agencies, [])

        async def swallow() -> None:
            proxy.hole = hole
            await asyncio.sleep(6)
            proxy.hole = "nothing"
            proxy.cut()  # TCP itself would never go on after a gap

        try:
            await hub.ready()
            await traffic.during(swallow)
            await traffic.has_arrived()
        finally:
            hub.end()
        assert proxy.swallowed > 0
    assert (await audit(installation))["clean"]


async def test_confirms_swallowed_for_longer_than_the_hub_waits_give_duplicates_that_the_guard_drops(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    async with Proxy(installation.settings["amqp_url"]) as proxy:
        behind = replace(installation, settings={**installation.settings, "amqp_url": proxy.url})
        hub = HubProcess(behind, tmp_path / "hub.log", **QUICK).start()
        traffic = Traffic(agencies, [])
        try:
            await hub.ready()
            proxy.hole = "confirms"
            await traffic.go_on(5)
            await eventually(lambda: "delivery.unsure" in hub.log(), 15, hub.log)
            proxy.hole = "nothing"
            await traffic.has_arrived()
        finally:
            hub.end()
    assert (await audit(installation))["clean"]


async def test_a_memory_alarm_of_the_broker_only_delays(
    own_rabbitmq: PrivateRabbitMQ, mortal_broker: Installation, mortal_agencies: Agencies, tmp_path: Path
) -> None:
    hub = HubProcess(mortal_broker, tmp_path / "hub.log", **QUICK).start()
    traffic = Traffic(mortal_agencies, [])

    async def alarm() -> None:
        await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            await eventually(lambda: "alarm" in (hub.failing() or {}).get("broker", ""), 30, hub.failing)
        finally:
            await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.6")

    try:
        await hub.ready()
        await traffic.during(alarm)
        await traffic.has_arrived()
        await hub.ready()
    finally:
        hub.end()
    assert (await audit(mortal_broker))["clean"]
