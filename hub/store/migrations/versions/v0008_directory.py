"""What of the directory an import has written."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0008_directory"
down_revision = "0007_catch_up"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
