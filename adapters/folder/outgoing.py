"""What lies in outbox goes to the axis; the order of effects stands in `adapters.folder`."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from adapters.client import AgencyClient
from adapters.errors import AgencyError, PartError
from adapters.examination import Examiner
from adapters.folder.drafting import (
    DocumentWork,
    Examiners,
    Faulty,
    StatusWork,
    Work,
    envelope_for,
    read_taken,
    status_for,
)
from adapters.folder.journal import Drawn, Journal, Key, Sent
from adapters.folder.places import Places, Taken, translated, with_mark
from adapters.folder.reasons import Language, Reason, Told, told
from schemas.edxml.attachments import PackedFile
from schemas.edxml.packet import Packet, path_of
from schemas.envelope import Envelope, read_envelope
from schemas.identifiers import AgencyCode, DocumentId
from schemas.receipt import Status, read_status
from schemas.refusal import Problem
from schemas.signing import MAX_AGE_S, identity, payload_of

log = logging.getLogger(__name__)

MOST_FILES: Final = 64
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of the packets that are in memory together, unless one alone is larger."""

_YOUNG: Final = timedelta(seconds=MAX_AGE_S - 3600)
"""Until then the axis certainly takes a token."""

_IN_MEMORY_BYTES: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class Outgoing:
    """The way out of one folder, one turn at a time.

    Attributes:
        client: The way to the axis.
        code: Code of the party that signs.
        journal: What became of earlier packets.
        places: The folders.
        examiners: The directory.
        clock: The present, aware.
        language: In which reasons are written.
        settle_s: How long a file must have stayed as it is.
        moving: Held by whoever decides where a packet lies, since notices about it come at any time.
    """

    client: AgencyClient
    code: AgencyCode
    journal: Journal
    places: Places
    examiners: Examiners
    clock: Callable[[], datetime]
    language: Language = "vi"
    settle_s: float = 2.0
    moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _under_way: set[DocumentId] = field(default_factory=set)

    async def turn(self) -> int:
        """Send what lies ready, at most `MOST_FILES`; returns how many files were taken.

        Documents that stand for themselves go out together; one that changes others, and a status, waits for those
        before it, since it may be about them.

        Raises:
            AgencyError: When something does not work for now; what was not sent lies in sending, the rest went out.
        """
        taken = await asyncio.to_thread(
            self.places.take, settle_s=self.settle_s, most=MOST_FILES, most_bytes=MOST_BYTES
        )
        if not taken:
            return 0
        examiner = await asyncio.to_thread(self.examiners.present)
        trouble: list[AgencyError] = []
        together: list[Work] = []
        for each in taken:
            try:
                work = await asyncio.to_thread(read_taken, each, examiner)
            except AgencyError as error:
                trouble.append(error)
                continue
            if _may_be_about_others(work):
                trouble += await self._send(together, examiner)
                together = []
            together.append(work)
        trouble += await self._send(together, examiner)
        if trouble:
            raise trouble[0]
        return len(taken)

    async def explain(self, sent: Sent, problems: Sequence[Told], recipient: AgencyCode) -> None:
        """Write down in failed why a packet that stays in sent did not get to one recipient.

        Raises:
            FileUnusable: When it cannot be written.
        """
        reason = Reason(sent.file, "sent", sent.key.digest, self.clock(), problems, sent.document_id, recipient)
        await asyncio.to_thread(self.places.explain, f"{sent.file}.{recipient}", reason, self.language)

    async def warn(self, sent: Sent, problems: Sequence[Told], recipient: AgencyCode) -> None:
        """Write down beside a packet in sent that one recipient is about not to get it.

        Raises:
            FileUnusable: When it cannot be written.
        """
        reason = Reason(sent.file, "sent", sent.key.digest, self.clock(), problems, sent.document_id, recipient)
        file = self.places.sent / f"{sent.file}.status" / f"{recipient}.expiring.txt"
        await asyncio.to_thread(self.places.write, file, reason.as_text(self.language).encode())

    async def give_back(self, sent: Sent, problems: Sequence[Told]) -> None:
        """Take a packet that the axis has refused from sent to failed.

        Raises:
            AgencyError: When that does not work for now; it may be called again.
        """
        async with self.moving:
            await self.journal.refuse(sent.document_id, problems)
            packet = self.places.sent / sent.file
            if await asyncio.to_thread(packet.exists):
                await self.fail(packet, sent.file, sent.key.digest, problems, sent.document_id)
            elif not sent.refused and sent.document_id not in self._under_way:
                # Somebody has taken it out of sent; what is under way goes to failed when it is laid down.
                reason = Reason(sent.file, "sent", sent.key.digest, self.clock(), problems, sent.document_id)
                await asyncio.to_thread(self.places.explain, sent.file, reason, self.language)

    async def send_again(self, sent: Sent, problems: Sequence[Told] = (), *, doubtful: bool = False) -> None:
        """Take a packet from sent back to sending: it had waited too long on the way.

        Args:
            sent: The token that was refused.
            problems: Why.
            doubtful: Whether an earlier publish of it may have come through, so that its envelope is to be kept.

        Raises:
            AgencyError: When that does not work for now; it may be called again.
        """
        log.warning("packet.again file=%s", sent.file)
        async with self.moving:
            if doubtful:
                await self.journal.doubt(sent.document_id)
            else:
                await self.journal.refuse(sent.document_id, problems)
            await asyncio.to_thread(self.places.move, self.places.sent / sent.file, self.places.sending / sent.file)

    async def fail(
        self, path: Path, name: str, sha256: str, problems: Sequence[Told], document: DocumentId | None = None
    ) -> None:
        """Move a packet to failed, its reason beside it.

        Raises:
            FileUnusable: When that cannot be done; the packet stays where it is.
        """

        def work() -> str:
            target = self.places.name_in_failed(name, sha256)
            reason = Reason(target, "failed", sha256, self.clock(), problems, document)
            self.places.explain(target, reason, self.language)
            self.places.move(path, self.places.failed / target)
            return target

        target = await asyncio.to_thread(work)
        log.warning("packet.failed file=%s code=%s", target, problems[0].code if problems else "?")

    async def _send(self, works: Sequence[Work], examiner: Examiner) -> list[AgencyError]:
        results = await asyncio.gather(*(self._send_one(work, examiner) for work in works), return_exceptions=True)
        trouble = []
        for result in results:
            if isinstance(result, AgencyError):
                trouble.append(result)
            elif isinstance(result, BaseException):
                raise result
        return trouble

    async def _send_one(self, work: Work, examiner: Examiner) -> None:
        if isinstance(work, Faulty):
            await self.fail(work.taken.path, work.taken.name, work.digest, told(work.problems))
            return
        sent = await self.journal.same(work.key)
        if sent is None:
            drawn = (
                await self._draw_document(work, examiner)
                if isinstance(work, DocumentWork)
                else await self._draw_status(work, examiner)
            )
            if isinstance(drawn, tuple):
                await self.fail(work.taken.path, work.taken.name, work.key.digest, told(drawn))
                return
            sent = drawn
        self._under_way.add(sent.document_id)
        try:
            if not sent.confirmed:
                sent = await self._publish(sent)
            await self._lay_down(work.taken, sent)
        finally:
            self._under_way.discard(sent.document_id)

    async def _draw_document(self, work: DocumentWork, examiner: Examiner) -> Sent | tuple[Problem, ...]:
        """Upload the parts of a document, sign it, write the token down; or say what stands against it."""
        identities = await self.journal.identities(work.draft.named)
        envelope = await asyncio.to_thread(envelope_for, work, identities, examiner)
        if isinstance(envelope, tuple):
            return envelope
        other = await self.journal.other(work.key)
        if other is not None:
            return (_changed(other),)
        try:
            await self._upload(work)
        except PartError as error:
            if _can_be_waited_out(error):
                raise
            return (Problem(error.code.code, path_of(Packet, "attachments"), error.en, error.vi),)
        sent = await self._draw(work.taken, work.key, envelope)
        if isinstance(sent, Sent) and sent.key != work.key:
            return (_changed(sent),)
        return sent

    async def _draw_status(self, work: StatusWork, examiner: Examiner) -> Sent | tuple[Problem, ...]:
        draft = work.draft
        recipient = draft.to if draft.status == "13" else draft.from_
        about = await self.journal.meant(draft.document, draft.status, recipient=recipient)
        status = status_for(work, about, examiner)
        if isinstance(status, tuple):
            return status
        return await self._draw(work.taken, work.key, status)

    async def _draw(self, taken: Taken, key: Key, content: Envelope | Status) -> Sent | tuple[Problem, ...]:
        try:
            drawn = await self._sign(content)
        except ValueError as error:  # signed, it is larger than the axis takes
            return (Problem("E101", "", str(error), str(error)),)
        names: tuple[str, ...] = (taken.name, with_mark(taken.name, drawn.document_id[:12]))
        if await asyncio.to_thread((self.places.sent / taken.name).exists):
            names = names[1:]  # it is somebody else's: what the journal knows, it finds by itself
        return await self.journal.draw(key, drawn, names)

    async def _sign(self, content: Envelope | Status) -> Drawn:
        at_s = int(self.clock().timestamp())
        token = await self.client.sign(content)
        recipients = tuple(AgencyCode(code) for code in content.to) if isinstance(content, Envelope) else ()
        return Drawn(identity(token), token, at_s, recipients)

    async def _upload(self, work: DocumentWork) -> None:
        """Bring the packet and its attachments to the hub; what is there already costs a question."""
        sender = work.draft.from_
        packet = work.packet
        await self.client.upload(work.data, name=packet.name, media_type=packet.media_type, from_=sender)
        for number, file in enumerate(work.files):
            await self._upload_file(work, number, file)

    async def _upload_file(self, work: DocumentWork, number: int, file: PackedFile) -> None:
        part, sender = file.part, work.draft.from_
        if part.length <= _IN_MEMORY_BYTES:
            source: Path | bytes = await asyncio.to_thread(lambda: b"".join(file.chunks()))
            await self.client.upload(source, name=part.name, media_type=part.media_type, from_=sender)
            return
        spool = self.places.spool / f"{work.key.digest}-{number}"
        try:
            await asyncio.to_thread(_unpack, file, spool)
            await self.client.upload(spool, name=part.name, media_type=part.media_type, from_=sender)
        finally:
            spool.unlink(missing_ok=True)

    async def _publish(self, sent: Sent) -> Sent:
        """Publish a token until the broker has confirmed it; one that is too old by now, signed anew."""
        now = self.clock()
        if now - datetime.fromtimestamp(sent.drawn_at, now.tzinfo) > _YOUNG:
            sent = await self._sign_again(sent)
        if sent.key.kind == "status":
            await self.client.submit_status(sent.token)
        else:
            await self.client.submit(sent.token)
        await self.journal.confirm(sent.document_id)
        return sent

    async def _sign_again(self, sent: Sent) -> Sent:
        """Sign the same envelope or status once more: of both the axis takes one document, whichever comes first."""
        payload = payload_of(sent.token)
        content = read_status(payload) if sent.key.kind == "status" else read_envelope(payload)
        assert not isinstance(content, tuple)  # it was read before it was signed
        return await self.journal.draw_again(sent, await self._sign(content))

    async def _lay_down(self, taken: Taken, sent: Sent) -> None:
        """Move a packet to sent, or to failed when the axis was quick to refuse it."""
        async with self.moving:
            now = await self.journal.sent(sent.document_id)
            if now is not None and now.refused:
                await self.fail(taken.path, sent.file, sent.key.digest, now.refused, sent.document_id)
            else:
                await asyncio.to_thread(self.places.move, taken.path, self.places.sent / sent.file)


def _may_be_about_others(work: Work) -> bool:
    return isinstance(work, StatusWork) or (isinstance(work, DocumentWork) and bool(work.draft.named))


def _can_be_waited_out(error: PartError) -> bool:
    """Tell what is wrong with the way, the clock or the key from what is wrong with this packet."""
    code = error.code.code
    return code != "E520" and not code.startswith("E4")


def _changed(other: Sent) -> Problem:
    return Problem(
        "A301",
        path_of(Packet, "id"),
        f"{other.key.national_id}: sent as {other.file}, {other.document_id}",
        f"{other.key.national_id}: đã gửi bằng tệp {other.file}, mã {other.document_id}",
    )


def _unpack(file: PackedFile, into: Path) -> None:
    with translated(into), into.open("wb") as out:
        for chunk in file.chunks():
            out.write(chunk)
