"""Keeps bytes under keys: in a local directory, or in a bucket of S3.

* `file:///var/lib/truc/blobs`: each object is a file, written under a temporary name and renamed. Before `put` returns, the
  bytes of a part and its directories are on the disk, as what the database commits is; a chunk may be lost with the power.
* `s3://bucket/prefix`: credentials, region and endpoint come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
  `AWS_ENDPOINT_URL`, …) or from the machine's role.

Reads are many short requests for ranges, never one that lasts as long as the slowest client.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, S3Store

from hub.blobs.errors import translated
from hub.core.part import UPLOADS, StoredObject, Upload
from hub.core.trouble import Gone, Trouble, Unavailable
from hub.settings import SettingsError

READ_BYTES: Final = 2 * 1024 * 1024
_MULTIPART_BYTES: Final = 8 * 1024 * 1024
_MULTIPART_AT_ONCE: Final = 1
_PAGE: Final = 500
_RETRIES: Final = 3
_STAGED: Final = re.compile(r".+#[0-9]+")
"""How obstore names a local file that is being written; a process that dies leaves it."""


class BlobStore:
    """One blob store.

    Args:
        url: `file:///directory` or `s3://bucket/prefix`.

    Raises:
        SettingsError: When there can be no such store, such as a directory that cannot be made.
    """

    def __init__(self, url: str) -> None:
        self._root: Path | None = None
        self._walk: AsyncIterator[Sequence[StoredObject]] | None = None
        try:
            if url.startswith("file:"):
                self._root = Path(unquote(urlsplit(url).path))
                self._store: LocalStore | S3Store = LocalStore(self._root, mkdir=True, automatic_cleanup=True)
            else:
                self._store = S3Store.from_url(
                    url,
                    client_options={
                        "connect_timeout": "5s",
                        "timeout": "120s",
                        "allow_http": os.environ.get("AWS_ALLOW_HTTP") == "true",
                    },
                    retry_config={"max_retries": _RETRIES},
                )
        except Exception as error:
            raise SettingsError(f"TRUC_BLOBS_URL: {str(error).partition(chr(10))[0]}") from error

    async def ready(self) -> None:
        """Check that the store answers.

        Raises:
            Unavailable: When it does not.
        """
        with translated():
            await obstore.list_with_delimiter_async(self._store, "ready")
        if self._root is not None and not os.access(self._root, os.W_OK | os.X_OK):
            raise Unavailable("blobs", f"{self._root} cannot be written")

    async def put(self, key: str, content: bytes | bytearray) -> None:
        """Write an object; it is there as a whole, and lasts, or not at all.

        Raises:
            Unavailable: When the store does not answer.
        """
        with translated():
            await obstore.put_async(self._store, key, content, use_multipart=False)
            await self._make_durable(key)

    async def put_stream(self, key: str, content: AsyncIterator[bytes]) -> None:
        """Write an object of any size; what `content` raises passes as it is, and there is no object then.

        Raises:
            Unavailable: When the store does not answer.
        """
        with translated():
            await obstore.put_async(
                self._store,
                key,
                content,
                use_multipart=True,
                chunk_size=_MULTIPART_BYTES,
                max_concurrency=_MULTIPART_AT_ONCE,
            )
            await self._make_durable(key)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a range of an object, a little at a time.

        Raises:
            Gone: When there is no such object.
            Unavailable: When the store does not answer, or the object is shorter.
        """
        for position in range(start, end, READ_BYTES):
            with translated():
                piece = await obstore.get_range_async(
                    self._store, key, start=position, end=min(position + READ_BYTES, end)
                )
            yield bytes(piece)

    async def chunks(self, upload: Upload) -> Sequence[StoredObject]:
        """List what an upload has left so far.

        Raises:
            Unavailable: When the store does not answer.
        """
        with translated():
            return [item async for page in _pages(self._store, upload.prefix) for item in page]

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are gone already.

        Raises:
            Unavailable: When the store does not answer.
        """
        for first in range(0, len(keys), _PAGE):
            try:
                with translated():
                    await obstore.delete_async(self._store, keys[first : first + _PAGE])
            except Gone:
                for key in keys[first : first + _PAGE]:
                    await self._delete_one(key)

    async def next_objects(self) -> Sequence[StoredObject]:
        """Walk over all objects, some at a time; nothing at the end of a walk, after which the next begins.

        Raises:
            Unavailable: When the store does not answer; the next walk begins anew.
        """
        try:
            with translated():
                if self._walk is None:
                    self._walk = _pages(self._store, None)
                return await anext(self._walk)
        except StopAsyncIteration:
            self._walk = None
            return ()
        except Trouble:
            self._walk = None
            raise

    async def remove_staged(self, before: datetime) -> int:
        """Remove files that a process was writing when it died, last written before a moment; returns how many.

        S3 does the same by a lifecycle rule of the bucket for multipart uploads that were never completed.
        """
        if self._root is None:
            return 0
        with translated():
            return await asyncio.to_thread(_remove_staged, self._root, before.timestamp())

    async def _delete_one(self, key: str) -> None:
        try:
            with translated():
                await obstore.delete_async(self._store, key)
        except Gone:
            return

    async def _make_durable(self, key: str) -> None:
        if self._root is not None and not key.startswith(UPLOADS):
            await asyncio.to_thread(_sync, self._root, self._root / key)


async def _pages(store: LocalStore | S3Store, prefix: str | None) -> AsyncIterator[Sequence[StoredObject]]:
    async for page in obstore.list(store, prefix, chunk_size=_PAGE):
        yield [StoredObject(item["path"], item["size"], item["last_modified"]) for item in page]


def _sync(root: Path, file: Path) -> None:
    """Have a file on the disk, and every directory down to it that may be new."""
    for path in (file, *(parent for parent in file.parents if parent.is_relative_to(root))):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(root: Path, before_s: float) -> int:
    removed = 0
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            try:
                if _STAGED.fullmatch(name) and file.stat().st_mtime < before_s:
                    file.unlink()
                    removed += 1
            except FileNotFoundError:  # finished or removed meanwhile
                continue
    return removed
