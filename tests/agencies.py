"""Agencies for journeys and faults: the real client, listening in the background, remembering what it was given."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from adapters.client import AgencyClient, Delivery, Letter, Rejected
from adapters.errors import AgencyError
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from hub.installation import Installation
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.envelope import DocumentFacts, Envelope, Part, Signer, new_envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import Notice, Receipt
from tests.hub_process import eventually

MINISTRY, PROVINCE, DEPARTMENT, COMMUNE = "G22", "H26", "H26.01", "H26.101"
PLATFORM = "lgsp-h26"
SINCE = "2025-07-01"

COUNTRY = DirectoryFile(
    agencies=(
        AgencyEntry(
            code=MINISTRY, name="Văn phòng Chính phủ", tier="ministry-province", endpoint=MINISTRY, valid_from=SINCE
        ),
        AgencyEntry(
            code=PROVINCE, name="UBND thành phố Hà Nội", tier="ministry-province", endpoint=PROVINCE, valid_from=SINCE
        ),
        AgencyEntry(
            code=DEPARTMENT,
            name="Sở Nội vụ",
            tier="department-district",
            parent=PROVINCE,
            endpoint=PLATFORM,
            valid_from=SINCE,
        ),
        AgencyEntry(
            code=COMMUNE,
            name="UBND phường Tân Hòa",
            tier="commune",
            parent=PROVINCE,
            endpoint=COMMUNE,
            valid_from=SINCE,
        ),
    ),
    platforms=(PlatformEntry(code=PLATFORM, name="Nền tảng của Hà Nội", valid_from=SINCE),),
    mandates=(MandateEntry(platform=PLATFORM, agency=DEPARTMENT, actions=("new", "update"), valid_from=SINCE),),
)
RECIPIENTS = (PROVINCE, DEPARTMENT, COMMUNE)


def facts(number: int = 1, **changes: Any) -> DocumentFacts:
    values = {
        "number": str(number),
        "notation": "VPCP-TTĐT",
        "kind": "Công văn",
        "subject": "Về việc kết nối, liên thông các hệ thống quản lý văn bản và điều hành",
        "issued_on": "2026-11-23",
        "signer": Signer(name="Nguyễn Văn An", position="Chánh Văn phòng", competence="KT."),
    } | changes
    return DocumentFacts(**values)


def document(
    now_s: int, number: int = 1, *, to: Sequence[str] = RECIPIENTS, from_: str = MINISTRY, **changes: Any
) -> Envelope:
    part = Part(name="van-ban.pdf", media_type="application/pdf", sha256="ab" * 32, length=123_456)
    return new_envelope(from_=from_, to=to, doc=facts(number), now_s=now_s, parts=(part,), **changes)


class Agencies:
    """Every endpoint of an installation, connected and listening.

    Attributes:
        handed_over: How often each delivery reached an application.
        receipts: Receipts that came back to each agency.
        notices: Notices that came to each agency.
        trouble: Errors that ended a listener.
    """

    def __init__(self, installation: Installation, folder: Path, *, amqp_url: str | None = None) -> None:
        self.installation = installation
        self.folder = folder
        self.clients: dict[str, AgencyClient] = {}
        self.handed_over: Counter[DeliveryId] = Counter()
        self.documents: Counter[tuple[str, DocumentId]] = Counter()
        self.receipts: dict[str, list[Receipt]] = {}
        self.notices: dict[str, list[Notice]] = {}
        self.rejected: list[Rejected] = []
        self.trouble: list[AgencyError] = []
        self.mute: set[str] = set()
        self._ending = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        trust = Trust(self.installation.directory_file)
        for code, account in self.installation.accounts.items():
            guard = self._ending.enter_context(InboxGuard(self.folder / f"{code}.guard"))
            signer = load_signer(account.key_file, account.certificate_file)
            client = AgencyClient(
                account.amqp_url, code, signer, trust, guard, confirm_timeout_s=3, connect_timeout_s=5
            )
            self.clients[code] = await self._ending.enter_async_context(client)
            self._tasks.append(asyncio.create_task(self._listen(code, client)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ending.aclose()

    async def _listen(self, code: str, client: AgencyClient) -> None:
        """Listen for ever; what a broken connection interrupts is answered when it comes again."""
        while True:
            try:
                async for arrival in client.arrivals():
                    await self._take(code, arrival)
            except AgencyError as error:
                self.trouble.append(error)
                await asyncio.sleep(0.2)

    async def _take(self, code: str, arrival: Delivery | Letter | Rejected) -> None:
        match arrival:
            case Delivery() if code in self.mute:
                return
            case Delivery():
                async with arrival:
                    self.handed_over[arrival.delivery_id] += 1
                    self.documents[arrival.recipient, arrival.document_id] += 1
            case Letter(content=Receipt() as receipt):
                async with arrival:
                    self.receipts.setdefault(code, []).append(receipt)
            case Letter(content=Notice() as notice):
                async with arrival:
                    self.notices.setdefault(code, []).append(notice)
            case Rejected():
                self.rejected.append(arrival)

    async def everyone_has(
        self, documents: Sequence[DocumentId], timeout_s: float, recipients: Sequence[str] = RECIPIENTS
    ) -> None:
        """Wait until each recipient was handed each document."""

        def missing() -> list[tuple[str, DocumentId]]:
            pairs = ((AgencyCode(recipient), item) for recipient in recipients for item in documents)
            return [pair for pair in pairs if not self.documents[pair]]

        await eventually(lambda: not missing(), timeout_s, lambda: f"{len(missing())} missing: {missing()[:5]}")

    async def all_receipts_are_back(
        self, documents: int, timeout_s: float, sender: str = MINISTRY, each: int = 3
    ) -> None:
        """Wait until the sender has the receipts of all recipients."""

        def count() -> int:
            return sum(len(receipt.answers) for receipt in self.receipts.get(sender, []))

        await eventually(lambda: count() >= documents * each, timeout_s, lambda: f"{count()} of {documents * each}")
