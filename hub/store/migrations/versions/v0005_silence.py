"""Indexes that say since when an agency is silent."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0005_silence"
down_revision = "0004_replay"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
