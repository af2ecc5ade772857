"""What a clerk reads, and what software reads, about a packet that did not get where it should."""

from datetime import UTC, datetime

from adapters.folder.reasons import Reason, lies_apart, told, told_by_hub
from schemas.receipt import NoticeProblem
from schemas.refusal import CATALOGUE, Problem

AT = datetime(2026, 3, 2, 2, 0, 5, tzinfo=UTC)
TO = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/To[2]/OrganId"
HERE = told([Problem("E404", TO, "H99: unknown", "H99: không có"), Problem("E510", "", "", "")])


def reason(problems=HERE, **changes) -> Reason:
    return Reason("7.edxml", "failed", "ab" * 32, AT, problems, **changes)


def test_a_clerk_reads_where_what_and_what_to_do():
    text = reason().as_text("vi")

    assert text.startswith("CHƯA GỬI ĐƯỢC\n\nTệp: failed/7.edxml\nLúc: 09:00:05 02/03/2026\n")
    assert f"1. Mã định danh, bên nhận thứ 2 ({TO})" in text
    assert f"   E404: {CATALOGUE['E404'].vi} (H99: không có)" in text
    assert f"   Cách xử lý: {CATALOGUE['E404'].fix_vi}" in text
    assert "2. Cả tệp\n" in text


def test_the_same_in_english():
    text = reason(document="cd" * 32, recipient="H26").as_text("en")

    assert text.startswith("HAS NOT GOT TO H26\n")
    assert "Identity on the axis: cdcd" in text
    assert f"1. {TO}" in text
    assert f"   What to do: {CATALOGUE['E404'].fix_en}" in text


def test_what_the_hub_says_is_told_once():
    """Its sentence holds already what to do."""
    entry = CATALOGUE["E404"]
    notice = NoticeProblem(
        code="E404", pointer="/to/0", en=f"{entry.en} {entry.fix_en}", vi=f"{entry.vi} {entry.fix_vi}"
    )
    text = reason(told_by_hub([notice])).as_text("vi")

    assert text.count(entry.fix_vi) == 1


def test_a_code_of_a_newer_hub_is_told_as_it_came():
    notice = NoticeProblem(code="E999", pointer="/x", en="new", vi="mới")

    assert "E999: mới" in reason(told_by_hub([notice])).as_text("vi")
    (problem,) = reason(told_by_hub([notice])).as_json()["problems"]
    assert problem == {"code": "E999", "place": "/x", "vi": "mới", "en": "new"}


def test_software_reads_codes_paths_and_both_languages():
    facts = reason().as_json()

    assert facts["file"] == "7.edxml"
    assert facts["at"] == "2026-03-02T09:00:05+07:00"
    assert "document" not in facts
    first = facts["problems"][0]
    assert (first["code"], first["name"], first["place"]) == ("E404", CATALOGUE["E404"].name, TO)
    assert {"vi", "en", "fix_vi", "fix_en", "acts"} <= first.keys()


def test_a_document_that_lies_apart_says_why():
    text = lies_apart(told([Problem("E511", "/parts", "too much", "quá lớn")]), "vi")

    assert text.startswith("ĐÃ NHẬN")
    assert "1. E511 /parts" in text
