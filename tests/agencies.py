"""Agencies for journeys and faults: the real client, listening in the background, remembering what it was given."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.client import AgencyClient
from adapters.errors import AgencyError
from adapters.inbox_guard import InboxGuard
from adapters.signer import load_signer
from adapters.trust import Trust
from hub.installation import Installation
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.envelope import DocumentFacts, Envelope, Signer, new_envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
from schemas.receipt import Notice, Receipt, Status
from schemas.signing import KeySigner
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
    return new_envelope(from_=from_, to=to, doc=facts(number), now_s=now_s, **changes)


class Agencies:
    """Every endpoint of an installation, connected and listening.

    Attributes:
        handed_over: How often each delivery reached an application.
        receipts: Receipts that came back to each agency.
        statuses: Statuses that came to each agency.
        notices: Notices that came to each agency.
        trouble: Errors that ended a listener.
        mute: Agencies that take documents and never answer.
        refusing: Agencies that refuse every document for good.
        failing: How many documents an agency will fail to process before it recovers.
        before_receipt: Something more that every application does with a delivery before it is answered.
    """

    def __init__(self, installation: Installation, folder: Path, *, amqp_url: str | None = None) -> None:
        self.installation = installation
        self.folder = folder
        self.clients: dict[str, AgencyClient] = {}
        self.handed_over: Counter[DeliveryId] = Counter()
        self.documents: Counter[tuple[str, DocumentId]] = Counter()
        self.receipts: dict[str, list[Receipt]] = {}
        self.statuses: dict[str, list[Status]] = {}
        self.notices: dict[str, list[Notice]] = {}
        self.rejected: list[Rejected] = []
        self.trouble: list[AgencyError] = []
        self.signers: dict[str, KeySigner] = {}
        self.mute: set[str] = set()
        self.refusing: set[str] = set()
        self.failing: Counter[str] = Counter()
        self.before_receipt: Callable[[str, Delivery], Awaitable[None]] | None = None
        self._endings: dict[str, AsyncExitStack] = {}

    async def __aenter__(self) -> Self:
        for code in self.installation.accounts:
            await self.join(code)
        return self

    async def __aexit__(self, *_: object) -> None:
        for code in list(self._endings):
            await self.leave(code)

    async def join(self, code: str) -> None:
        """Start the adapter of an endpoint."""
        account = self.installation.accounts[AgencyCode(code)]
        ending = AsyncExitStack()
        guard = ending.enter_context(InboxGuard(self.folder / f"{code}.guard"))
        self.signers[code] = load_signer(account.key_file, account.certificate_file)
        client = AgencyClient(
            account.amqp_url,
            code,
            self.signers[code],
            Trust(self.installation.directory_file),
            guard,
            hub_url=account.hub_url,
            confirm_timeout_s=3,
            connect_timeout_s=5,
            part_timeout_s=10,
        )
        self.clients[code] = await ending.enter_async_context(client)
        listening = asyncio.create_task(self._listen(code, client))

        async def end() -> None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

        ending.push_async_callback(end)
        self._endings[code] = ending

    async def leave(self, code: str) -> None:
        """Stop the adapter of an endpoint; what it has not answered goes back to its queue."""
        await self._endings.pop(code).aclose()

    async def restart(self, code: str) -> None:
        """Stop the adapter of an endpoint, if it runs, and start it again."""
        if code in self._endings:
            await self.leave(code)
        await self.join(code)

    async def lose_disk(self, code: str) -> None:
        """Let an endpoint lose all that it knew of what it was handed, and go on."""
        await self.leave(code)
        for lost in self.folder.glob(f"{code}.guard*"):
            lost.unlink()
        await self.join(code)

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
            case Delivery() if code in self.refusing:
                await self.clients[code].receipt(
                    arrival, "refused", code="SAI-NOI-NHAN", detail="Không thuộc thẩm quyền"
                )
            case Delivery() if self.failing[code] > 0:
                self.failing[code] -= 1
                await self.clients[code].receipt(arrival, "failed", code="DIA-DAY", detail="Đĩa đầy")
            case Delivery():
                async with arrival:
                    if self.before_receipt is not None:
                        await self.before_receipt(code, arrival)
                    self.handed_over[arrival.delivery_id] += 1
                    self.documents[arrival.recipient, arrival.document_id] += 1
            case Letter(content=Receipt() as receipt):
                async with arrival:
                    self.receipts.setdefault(code, []).append(receipt)
            case Letter(content=Status() as status):
                async with arrival:
                    self.statuses.setdefault(code, []).append(status)
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
