"""`truc-agency verify` and `convert`: offline, with the axis' own checks."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapters.cli import app
from schemas.directory_file import DirectoryFile
from schemas.edxml.packet import Business, Earlier
from schemas.edxml.reader import read_packet
from schemas.envelope import ENVELOPE_TYP, Envelope, Part, new_envelope, read_envelope
from schemas.grant import GRANT_TYP
from schemas.identifiers import identity_of
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, read_status
from schemas.signing import identity, sign
from tests import packets
from tests.keys import agency_keys
from tests.unit.schemas import stage

NOW_S = int(datetime.now(UTC).timestamp())
EXAMPLES = stage.EXAMPLES / "edxml"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published directory with certificates that are in force."""
    published = DirectoryFile.model_validate_json((stage.EXAMPLES / "valid" / "directory.json").read_bytes())
    entries = tuple(agency_keys(name).entry(name) for name in ("G01", "H26", "lgsp-h26", "hub"))
    path = tmp_path_factory.mktemp("directory") / "directory.json"
    path.write_bytes(published.model_copy(update={"certificates": entries}).to_json())
    return path


@pytest.fixture
def office(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def run(command: str, *arguments: object, lang: str = "en") -> Result:
        options = ("--lang", lang, command, "--directory", str(directory))
        return CliRunner().invoke(app, [*options, *map(str, arguments)])

    return run


def verified(office, *paths: Path, options: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    ended = office("verify", *paths, "--json", *options)
    return ended.exit_code, json.loads(ended.stdout)


def codes(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem["code"], problem["place"]) for problem in told["problems"]]


def token(payload: bytes, name: str, typ: str = ENVELOPE_TYP, *, at_s: int = NOW_S) -> bytes:
    return sign(payload, typ=typ, signer=agency_keys(name).signer, now_s=at_s)


def document(**changes: Any) -> Envelope:
    facts = Envelope.model_validate(stage.valid("document-least.json"), strict=False).doc
    given = {
        "from_": "G01",
        "to": ("H26",),
        "doc": facts.model_copy(update={"number": "12", "notation": "TB-BTN"}),
        "now_s": NOW_S,
    }
    return new_envelope(**{**given, **changes})


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_packets_pass_or_are_refused_each_for_itself(office):
    good, bad = EXAMPLES / "valid" / "document-new.edxml", EXAMPLES / "refused" / "E404-recipient-unknown.edxml"

    ended, (first, second) = verified(office, good, bad)

    assert ended == 1
    assert (first["accepted"], first["kind"], first["level"], first["level_reason"]["code"]) == (
        True,
        "document packet",
        "A1",
        "E302",
    )
    assert codes(second) == [("E404", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/To[1]/OrganId")]


def test_all_good_ends_with_0(office):
    assert verified(office, *sorted((EXAMPLES / "valid").iterdir()))[0] == 0


def test_it_speaks_the_language_of_the_session(office):
    bad = EXAMPLES / "refused" / "E512-subject-missing.edxml"

    assert "SẼ BỊ TỪ CHỐI" in office("verify", bad, lang="vi").stdout
    assert "thiếu hoặc để trống" in office("verify", bad, lang="vi").stdout
    assert "WOULD BE REFUSED" in office("verify", bad, lang="en").stdout


def test_earlier_documents_are_named_as_unchecked(office):
    _, [told] = verified(office, EXAMPLES / "valid" / "document-update.edxml")

    assert told["unchecked"] == ["G01,2026/02/20,11/TB-BTN"]


def test_a_signed_document_is_proven_and_examined(office, tmp_path):
    good = saved(tmp_path / "a.jws", token(document().to_json(), "G01"))
    bad = saved(tmp_path / "b.jws", token(document(to=("H26", "H99", "H31")).to_json(), "G01"))

    ended, (first, second) = verified(office, good, bad)

    assert ended == 1
    assert (first["kind"], first["accepted"]) == ("document", True)
    assert codes(second) == [("E404", "/to/1"), ("E408", "/to/2")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (token(document().to_json(), "H26"), "E401"),
        (token(document().to_json(), "nobody"), "E201"),
        (token(document().to_json(), "G01")[:-4] + b"AAAA", "E301"),
        (token(document().to_json(), "G01", at_s=NOW_S + 86_400), "E601"),
        (token(b"{}", "G01", GRANT_TYP), "E105"),
        (token(b"[", "G01"), "E501"),
        (b"a.b.c", "E103"),
        (b"xyz", "E102"),
    ],
)
def test_a_token_is_refused_as_the_hub_refuses_it(office, tmp_path, data, code):
    _, [told] = verified(office, saved(tmp_path / "x.jws", data))

    assert code in {problem["code"] for problem in told["problems"]}


def test_receipts_and_statuses_are_checked_by_who_signed_them(office, tmp_path):
    receipt = json.dumps(stage.receipt()).encode()
    status = json.dumps(
        {"v": 1, "from": "H26", "to": "G01", "document": "ab" * 32, "status": "03", "at": NOW_S}
    ).encode()
    files = [
        saved(tmp_path / f"{number}.jws", data)
        for number, data in enumerate(
            (
                token(receipt, "H26", RECEIPT_TYP),
                token(receipt, "G01", RECEIPT_TYP),
                token(status, "H26", STATUS_TYP),
                token(status, "G01", STATUS_TYP),
            )
        )
    ]

    _, told = verified(office, *files)

    assert [codes(each) for each in told] == [[], [("E401", "/from")], [], [("E401", "/from")]]


def test_an_envelope_is_examined_before_it_is_signed(office, tmp_path):
    good = saved(tmp_path / "a.json", document().to_json())
    bad = saved(tmp_path / "b.json", b'{"v": 1, "v": 1}')

    _, (first, second) = verified(office, good, bad)

    assert (first["kind"], first["accepted"]) == ("envelope", True)
    assert codes(second) == [("E501", "")]


def test_a_platform_needs_its_mandate(office):
    _, [told] = verified(office, EXAMPLES / "valid" / "document-new.edxml", options=("--as", "lgsp-h26"))

    assert ("E402", "/via") in codes(told)


def test_a_directory_that_cannot_be_read_ends_with_3(tmp_path):
    ended = CliRunner().invoke(app, ["verify", "--directory", str(tmp_path / "none"), str(tmp_path / "x")])

    assert ended.exit_code == 3
    assert "A103" in ended.stderr


def test_a_file_that_is_not_there_ends_with_2(office, tmp_path):
    assert office("verify", tmp_path / "none").exit_code == 2
    assert office("convert", tmp_path / "none").exit_code == 2


def test_a_packet_becomes_an_envelope_and_its_parts(office, tmp_path):
    source = EXAMPLES / "valid" / "document-new.edxml"

    ended = office("convert", source, "--into", tmp_path / "out")

    assert ended.exit_code == 0
    made = read_envelope(ended.stdout.encode())
    assert isinstance(made, Envelope)
    assert (tmp_path / "out" / "parts" / "Thông báo.pdf").read_bytes() == packets.PDF
    assert (tmp_path / "out" / "parts" / source.name).read_bytes() == source.read_bytes()
    assert read_envelope((tmp_path / "out" / "envelope.json").read_bytes()) == made
    assert "MessageHeader/PromulgationInfo/Place" in ended.stderr


def test_the_way_back_gives_the_packet_byte_for_byte(office, tmp_path):
    source = EXAMPLES / "valid" / "document-lenient.edxml"
    office("convert", source, "--into", tmp_path)

    ended = office("convert", tmp_path / "envelope.json", "--parts", tmp_path / "parts")

    assert ended.stdout_bytes == source.read_bytes()


def test_a_file_that_is_there_already_is_not_overwritten(office, tmp_path):
    (tmp_path / "parts").mkdir()
    kept = saved(tmp_path / "parts" / "Thông báo.pdf", b"mine")

    assert office("convert", EXAMPLES / "valid" / "document-new.edxml", "--into", tmp_path).exit_code == 2
    assert kept.read_bytes() == b"mine"


def test_an_envelope_becomes_a_packet(office, tmp_path):
    part = Part(name="a.pdf", media_type="application/pdf", sha256=identity_of(packets.PDF), length=len(packets.PDF))
    saved(tmp_path / "a.pdf", packets.PDF)
    source = saved(tmp_path / "e.json", document(to=("H26", "children:H26"), parts=(part,)).to_json())

    ended = office("convert", source, "--parts", tmp_path)

    packet = read_packet(ended.stdout_bytes)
    assert [party.code for party in packet.to] == ["H26", "H26.01"]
    assert packet.to[0].name == "Ủy ban nhân dân tỉnh Mẫu"


def test_a_part_with_other_bytes_is_refused(office, tmp_path):
    part = Part(name="a.pdf", media_type="application/pdf", sha256="ab" * 32, length=1)
    saved(tmp_path / "a.pdf", b"x")
    source = saved(tmp_path / "e.json", document(parts=(part,)).to_json())

    ended = office("convert", source, "--parts", tmp_path)

    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "/parts" in ended.stderr


def test_a_change_needs_the_document_that_it_changes(office, tmp_path):
    signed = token(document().to_json(), "G01")
    original = saved(tmp_path / "original.jws", signed)
    named = read_envelope(document().to_json()).doc.issued_on.replace("-", "/")
    business = Business(kind="1", document=f"G01,{named},12/TB-BTN")
    source = saved(tmp_path / "x.edxml", packets.xml(packets.packet(business=business)))

    assert office("convert", source).exit_code == 1
    ended = office("convert", source, "--about", original)

    assert read_envelope(ended.stdout.encode()).ref == (identity(signed),)


def test_a_status_goes_both_ways_with_the_document_that_it_is_about(office, tmp_path):
    signed = token(document().to_json(), "G01")
    original = saved(tmp_path / "original.jws", signed)
    day = read_envelope(document().to_json()).doc.issued_on.replace("-", "/")
    answered = Earlier(code="G01", document=f"G01,{day},12/TB-BTN")
    packet = saved(tmp_path / "s.edxml", packets.xml(packets.status("06", answered=answered)))

    assert office("convert", packet).exit_code == 1
    forth = office("convert", packet, "--about", original)
    back = office("convert", saved(tmp_path / "s.json", forth.stdout.encode()), "--about", original)

    assert read_status(forth.stdout.encode()).document == identity(signed)
    assert read_packet(back.stdout_bytes).status == "06"
    assert office("convert", tmp_path / "s.json").exit_code == 1


@pytest.mark.parametrize(
    "name", ["E508-path", "E510-comment-in-identifier", "E511-zeros", "E513-not-listed", "E514-subject"]
)
def test_a_packet_that_would_be_refused_is_not_converted(office, tmp_path, name):
    ended = office("convert", EXAMPLES / "refused" / f"{name}.edxml", "--into", tmp_path / "out")

    assert (ended.exit_code, ended.stdout) == (1, "")
    assert name[:4] in ended.stderr
    assert not (tmp_path / "out").exists()


def test_neither_envelope_nor_status_is_refused_with_its_problems(office, tmp_path):
    envelope = office("convert", saved(tmp_path / "a.json", b'{"v": 2}'))
    status = office("convert", saved(tmp_path / "b.json", b'{"status": "07"}'))

    assert (envelope.exit_code, status.exit_code) == (1, 1)
    assert "/doc" in envelope.stderr
    assert "/status" in status.stderr
