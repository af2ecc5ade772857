"""How the gateway says no: RFC 9457, with the code, the place, who acts, and both languages.

The first problem is told by the members of the object itself; when there are several, `problems` lists all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from adapters.errors import AgencyError, PartError, entry_of
from schemas.refusal import Actor, Problem

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


_STATUS: Final = {"E404": 404, "E421": 404, "E520": 413, "A121": 502}
"""Of what the hub says no to; else what is wrong with a part is about the request, and everything about our side."""


class Found(BaseModel):
    """What was found at the place."""

    model_config = ConfigDict(frozen=True)

    en: str
    vi: str


class OneProblem(BaseModel):
    """One problem: code, place, meaning.

    `pointer` is a JSON pointer into the body, `/query/…`, `/header/…` or `/path/…`, or empty for the whole; `side` is
    who must act; `retryable` says whether the same request can succeed later; `vi` and `en` say what it means, what
    was found and what to do; `detail` is `en` again, for clients that know RFC 9457 only.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    pointer: str
    side: Actor
    retryable: bool
    detail: str
    vi: str
    en: str
    found: Found | None = None


class ProblemDetails(OneProblem):
    """An answer that says no (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    problems: tuple[OneProblem, ...] | None = None


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """An answer that says no.

    Attributes:
        status: HTTP status.
        problems: Why; at least one.
        headers: What the status asks for beside the body.
    """

    def __init__(self, status: int, *problems: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.problems = problems
        self.headers = headers
        super().__init__(f"{status} {', '.join(problem.code for problem in problems)}")


def answer(status: int, problems: Sequence[Problem], headers: Mapping[str, str] | None = None) -> Response:
    """Write the answer."""
    explained = [_explain(problem) for problem in problems]
    code = entry_of(problems[0].code)
    body = ProblemDetails(
        type=f"urn:truc:code:{code.code}",
        title=code.name,
        status=status,
        problems=tuple(explained) if len(explained) > 1 else None,
        **dict(explained[0]),
    )
    return Response(body.model_dump_json(exclude_none=True), status, headers, PROBLEM_MEDIA_TYPE)


def refusal_of(error: AgencyError) -> Refusal:
    """Say over HTTP what does not work on our side: the way to the axis, or something of our own."""
    problem = Problem(error.code.code, "", error.en, error.vi)
    wrong_part = isinstance(error, PartError) and error.code.code.startswith("E5")
    return Refusal(_STATUS.get(error.code.code, 422 if wrong_part else 503), problem)


def _explain(problem: Problem) -> OneProblem:
    code = entry_of(problem.code)
    return OneProblem(
        code=code.code,
        pointer=problem.pointer,
        side=code.acts,
        retryable=code.retry,
        detail=_sentence(code.en, problem.en, code.fix_en),
        vi=_sentence(code.vi, problem.vi, code.fix_vi),
        en=_sentence(code.en, problem.en, code.fix_en),
        found=Found(en=problem.en, vi=problem.vi) if problem.en or problem.vi else None,
    )


def _sentence(meaning: str, found: str, fix: str) -> str:
    return f"{meaning} {f'({found[:300]}) ' if found else ''}{fix}"
