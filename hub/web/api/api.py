"""What the routes work with. The application keeps it, so that a route is a plain function of a request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fastapi import FastAPI, Request

from hub.core.grant import Granted
from hub.core.part import Kept, Progress, Upload
from hub.web.api.answers import ProblemsError
from schemas.catch_up import CatchUp
from schemas.checks.directory import Directory
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem


class Parts(Protocol):
    """The hub's parts, as `hub.parts` keeps them."""

    async def progress(self, upload: Upload) -> Progress:
        """Say how far an upload has got."""

    async def append(
        self, upload: Upload, body: AsyncIterator[bytes], *, offset: int, length: int, is_last: bool
    ) -> Progress | Problem:
        """Take the bytes of one request."""

    async def fetch(self, granted: Granted) -> Kept | None:
        """Find the part that a grant asks for; `None` when its agency may not have it."""

    def read(self, part: Kept, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a range of a part."""


class Silence(Protocol):
    """What the ledger knows about agencies that do not answer."""

    async def since(self, agency: AgencyCode) -> datetime | None:
        """Say since when documents wait for an agency while nothing was heard of it."""


class CatchUps(Protocol):
    """What agencies ask by themselves: to get again what they had."""

    async def begin(
        self, agency: AgencyCode, since: datetime, *, signer: AgencyCode, now: datetime
    ) -> CatchUp | Problem:
        """Begin a catch-up, or say which one is meant or why none may begin."""

    async def latest(self, agency: AgencyCode) -> CatchUp | None:
        """Say how far the newest catch-up of an agency is."""


class Directories(Protocol):
    """Where the current snapshot is kept."""

    def current(self) -> Directory:
        """Give the snapshot; raises `Stale` when it is older than allowed."""


class Transfers:
    """Places for transfers; each needs a few megabytes of memory, so there are only so many.

    Args:
        at_once: Most transfers at a time.
    """

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take a place; raises `ProblemsError` (E904) when there is none."""
        if self._places.locked():
            raise ProblemsError(Problem("E904"))
        async with self._places:
            yield


@dataclass(frozen=True, slots=True)
class Api:
    """Everything that the routes need.

    Attributes:
        parts: The hub's parts.
        directories: Who is who.
        silence: Who does not answer.
        catch_ups: Who gets again what it had.
        uploads: Places for uploads.
        downloads: Places for downloads.
        max_part_bytes: Largest part that is taken.
        clock: The present.
    """

    parts: Parts
    directories: Directories
    silence: Silence
    catch_ups: CatchUps
    uploads: Transfers
    downloads: Transfers
    max_part_bytes: int
    clock: Callable[[], datetime]

    def serve(self, app: FastAPI) -> None:
        """Let the routes of an application find this."""
        app.state.api = self

    @staticmethod
    def of(request: Request) -> "Api":
        """Give what the application of a request works with."""
        api = request.app.state.api
        assert isinstance(api, Api)
        return api
