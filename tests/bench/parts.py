"""Measures one large part up and down: MB/s, and the memory that it costs the hub and the client beyond their rest.

`make bench-parts` runs it with 1 GB: a private RabbitMQ and PostgreSQL, the hub as a process of its own with a local blob
store, and a client as another, both asked by the kernel for their greatest resident memory (VmHWM) before and after.
The last line on stdout is JSON. Exit code 1 when either needs more than the limit.

Files are written to the disk and synced, so the figures depend on it; `synced_mb_per_s` says what it can do.
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.dev.servers import Servers, run_directory
from hub.installation import Installation, install
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from schemas.envelope import Part
from schemas.identifiers import AgencyCode
from tests import builders as a
from tests.agencies import COUNTRY, MINISTRY, PROVINCE
from tests.hub_process import HubProcess, free_port

MIB = 1024 * 1024
LIMIT_MIB = 64
ROOT = Path(__file__).parents[2]


def high_water_mib(pid: int | str = "self") -> float:
    """The greatest resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def rest_mib(pid: int | str = "self") -> float:
    """What is resident at the moment; the greatest is counted anew from here."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return high_water_mib(pid)


def make_file(file: Path, length: int) -> float:
    """Write bytes that nothing can compress, have them on the disk; returns how fast that was, MB/s."""
    began = time.monotonic()
    block = os.urandom(MIB)
    with file.open("wb") as out:
        for number in range(length // MIB):
            out.write(number.to_bytes(8) + block[8:])
        out.flush()
        os.fsync(out.fileno())
    return length / 1e6 / (time.monotonic() - began)


async def transfer(act: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Do one transfer in this process; returns what it took."""
    from datetime import UTC, datetime

    from adapters.parts import PartStore
    from adapters.signer import load_signer

    code = AgencyCode(config["code"])
    signer = load_signer(Path(config["key_file"]), Path(config["certificate_file"]))
    store = PartStore(config["hub_url"], code, signer, clock=lambda: datetime.now(UTC))
    # What any transfer needs: modules, a connection. The large one is measured on top of it.
    await store.upload(b"warm up", name="small", media_type="text/plain", agency=code)
    file = Path(config["file"])
    rest = rest_mib()
    began = time.monotonic()
    if act == "upload":
        part = await store.upload(file, name="large.bin", media_type="application/octet-stream", agency=code)
    else:
        part = Part.model_validate(config["part"])
        await store.fetch(config["document"], part, file, agency=code)
    seconds = time.monotonic() - began
    await store.close()
    return {
        "part": part.model_dump(),
        "seconds": round(seconds, 2),
        "mb_per_s": round(part.length / 1e6 / seconds, 1),
        "rest_mib": round(rest, 1),
        "extra_mib": round(high_water_mib() - rest, 1),
    }


def run_client(act: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Do one transfer in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.parts", "--client", act]
    done = subprocess.run(command, input=json.dumps(config), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def measure(length: int, servers: Servers, folder: Path) -> dict[str, Any]:
    installation = await install(
        amqp_url=servers.amqp_url,
        management_url=servers.management_url,
        database_url=servers.database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=folder / "installation",
        country=COUNTRY,
    )
    hub = HubProcess(installation, folder / "hub.log", at_hub_url=True).start()
    try:
        await hub.ready()
        return await transfers(length, installation, hub, folder)
    finally:
        hub.end()


async def transfers(length: int, installation: Installation, hub: HubProcess, folder: Path) -> dict[str, Any]:
    """Bring a part of this length to a hub and fetch it, each from a process of its own."""
    assert hub.process is not None
    source, target = folder / "source", folder / "target"
    synced = await asyncio.to_thread(make_file, source, length)
    result: dict[str, Any] = {"bytes": length, "synced_mb_per_s": round(synced, 1)}
    for act, code, file in (("upload", MINISTRY, source), ("fetch", PROVINCE, target)):
        account = installation.accounts[AgencyCode(code)]
        config = {
            "hub_url": account.hub_url,
            "code": code,
            "key_file": str(account.key_file),
            "certificate_file": str(account.certificate_file),
            "file": str(file),
        }
        if act == "fetch":
            config |= await _document(installation, result["upload"]["part"])
        rest = rest_mib(hub.process.pid)
        client = await asyncio.to_thread(run_client, act, config)
        extra = high_water_mib(hub.process.pid) - rest
        result[act] = client | {"hub_rest_mib": round(rest, 1), "hub_extra_mib": round(extra, 1)}
    assert await asyncio.to_thread(_digest, source) == await asyncio.to_thread(_digest, target)
    for act in ("upload", "fetch"):
        del result[act]["part"]
    return result


def extra_mib(result: Mapping[str, Any]) -> list[float]:
    """What client and hub have needed, up and down."""
    return [result[act][who] for act in ("upload", "fetch") for who in ("extra_mib", "hub_extra_mib")]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


async def _document(installation: Installation, part: Mapping[str, Any]) -> dict[str, Any]:
    """Have a document with the part taken over."""
    accept = a.accept(a.envelope(from_=MINISTRY, to=(PROVINCE,), parts=[Part.model_validate(part)]), signed=False)
    async with open_pool(installation.settings["database_url"]) as pool:
        assert await PostgresLedger(pool).record([a.decided(accept)], a.NOW) == []
    return {"part": part, "document": accept.document_id}


def say(result: Mapping[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.parts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the part, MiB")
    parser.add_argument("--client", choices=["upload", "fetch"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        say(asyncio.run(transfer(arguments.client, json.load(sys.stdin))))
        return 0
    with run_directory("bench") as folder, Servers(purpose="benchservers") as servers:
        result = asyncio.run(measure(arguments.megabytes * MIB, servers, folder))
    say(result)
    return 0 if max(extra_mib(result)) < LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
