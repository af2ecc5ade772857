"""What the handlers of requests have in common: how they find the office, and how bodies and errors are described."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from pydantic import BaseModel

from adapters.gateway.office import Office
from adapters.gateway.problems import ProblemDetails


def _office_of(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


OfficeOf = Annotated[Office, Depends(_office_of)]

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ProblemDetails, "description": "The request cannot be answered; the codes say why."},
    "5XX": {"model": ProblemDetails, "description": "Not now; nothing is lost."},
}
"""Every answer that says no looks alike."""


def body_of(models: Mapping[str, type[BaseModel] | dict[str, Any]]) -> dict[str, Any]:
    """Describe a body that the handler reads by itself: what stands behind each media type."""
    return {
        "requestBody": {"required": True, "content": {kind: {"schema": _schema(it)} for kind, it in models.items()}}
    }


def _schema(model: type[BaseModel] | dict[str, Any]) -> dict[str, Any]:
    return model if isinstance(model, dict) else {"$ref": f"#/components/schemas/{model.__name__}"}
