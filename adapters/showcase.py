"""The three ways of sending, shown with real documents, to recipients of all tiers; then one of them is recalled.

`python -m adapters.showcase --config FILE` writes national packets (edXML) with a PDF and sends one through the folder
adapter, one through the REST gateway, one with the Python client. Recipients fetch the files, answer receipts, and set
statuses 01 and 03. The document of the client is recalled: one recipient declines (16), the others agree (15). Folder
adapter and gateway are processes of their own, as agencies run them; what came back is read where their software would
read it. The last line on stdout is JSON. SIGTERM ends it in order. Exit codes: 0 everything came as expected, 1 not, 3
the file cannot be used, 4 the broker cannot be reached, 130 interrupted.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.arrivals import Delivery, Letter, Rejected
from adapters.cli.wiring import client_of
from adapters.client import AgencyClient
from adapters.errors import AgencyError
from adapters.inbox_guard import InboxGuard
from adapters.service import log_to_stderr
from adapters.settings import PREFIX, AgencySettings
from schemas.directory_file import VIETNAM
from schemas.edxml import documents
from schemas.edxml.attachments import files, pack
from schemas.edxml.packet import Business, Packet, Party, StatusPacket, spoken_id
from schemas.edxml.reader import read_packet
from schemas.edxml.writer import write_packet
from schemas.envelope import DocumentFacts, Envelope
from schemas.identifiers import AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import Notice, Receipt, Status, StatusCode

Way = Literal["folder", "rest", "client"]

_NOTATION: Final = "CV-VP"
_FILE_NAME: Final = "Công văn.pdf"
_MEDIA_TYPE: Final = "application/pdf"
_HANDLED: Final[tuple[StatusCode, ...]] = ("01", "03")
_LOOK_EVERY_S: Final = 0.2
_GRACE_S: Final = 10.0


class Config(BaseModel):
    """The file.

    Attributes:
        agencies: Folder with the settings of each endpoint, `<code>.toml`.
        work: Folder for guards, journals, and what is sent and received; must exist.
        folder_sender: Sends through the folder adapter.
        platform: Runs the gateway.
        rest_sender: The agency for which the platform sends.
        client_sender: Sends with the Python client, and recalls.
        recipients: Who is written to; each connects by itself. The first declines the recall.
        timeout_s: When to give up, seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    agencies: Path
    work: Path
    folder_sender: AgencyCode
    platform: AgencyCode
    rest_sender: AgencyCode
    client_sender: AgencyCode
    recipients: tuple[AgencyCode, ...] = Field(min_length=1)
    timeout_s: float = Field(default=60.0, gt=0)


@dataclass(slots=True)
class Answered:
    """What one recipient has answered to a document."""

    receipt: str | None = None
    statuses: set[str] = field(default_factory=set)


Answers = Mapping[str, Answered]


@dataclass(slots=True)
class Shown:
    """A document, and what came back.

    Attributes:
        way: How it was sent.
        sender: The agency that sent it.
        number: As printed.
        expected: The statuses that each recipient is to set.
        look: Reads what came back, where the sender's software would.
        recalls: Number of the document that it recalls.
        answers: What came back, by recipient.
    """

    way: Way
    sender: AgencyCode
    number: str
    expected: Mapping[AgencyCode, Sequence[StatusCode]]
    look: Callable[[], Awaitable[Answers]]
    recalls: str | None = None
    answers: Answers = field(default_factory=dict)

    @property
    def missing(self) -> list[AgencyCode]:
        """Recipients whose receipt or statuses are not what they should be."""
        return [code for code, statuses in self.expected.items() if not _as_expected(self.answers.get(code), statuses)]

    async def until_answered(self) -> None:
        """Look until everything is there."""
        while True:
            self.answers = await self.look()
            if not self.missing:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def as_json(self) -> dict[str, Any]:
        """Write it down."""
        told = {code: self.answers.get(code, Answered()) for code in self.expected}
        return {
            "way": self.way,
            "sender": self.sender,
            "number": self.number,
            "recalls": self.recalls,
            "recipients": {
                code: {"receipt": each.receipt, "statuses": sorted(each.statuses)} for code, each in told.items()
            },
            "missing": self.missing,
        }


def _as_expected(answered: Answered | None, statuses: Sequence[StatusCode]) -> bool:
    return answered is not None and answered.receipt == "received" and answered.statuses == set(statuses)


def small_pdf(line: str) -> bytes:
    """Write a PDF of one page with one line of ASCII text."""
    shown = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    text = f"BT /F1 14 Tf 72 770 Td ({shown}) Tj ET".encode("ascii")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    data = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(data))
    return bytes(data) + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer


def packet_with_pdf(sender: AgencyCode, to: Sequence[AgencyCode], number: int, today: date) -> Packet:
    """Make a letter with a PDF."""
    printed = f"{number}/{_NOTATION}"
    entry, attachment = pack(_FILE_NAME, small_pdf(f"Cong van so {printed}"), _MEDIA_TYPE)
    return Packet(
        from_=Party(code=sender, name=sender),
        to=tuple(Party(code=code, name=code) for code in to),
        number=str(number),
        notation=_NOTATION,
        place="Hà Nội",
        issued_on=today,
        kind_table="2",
        kinds=("Công văn",),
        subject="Về việc kết nối, liên thông văn bản điện tử qua Trục liên thông văn bản quốc gia",
        position="Chánh Văn phòng",
        signer="Nguyễn Văn An",
        priority="0",
        id=spoken_id(sender, today, printed),
        business=Business(kind="0", paper="0"),
        manifest_version="1.0",
        manifest=(entry,),
        attachments=(attachment,),
    )


@dataclass(slots=True)
class Showcase:
    """Everybody who takes part.

    Attributes:
        shown: What was sent so far.
    """

    config: Config
    today: date
    shown: list[Shown] = field(default_factory=list)

    async def play(self) -> None:
        """Send, wait for what comes back, recall; raises `TimeoutError` when not everything came in time."""
        async with asyncio.timeout(self.config.timeout_s), AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            clients = {code: await self._connect(stack, code) for code in self.config.recipients}
            sender = await self._connect(stack, self.config.client_sender)
            letters = Letters()
            listening = [
                *(tasks.create_task(self._answer(client, code)) for code, client in clients.items()),
                tasks.create_task(letters.collect(sender)),
            ]
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._by_folder(stack))
                ways.create_task(self._by_rest(stack))
                ways.create_task(self._by_client_and_recall(sender, letters))
            for task in listening:
                task.cancel()

    async def _by_folder(self, stack: AsyncExitStack) -> None:
        sender = self.config.folder_sender
        root = self.config.work / "van-ban"
        given = {"folder": root, "folder_journal_file": self.config.work / "folder.db"}
        await stack.enter_async_context(self._program("folder", sender, {**given, "folder_poll_s": 0.2}))
        name = "cong-van-1.edxml"
        outbox = root / "outbox"
        outbox.mkdir(parents=True)
        hidden = outbox / f".{name}"  # a file shows itself to the adapter when it is there as a whole
        hidden.write_bytes(self._packet(sender, 1))
        hidden.rename(outbox / name)
        await self._show("folder", sender, 1, lambda: asyncio.to_thread(answers_in, root / "sent" / f"{name}.status"))

    async def _by_rest(self, stack: AsyncExitStack) -> None:
        port = _free_port()
        given = {"gateway_port": port, "mailbox_file": self.config.work / "mailbox.db"}
        await stack.enter_async_context(self._program("gateway", self.config.platform, given))
        http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)
        await stack.enter_async_context(http)

        async def answers() -> Answers:
            return answers_of((await http.get(f"/v1/documents/{document}")).raise_for_status().json())

        await _until_open(http)
        answer = await http.post(
            "/v1/documents",
            content=self._packet(self.config.rest_sender, 2),
            headers={"Idempotency-Key": "cong-van-2", "Content-Type": "application/edxml+xml"},
        )
        document = answer.raise_for_status().json()["document"]
        await self._show("rest", self.config.rest_sender, 2, answers)

    async def _by_client_and_recall(self, client: AgencyClient, letters: "Letters") -> None:
        sender = self.config.client_sender
        envelope = await self._upload(client, self._packet(sender, 3))
        sent = await client.submit(envelope)
        await self._show("client", sender, 3, letters.about(sent.document_id, self.config.recipients))

        facts = envelope.doc.model_dump(by_alias=True) | {"number": "4", "subject": f"Thu hồi văn bản số 3/{_NOTATION}"}
        recall = await client.revoke(
            sent.document_id, to=self.config.recipients, doc=DocumentFacts.model_validate(facts)
        )
        answers = letters.about(recall.document_id, self.config.recipients)
        await self._show("client", sender, 4, answers, recalls=f"3/{_NOTATION}")

    async def _upload(self, client: AgencyClient, data: bytes) -> Envelope:
        """Bring a packet and its files to the hub, and make the envelope that names them."""
        packet = read_packet(data)
        assert isinstance(packet, Packet)  # written a moment ago
        draft = documents.draft_of(packet, today=self.today)
        attached, problems = files(packet)
        assert isinstance(draft, documents.Draft), draft
        assert not problems, problems
        part = await client.upload(data, name="cong-van-3.edxml", media_type="application/xml")
        for file in attached:
            await client.upload(b"".join(file.chunks()), name=file.part.name, media_type=file.part.media_type)
        envelope = documents.envelope_of(
            draft,
            documents={},
            packet=part,
            attachments=[file.part for file in attached],
            level="A1",  # the packet bears no signature of its own
            now_s=int(time.time()),
        )
        assert isinstance(envelope, Envelope), envelope
        return envelope

    async def _show(
        self,
        way: Way,
        sender: AgencyCode,
        number: int,
        look: Callable[[], Awaitable[Answers]],
        *,
        recalls: str | None = None,
    ) -> None:
        """Note a document that was sent, and wait for everything that is to come back."""
        expected = {code: self._statuses(code, recalled=recalls is not None) for code in self.config.recipients}
        shown = Shown(way, sender, f"{number}/{_NOTATION}", expected, look, recalls)
        self.shown.append(shown)
        await shown.until_answered()

    def _statuses(self, recipient: AgencyCode, *, recalled: bool) -> tuple[StatusCode, ...]:
        if not recalled:
            return _HANDLED
        return ("16",) if recipient == self.config.recipients[0] else ("15",)

    def _packet(self, sender: AgencyCode, number: int) -> bytes:
        written = write_packet(packet_with_pdf(sender, self.config.recipients, number, self.today))
        assert isinstance(written, bytes), written
        return written

    async def _answer(self, client: AgencyClient, code: AgencyCode) -> None:
        """Be the office of a recipient: fetch the files, answer the receipt, set statuses."""
        async for arrival in client.arrivals():
            match arrival:
                case Delivery():
                    async with arrival:
                        for part in arrival.envelope.parts:
                            await client.fetch(arrival, part, self.config.work / f"{code}-{part.sha256}")
                    for status in self._statuses(code, recalled=arrival.envelope.action == "revoke"):
                        detail = "Văn bản đã được thi hành" if status == "16" else None
                        sender = arrival.envelope.from_
                        await client.status(document=arrival.document_id, to=sender, status=status, detail=detail)
                case Letter():
                    async with arrival:
                        pass
                case Rejected():
                    pass

    async def _connect(self, stack: AsyncExitStack, code: AgencyCode) -> AgencyClient:
        values = tomllib.loads(self._settings_file(code).read_text()) | {"guard_file": self._guard_file(code)}
        settings = AgencySettings(**values)
        guard = stack.enter_context(InboxGuard(settings.guard_file))
        return await stack.enter_async_context(client_of(settings, guard))

    @asynccontextmanager
    async def _program(self, command: str, code: AgencyCode, settings: Mapping[str, object]) -> AsyncIterator[None]:
        """Run a command of `truc-agency` as a process of its own."""
        given = {"config": self._settings_file(code), "guard_file": self._guard_file(code), **settings}
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()}
        with (self.config.work / f"{command}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "adapters",
                command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
                env=environment,
            )
        try:
            yield
        finally:
            await _end(process)

    def _settings_file(self, code: AgencyCode) -> Path:
        return self.config.agencies / f"{code}.toml"

    def _guard_file(self, code: AgencyCode) -> Path:
        """Name a guard of our own: what the agency has received elsewhere is none of our business."""
        return self.config.work / f"{code}.guard"


@dataclass(slots=True)
class Letters:
    """What a program that uses the client remembers of the answers to its documents."""

    receipts: dict[DeliveryId, str] = field(default_factory=dict)
    statuses: dict[tuple[DocumentId, AgencyCode], set[str]] = field(default_factory=lambda: defaultdict(set))

    async def collect(self, client: AgencyClient) -> None:
        """Take letters until cancelled."""
        async for letter in client.letters():
            async with letter:
                self.note(letter.content)

    def note(self, content: Receipt | Status | Notice) -> None:
        """Remember a letter."""
        match content:
            case Receipt():
                self.receipts.update({answer.delivery_id: answer.outcome for answer in content.answers})
            case Status():
                self.statuses[DocumentId(content.document), AgencyCode(content.from_)].add(content.status)
            case Notice():
                pass

    def about(self, document: DocumentId, recipients: Sequence[AgencyCode]) -> Callable[[], Awaitable[Answers]]:
        """Give what looks up the answers to one document."""

        async def look() -> Answers:
            return {
                code: Answered(
                    self.receipts.get(delivery_id_of(document, code)), set(self.statuses.get((document, code), ()))
                )
                for code in recipients
            }

        return look


def answers_in(folder: Path) -> Answers:
    """Read what the folder adapter has laid beside a document in sent."""
    answers: dict[str, Answered] = defaultdict(Answered)
    for file in folder.glob("*.json"):
        facts = json.loads(file.read_bytes())
        if "outcome" in facts:
            answers[facts["recipient"]].receipt = facts["outcome"]
    for file in folder.glob("*.edxml"):
        packet = read_packet(file.read_bytes())
        if isinstance(packet, StatusPacket) and packet.from_.code is not None:
            answers[packet.from_.code].statuses.add(packet.status)
    return answers


def answers_of(document: Mapping[str, Any]) -> Answers:
    """Read what the gateway says of a document."""
    return {
        each["code"]: Answered(each.get("outcome"), {status["status"] for status in each["statuses"]})
        for each in document["recipients"]
    }


def _each(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Give the errors of a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _until_open(http: httpx2.AsyncClient) -> None:
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if (await http.get("/v1/openapi.json")).is_success:
                return
        await asyncio.sleep(_LOOK_EVERY_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Show it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m adapters.showcase", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="JSON, see Config")
    log_to_stderr()
    try:
        config = Config.model_validate_json(parser.parse_args(arguments).config.read_bytes())
    except (OSError, ValidationError) as error:
        print(f"showcase: {error}", file=sys.stderr)  # noqa: T201
        return 3
    try:
        return asyncio.run(_run(config))
    except asyncio.CancelledError:
        return 130


async def _run(config: Config) -> int:
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    showcase = Showcase(config, datetime.now(UTC).astimezone(VIETNAM).date())
    code = 0
    try:
        await showcase.play()
    except* TimeoutError:
        code = 1
    except* (AgencyError, httpx2.HTTPError, OSError) as errors:
        for error in _each(errors):
            print(f"showcase: {error}", file=sys.stderr)  # noqa: T201
        code = 4
    sent = [each.as_json() for each in sorted(showcase.shown, key=lambda shown: shown.number)]
    complete = code == 0 and not any(each["missing"] for each in sent)
    print(json.dumps({"documents": sent, "complete": complete}, ensure_ascii=False), flush=True)  # noqa: T201
    return code or (0 if complete else 1)


if __name__ == "__main__":
    sys.exit(main())
