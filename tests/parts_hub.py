"""The hub's API for parts in the process of the test: real application, real server, whatever store is given."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hub.parts import Blobs, Parts, Register
from hub.telemetry.health import Health
from hub.web.api.api import Api, CatchUps, Transfers
from hub.web.app import create_app
from hub.web.server import bind, serve
from schemas.checks.directory import Directory, snapshot
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.grant import GRANT_TYP
from schemas.refusal import Problem
from schemas.signing import sign
from tests.keys import agency_keys

SINCE = "2025-07-01"
SENDER, PROVINCE, COMMUNE, STRANGER, PLATFORM = "G22", "H26", "H26.02.003", "H31", "lgsp-h26"
THROUGH_PLATFORM = "H26.01"
MAX_BYTES = 64 * 1024 * 1024


def directory() -> Directory:
    """Five agencies, one of them behind a platform."""
    endpoints = {code: code for code in (SENDER, PROVINCE, COMMUNE, STRANGER)} | {THROUGH_PLATFORM: PLATFORM}
    file = DirectoryFile(
        agencies=tuple(
            AgencyEntry(code=code, name=code, tier="ministry-province", endpoint=endpoint, valid_from=SINCE)
            for code, endpoint in endpoints.items()
        ),
        platforms=(PlatformEntry(code=PLATFORM, name="LGSP", valid_from=SINCE),),
        mandates=(MandateEntry(platform=PLATFORM, agency=THROUGH_PLATFORM, actions=("new",), valid_from=SINCE),),
        certificates=tuple(agency_keys(code).entry(code) for code in {*endpoints, PLATFORM}),
    )
    return snapshot(file, epoch=1, as_of=datetime.now(UTC))


@dataclass(slots=True)
class StillDirectory:
    """Where the snapshot is kept."""

    snapshot: Directory

    def current(self) -> Directory:
        return self.snapshot


class NobodySilent:
    """What no ledger knows."""

    async def since(self, agency: str) -> None:
        """Everybody answers."""


class NobodyCatchesUp:
    """A hub without a ledger has nothing to hand out again."""

    async def begin(self, agency: str, since: datetime, *, signer: str, now: datetime) -> Problem:
        return Problem("E423")

    async def latest(self, agency: str) -> None:
        """There is none."""


@dataclass(slots=True)
class PartsHub:
    """A hub that serves parts.

    Attributes:
        url: Root of its API.
        parts: What it serves.
        api: What its routes work with.
    """

    url: str
    parts: Parts
    api: Api

    def address(self, sha256: str) -> str:
        return f"{self.url}/v1/parts/{sha256}"


def grant(
    agency: str, act: str, part: str | None, document: str | None = None, *, signer: str | None = None, **changes: Any
) -> dict[str, str]:
    """The header of a request with a fresh grant."""
    now_s = int(datetime.now(UTC).timestamp())
    members = {"v": 1, "from": agency, "act": act, "part": part, "document": document, "until": now_s + 300}
    if signer is not None and signer != agency:
        members["via"] = signer
    members = {key: value for key, value in (members | changes).items() if value is not None}
    iat_s = now_s + members.pop("iat", 0)
    return {"Authorization": f"Bearer {signed_grant(members, signer or agency, iat_s)}"}


def signed_grant(members: dict[str, Any], signer: str, iat_s: int) -> str:
    payload = json.dumps(members).encode()
    return sign(payload, typ=GRANT_TYP, signer=agency_keys(signer).signer, now_s=iat_s).decode()


@asynccontextmanager
async def serving(
    blobs: Blobs,
    register: Register,
    *,
    who_is_who: Directory | None = None,
    uploads: int = 16,
    downloads: int = 16,
    max_bytes: int = MAX_BYTES,
    catch_ups: CatchUps | None = None,
) -> AsyncIterator[PartsHub]:
    """Serve parts on a free port, to the agencies of `directory()` or others."""

    def clock() -> datetime:
        return datetime.now(UTC)

    parts = Parts(blobs, register, max_bytes, clock)
    api = Api(
        parts,
        StillDirectory(who_is_who or directory()),
        NobodySilent(),
        catch_ups or NobodyCatchesUp(),
        Transfers(uploads),
        Transfers(downloads),
        max_bytes,
        clock,
    )
    stop = asyncio.Event()
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        task = asyncio.create_task(serve(create_app(Health(), api=api), listener, stop))
        try:
            yield PartsHub(f"http://127.0.0.1:{listener.getsockname()[1]}", parts, api)
        finally:
            stop.set()
            await task
