"""One FastAPI application out of the handlers: who comes in, what errors look like, how it describes itself."""

import logging
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from adapters.errors import AgencyError
from adapters.gateway import agencies, deliveries, documents, packets, parts, statuses
from adapters.gateway.entrance import ENTER, Entrance
from adapters.gateway.forms import DocumentDraft, ReceiptDraft, StatusDraft
from adapters.gateway.office import Office
from adapters.gateway.problems import PROBLEM_MEDIA_TYPE, Refusal, answer, refusal_of
from schemas.refusal import Problem
from schemas.wire import pointer

log = logging.getLogger(__name__)

_READ_BY_HAND: Final[tuple[type[BaseModel], ...]] = (DocumentDraft, ReceiptDraft, StatusDraft)
_STATUS_CODES: Final = {404: "A202", 405: "A203"}
_MAX_TOLD: Final = 20
_DAY_PATTERN: Final = r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}$"
_DESCRIPTION: Final = """\
The gateway of an agency or platform to the national document exchange axis (Trục liên thông văn bản quốc gia).

Hand documents in with `POST /v1/documents`, ask for what has arrived with `GET /v1/deliveries`, answer each delivery
with `POST /v1/deliveries/{delivery}/receipt` once it is safe in your own system. Times are seconds since 1970 UTC.
Every refusal is `application/problem+json` with a stable code, the place, who must act and what to do, in Vietnamese
and English."""


def create_app(office: Office | None, entrance: Entrance | None) -> FastAPI:
    """Build the application; without an office it can only describe itself."""
    app = FastAPI(
        title="Trục: REST gateway",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.office, app.state.entrance = office, entrance
    for module in (documents, deliveries, parts, packets, statuses, agencies):
        app.include_router(module.router, dependencies=[ENTER])
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(AgencyError, _trouble)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return answer(error.status, error.problems, error.headers)


async def _trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, AgencyError)
    log.warning("request.failed %s %s: %s", request.method, request.url.path, error)
    return await _refused(request, refusal_of(error))


async def _wrong_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:_MAX_TOLD]
    return answer(422, [Problem("A206", pointer(each["loc"])[:200], each["msg"][:200]) for each in found])


async def _no_such_thing(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "A206")
    return answer(error.status_code, [Problem(code)], error.headers)


async def _gone(_: Request, error: Exception) -> Response:
    del error
    return answer(400, [Problem("A206", "", "the connection was closed", "kết nối đã đóng")])  # nobody reads it


async def _fault(request: Request, error: Exception) -> Response:
    log.error("request.fault %s %s", request.method, request.url.path, exc_info=error)
    return answer(500, [Problem("A211")])


def _describe(app: FastAPI) -> dict[str, Any]:
    """Write the OpenAPI description, with the bodies that are read by hand and the media type of errors."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
        )
        _, bodies = models_json_schema(
            [(model, "validation") for model in _READ_BY_HAND], ref_template="#/components/schemas/{model}"
        )
        described["components"]["schemas"] = bodies["$defs"] | described["components"]["schemas"]
        _say_days(described["components"])
        for path in described["paths"].values():
            for operation in path.values():
                _say_problem_json(operation["responses"])
        app.openapi_schema = described
    return app.openapi_schema


def _say_problem_json(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {PROBLEM_MEDIA_TYPE: next(iter(response["content"].values()))}


def _say_days(part: Any) -> None:
    """Say where a text is a real day, which the generator cannot see."""
    if isinstance(part, dict):
        if part.get("pattern") == _DAY_PATTERN:
            part["format"] = "date"
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            _say_days(each)
