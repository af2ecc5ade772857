"""Who may come in, how many at a time, and how much each may carry."""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from adapters.errors import Unusable
from adapters.gateway.problems import Refusal
from adapters.settings import is_loopback
from schemas.refusal import Problem

_LINE: Final = re.compile(r"([0-9a-f]{64})\s+(\S.*)")
_bearer = HTTPBearer(auto_error=False, description="An access token of the gateway; not needed where none is set up.")


class Entrance:
    """Lets requests in.

    Args:
        tokens: Names of the callers by SHA-256 of their token; empty when everybody on this machine may come in.
        max_requests: Most requests that are answered at a time.
    """

    def __init__(self, tokens: Mapping[str, str], max_requests: int) -> None:
        self._tokens = tokens
        self._free = max_requests

    def admit(self, credentials: HTTPAuthorizationCredentials | None, host: str) -> None:
        """Let a request in; `leave` must follow.

        Raises:
            Refusal: 401 when it bears no known token; 429 when too many are inside.
        """
        if self._tokens:
            # Looked up by hash: how long that takes says nothing about a token that would fit.
            if credentials is None or _hash(credentials.credentials) not in self._tokens:
                raise Refusal(401, Problem("A201"), headers={"WWW-Authenticate": "Bearer"})
        elif not is_loopback(host):
            # A page in a browser on this machine may reach us under a name of its own; it cannot choose this header.
            raise Refusal(401, Problem("A201", "/header/host", host[:100], host[:100]))
        if self._free == 0:
            raise Refusal(429, Problem("A209"), headers={"Retry-After": "1"})
        self._free -= 1

    def leave(self) -> None:
        """Make room for the next."""
        self._free += 1


def read_tokens(file: Path) -> dict[str, str]:
    """Read the hashes of access tokens: `SHA-256 NAME` a line, as `sha256sum` writes them; `#` begins a comment.

    Raises:
        Unusable: A101 when the file cannot be read, has another line or none.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise Unusable(str(error), "không đọc được tệp", place=str(file)) from error
    tokens = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise Unusable(f"line {number} is not `SHA-256 NAME`", f"dòng {number} sai dạng", place=str(file))
        tokens[found[1]] = found[2]
    if not tokens:
        raise Unusable("there is no token in it", "không có mã truy cập nào", place=str(file))
    return tokens


async def _enter(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> AsyncIterator[None]:
    entrance: Entrance = request.app.state.entrance
    entrance.admit(credentials, request.url.hostname or "")
    try:
        yield
    finally:
        entrance.leave()


ENTER: Final[Any] = Depends(_enter)
"""What every address but the description asks for first."""


async def read_body(request: Request, media_types: tuple[str, ...], max_bytes: int) -> bytes:
    """Read the body of a request.

    Raises:
        Refusal: 413 when it is too large, 415 when it is of another type.
    """
    check_body(request, media_types, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return bytes(body)


def check_body(request: Request, media_types: tuple[str, ...], max_bytes: int) -> None:
    """Check what a request says about its body; any type will do where none is named.

    Raises:
        Refusal: As `read_body`.
    """
    media_type = media_type_of(request)
    if media_types and media_type not in media_types:
        expected = ", ".join(media_types)
        found = media_type[:100]
        raise Refusal(
            415, Problem("A205", "/header/content-type", f"{found!r}, not {expected}", f"{found!r}, cần {expected}")
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, Problem("A205", "/header/content-encoding"))
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes)


def media_type_of(request: Request) -> str:
    """Give the type of a body without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def too_large(max_bytes: int) -> Refusal:
    """Say how much is taken."""
    return Refusal(413, Problem("A204", "", f"at most {max_bytes} bytes", f"nhiều nhất {max_bytes} byte"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
