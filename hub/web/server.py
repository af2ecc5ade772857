"""Serves the application inside a process that handles signals itself."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from hub.core.trouble import Unavailable


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process drains its loops first; uvicorn's own handlers would end it at once


async def serve(app: FastAPI, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on an address that was taken with `bind`, until told to stop."""
    server = _QuietServer(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        stopping.cancel()
        await serving


def bind(host: str, port: int) -> socket.socket:
    """Take the address.

    Raises:
        Unavailable: When it is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable("http", f"{host}:{port} cannot be used ({error.strerror}); set TRUC_HTTP_PORT") from error
    return listener
