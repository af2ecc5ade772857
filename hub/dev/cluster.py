"""Several private RabbitMQ nodes that form a cluster, all on loopback."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hub.dev.rabbitmq import PrivateRabbitMQ
from schemas.hosts import with_hosts


@contextmanager
def cluster(directory: Path, nodes: int = 3, *, tick_s: int = 5) -> Iterator[list[PrivateRabbitMQ]]:
    """Start nodes one after the other, each joining the first; all are removed at the end.

    Args:
        directory: Each node has a directory of its own below it.
        nodes: How many; a quorum queue that is declared then has a member on each of at most three.
        tick_s: As for each node, see `PrivateRabbitMQ`.

    Raises:
        DevError: When RabbitMQ is not installed or a node does not start.
    """
    with ExitStack() as ending:
        started: list[PrivateRabbitMQ] = []
        for number in range(1, nodes + 1):
            first = started[0] if started else None
            node = PrivateRabbitMQ(directory / f"rabbitmq-{number}", joins=first, number=number, tick_s=tick_s)
            ending.callback(node.remove)
            node.start()
            started.append(node)
        yield started


def amqp_url_of(nodes: Sequence[PrivateRabbitMQ]) -> str:
    """The URL that names all nodes."""
    return with_hosts([node.amqp_url for node in nodes])
