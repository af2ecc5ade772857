"""`/v1/agencies/{code}`: what an agency can take, since when it is silent; its getting again what it had."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request

from hub.core.grant import Granted
from hub.telemetry import report
from hub.web.api.answers import ProblemsError
from hub.web.api.api import Api
from hub.web.api.grants import Asker
from schemas.capabilities import Capabilities
from schemas.catch_up import CatchUp
from schemas.envelope import ENVELOPE_TYP, MAX_PARTS
from schemas.identifiers import AGENCY_CODE_PATTERN, MAX_CODE_LENGTH, AgencyCode
from schemas.refusal import Problem
from schemas.signing import MAX_TOKEN_BYTES

Code = Annotated[str, Path(pattern=AGENCY_CODE_PATTERN, max_length=MAX_CODE_LENGTH, description="Code of the agency.")]
Since = Annotated[
    int,
    Query(ge=1_500_000_000, le=9_999_999_999, description="From when on, seconds since 1970; stands in the grant too."),
]

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


@router.post("/agencies/{code}/catch-up")
async def catch_up(code: Code, since: Since, request: Request, asker: Asker) -> CatchUp:
    """Begin to hand out again all that an agency has had since a moment (grant: `catch-up`).

    Asked again while it goes on, the answer is the same catch-up.
    """
    _refuse_other(asker, code, *asker.covers("catch-up", since=since))
    api = Api.of(request)
    if api.directories.current().agencies[asker.agency].state == "suspended":
        raise ProblemsError(Problem("E405", "/code", code, code))
    answered = await api.catch_ups.begin(
        asker.agency, datetime.fromtimestamp(since, UTC), signer=asker.signer, now=api.clock()
    )
    report.catch_up_asked(asker.agency, asker.signer, answered)
    if isinstance(answered, Problem):
        raise ProblemsError(answered)
    return answered


@router.get("/agencies/{code}/catch-up")
async def catch_up_progress(code: Code, request: Request, asker: Asker) -> CatchUp | None:
    """Say how far the newest catch-up of an agency is (grant: `ask`); `null` when it never asked for one."""
    _refuse_other(asker, code, *asker.covers("ask"))
    return await Api.of(request).catch_ups.latest(asker.agency)


def _refuse_other(asker: Granted, code: str, *problems: Problem) -> None:
    """Refuse whoever asks for something else than the grant says, or about the mail of others."""
    if problems:
        raise ProblemsError(*problems)
    if asker.agency != code or not asker.receives:
        raise ProblemsError(Problem("E422", "/code", code, code))
