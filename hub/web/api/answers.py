"""Answers that tell problems, and what becomes of every failure: a code, never a stack trace."""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hub.core.trouble import Interrupted, Trouble
from schemas.problem_details import PROBLEM_MEDIA_TYPE, problem_details
from schemas.refusal import Problem
from schemas.wire import pointer

log = structlog.get_logger("truc")

_STATUS: Final[Mapping[str, int]] = {
    "E401": 403,
    "E402": 403,
    "E404": 404,
    "E420": 403,
    "E421": 403,
    "E422": 403,
    "E423": 429,
    "E424": 422,
    "E504": 422,
    "E505": 422,
    "E520": 413,
    "E521": 409,
    "E522": 400,
    "E901": 503,
    "E904": 503,
    "E905": 500,
}
_RETRY_AFTER_S: Final = {503: 2, 429: 60}


def answer(
    problems: Sequence[Problem], *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Tell problems. Codes without a status of their own say that nobody has proven to have asked: 401."""
    status = status or _STATUS.get(problems[0].code, 401)
    said = {"Truc-Code": problems[0].code, **(headers or {})}  # the answer to HEAD has no body to tell it
    if status == 401:
        said["WWW-Authenticate"] = 'Bearer realm="truc"'
    if status in _RETRY_AFTER_S:
        said["Retry-After"] = str(_RETRY_AFTER_S[status])
    # A body that was not read would be taken for the next request.
    said["Connection"] = "close"
    return JSONResponse(
        problem_details(problems, status), status_code=status, headers=said, media_type=PROBLEM_MEDIA_TYPE
    )


class ProblemsError(Exception):
    """Ends a request with problems; the handler makes the answer."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].code)
        self.problems = problems


def explain_failures(app: FastAPI) -> None:
    """Have every failure of a request answered with a code."""

    @app.exception_handler(ProblemsError)
    async def refused(_: Request, error: ProblemsError) -> JSONResponse:
        return answer(error.problems)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer([_request_problem(item["loc"], item["msg"]) for item in error.errors()])

    @app.exception_handler(HTTPException)
    async def nothing_there(_: Request, error: HTTPException) -> JSONResponse:
        problem = Problem("E522", "", error.detail, f"HTTP {error.status_code}")
        return answer([problem], status=error.status_code, headers=error.headers)

    @app.exception_handler(Trouble)
    async def trouble(request: Request, error: Trouble) -> JSONResponse:
        if not isinstance(error, Interrupted):
            log.warning("request.trouble", path=request.url.path, reason=str(error))
        return answer([Problem("E901")])

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        log.error("request.defect", path=request.url.path, error=type(error).__name__)
        return answer([Problem("E905")])


def _request_problem(location: Sequence[str | int], message: str) -> Problem:
    """Name the member of the request; its kind (header, query, path) is in the OpenAPI description."""
    return Problem("E522", pointer(location[1:]), message, "thiếu hoặc không đúng dạng")
