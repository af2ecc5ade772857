"""Business statuses, and the links between documents."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0003_statuses"
down_revision = "0002_parts"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
