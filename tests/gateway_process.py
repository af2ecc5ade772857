"""The gateway as a process of its own, as a platform runs it."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from hub.installation import Installation
from schemas.identifiers import AgencyCode
from tests.hub_process import eventually, free_port

ROOT = Path(__file__).parents[1]


class GatewayProcess:
    """`truc-agency gateway` for one endpoint of an installation."""

    def __init__(self, installation: Installation, code: str, folder: Path, **settings: object) -> None:
        account = installation.accounts[AgencyCode(code)]
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=70)
        given = {
            "amqp_url": account.amqp_url,
            "code": code,
            "key_file": account.key_file,
            "certificate_file": account.certificate_file,
            "directory_file": installation.directory_file,
            "hub_url": account.hub_url,
            "guard_file": folder / "guard.db",
            "mailbox_file": folder / "mailbox.db",
            "gateway_port": self.url.rpartition(":")[2],
            "confirm_timeout_s": 3,
            **settings,
        }
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **{f"TRUC_AGENCY_{name.upper()}": str(value) for name, value in given.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "adapters", "gateway"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    async def ready(self) -> None:
        async def answers() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return (await self.http.get("/v1/openapi.json")).is_success
            return False

        await eventually(answers, 30, self.log)

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    async def submit(self, draft: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        answer = await self.http.post(
            "/v1/documents",
            content=json.dumps(draft).encode(),
            headers={"Idempotency-Key": key or uuid.uuid4().hex, "Content-Type": "application/json"},
        )
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def submit_packet(self, packet: bytes, key: str | None = None) -> httpx2.Response:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex, "Content-Type": "application/edxml+xml"}
        return await self.http.post("/v1/documents", content=packet, headers=headers)

    async def deliveries(self, **query: Any) -> dict[str, Any]:
        answer = await self.http.get("/v1/deliveries", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def answer(self, delivery: str, **members: Any) -> None:
        answer = await self.http.post(f"/v1/deliveries/{delivery}/receipt", json={"outcome": "received", **members})
        assert answer.status_code == 200, answer.text

    async def document(self, document: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/documents/{document}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def outcomes(self, document: str) -> dict[str, str | None]:
        """What each recipient of a document has answered."""
        state = await self.document(document)
        return {each["code"]: each.get("outcome") for each in state["recipients"]}


@asynccontextmanager
async def running(gateway: GatewayProcess) -> AsyncIterator[GatewayProcess]:
    await asyncio.to_thread(gateway.start)
    try:
        await gateway.ready()
        yield gateway
    finally:
        await gateway.http.aclose()
        assert gateway.process is not None
        if gateway.process.poll() is None:
            gateway.kill()
