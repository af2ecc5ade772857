"""A folder adapter in the process of the test: real places, journal and client; the broker is wherever the test says."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from adapters.client import AgencyClient
from adapters.examination import Examiner
from adapters.folder.drafting import Examiners
from adapters.folder.incoming import Incoming
from adapters.folder.journal import Journal
from adapters.folder.outgoing import Outgoing
from adapters.folder.places import Places
from adapters.inbox_guard import InboxGuard
from adapters.trust import Trust
from schemas.identifiers import AgencyCode
from tests.keys import agency_keys

NOWHERE = "amqp://{code}:none@127.0.0.1:1/"


@dataclass(frozen=True, slots=True)
class StillExaminer:
    """The same examiner at any time."""

    examiner: Examiner

    def present(self) -> Examiner:
        return self.examiner


@dataclass
class Folder:
    """A folder adapter, and the root of its folders."""

    root: Path
    outgoing: Outgoing
    incoming: Incoming

    def put(self, name: str, data: bytes) -> Path:
        path = self.root / "outbox" / name
        path.write_bytes(data)
        return path

    def names(self, place: str) -> list[str]:
        return sorted(path.name for path in (self.root / place).iterdir() if ".reason." not in path.name)

    def files(self) -> dict[str, str]:
        """Every file but reasons, with the digest of its bytes."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*")
            if path.is_file() and ".reason." not in path.name
        }

    async def send_all(self) -> None:
        while await self.outgoing.turn():
            pass


def make_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


@asynccontextmanager
async def open_folder(
    home: Path,
    directory_file: Path,
    clock: Callable[[], datetime],
    *,
    code: str,
    amqp_url: str | None = None,
    hub_url: str | None = None,
    examiner: Examiner | None = None,
    settle_s: float = 0,
) -> AsyncIterator[Folder]:
    """Open a folder adapter over the files of a folder; closed and opened again, it is the same one."""
    make_folder(home)
    trust = Trust(directory_file)
    party = AgencyCode(code)
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(InboxGuard(home / "guard.db"))
        journal = stack.enter_context(Journal(home / "folder.db"))
        client = AgencyClient(
            amqp_url or NOWHERE.format(code=code),
            code,
            agency_keys(code).signer,
            trust,
            guard,
            hub_url=hub_url,
            publish_timeout_s=5 if amqp_url else 0.1,
            confirm_timeout_s=3,
            part_timeout_s=5,
            clock=clock,
        )
        await stack.enter_async_context(client)
        places = Places(home / "van-ban")
        places.open()
        examiners = Examiners(trust, party, clock) if examiner is None else StillExaminer(examiner)
        outgoing = Outgoing(
            client=client,
            code=party,
            journal=journal,
            places=places,
            examiners=examiners,  # type: ignore[arg-type]
            clock=clock,
            settle_s=settle_s,
        )
        yield Folder(home / "van-ban", outgoing, Incoming(outgoing))
