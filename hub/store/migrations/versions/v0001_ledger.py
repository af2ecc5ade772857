"""The ledger and the directory."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0001_ledger"
down_revision = None


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
