"""The process: opens what the gateway needs, runs its loops and answers requests until it is told to stop."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from adapters.cli.wiring import client_of, signer_of
from adapters.errors import AgencyError, Unusable
from adapters.gateway import loops
from adapters.gateway.app import create_app
from adapters.gateway.entrance import Entrance, read_tokens
from adapters.gateway.index import DirectoryIndex
from adapters.gateway.office import Office
from adapters.gateway.webhook import Webhook
from adapters.inbox_guard import InboxGuard
from adapters.inquiry import Inquiry
from adapters.mailbox import Mailbox
from adapters.service import stopped_by_signals
from adapters.settings import AgencySettings, is_loopback
from adapters.trust import Trust
from schemas.identifiers import AgencyCode


async def run(settings: AgencySettings, listener: socket.socket) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Args:
        settings: Of the agency or platform.
        listener: What `bind` gave.

    Raises:
        Unusable: When something of our own cannot be used.
        BrokerError: When the broker does not let us in, or has no queue for us.
    """
    entrance = Entrance(tokens_of(settings), settings.gateway_max_requests)
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(InboxGuard(settings.guard_file))
        mailbox = stack.enter_context(Mailbox(settings.mailbox_file, announces=settings.webhook_url is not None))
        await guard.forget(datetime.now(UTC) - timedelta(days=settings.guard_days))
        client = await stack.enter_async_context(client_of(settings, guard))
        inquiry = None
        if settings.hub_url is not None:
            inquiry = Inquiry(
                settings.hub_url,
                AgencyCode(settings.code),
                signer_of(settings),
                ssl_context=settings.ssl_context(),
                clock=lambda: datetime.now(UTC),
            )
            stack.push_async_callback(inquiry.close)
        office = Office(
            client=client,
            inquiry=inquiry,
            code=AgencyCode(settings.code),
            mailbox=mailbox,
            index=DirectoryIndex(Trust(settings.directory_file), lambda: datetime.now(UTC)),
            spool=empty_folder(settings.mailbox_file.with_suffix(".spool")),
            clock=lambda: datetime.now(UTC),
            max_waiting=settings.gateway_max_waiting,
            max_part_bytes=settings.gateway_max_part_bytes,
        )
        await _work(settings, office, create_app(office, entrance), listener)


async def _work(settings: AgencySettings, office: Office, app: FastAPI, listener: socket.socket) -> None:
    """Run everything until told to stop, or until one of them cannot go on."""
    work = [
        loops.receive(office),
        loops.send_documents(office),
        loops.send_receipts(office),
        loops.forget(office, settings.mailbox_days),
    ]
    if settings.webhook_url is not None:
        webhook = Webhook(
            settings.webhook_url,
            office,
            signer_of(settings),
            acknowledges=settings.webhook_acknowledges,
            timeout_s=settings.webhook_timeout_s,
        )
        work.append(webhook.run())
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await _serve(app, listener, office, tasks)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise _first(result)


async def _serve(app: FastAPI, listener: socket.socket, office: Office, tasks: list[asyncio.Task[None]]) -> None:
    """Answer requests until a signal, or until one of the tasks ends; requests under way are finished."""
    server = _QuietServer(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    with stopped_by_signals() as stop:
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        office.close()
        server.should_exit = True
        await serving


def bind(host: str, port: int) -> socket.socket:
    """Take the address.

    Raises:
        Unusable: A101 when it cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise Unusable(
            f"{host}:{port} cannot be used: {reason}",
            f"không dùng được {host}:{port}: {reason}",
            place="gateway_host, gateway_port",
        ) from error
    return listener


def tokens_of(settings: AgencySettings) -> dict[str, str]:
    """Read the access tokens; none are needed where only this machine can ask.

    Raises:
        Unusable: A101 when none are set up and others can reach us, or when the file cannot be used.
    """
    if settings.gateway_tokens_file is not None:
        return read_tokens(settings.gateway_tokens_file)
    if not is_loopback(settings.gateway_host):
        raise Unusable(
            f"{settings.gateway_host} can be reached from elsewhere, so access tokens are needed",
            f"máy khác gọi được {settings.gateway_host}, nên phải có mã truy cập",
            place="gateway_tokens_file",
        )
    return {}


def empty_folder(folder: Path) -> Path:
    """Make a folder, or clear away what a process that died has left in it.

    Raises:
        Unusable: A106 when that cannot be done.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise Unusable(str(error), str(error), place=str(folder), code="A106") from error
    return folder


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # long polls are let go and loops ended first; uvicorn's own handlers would end it at once


def _first(error: Exception) -> Exception:
    """Find what ended a loop: the first error of ours in a group, else the group."""
    found: Exception | None = error.subgroup(AgencyError) if isinstance(error, ExceptionGroup) else None
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found or error
