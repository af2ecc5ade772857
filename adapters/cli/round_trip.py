"""`truc-agency test`: a document to the echo agency and back, step by step."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from adapters.cli.output import ACTORS, STATUSES_VI, Exit, Misused, Session, run

if TYPE_CHECKING:
    from adapters.round_trip import Heard, Step, Turn, Watch
    from adapters.settings import AgencySettings
    from schemas.capabilities import Capabilities
    from schemas.identifiers import AgencyCode, DocumentId

_STEPS: Final = {
    "uploaded": ("tệp thử vào kho của trục", "part in the store of the axis"),
    "confirmed": ("máy chủ chuyển tin xác nhận", "confirm of the broker"),
    "receipt": ("biên nhận", "receipt"),
    "01": (f"trạng thái 01 {STATUSES_VI['01']}", "status 01 arrived"),
    "03": (f"trạng thái 03 {STATUSES_VI['03']}", "status 03 registered"),
}


def try_out(
    context: typer.Context,
    *,
    to: Annotated[str | None, typer.Option(help="The echo agency; by default echo_code of the settings.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="For platforms: the agency in whose name to test.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=3600, help="How long to wait for all answers, seconds.")
    ] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
) -> None:
    """Send a small document to the echo agency and wait for its receipt, status 01 and status 03.

    Nothing of it stays here. Everything else that waits in the queue stays there; adapters must not run meanwhile.

    Exit codes: 0 all answers are in; 1 refused, or an answer is missing at the time limit; 3 settings, or an adapter is
    running; 4 broker or hub unreachable; 5 not permitted; 6 no queue.
    """
    session: Session = context.obj

    async def command() -> Exit:
        trip = await _travel(session, session.settings(echo_code=to), from_, timeout_s, quiet=as_json)
        if as_json:
            print(json.dumps(trip.as_json(session), ensure_ascii=False, indent=2))
        else:
            print(trip.ending(session))
        return Exit.DONE if trip.complete else Exit.NEGATIVE

    run(session, command)


@dataclass(slots=True)
class _Trip:
    """How far the test has come.

    Attributes:
        echo: Who answers.
        quiet: Whether steps are not printed as they are reached.
        document_id: Of the test document; empty before it is signed.
        reached: The steps that were reached, each with the seconds since the beginning.
        no: What was said against it.
        refused: Whether nothing more can come.
        turn: Whose turn it is, at the time limit.
    """

    session: Session
    echo: "AgencyCode"
    quiet: bool
    document_id: str = ""
    began: float = field(default_factory=time.monotonic)
    reached: "dict[Step, float]" = field(default_factory=dict)
    no: list[tuple[str, str, str]] = field(default_factory=list)
    refused: bool = False
    turn: "Turn | None" = None

    @property
    def missing(self) -> "list[Step]":
        from adapters.round_trip import ANSWERS

        return [step for step in ANSWERS if step not in self.reached]

    @property
    def complete(self) -> bool:
        return not self.missing and not self.refused

    def go(self, document_id: "DocumentId") -> None:
        """Name what is about to be sent, so that the operator can be asked for it whatever happens."""
        self.document_id = document_id
        if not self.quiet:
            print(
                self.session.choose(
                    f"Văn bản thử gửi {self.echo}: {document_id}", f"Test document to {self.echo}: {document_id}"
                )
            )

    def reach(self, step: "Step") -> None:
        if step in self.reached:
            return
        self.reached[step] = time.monotonic() - self.began
        if not self.quiet:
            print(f"  {self.reached[step]:6.2f} s  {self.session.choose(*_STEPS[step])}", flush=True)

    def take(self, heard: "Heard") -> None:
        for step in heard.steps:
            self.reach(step)
        self.no.extend(heard.no)
        self.refused = self.refused or heard.final

    def ending(self, session: Session) -> str:
        said = [f"  {code} {session.choose(vi, en)}".rstrip() for code, vi, en in self.no]
        if self.complete:
            last = max(self.reached.values())
            return "\n".join(
                [
                    *said,
                    session.choose(
                        f"ĐẠT sau {last:.2f} s: cả chiều đi và chiều về", f"PASSES after {last:.2f} s, there and back"
                    ),
                ]
            )
        if self.refused:
            return "\n".join(
                [*said, session.choose("HỎNG: văn bản thử bị từ chối", "FAILS: the test document was refused")]
            )
        missing = ", ".join(session.choose(*_STEPS[step]) for step in self.missing)
        lines = [*said, session.choose(f"HỎNG, hết giờ mà chưa thấy: {missing}", f"FAILS, not seen in time: {missing}")]
        if self.turn is not None:
            who = ACTORS[session.language][self.turn.who]
            lines += [
                session.choose(f"  Ai xử lý: {who}", f"  Who acts: {who}"),
                f"  {session.choose(self.turn.vi, self.turn.en)}",
            ]
        return "\n".join(lines)

    def as_json(self, session: Session) -> dict[str, Any]:
        turn = self.turn
        return {
            "v": 1,
            "document": self.document_id,
            "echo": self.echo,
            "complete": self.complete,
            "refused": self.refused,
            "steps": [{"step": step, "seconds": round(seconds, 3)} for step, seconds in self.reached.items()],
            "missing": self.missing,
            "said": [{"code": code, "text": session.choose(vi, en)} for code, vi, en in self.no],
            "acts": turn.who if turn else None,
            "reason": session.choose(turn.vi, turn.en) if turn else None,
        }


async def _travel(
    session: Session, settings: "AgencySettings", from_: str | None, timeout_s: float, *, quiet: bool
) -> _Trip:
    from datetime import UTC, datetime

    from adapters.cli.wiring import client_of, line_of
    from adapters.inbox_guard import InboxGuard
    from adapters.round_trip import PART, PART_NAME, no_adapter_beside, trial_document, watching
    from adapters.trust import Trust
    from schemas.identifiers import AgencyCode
    from schemas.signing import identity

    sender, via = _sender(settings, from_)
    trip = _Trip(session, AgencyCode(settings.echo_code), quiet)
    deadline = asyncio.get_running_loop().time() + timeout_s
    async with AsyncExitStack() as stack:
        stack.enter_context(no_adapter_beside(settings.guard_file))
        # The client only sends, so it has nothing to remember.
        memory = stack.enter_context(InboxGuard.unsafe_in_memory())
        client = await stack.enter_async_context(client_of(settings, memory))
        line = line_of(settings)
        await _refuse_other_readers(settings)
        parts = []
        if settings.hub_url is not None:
            parts = [await client.upload(PART, name=PART_NAME, media_type="text/plain", from_=sender)]
            trip.reach("uploaded")
        trust = Trust(settings.directory_file)
        watch = await stack.enter_async_context(watching(line, AgencyCode(settings.code), trust))
        token = await client.sign(trial_document(sender, via, trip.echo, parts, datetime.now(UTC)))
        trip.go(identity(token))
        submitted = await client.submit(token, timeout_s=min(timeout_s, settings.publish_timeout_s))
        trip.reach("confirmed")
        await _hear_out(trip, watch, submitted.document_id, deadline)
    if not trip.complete and not trip.refused:
        await _find_out(trip, settings, sender, watch)
    return trip


async def _hear_out(trip: _Trip, watch: "Watch", document_id: "DocumentId", deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            while trip.missing and not trip.refused:
                trip.take(await watch.hear(document_id, trip.echo))
    except TimeoutError:
        return


async def _find_out(trip: _Trip, settings: "AgencySettings", sender: "AgencyCode", watch: "Watch") -> None:
    """Find out whose turn it is."""
    from adapters.round_trip import whose_turn

    asked = await _ask_about(trip.echo, settings, sender) if settings.hub_url is not None else None
    trip.turn = whose_turn(trip.missing[0], trip.echo, asked=asked, watch=watch)


async def _ask_about(
    echo: "AgencyCode", settings: "AgencySettings", sender: "AgencyCode"
) -> "Capabilities | str | None":
    from adapters.cli.wiring import inquiry_of
    from adapters.errors import HubError

    inquiry = inquiry_of(settings)
    try:
        return await inquiry.capabilities(echo, asker=sender)
    except HubError as error:
        return error.code.code
    finally:
        await inquiry.close()


async def _refuse_other_readers(settings: "AgencySettings") -> None:
    """Find an adapter on another machine, which would take the answers."""
    from adapters.cli.wiring import line_of
    from adapters.errors import Unusable
    from adapters.probe import Probe
    from schemas.addresses import agency_queue
    from schemas.identifiers import AgencyCode

    code = AgencyCode(settings.code)
    standing = await Probe(line_of(settings), code).look()
    if standing.consumers:
        raise Unusable(
            f"{standing.consumers} readers are connected to it",
            f"đang có {standing.consumers} kết nối đọc hàng đợi này",
            place=agency_queue(code),
            code="A108",
        )


def _sender(settings: "AgencySettings", from_: str | None) -> "tuple[AgencyCode, AgencyCode | None]":
    from schemas.identifiers import AgencyCode, is_agency_code, is_platform_code

    code = from_ or settings.code
    if is_agency_code(code):
        return AgencyCode(code), None if code == settings.code else AgencyCode(settings.code)
    if from_ is None and is_platform_code(code):
        raise Misused(
            "--from", f"{code} is a platform: name the agency to test for", f"{code} là nền tảng: ghi mã đơn vị cần thử"
        )
    raise Misused("--from", f"{code} is no agency code", f"{code} không phải mã đơn vị")
