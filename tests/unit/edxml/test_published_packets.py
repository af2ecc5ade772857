"""The published packets say what the axis does with packets: each is put through its checks."""

from pathlib import Path

import pytest

from adapters.examination import Examiner, examine_file
from schemas.edxml.packet import Packet, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.edxml.writer import write_packet
from schemas.refusal import CATALOGUE
from tests.unit.schemas import stage

EXAMPLES = stage.EXAMPLES / "edxml"
VALID = sorted((EXAMPLES / "valid").iterdir())
REFUSED = sorted((EXAMPLES / "refused").iterdir())
ONLY_READ = {"document-lenient", "document-2014"}
"""Packets that a reader accepts and nobody should write."""

EXAMINER = Examiner(stage.directory(), {}, None, stage.NOW)


def by_name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", VALID, ids=by_name)
def test_a_valid_packet_passes(path):
    assert examine_file(path.read_bytes(), EXAMINER).problems == ()


@pytest.mark.parametrize("path", [path for path in VALID if path.stem not in ONLY_READ], ids=by_name)
def test_a_packet_that_is_as_it_should_be_is_written_as_it_was_read(path):
    read = read_packet(path.read_bytes())

    assert isinstance(read, Packet | StatusPacket)
    assert write_packet(read) == path.read_bytes()


@pytest.mark.parametrize("path", [path for path in REFUSED if path.name[:4] != "E303"], ids=by_name)
def test_a_refused_packet_has_no_problem_but_that_of_its_name(path):
    problems = examine_file(path.read_bytes(), EXAMINER).problems

    assert {problem.code for problem in problems} == {path.name[:4]}


@pytest.mark.parametrize("path", REFUSED, ids=by_name)
def test_every_problem_says_in_both_languages_what_was_found(path):
    problems = examine_file(path.read_bytes(), EXAMINER).problems

    assert all(bool(problem.en) == bool(problem.vi) for problem in problems)
    assert all(problem.en or CATALOGUE[problem.code] for problem in problems)


@pytest.mark.parametrize("path", [path for path in REFUSED if path.name[:4] == "E303"], ids=by_name)
def test_a_signature_outside_the_profile_lowers_the_level_and_refuses_nothing(path):
    """Nearly every packet of today bears one."""
    findings = examine_file(path.read_bytes(), EXAMINER)

    assert findings.problems == ()
    assert findings.assurance is not None
    assert findings.assurance.reason is not None
    assert (findings.assurance.level, findings.assurance.reason.code) == ("A0", "E303")
