"""Problems as HTTP interfaces tell them."""

import json

import pytest

from schemas.problem_details import problem_details, read_problem_details
from schemas.refusal import CATALOGUE, Problem


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_is_told_in_both_languages_with_place_side_and_whether_to_repeat(code):
    told = problem_details([Problem(code, "/a/0", "found it", "thấy rồi")], 400)

    assert (told["code"], told["pointer"], told["status"]) == (code, "/a/0", 400)
    assert (told["side"], told["retryable"]) == (CATALOGUE[code].acts, CATALOGUE[code].retry)
    assert "(found it)" in told["en"]
    assert "(thấy rồi)" in told["vi"]
    assert read_problem_details(json.dumps(told).encode()) == Problem(code, "/a/0", "found it", "thấy rồi")


def test_several_problems_are_all_listed():
    told = problem_details([Problem("E401", "/from"), Problem("E402", "/via")], 403)

    assert told["code"] == "E401"
    assert [each["code"] for each in told["problems"]] == ["E401", "E402"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>502</html>", b"[]", b"{}", b'{"code":"E999"}', b'{"code":["E401"]}', b"\xff"]
)
def test_answer_of_somebody_else_tells_no_problem(body):
    assert read_problem_details(body) is None
