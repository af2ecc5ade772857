"""The hub dies by kill -9 in the middle of a part: the upload goes on, and nothing half-written is left for long."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from adapters.arrivals import Delivery
from hub.blobs.store import BlobStore
from hub.core.part import CHUNK_BYTES
from hub.installation import Installation
from hub.store.parts import PostgresParts
from hub.store.pool import open_pool
from hub.sweep import Sweep
from tests.agencies import MINISTRY, PROVINCE, Agencies, document
from tests.hub_process import HubProcess, eventually

LENGTH = 20 * CHUNK_BYTES


def files_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


async def test_upload_and_fetch_survive_the_death_of_the_hub_and_leave_one_file(
    installation: Installation, agencies: Agencies, tmp_path: Path
) -> None:
    folder = Path(unquote(urlsplit(installation.settings["blobs_url"]).path))
    source, into = tmp_path / "source", tmp_path / "into"
    source.write_bytes(os.urandom(LENGTH))
    hub = HubProcess(installation, tmp_path / "hub.log", at_hub_url=True)

    async def killed_and_started_again() -> None:
        await asyncio.to_thread(hub.kill)
        hub.start()

    try:
        await hub.start().ready()
        client = agencies.clients[MINISTRY]
        uploading = asyncio.create_task(client.upload(source, name="a.bin", media_type="application/octet-stream"))
        await eventually(lambda: len(files_in(folder)) > 3, 30, pause_s=0.005)
        await killed_and_started_again()
        await hub.ready()
        # The second death comes while the chunks are joined, as far as that can be told from outside.
        await eventually(lambda: uploading.done() or any(f.startswith("parts/") for f in files_in(folder)), 60)
        if not uploading.done():
            await killed_and_started_again()
        part = await uploading

        async def fetch(_: str, delivery: Delivery) -> None:
            fetching = asyncio.create_task(agencies.clients[PROVINCE].fetch(delivery, part, into))
            await eventually(lambda: any(f.endswith(".part") for f in files_in(tmp_path)) or fetching.done(), 30)
            await killed_and_started_again()
            await fetching

        agencies.before_receipt = fetch
        await hub.ready()
        sent = await client.submit(document(int(time.time()), to=(PROVINCE,), parts=[part]))
        await agencies.everyone_has([sent.document_id], 60, recipients=(PROVINCE,))
        assert into.read_bytes() == source.read_bytes()
    finally:
        hub.end()
    async with open_pool(installation.settings["database_url"]) as pool:
        tomorrow = datetime.now(UTC) + timedelta(days=2)
        blobs = BlobStore(installation.settings["blobs_url"])
        sweep = Sweep(PostgresParts(pool), blobs, 7 * 86_400, 86_400, lambda: tomorrow)
        while await sweep.turn():
            pass
    (left,) = files_in(folder)
    assert left.startswith("parts/")
    assert (folder / left).stat().st_size == LENGTH
