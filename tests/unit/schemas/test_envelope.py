"""Envelopes and receipts as code makes them."""

import time
from uuid import RFC_4122, UUID

import pytest
from pydantic import ValidationError

from schemas.envelope import DocumentFacts, Envelope, Part, new_envelope, new_envelope_id, read_envelope
from schemas.receipt import Receipt
from tests.unit.schemas import stage
from tests.unit.schemas.stage import NOW_S

FACTS = DocumentFacts.model_validate(stage.valid("document-new.json")["doc"])


def made(**options) -> Envelope:
    return new_envelope(**{"from_": "G01", "to": ["H26"], "doc": FACTS, "now_s": NOW_S, **options})


def test_a_new_envelope_reads_back_as_it_was():
    part = Part(name="a.pdf", media_type="application/pdf", sha256="0" * 64, length=1)
    envelope = made(via="lgsp-h26", action="replace", ref=["a" * 64, "b" * 64], parts=[part])

    assert read_envelope(envelope.to_json()) == envelope


def test_members_without_a_value_are_not_written():
    """A `null` would be one more thing to agree on."""
    assert b"null" not in made().to_json()
    assert b'"via"' not in made().to_json()
    assert b'"from":"G01"' in made().to_json()


def test_a_new_envelope_lives_a_week_unless_told_otherwise():
    assert made().expires - made().created == 7 * 24 * 3600
    assert made(lifetime_s=60).expires == NOW_S + 60


def test_a_value_that_does_not_fit_is_an_error_of_the_caller():
    with pytest.raises(ValidationError):
        made(to=["h26"])


def test_envelope_ids_are_fresh_and_carry_the_time():
    before = time.time_ns() // 1_000_000
    ids = [UUID(new_envelope_id()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000

    assert len(set(ids)) == 1000
    assert {(7, RFC_4122)} == {(made.version, made.variant) for made in ids}
    assert all(before <= made.int >> 80 <= after for made in ids)


@pytest.mark.parametrize(
    ("number", "notation", "printed"),
    [("7816", "VPCP-TTĐT", "7816/VPCP-TTĐT"), ("7816", None, "7816"), (None, "TB", "TB"), (None, None, "")],
)
def test_the_printed_number(number, notation, printed):
    assert FACTS.model_copy(update={"number": number, "notation": notation}).printed_number == printed


def part(name: str) -> Part:
    return Part(name=name, media_type="application/pdf", sha256="0" * 64, length=0)


@pytest.mark.parametrize(
    "name", ["công văn.pdf", ".gitignore", "a..b", "128 (ký).pdf", "x" * 255], ids=lambda name: name[:9]
)
def test_a_file_name_is_free(name):
    assert part(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "...",
        "../x",
        "/etc/passwd",
        "a/b",
        "C:\\x",
        "a\0b",
        "a\nb",
        "a\tb",
        "\u202efdp.exe",
        "\u200f",
        "x" * 256,
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_a_file_name_is_no_path_and_shows_as_it_is(name):
    with pytest.raises(ValidationError):
        part(name)


def test_an_answer_knows_its_delivery():
    receipt = Receipt.model_validate_json(stage.EXAMPLES.joinpath("valid", "receipt-received.json").read_bytes())

    assert receipt.answers[0].delivery_id == UUID(receipt.answers[0].delivery)
