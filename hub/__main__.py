"""`truc`, or `python -m hub`."""

import typer

from hub.cli import audit as auditing
from hub.cli import broker, database, dead, demo, directory, run, trace

app = typer.Typer(
    name="truc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trục: trục liên thông văn bản. Run the hub, look after its directory, broker and ledger.",
)
app.command()(run.run)
app.command()(demo.demo)
app.command()(trace.trace)
app.command()(auditing.audit)
app.add_typer(dead.app, name="dead")
app.add_typer(directory.app, name="directory")
app.add_typer(broker.app, name="broker")
app.add_typer(database.app, name="db")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
