"""`truc-agency folder`."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.cli.output import Exit, Session, run


def folder(
    context: typer.Context,
    *,
    folder: Annotated[Path | None, typer.Option(help="The folder; by default that of the settings.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Carry what waits on either side, then end: for cron.")] = False,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="After the loss of a disk: also documents whose lifetime is over.")
    ] = False,
) -> None:
    """Send the edXML packets that are put into outbox, lay those that arrive into inbox, until SIGTERM or Ctrl-C."""
    session: Session = context.obj

    async def command() -> Exit:
        from adapters.folder import serve

        await serve.run(session.settings(folder=folder), once=once, expired_too=catch_up)
        return Exit.DONE

    run(session, command)
