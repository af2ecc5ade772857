"""Parts: what is in the blob store, who has uploaded it, which documents name it."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0002_parts"
down_revision = "0001_ledger"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
