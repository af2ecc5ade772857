"""A database that answers and will not: it takes no changes, or cannot hold a value."""

import asyncio
import time
from pathlib import Path

import aio_pika

from hub.installation import Installation
from schemas.addresses import DEAD, SUBMIT, submit_key
from schemas.identifiers import AgencyCode
from tests.agencies import MINISTRY, Agencies, document
from tests.faults.conftest import audit
from tests.hub_process import HubProcess, eventually
from tests.services import run_sql

CUT_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def test_a_database_that_takes_no_changes_only_delays(
    hub: HubProcess, installation: Installation, agencies: Agencies
) -> None:
    """As after a failover to a standby. Each time that mail is taken in vain, the broker counts it."""
    url = installation.settings["database_url"]
    name = url.rpartition("/")[2].partition("?")[0]
    await run_sql(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await run_sql(url, CUT_OTHERS)
    sent = [await agencies.clients[MINISTRY].submit(document(int(time.time()), number)) for number in range(3)]
    await eventually(lambda: "takes no changes" in (hub.failing() or {}).get("database", ""), 10, hub.failing)
    await asyncio.sleep(8)
    in_vain = [line for line in hub.log().splitlines() if '"loop": "intake"' in line and "ReadOnly" in line]
    assert len(in_vain) <= 2, in_vain
    await run_sql(url, f"BEGIN READ WRITE; ALTER DATABASE {name} RESET ALL; COMMIT")
    await run_sql(url, CUT_OTHERS)
    await agencies.everyone_has([each.document_id for each in sent], 30)
    assert (await audit(installation))["clean"]


async def test_a_submission_that_expired_in_the_queue_with_an_unstorable_id_blocks_no_other(
    installation: Installation, tmp_path: Path
) -> None:
    account = installation.accounts[AgencyCode(MINISTRY)]
    connection = await aio_pika.connect(account.amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(SUBMIT, ensure=False)
        for number, message_id in enumerate(("1", "a\0b", "3")):
            message = aio_pika.Message(
                f"body {number}".encode(), user_id=MINISTRY, message_id=message_id, expiration=0.001
            )
            await exchange.publish(message, submit_key("document", MINISTRY))
    hub = HubProcess(installation, tmp_path / "hub.log", "returns").start()
    try:
        await eventually(lambda: hub.log().count("submission.parked") == 3, 30, hub.log)
    finally:
        hub.end()
    connection = await aio_pika.connect(installation.settings["amqp_url"])
    async with connection:
        declared = await (await connection.channel()).declare_queue(DEAD, passive=True)
        assert declared.declaration_result.message_count == 0
