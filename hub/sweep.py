"""Sweeps what nobody needs out of the blob store, never before its time.

| what                                                    | when                                                   |
|---------------------------------------------------------|--------------------------------------------------------|
| a part that no document names                           | `unreferenced_s` after it was last uploaded            |
| an upload that is not finished, all its chunks together | `unfinished_s` after its last chunk                    |
| an object that belongs to no part                       | `unfinished_s` after it was written                    |
| a local file that was being written by a dead process   | `unfinished_s` after it was last written               |

| effect                       | if the process dies after it                                              |
|------------------------------|---------------------------------------------------------------------------|
| `register.forget`            | the objects belong to no part; the walk finds them                        |
| `blobs.delete`               | –                                                                         |
| `blobs.next_objects`         | the next process begins another walk                                      |
| `blobs.remove_staged`        | –                                                                         |

The walk never stops for long, so a store of any size is looked at page by page. Several processes may sweep at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from hub.core.part import PARTS, StoredObject, Upload, upload_of
from hub.telemetry import report


class Register(Protocol):
    """What the database knows about parts."""

    async def forget(self, before: datetime) -> Sequence[str]:
        """Forget a batch of parts that no document names, last uploaded before a moment; returns their objects."""

    async def known(self, keys: Sequence[str]) -> frozenset[str]:
        """Say which of these objects belong to a part."""


class Blobs(Protocol):
    """The blob store, as far as sweeping needs it."""

    async def next_objects(self) -> Sequence[StoredObject]:
        """Walk over all objects, some at a time; nothing at the end of a walk."""

    async def chunks(self, upload: Upload) -> Sequence[StoredObject]:
        """List what an upload has left so far."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as far as they are there."""

    async def remove_staged(self, before: datetime) -> int:
        """Remove files that a dead process was writing; returns how many."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The loop, one turn at a time."""

    register: Register
    blobs: Blobs
    unreferenced_s: float
    unfinished_s: float
    clock: Callable[[], datetime]

    async def turn(self) -> int:
        """Sweep a batch of parts, or look at the next objects; returns how many were swept or looked at.

        Raises:
            Trouble: When database or blob store does not answer.
        """
        now = self.clock()
        forgotten = await self.register.forget(now - timedelta(seconds=self.unreferenced_s))
        if forgotten:
            await self._delete("part.swept", forgotten)
            return len(forgotten)
        return await self._walk(now - timedelta(seconds=self.unfinished_s))

    async def _walk(self, before: datetime) -> int:
        objects = await self.blobs.next_objects()
        if not objects:
            report.swept("file.swept", await self.blobs.remove_staged(before))
            return 0
        old = [item for item in objects if item.changed_at < before]
        await self._sweep_orphans([item.key for item in old if item.key.startswith(PARTS)])
        for upload in dict.fromkeys(filter(None, map(upload_of, (item.key for item in old)))):
            await self._sweep_upload(upload, before)
        return len(objects)

    async def _sweep_orphans(self, keys: Sequence[str]) -> None:
        if keys:
            known = await self.register.known(keys)
            await self._delete("object.swept", [key for key in keys if key not in known])

    async def _sweep_upload(self, upload: Upload, before: datetime) -> None:
        chunks = await self.blobs.chunks(upload)
        if all(chunk.changed_at < before for chunk in chunks):
            await self._delete("upload.swept", [chunk.key for chunk in chunks])

    async def _delete(self, event: str, keys: Sequence[str]) -> None:
        if keys:
            await self.blobs.delete(keys)
            report.swept(event, len(keys))
