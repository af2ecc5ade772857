"""Finding agencies, and what they can take."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query

from adapters.errors import Unusable
from adapters.gateway.asking import ERRORS, OfficeOf
from adapters.gateway.forms import AgencyList, AgencyQuery, AgencyView, CapabilitiesView, agency_view
from adapters.gateway.problems import Refusal
from schemas.identifiers import AGENCY_CODE_PATTERN, MAX_CODE_LENGTH, AgencyCode
from schemas.refusal import Problem

router = APIRouter(tags=["agencies"])

CodePath = Annotated[
    str, Path(pattern=AGENCY_CODE_PATTERN, max_length=MAX_CODE_LENGTH, description="Code of the agency.")
]


@router.get("/v1/agencies", responses=ERRORS, response_model_exclude_none=True)
async def find_agencies(office: OfficeOf, query: Annotated[AgencyQuery, Query()]) -> AgencyList:
    """Find agencies by words of their name, with or without Vietnamese signs, or by the beginning of their code."""
    index = await asyncio.to_thread(office.index.today)
    found = await asyncio.to_thread(index.search, query.q, tier=query.tier, limit=query.limit)
    return AgencyList(items=tuple(map(agency_view, found)))


@router.get("/v1/agencies/{code}", responses=ERRORS, response_model_exclude_none=True)
async def get_agency(office: OfficeOf, code: CodePath) -> AgencyView:
    """Say what the directory here says of an agency."""
    index = await asyncio.to_thread(office.index.today)
    agency = index.directory.agencies.get(AgencyCode(code))
    if agency is None:
        raise Refusal(404, Problem("E404", "/path/code", code, code))
    return agency_view(agency)


@router.get("/v1/agencies/{code}/capabilities", responses=ERRORS, response_model_exclude_none=True)
async def get_capabilities(office: OfficeOf, code: CodePath) -> CapabilitiesView:
    """Ask the axis what an agency can take, how large, and since when it is silent."""
    if office.inquiry is None:
        raise Unusable("needed to ask the axis, and not set", "cần để hỏi trục nhưng chưa đặt", place="hub_url")
    asker = await asyncio.to_thread(office.asker)
    found = await office.inquiry.capabilities(AgencyCode(code), asker=asker)
    return CapabilitiesView.model_validate(found.model_dump(exclude={"v"}))
