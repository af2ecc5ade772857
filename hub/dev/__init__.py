"""A private RabbitMQ and PostgreSQL as child processes, for the demo, the tests, the benchmarks and `truc run --dev`.

Nothing here is used in production. Everything listens on loopback only, lives in one directory, and ends with the
process that started it, however that process ends.
"""
