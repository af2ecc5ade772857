"""Finding the catch-ups of an agency."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0007_catch_up"
down_revision = "0006_breaker"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
