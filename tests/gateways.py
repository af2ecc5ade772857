"""A gateway to be asked by tests: the real application, mailbox and client; the broker is wherever the test says."""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from adapters.client import AgencyClient
from adapters.gateway.app import create_app
from adapters.gateway.entrance import Entrance
from adapters.gateway.index import DirectoryIndex
from adapters.gateway.office import Office
from adapters.gateway.serve import empty_folder
from adapters.inbox_guard import InboxGuard
from adapters.inquiry import Inquiry
from adapters.mailbox import Arrived, Kept, Mailbox
from adapters.trust import Trust
from schemas.identifiers import AgencyCode, delivery_id_of
from schemas.signing import identity
from tests.keys import agency_keys
from tests.played_hub import directory, envelope, signed

NOWHERE = "amqp://{code}:none@127.0.0.1:1/"
SENDER, AGENCY, OTHER, PLATFORM = (
    AgencyCode(code) for code in ("Z99.GATEWAY.1", "Z99.GATEWAY.2", "Z99.GATEWAY.3", "lgsp-gateway")
)
TOKEN = "token-for-tests"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Counter:
    """A gateway and somebody who asks it.

    Attributes:
        office: The gateway's inside.
        http: Asks it, without a network between.
        app: What is asked.
    """

    office: Office
    http: httpx2.AsyncClient
    app: FastAPI

    async def arrive(self, to: AgencyCode = AGENCY, **changes: Any) -> Kept:
        """Let a document arrive, as the loop that takes arrivals would."""
        arrived = document_for(to, **changes)
        await self.office.mailbox.keep(arrived, now())
        self.office.arrived.ring()
        kept = await self.office.mailbox.find(arrived.delivery_id)
        assert kept is not None
        return kept

    async def submit(self, draft: dict[str, Any], key: str | None = None, **headers: str) -> httpx2.Response:
        return await self.http.post(
            "/v1/documents",
            content=json.dumps(draft, ensure_ascii=False).encode(),
            headers={"Idempotency-Key": key or uuid.uuid4().hex, "Content-Type": "application/json", **headers},
        )

    async def answer(self, delivery: object, **members: Any) -> httpx2.Response:
        return await self.http.post(f"/v1/deliveries/{delivery}/receipt", json={"outcome": "received", **members})


def document_for(to: AgencyCode = AGENCY, **changes: Any) -> Arrived:
    """Make a document as it is written down."""
    document = envelope(SENDER, to, **changes)
    token = signed(document)
    document_id = identity(token)
    summary = {
        "number": document.doc.printed_number,
        "kind": document.doc.kind,
        "subject": document.doc.subject,
        "issued_on": document.doc.issued_on,
        "urgency": document.doc.urgency,
        "action": document.action,
        "expires": document.expires,
        "parts": len(document.parts),
    }
    text = json.dumps(summary, ensure_ascii=False)
    return Arrived(delivery_id_of(document_id, to), "document", to, SENDER, document_id, text, token)


def draft(*to: str, **changes: Any) -> dict[str, Any]:
    doc = {
        "kind": "Công văn",
        "subject": "Về việc kết nối",
        "issued_on": "2026-07-01",
        "signer": {"name": "Nguyễn Văn An"},
    }
    return {"to": list(to or (SENDER,)), "doc": doc, **changes}


def make_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def write_directory(folder: Path) -> Path:
    file = folder / "directory.json"
    file.write_bytes(directory(SENDER, AGENCY, OTHER, PLATFORM))
    return file


@asynccontextmanager
async def open_counter(
    folder: Path,
    *,
    code: AgencyCode = AGENCY,
    amqp_url: str | None = None,
    hub_url: str | None = None,
    directory_file: Path | None = None,
    tokens: bool = False,
    announces: bool = False,
    max_requests: int = 100,
    max_waiting: int = 1000,
) -> AsyncIterator[Counter]:
    """Open a gateway over the files of a folder; closed and opened again, it is the same one."""
    make_folder(folder)
    trust = Trust(directory_file or write_directory(folder))
    async with AsyncExitStack() as stack:
        mailbox = stack.enter_context(Mailbox(folder / "mailbox.db", announces=announces))
        guard = stack.enter_context(InboxGuard(folder / "guard.db"))
        client = AgencyClient(
            amqp_url or NOWHERE.format(code=code),
            code,
            agency_keys(code).signer,
            trust,
            guard,
            hub_url=hub_url,
            part_timeout_s=5,
            publish_timeout_s=5 if amqp_url else 0.1,
            confirm_timeout_s=3,
        )
        await stack.enter_async_context(client)
        spool = empty_folder(folder / "spool")
        office = Office(client, code, mailbox, DirectoryIndex(trust, now), spool, now, max_waiting)
        if hub_url is not None:
            office.inquiry = Inquiry(hub_url, code, agency_keys(code).signer, clock=now)
            stack.push_async_callback(office.inquiry.close)
        known = {hashlib.sha256(TOKEN.encode()).hexdigest(): "thử"} if tokens else {}
        app = create_app(office, Entrance(known, max_requests))
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        http = httpx2.AsyncClient(transport=transport, base_url="http://localhost")
        await stack.enter_async_context(http)
        yield Counter(office, http, app)
