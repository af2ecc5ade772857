"""`truc-agency echo`."""

import typer

from adapters.cli.output import Exit, Session, run, say


def echo(context: typer.Context) -> None:
    """Answer everything that arrives with statuses 01 and 03 and a receipt, until SIGTERM or Ctrl-C.

    For an agency that is nobody's office: with it others try their connection (`truc-agency test`).
    """
    session: Session = context.obj

    async def command() -> Exit:
        from datetime import UTC, datetime, timedelta

        from adapters.cli.wiring import client_of
        from adapters.echo import TAKERS
        from adapters.echo import echo as answer
        from adapters.inbox_guard import InboxGuard
        from adapters.service import until_told

        settings = session.settings()
        with InboxGuard(settings.guard_file) as guard:
            await guard.forget(datetime.now(UTC) - timedelta(days=settings.guard_days))
            async with client_of(settings, guard) as client:
                say(session.choose(f"{settings.code} trả lời mọi văn bản", f"{settings.code} answers every document"))
                fetches = settings.hub_url is not None
                await until_told([answer(client, fetches=fetches) for _ in range(TAKERS)])
        return Exit.DONE

    run(session, command)
