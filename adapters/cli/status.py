"""`truc-agency status`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.cli.output import Exit, Session, explain_problem, run, say

if TYPE_CHECKING:
    from schemas.receipt import Status


def status(
    context: typer.Context,
    document: Annotated[str, typer.Argument(help="Identity of the document, as `send` and `listen` print it.")],
    code: Annotated[
        str,
        typer.Argument(
            help="01 arrived, 02 not accepted, 03 registered, 04 assigned, 05 in process, 06 finished, 13 asked back (by "
            "the sender), 15 agreed to give back or update, 16 declined."
        ),
    ],
    *,
    to: Annotated[str, typer.Option(help="The sender of the document; for 13 the recipient that is asked.")],
    detail: Annotated[str | None, typer.Option(help="Reason or remark; 02 must give its reason.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="For platforms: the agency whose status it is.")] = None,
    name: Annotated[str | None, typer.Option(help="Who has set it: họ và tên.")] = None,
    department: Annotated[str | None, typer.Option(help="Phòng, ban của người đó.")] = None,
) -> None:
    """Say what the office does with a document; signed, and passed on to the other side."""
    session: Session = context.obj
    staff = {key: value for key, value in {"name": name, "department": department}.items() if value is not None}
    given = {"to": to, "document": document, "status": code, "detail": detail, "staff": staff or None}

    async def command() -> Exit:
        from adapters.cli.wiring import client_of
        from adapters.inbox_guard import InboxGuard

        content = _read(session, {name: value for name, value in given.items() if value is not None}, from_)
        if content is None:
            return Exit.USAGE
        with InboxGuard.unsafe_in_memory() as guard:  # nothing is taken, so there is nothing to remember
            async with client_of(session.settings(), guard) as client:
                await client.status(
                    document=content.document,
                    to=content.to,
                    status=content.status,
                    from_=content.from_,
                    detail=content.detail,
                    staff=content.staff,
                )
        return Exit.DONE

    run(session, command)


def _read(session: Session, given: dict[str, Any], from_: str | None) -> "Status | None":
    """Check what is given as the axis would, and say everything that is wrong with it."""
    import json
    import time

    from schemas.receipt import Status, read_status

    code = session.settings().code
    via = {"via": code} if from_ not in (None, code) else {}
    payload = {"v": 1, "from": from_ or code, **via, "at": int(time.time()), **given}
    read = read_status(json.dumps(payload, ensure_ascii=False).encode())
    if isinstance(read, Status):
        return read
    for problem in read:
        say(explain_problem(problem, session.language))
    return None
