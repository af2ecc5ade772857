"""The demo's documents, and what it makes of the answers."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from adapters.showcase import Answered, Answers, Letters, Shown, answers_in, answers_of, packet_with_pdf, small_pdf
from hub.cli.demo import _showcase
from hub.dev.country import demo_country
from hub.installation import Installation
from schemas.checks.directory import snapshot
from schemas.edxml.attachments import files
from schemas.edxml.packet import Packet
from schemas.edxml.reader import read_packet
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of
from schemas.receipt import Answer, Receipt, Status
from tests import packets

H53, COMMUNE = AgencyCode("H53"), AgencyCode("H53.101")
DOCUMENT = DocumentId("ab" * 32)
NOW_S = 1_800_000_000


def test_every_object_of_the_pdf_stands_where_its_table_says() -> None:
    pdf = small_pdf(r"so 1/CV (mau) \ x")
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[1])
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf[start:].startswith(b"xref\n0 6\n")
    offsets = [int(found) for found in re.findall(rb"(\d{10}) 00000 n \n", pdf[start:])]
    assert [pdf[offset:].split(b"\n")[0] for offset in offsets] == [b"%d 0 obj" % number for number in range(1, 6)]
    length = int(re.search(rb"/Length (\d+)", pdf)[1])
    assert len(re.search(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)[1]) == length
    assert rb"(so 1/CV \(mau\) \\ x)" in pdf


def test_a_packet_holds_its_pdf_and_names_its_recipients() -> None:
    read = read_packet(packets.xml(packet_with_pdf(AgencyCode("G06"), (H53, COMMUNE), 7, date(2026, 11, 24))))
    assert isinstance(read, Packet)
    ((file,), problems) = files(read)
    assert (read.id, [party.code for party in read.to], problems) == ("G06,2026/11/24,7/CV-VP", [H53, COMMUNE], ())
    assert b"".join(file.chunks()) == small_pdf("Cong van so 7/CV-VP")


def test_answers_are_read_where_the_folder_adapter_lays_them(tmp_path: Path) -> None:
    (tmp_path / "H26.json").write_text('{"recipient": "H26", "outcome": "received"}')
    (tmp_path / "a-03-H26-1.edxml").write_bytes(packets.xml(packets.status("03")))
    assert answers_in(tmp_path) == {"H26": Answered("received", {"03"})}
    assert answers_in(tmp_path / "absent") == {}


def test_answers_are_read_from_the_gateway() -> None:
    seen = {"recipients": [{"code": "H53", "outcome": "received", "statuses": [{"status": "01"}]}, _SILENT]}
    assert answers_of(seen) == {"H53": Answered("received", {"01"}), "H53.101": Answered()}


_SILENT = {"code": "H53.101", "outcome": None, "statuses": []}


async def test_letters_are_kept_apart_by_document_and_recipient() -> None:
    letters = Letters()
    answers = tuple(
        Answer(delivery=str(delivery), outcome="received", at=NOW_S)
        for delivery in (delivery_id_of(DOCUMENT, H53), uuid4())
    )
    letters.note(Receipt(from_=H53, to="G06", answers=answers))
    letters.note(Status(from_=COMMUNE, to="G06", document=DOCUMENT, status="01", at=NOW_S))
    letters.note(Status(from_=COMMUNE, to="G06", document="cd" * 32, status="03", at=NOW_S))
    assert await letters.about(DOCUMENT, (H53, COMMUNE))() == {
        H53: Answered("received"),
        COMMUNE: Answered(None, {"01"}),
    }


@pytest.mark.parametrize(
    ("answers", "missing"),
    [
        ({"H53": Answered("received", {"01", "03"})}, []),
        ({"H53": Answered("received", {"01"})}, [H53]),
        ({"H53": Answered("received", {"01", "02", "03"})}, [H53]),
        ({"H53": Answered(None, {"01", "03"})}, [H53]),
        ({"H53": Answered("refused", {"01", "03"})}, [H53]),
        ({}, [H53]),
    ],
)
def test_whoever_has_not_answered_as_expected_is_missing(answers: Answers, missing: list[AgencyCode]) -> None:
    async def look() -> Answers:
        return answers

    shown = Shown("folder", AgencyCode("G06"), "1/CV-VP", {H53: ("01", "03")}, look, answers=answers)
    assert shown.missing == shown.as_json()["missing"] == missing


def test_each_endpoint_of_the_demo_plays_one_part_and_every_tier_receives(tmp_path: Path) -> None:
    directory = snapshot(demo_country(), epoch=0, as_of=datetime.now(UTC))
    parts = _showcase(Installation({}, directory, tmp_path, {}, tmp_path / "environment"), tmp_path)
    endpoints = [parts["folder_sender"], parts["platform"], parts["client_sender"], *parts["recipients"]]
    assert len(set(endpoints)) == len(endpoints)
    assert directory.agencies[parts["rest_sender"]].endpoint == parts["platform"]
    tiers = {directory.agencies[code].tier for code in parts["recipients"]}
    assert tiers == {"ministry-province", "department-district", "commune", "associate"}
