"""The command `truc`: what operators and engineers do with a hub. What is heavy is imported by the commands."""

import typer

from hub.cli import archive, broker, database, dead, demo, directory, hold, replay, run, stats, trace
from hub.cli import audit as auditing

app = typer.Typer(
    name="truc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trục liên thông văn bản: run the hub, look after its directory, broker and ledger.",
    epilog="Exit codes: 0 done, 1 negative, 2 usage, 3 settings, 4 unreachable, 6 not found, 7 conflict, 130 interrupted.",
)
app.command()(run.run)
app.command()(demo.demo)
app.command()(trace.trace)
app.command()(auditing.audit)
app.command()(hold.hold)
app.command()(hold.release)
app.add_typer(dead.app, name="dead")
app.add_typer(replay.app, name="replay")
app.add_typer(directory.app, name="directory")
app.add_typer(broker.app, name="broker")
app.add_typer(database.app, name="db")
app.add_typer(archive.app, name="archive")
app.add_typer(stats.app, name="stats")
