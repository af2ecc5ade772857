"""How an HTTP interface tells problems: RFC 9457, with the code, the place and both languages of the catalogue.

The first problem is told by the members of the object itself; when there are several, `problems` lists all of them.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from schemas.refusal import CATALOGUE, Problem

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


def problem_details(problems: Sequence[Problem], status: int) -> dict[str, Any]:
    """Write problems for a response of this status; there must be one."""
    explained = [_explained(problem) for problem in problems]
    code = CATALOGUE[problems[0].code]
    several = {"problems": explained} if len(explained) > 1 else {}
    return {"type": f"urn:truc:code:{code.code}", "title": code.name, "status": status, **explained[0], **several}


def read_problem_details(body: bytes) -> Problem | None:
    """Read the first problem of an answer; `None` when the answer tells none, as that of a proxy would not."""
    try:
        members = json.loads(body)
    except ValueError:
        return None
    if not isinstance(members, dict) or str(members.get("code")) not in CATALOGUE:
        return None
    found = members.get("found")
    en, vi = (str(found.get(language, "")) for language in ("en", "vi")) if isinstance(found, dict) else ("", "")
    return Problem(members["code"], str(members.get("pointer", "")), en, vi)


def _explained(problem: Problem) -> dict[str, Any]:
    code = CATALOGUE[problem.code]
    found = {"found": {"en": problem.en, "vi": problem.vi}} if problem.en or problem.vi else {}
    return {
        "code": code.code,
        "pointer": problem.pointer,
        "side": code.acts,
        "retryable": code.retry,
        "detail": _sentence(code.en, problem.en, code.fix_en),
        "vi": _sentence(code.vi, problem.vi, code.fix_vi),
        "en": _sentence(code.en, problem.en, code.fix_en),
        **found,
    }


def _sentence(meaning: str, found: str, fix: str) -> str:
    return f"{meaning} {f'({found[:300]}) ' if found else ''}{fix}"
