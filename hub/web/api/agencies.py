"""`/v1/agencies/{code}`: what an agency can take, and since when it is silent."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request

from hub.web.api.answers import ProblemsError
from hub.web.api.api import Api
from hub.web.api.grants import Asker
from schemas.capabilities import Capabilities
from schemas.envelope import ENVELOPE_TYP, MAX_PARTS
from schemas.identifiers import AGENCY_CODE_PATTERN, MAX_CODE_LENGTH, AgencyCode
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES

Code = Annotated[str, Path(pattern=AGENCY_CODE_PATTERN, max_length=MAX_CODE_LENGTH, description="Code of the agency.")]

router: Final = APIRouter(prefix="/v1", tags=["agencies"])


@router.get("/agencies/{code}", response_model_exclude_none=True)
async def capabilities(code: Code, request: Request, asker: Asker) -> Capabilities:
    """Say what an agency can take, and since when it is silent (grant: `ask`)."""
    problems = asker.covers("ask")
    if problems:
        raise ProblemsError(*problems)
    api = Api.of(request)
    agency = api.directories.current().agencies.get(AgencyCode(code))
    if agency is None:
        raise ProblemsError(Problem("E404", "/code", code, code))
    since = await api.silence.since(agency.code)
    return Capabilities(
        code=agency.code,
        name=agency.name,
        tier=agency.tier,
        state=agency.state,
        connected=agency.endpoint is not None,
        successors=agency.successors,
        formats=(ENVELOPE_TYP,),
        max_envelope_bytes=MAX_TOKEN_BYTES,
        max_parts=MAX_PARTS,
        max_part_bytes=api.max_part_bytes,
        silent_since=None if since is None else int(since.timestamp()),
    )
