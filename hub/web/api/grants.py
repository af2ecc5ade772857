"""Who asks: the grant of a request, proven before anything else of it is looked at."""

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.core.grant import Granted, decide_grant
from hub.web.api.answers import ProblemsError
from hub.web.api.api import Api
from schemas.grant import GRANT_TYP
from schemas.refusal import Problem

_MAX_CHARACTERS: Final = 8 * 1024

_bearer: Final = HTTPBearer(
    auto_error=False,
    bearerFormat=GRANT_TYP,
    description="A grant: compact JWS, signed by the agency or its platform, at most five minutes old.",
)


def proven(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Granted:
    """Prove the grant of a request; raises `ProblemsError` for one that proves nothing."""
    if given is None:
        raise ProblemsError(Problem("E102", "", "no Authorization: Bearer", "thiếu Authorization: Bearer"))
    token = given.credentials.encode(errors="replace")
    if len(token) > _MAX_CHARACTERS:
        raise ProblemsError(Problem("E101", "", f"{len(token)} bytes", f"{len(token)} byte"))
    api = Api.of(request)
    decided = decide_grant(token, api.directories.current(), api.clock())
    if not isinstance(decided, Granted):
        raise ProblemsError(*decided)
    return decided


Asker = Annotated[Granted, Depends(proven)]
"""A parameter of a route that only somebody proven may use."""
