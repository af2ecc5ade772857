"""`truc-agency convert`: shows how packets become envelopes and statuses, and back."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from adapters.cli.output import Exit, Session, explain_problems, run, say
from adapters.cli.verify import directory_of

if TYPE_CHECKING:
    from adapters.examination import Examiner
    from schemas.edxml.attachments import PackedFile
    from schemas.edxml.mapping import NationalId
    from schemas.edxml.packet import Packet, StatusPacket
    from schemas.envelope import Envelope
    from schemas.identifiers import DocumentId
    from schemas.receipt import Status
    from schemas.refusal import Problem

    About = dict[DocumentId, Envelope]
    Problems = tuple[Problem, ...]

_ENVELOPE_NAME: Final = "envelope.json"
_PARTS_NAME: Final = "parts"


def convert(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="edXML packet, or an envelope or status as JSON.")],
    *,
    into: Annotated[
        Path | None, typer.Option(help="Folder for envelope.json and parts/; without it only the JSON is shown.")
    ] = None,
    parts: Annotated[Path | None, typer.Option(help="Folder with the parts of an envelope, by their names.")] = None,
    about: Annotated[
        list[Path] | None,
        typer.Option(help="Signed document (.jws) that is answered, changed or meant; may be repeated."),
    ] = None,
    directory: Annotated[Path | None, typer.Option(help="Directory file; by default that of the settings.")] = None,
) -> None:
    """Convert an edXML packet into an envelope or status, or the other way; sends nothing, signs nothing.

    Data go to stdout; what the other form has no place for, to stderr.
    """
    session: Session = context.obj

    async def command() -> Exit:
        from adapters.examination import examiner_of, read_limited

        examiner = examiner_of(directory_of(session, directory), party=None, now=datetime.now(UTC))
        try:
            data = read_limited(file)
            known = _known(about or ())
        except OSError as error:
            say(f"{error.filename}: {error.strerror}")
            return Exit.USAGE
        if isinstance(known, tuple):
            return _refuse(session, known)
        desk = _Desk(session, examiner, known)
        if data[:64].lstrip().startswith(b"{"):
            return _to_packet(desk, data, parts or Path())
        return _from_packet(desk, file, data, into)

    run(session, command)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a conversion is made with.

    Attributes:
        session: In whose language.
        examiner: The directory.
        known: Documents that are named with --about, by identity.
    """

    session: Session
    examiner: "Examiner"
    known: "About"


def _from_packet(desk: _Desk, file: Path, data: bytes, into: Path | None) -> Exit:
    from schemas.edxml.packet import Packet, StatusPacket
    from schemas.edxml.reader import read_packet

    match read_packet(data):
        case Packet() as packet:
            return _to_envelope(desk, packet, file, data, into)
        case StatusPacket() as packet:
            return _to_status(desk, packet)
        case problems:
            return _refuse(desk.session, problems)


def _to_envelope(desk: _Desk, packet: "Packet", file: Path, data: bytes, into: Path | None) -> Exit:
    from adapters.examination import packet_part
    from schemas.directory_file import VIETNAM
    from schemas.edxml.attachments import files
    from schemas.edxml.documents import draft_of, envelope_of
    from schemas.edxml.signature import assess

    draft = draft_of(packet, today=desk.examiner.now.astimezone(VIETNAM).date())
    attached, problems = files(packet)
    if isinstance(draft, tuple) or problems:
        return _refuse(desk.session, (*(draft if isinstance(draft, tuple) else ()), *problems))
    envelope = envelope_of(
        draft,
        documents={name: identity for identity, name in _national(desk.known).items()},
        packet=packet_part(data, file.name),
        attachments=[each.part for each in attached],
        level=assess(data, packet, desk.examiner.certificates, now=desk.examiner.now).level,
        now_s=desk.examiner.now_s,
    )
    if isinstance(envelope, tuple):
        return _refuse(desk.session, envelope)
    text = json.dumps(json.loads(envelope.to_json()), ensure_ascii=False, indent=2)
    if into is not None:
        try:
            _unpack(into, text, envelope.parts[0].name, data, attached)
        except OSError as error:
            say(f"{error.filename}: {error.strerror}")
            return Exit.USAGE
    print(text)
    _tell_unmapped(desk.session, draft.unmapped)
    return Exit.DONE


def _to_status(desk: _Desk, packet: "StatusPacket") -> Exit:
    from schemas.edxml.mapping import wrong
    from schemas.edxml.statuses import draft_of, status_of

    draft = draft_of(packet, now_s=desk.examiner.now_s)
    if isinstance(draft, tuple):
        return _refuse(desk.session, draft)
    identities = {name: identity for identity, name in _national(desk.known).items()}
    if draft.document not in identities:
        return _refuse(desk.session, (wrong("--about", draft.document.document, _NAME_IT),))
    status = status_of(draft, identities[draft.document])
    if isinstance(status, tuple):
        return _refuse(desk.session, status)
    print(json.dumps(json.loads(status.to_json()), ensure_ascii=False, indent=2))
    _tell_unmapped(desk.session, draft.unmapped)
    return Exit.DONE


def _to_packet(desk: _Desk, data: bytes, folder: Path) -> Exit:
    from schemas.envelope import Envelope, read_envelope
    from schemas.receipt import Status, read_status

    status = read_status(data)
    envelope = read_envelope(data)
    if isinstance(status, Status):
        return _write(desk.session, _status_packet(desk, status))
    if isinstance(envelope, Envelope):
        try:
            return _write(desk.session, _document_packet(desk, envelope, folder))
        except OSError as error:
            say(f"{error.filename}: {error.strerror}")
            return Exit.USAGE
    return _refuse(desk.session, status if b'"status"' in data else envelope)


def _write(session: Session, packet: "Packet | StatusPacket | bytes | Problems") -> Exit:
    from schemas.edxml.writer import write_packet

    written = packet if isinstance(packet, tuple | bytes) else write_packet(packet)
    if isinstance(written, tuple):
        return _refuse(session, written)
    typer.echo(written, nl=False)
    return Exit.DONE


def _status_packet(desk: _Desk, status: "Status") -> "StatusPacket | Problems":
    from schemas.edxml.mapping import wrong
    from schemas.edxml.statuses import packet_of

    if status.document not in desk.known:
        return (wrong("/document", status.document, _NAME_IT),)
    return packet_of(status, desk.known[status.document], names=_names(desk.examiner))


def _document_packet(desk: _Desk, envelope: "Envelope", folder: Path) -> "Packet | bytes | Problems":
    """Make the packet of an envelope; one that came as a packet has it among its parts."""
    from adapters.examination import read_limited
    from schemas.checks.address import address
    from schemas.edxml.documents import packet_of
    from schemas.edxml.mapping import wrong
    from schemas.envelope import MAX_NAMED_RECIPIENTS
    from schemas.identifiers import identity_of

    files = [(part, read_limited(folder / part.name)) for part in envelope.parts]
    changed = [part for part, data in files if identity_of(data) != part.sha256]
    if changed:
        return tuple(wrong("/parts", part.name, _OTHER_BYTES, code="E512") for part in changed)
    if envelope.edxml is not None:
        return next(data for part, data in files if part.sha256 == envelope.edxml.part)
    addressees, problems = address(envelope, desk.examiner.directory, MAX_NAMED_RECIPIENTS)
    if problems:
        return problems
    recipients = [each.code for each in addressees]
    return packet_of(envelope, files=files, names=_names(desk.examiner), national=_national(desk.known), to=recipients)


def _known(tokens: Iterable[Path]) -> "About | Problems":
    """Read the documents that are named with --about; nothing here depends on who signed them."""
    from adapters.examination import read_limited, unproven_envelope
    from schemas.signing import identity

    known = {}
    for path in tokens:
        token = read_limited(path).strip()
        envelope = unproven_envelope(token)
        if isinstance(envelope, tuple):
            return envelope
        known[identity(token)] = envelope
    return known


def _national(known: "About") -> "dict[DocumentId, NationalId]":
    from schemas.edxml.documents import own_id
    from schemas.edxml.mapping import NationalId

    return {identity: NationalId(envelope.from_, own_id(envelope)) for identity, envelope in known.items()}


def _names(examiner: "Examiner") -> dict[str, str]:
    return {agency.code: agency.name for agency in examiner.directory.agencies.values()}


def _unpack(folder: Path, text: str, name: str, packet: bytes, attached: Sequence["PackedFile"]) -> None:
    parts = folder / _PARTS_NAME
    parts.mkdir(parents=True, exist_ok=True)
    (folder / _ENVELOPE_NAME).write_text(text + "\n", encoding="utf-8")
    for each in attached:
        with (parts / each.part.name).open("xb") as file:  # a name that is taken already is never overwritten
            file.writelines(each.chunks())
    with (parts / name).open("xb") as file:
        file.write(packet)


def _tell_unmapped(session: Session, places: Sequence[str]) -> None:
    if not places:
        return
    say(session.choose("Chỉ còn trong gói gốc:", "Only in the packet itself:"))
    for place in places:
        say(f"  {place}")


def _refuse(session: Session, problems: Iterable["Problem"]) -> Exit:
    say(explain_problems(problems, session.language))
    return Exit.NEGATIVE


_NAME_IT: Final = ("give its signed document with --about FILE.jws", "hãy chỉ văn bản đã ký bằng --about TỆP.jws")
_OTHER_BYTES: Final = ("the file has other bytes than the envelope says", "tệp có nội dung khác với gói tin ghi")
