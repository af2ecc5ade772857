"""That the owner may take on the role of the hub."""

from sqlalchemy import Connection

from hub.store.migrations.runner import run_file

revision = "0010_role"
down_revision = "0009_months"


def upgrade(connection: Connection) -> None:
    """Apply the SQL file beside this module."""
    run_file(revision, connection)
