"""The ledger in PostgreSQL; the only place that speaks to it."""
