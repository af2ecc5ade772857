"""Recipients that are held, fair claims, and warnings before the end of a lifetime."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0006_breaker"
down_revision = "0005_silence"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
