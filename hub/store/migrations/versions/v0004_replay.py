"""Dead letters and replays."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0004_replay"
down_revision = "0003_statuses"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
