"""`truc-agency send`."""

import asyncio
import json
import mimetypes
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.cli.output import OUTCOMES_VI, Exit, Misused, Session, explain_problem, run, say

if TYPE_CHECKING:
    from adapters.client import AgencyClient
    from schemas.envelope import Envelope
    from schemas.identifiers import AgencyCode, DeliveryId, DocumentId
    from schemas.receipt import Receipt
    from schemas.refusal import Problem


class Milestone(StrEnum):
    """What can be waited for."""

    CONFIRMED = "confirmed"
    RECEIVED = "received"


def send(
    context: typer.Context,
    description: Annotated[
        Path | None, typer.Argument(help="TOML or JSON with the members below; options come before it.")
    ] = None,
    *,
    to: Annotated[list[str] | None, typer.Option(help="Code or group; may be repeated.")] = None,
    subject: Annotated[str | None, typer.Option(help="Trích yếu.")] = None,
    kind: Annotated[str | None, typer.Option(help="Loại văn bản; by default Công văn.")] = None,
    number: Annotated[str | None, typer.Option(help="Số.")] = None,
    notation: Annotated[str | None, typer.Option(help="Ký hiệu.")] = None,
    issued_on: Annotated[str | None, typer.Option(help="Ngày ban hành, YYYY-MM-DD; by default today.")] = None,
    action: Annotated[str | None, typer.Option(help="new, update, replace, revoke; by default new.")] = None,
    ref: Annotated[
        list[str] | None, typer.Option(help="Id of the earlier document that it updates, replaces or revokes.")
    ] = None,
    urgency: Annotated[str | None, typer.Option(help="normal, urgent, very-urgent, express, express-timed.")] = None,
    signer: Annotated[str | None, typer.Option(help="Người ký.")] = None,
    position: Annotated[str | None, typer.Option(help="Chức vụ của người ký.")] = None,
    part: Annotated[list[Path] | None, typer.Option(help="File that belongs to it; uploaded first.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="For platforms: the agency that sends.")] = None,
    lifetime_days: Annotated[int, typer.Option(min=1, max=30, help="When to give up delivering.")] = 7,
    token: Annotated[Path | None, typer.Option(help="Send bytes that were signed before, exactly as they are.")] = None,
    wait: Annotated[
        Milestone, typer.Option(help="`received` reads the own queue meanwhile: let nothing else listen then.")
    ] = Milestone.CONFIRMED,
    timeout: Annotated[float, typer.Option(min=0.1, help="How long to wait for receipts, seconds.")] = 60.0,
) -> None:
    """Upload the files of a document, sign it, submit it, print its id.

    Parts that the description names by digest must have been uploaded before.
    """
    session: Session = context.obj
    facts = {
        "subject": subject,
        "kind": kind,
        "number": number,
        "notation": notation,
        "issued_on": issued_on,
        "urgency": urgency,
    }
    person = {"name": signer, "position": position}
    given = {
        "to": to,
        "from": from_,
        "action": action,
        "ref": ref,
        "doc": _present(facts) | ({"signer": _present(person)} if any(person.values()) else {}),
    }

    async def command() -> Exit:
        from schemas.refusal import Problem

        if (token is None) == (description is None and to is None):
            say(
                session.choose("Cần tệp mô tả hoặc --to, hoặc --token.", "Give a description or --to, or else --token.")
            )
            return Exit.USAGE
        if token is not None:
            kept = _read_bytes(token).strip()
            if not _looks_signed(kept):
                say(explain_problem(Problem("E102", str(token)), session.language))
                return Exit.USAGE
            document: Envelope | bytes = kept
            expected: tuple[str, ...] = ()
            if wait is Milestone.RECEIVED:
                say(
                    session.choose(
                        "--token không dùng với --wait received.", "--token does not go with --wait received."
                    )
                )
                return Exit.USAGE
        else:
            made = _describe(session, description, _present(given), part or [], lifetime_days)
            if isinstance(made, tuple):
                for problem in made:
                    say(explain_problem(problem, session.language))
                return Exit.USAGE
            document, expected = made, made.to
        if wait is Milestone.RECEIVED and any(":" in recipient for recipient in expected):
            say(
                session.choose(
                    "--wait received cần mã đơn vị, không nhận nhóm.", "--wait received needs codes, not groups."
                )
            )
            return Exit.USAGE
        files = (part or []) if token is None else []
        return await _submit(session, document, files, expected if wait is Milestone.RECEIVED else (), timeout)

    run(session, command)


async def _submit(
    session: Session, document: "Envelope | bytes", files: list[Path], awaited: tuple[str, ...], timeout_s: float
) -> Exit:
    from adapters.cli.wiring import client_of
    from adapters.errors import BrokerError
    from adapters.inbox_guard import InboxGuard
    from schemas.refusal import Problem

    settings = session.settings(prefetch=2000 if awaited else None)  # documents in front of the answer fill it
    with InboxGuard.unsafe_in_memory() as guard:  # documents are left in the queue, so there is nothing to remember
        async with client_of(settings, guard) as client:
            for file in files:
                await client.upload(file, name=file.name, media_type=_media_type(file), from_=_sender(document))
            try:
                submitted = await client.submit(document)
            except BrokerError as error:
                _keep(session, error)
                raise
            except ValueError as error:  # signed, it is larger than the axis takes
                say(explain_problem(Problem("E101", "", str(error)), session.language))
                return Exit.USAGE
            print(submitted.document_id)
            return await _wait(session, client, submitted.document_id, awaited, timeout_s) if awaited else Exit.DONE


def _looks_signed(token: bytes) -> bool:
    """Tell a signed document from a description that was named by mistake; the axis checks the rest."""
    return re.fullmatch(rb"[\w-]+\.[\w-]+\.[\w-]+", token) is not None


def _keep(session: Session, error: Any) -> None:
    """Keep the signed bytes: sending these again is the same document, signing anew would be a second one."""
    if error.token is None:
        return
    file = Path(f"{error.document_id}.jws")
    file.write_bytes(error.token)
    say(
        session.choose(
            f"Đã giữ lại văn bản đã ký. Gửi lại đúng bản này: truc-agency send --token {file}",
            f"The signed document is kept. Send exactly this one again: truc-agency send --token {file}",
        )
    )


async def _wait(
    session: Session, client: "AgencyClient", document_id: "DocumentId", recipients: tuple[str, ...], timeout_s: float
) -> Exit:
    """Wait until every recipient has answered; letters about other documents stay in the queue."""
    from schemas.identifiers import AgencyCode, delivery_id_of
    from schemas.receipt import Notice, Receipt

    awaited = {delivery_id_of(document_id, AgencyCode(code)): code for code in recipients}
    try:
        async with asyncio.timeout(timeout_s):
            async for letter in client.letters():
                if isinstance(letter.content, Receipt):
                    refused, whole = _read_receipt(session, letter.content, awaited)
                elif isinstance(letter.content, Notice) and letter.content.document == document_id:
                    refused = whole = True
                    for problem in letter.content.problems:
                        say(f"{problem.code} {problem.pointer} {session.choose(problem.vi, problem.en)}")
                else:
                    continue
                if whole:
                    await client.acknowledge(letter)
                if refused or not awaited:
                    return Exit.NEGATIVE if refused else Exit.DONE
    except TimeoutError:
        names = ", ".join(awaited.values())
        say(session.choose(f"Chưa có biên nhận của: {names}", f"No receipt yet from: {names}"))
    return Exit.NEGATIVE


def _read_receipt(session: Session, receipt: "Receipt", awaited: "dict[DeliveryId, str]") -> tuple[bool, bool]:
    """Strike out what is received; tells whether somebody refuses, and whether the receipt is about nothing else."""
    refused = False
    ours = [answer for answer in receipt.answers if answer.delivery_id in awaited]
    for answer in ours:
        outcome = session.choose(OUTCOMES_VI[answer.outcome], answer.outcome)
        say(" ".join(filter(None, (outcome, awaited[answer.delivery_id], answer.code, answer.detail))))
        refused = refused or answer.outcome == "refused"
        if answer.outcome == "received":
            del awaited[answer.delivery_id]
    return refused, len(ours) == len(receipt.answers)


def _describe(
    session: Session, file: Path | None, given: dict[str, Any], parts: list[Path], lifetime_days: int
) -> "Envelope | tuple[Problem, ...]":
    """Make the envelope that is described; or say what is wrong with it, as the axis would."""
    import time
    from datetime import datetime

    from schemas.directory_file import VIETNAM
    from schemas.envelope import new_envelope_id, read_envelope

    described = _read(file) if file is not None else {}
    settings = session.settings()
    sender = given.get("from") or described.get("from") or settings.code
    now_s = int(time.time())
    doc = {"kind": "Công văn", "issued_on": datetime.now(VIETNAM).date().isoformat()}
    payload = {
        "v": 1,
        "id": new_envelope_id(),
        "from": sender,
        **({"via": settings.code} if sender != settings.code else {}),
        "created": now_s,
        "expires": now_s + lifetime_days * 86400,
        **described,
        **given,
        "doc": doc | described.get("doc", {}) | given["doc"],
        "parts": [*described.get("parts", []), *map(_part, parts)],
    }
    return read_envelope(json.dumps(payload, ensure_ascii=False, default=str).encode())


def _read(file: Path) -> dict[str, Any]:
    kind = "JSON" if file.suffix == ".json" else "TOML"
    try:
        text = _read_bytes(file).decode()
        described = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except ValueError as error:
        raise Misused(file, f"not {kind}: {error}", f"sai cú pháp {kind}: {error}") from error
    if not isinstance(described, dict):
        raise Misused(file, "not an object", "không phải đối tượng JSON")
    return described


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> Misused:
    return Misused(file, error.strerror or "cannot be read", f"không đọc được tệp ({error.strerror})")


def _part(file: Path) -> dict[str, Any]:
    import hashlib

    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        length = file.stat().st_size
    except OSError as error:
        raise _unreadable(file, error) from error
    return {"name": file.name, "media_type": _media_type(file), "sha256": digest, "length": length}


def _media_type(file: Path) -> str:
    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _sender(document: "Envelope | bytes") -> "AgencyCode | None":
    return None if isinstance(document, bytes) else document.from_


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
