"""A hub of its own to measure: private servers, a directory, accounts; processes of the hub come and go on it."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.dev.servers import Servers, run_directory
from hub.installation import Installation, install
from schemas.directory_file import DirectoryFile
from tests.bench.full_path import NOWHERE


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a benchmark takes place.

    Attributes:
        servers: The broker and the database.
        installation: The hub set up on them.
        folder: For files of the benchmark.
    """

    servers: Servers
    installation: Installation
    folder: Path


@contextmanager
def stage(country: DirectoryFile) -> Iterator[Stage]:
    """Set a hub up for the agencies of a country; everything is removed at the end."""
    with run_directory("files") as folder, Servers(purpose="bench") as servers:
        installation = asyncio.run(
            install(
                amqp_url=servers.amqp_url,
                management_url=servers.management_url,
                database_url=servers.database_url,
                hub_url=NOWHERE,
                folder=folder / "installation",
                country=country,
            )
        )
        yield Stage(servers, installation, folder)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The four figures that a distribution of seconds is described by, in milliseconds."""
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in _SHARES.items()}
    return {name: round(1000 * value, 1) for name, value in at.items()}


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
