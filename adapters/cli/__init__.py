"""The command line of an agency: `truc-agency send | listen | gateway | …`; what is heavy is imported by the commands."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import convert, doctor, echo, folder, gateway, init, listen, round_trip, send, status, verify
from adapters.cli.output import Language, Session

app = typer.Typer(
    name="truc-agency",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Phần mềm kết nối của đơn vị với Trục liên thông văn bản: send, receive, find out what is wrong.",
    epilog="Exit codes: 0 done, 1 negative, 2 usage, 3 configuration, 4 unreachable, 5 not permitted, 6 not found, 130 interrupted.",
)


@app.callback()
def _common(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Settings; by default truc-agency.toml here.")] = None,
    lang: Annotated[Language | None, typer.Option(help="Language of texts for people.")] = None,
) -> None:
    context.obj = Session(config, lang)


app.command()(init.init)
app.command()(send.send)
app.command()(status.status)
app.command()(listen.listen)
app.command()(gateway.gateway)
app.command()(verify.verify)
app.command()(convert.convert)
app.command()(doctor.doctor)
app.command()(folder.folder)
app.command("test")(round_trip.try_out)
app.command()(echo.echo)
