"""An implementation of S3 that runs in the tests: moto's server, on a free port."""

import logging
import secrets
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from moto.server import ThreadedMotoServer


@dataclass(frozen=True, slots=True)
class S3:
    """A running server with one bucket."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What `hub.blobs` reads from the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def fresh_url(self) -> str:
        """A part of the bucket for one test."""
        return f"s3://{self.bucket}/{secrets.token_hex(4)}"


@contextmanager
def some_s3() -> Iterator[S3]:
    """Run a server with a bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/truc", method="PUT"), timeout=10).close()
        yield S3(endpoint, "truc")
    finally:
        server.stop()
