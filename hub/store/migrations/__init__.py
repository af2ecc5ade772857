"""Brings the tables to the revision that this version of the hub needs; forward only.

Each revision is a file of plain SQL in `versions/`, with a small module of the same name that tells Alembic its place in
the order. All that is missing is applied in one transaction, under an advisory lock: replicas that start together do
not migrate at once. The digest of each applied file is kept, so a file that was changed afterwards is noticed.
"""
