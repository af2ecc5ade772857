"""One hub with its agencies for all tests of a file; each test has agencies of its own in it."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from hub.installation import Installation, install
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP
from tests.agencies import MINISTRY, SINCE, Agencies
from tests.command_line import truc
from tests.hub_process import HubProcess, eventually, free_port
from tests.services import Broker, ask_sql, run_sql, with_path


@dataclass(frozen=True, slots=True)
class Scene:
    """A running hub, the agencies that it serves, and the part of the broker in which both are."""

    installation: Installation
    agencies: Agencies
    hub: HubProcess
    vhost: Broker

    async def ask(self, query: str) -> list[asyncpg.Record]:
        """Ask the database."""
        return await ask_sql(self.installation.settings["database_url"], query)

    async def states(self, *recipients: str) -> dict[str, int]:
        """Count the deliveries of documents to some recipients by their state."""
        rows = await self.ask(
            "SELECT state, count(*) AS number FROM deliveries "
            f"WHERE typ = '{ENVELOPE_TYP}' AND recipient IN ({', '.join(map(repr, recipients))}) GROUP BY state"
        )
        return {row["state"]: row["number"] for row in rows}

    async def until(self, expected: dict[str, int], *recipients: str, timeout_s: float = 20) -> None:
        """Wait until all deliveries of documents to some recipients are in these states."""
        seen: dict[str, int] = {}

        async def looked() -> bool:
            seen.clear()
            seen.update(await self.states(*recipients))
            return seen == expected

        await eventually(looked, timeout_s, lambda: f"{seen} {self.hub.log()[-3000:]}")

    async def change_directory(self, change: Callable[[DirectoryFile], DirectoryFile]) -> None:
        """Import a changed directory as an operator does, give it to the agencies, and wait until the hub has read it."""
        file = self.installation.directory_file
        new = file.with_suffix(".new")
        new.write_bytes(change(DirectoryFile.model_validate_json(file.read_bytes())).to_json())
        before = self.hub.log().count('"directory.read"')
        await truc(self.installation, "directory", "import", str(new), "--yes")
        new.replace(file)
        await eventually(lambda: self.hub.log().count('"directory.read"') > before, 10, self.hub.log)


@asynccontextmanager
async def shared_hub(
    rabbitmq: Broker,
    postgresql: str,
    template: str,
    folder: Path,
    country: DirectoryFile,
    *loops: str,
    **settings: object,
) -> AsyncIterator[Scene]:
    """Set a hub up in a vhost and a database of its own, and run it."""
    database = f"truc_test_{secrets.token_hex(6)}"
    await run_sql(postgresql, f"CREATE DATABASE {database} TEMPLATE {template}")
    try:
        with rabbitmq.fresh_vhost() as vhost:
            installation = await install(
                amqp_url=vhost.amqp_url,
                management_url=vhost.management_url,
                database_url=with_path(postgresql, database),
                hub_url=f"http://127.0.0.1:{free_port()}",
                folder=folder / "installation",
                country=country,
            )
            hub = HubProcess(installation, folder / "hub.log", *loops, at_hub_url=True, **settings).start()
            try:
                async with Agencies(installation, folder) as agencies:
                    yield Scene(installation, agencies, await hub.ready(), vhost)
            finally:
                hub.end()
    finally:
        await run_sql(postgresql, f"DROP DATABASE {database} WITH (FORCE)")


def country_of(*recipients: str) -> DirectoryFile:
    """The ministry that sends, a province, and agencies below it that receive; each with a queue of its own."""
    province = recipients[0].partition(".")[0]
    tiers = {MINISTRY: "ministry-province", province: "ministry-province"} | dict.fromkeys(recipients, "commune")
    return DirectoryFile(
        agencies=tuple(
            AgencyEntry(
                code=code,
                name=code,
                tier=tier,
                parent=province if code in recipients else None,
                endpoint=None if code == province else code,
                valid_from=SINCE,
            )
            for code, tier in tiers.items()
        )
    )
