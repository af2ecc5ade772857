"""The bytes and the events by month, and what is archived of them."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0009_months"
down_revision = "0008_directory"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
