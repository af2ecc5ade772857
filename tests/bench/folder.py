"""Measures edXML documents a second through the folder adapter: out of outbox, into inbox, and both at the same time.

`make bench-folder` runs it: a private RabbitMQ and PostgreSQL, the hub as a process of its own with a local blob store,
and an adapter at either end as another. Each packet holds a PDF of its own. Out: from the start of the adapter until the
last packet lies in sent, signed, its parts uploaded, confirmed. In: from the start of the recipient's adapter until the
last packet lies in inbox; its status 01 and its receipt follow at once. The last line on stdout is JSON.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hub.dev.servers import Servers, run_directory
from hub.installation import Installation, install
from schemas.edxml.attachments import pack
from schemas.edxml.packet import Party
from tests import packets
from tests.agencies import COUNTRY, MINISTRY, PROVINCE
from tests.bench.parts import high_water_mib
from tests.folder_process import FolderProcess, running
from tests.hub_process import HubProcess, eventually, free_port

KIB = 1024
PATIENCE_S = 600


def written(number: int, pdf_kib: int) -> bytes:
    content = packets.PDF + random.Random(number).randbytes(pdf_kib * KIB)
    entry, attachment = pack("Công văn.pdf", content, "application/pdf")
    return packets.xml(
        packets.packet(
            from_=Party(code=MINISTRY),
            to=(Party(code=PROVINCE),),
            number=str(number),
            id=f"{MINISTRY},2026/02/27,{number}/TB-BTN",
            manifest=(entry,),
            attachments=(attachment,),
        )
    )


def count(folder: FolderProcess, place: str) -> int:
    return sum(path.suffix == ".edxml" for path in (folder.root / place).iterdir())


async def until(folder: FolderProcess, place: str, documents: int) -> None:
    await eventually(lambda: count(folder, place) >= documents, PATIENCE_S, folder.log, pause_s=0.02)


def cpu_s(process: "subprocess.Popen[bytes] | None") -> float:
    """How long a process has had a core so far."""
    assert process is not None
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(folder: FolderProcess, first: int, documents: int, pdf_kib: int) -> None:
    for number in range(first, first + documents):
        folder.put(f"{number}.edxml", written(number, pdf_kib))


async def measure(documents: int, pdf_kib: int, servers: Servers, home: Path) -> dict[str, Any]:
    installation = await install(
        amqp_url=servers.amqp_url,
        management_url=servers.management_url,
        database_url=servers.database_url,
        hub_url=f"http://127.0.0.1:{free_port()}",
        folder=home / "installation",
        country=COUNTRY,
    )
    hub = HubProcess(installation, home / "hub.log", at_hub_url=True).start()
    try:
        await hub.ready()
        return await through(documents, pdf_kib, hub, installation, home)
    finally:
        hub.end()


async def through(
    documents: int, pdf_kib: int, hub: HubProcess, installation: Installation, home: Path
) -> dict[str, Any]:
    """Send documents one way: first each end by itself, then as many again with both at work."""
    sender = FolderProcess(installation, MINISTRY, home / "ministry")
    recipient = FolderProcess(installation, PROVINCE, home / "province")
    # What any start costs: modules, folders, connections. It is not measured.
    await asyncio.to_thread(fill, sender, 1, 1, pdf_kib)
    with running(sender, recipient):
        await recipient.until(lambda: recipient.packets() != [])
        recipient.stop()
        began = time.monotonic()
        await asyncio.to_thread(fill, sender, 2, documents, pdf_kib)
        writing_s = time.monotonic() - began
        sender.stop()

        sender.start()
        began, hub_began_s = time.monotonic(), cpu_s(hub.process)
        await until(sender, "sent", documents + 1)
        out_s, out_cpu_s, hub_cpu_s = time.monotonic() - began, cpu_s(sender.process), cpu_s(hub.process) - hub_began_s
        recipient.start()
        began = time.monotonic()
        await until(recipient, "inbox", documents + 1)
        in_s, in_cpu_s = time.monotonic() - began, cpu_s(recipient.process)

        packed = [(f"{number}.edxml", written(number, pdf_kib)) for number in range(documents + 2, 2 * documents + 2)]
        began = time.monotonic()
        for name, data in packed:
            sender.put(name, data)
        await until(recipient, "inbox", 2 * documents + 1)
        both_s = time.monotonic() - began
        await eventually(lambda: answered(sender) == 2 * documents + 1, PATIENCE_S, sender.log, pause_s=0.1)
        memory = [high_water_mib(each.process.pid) for each in (sender, recipient) if each.process is not None]
    return {
        "documents": documents,
        "pdf_kib": pdf_kib,
        "written_per_s": round(documents / writing_s, 1),
        "out_per_s": round(documents / out_s, 1),
        "in_per_s": round(documents / in_s, 1),
        "outbox_to_inbox_per_s": round(documents / both_s, 1),
        "answered_after_s": round(time.monotonic() - began, 1),
        "out_cpu_ms": round(out_cpu_s / documents * 1000, 1),
        "in_cpu_ms": round(in_cpu_s / documents * 1000, 1),
        "hub_cpu_ms_while_out": round(hub_cpu_s / documents * 1000, 1),
        "sender_mib": round(memory[0], 1),
        "recipient_mib": round(memory[1], 1),
    }


def answered(sender: FolderProcess) -> int:
    """How many documents have the receipt of their recipient beside them."""
    return sum(1 for _ in (sender.root / "sent").glob(f"*.status/{PROVINCE}.json"))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.folder", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--pdf-kib", type=int, default=200, help="size of the PDF in each packet")
    arguments = parser.parse_args()
    with run_directory("bench") as folder, Servers(purpose="benchservers") as servers:
        result = asyncio.run(measure(arguments.documents, arguments.pdf_kib, servers, folder))
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
