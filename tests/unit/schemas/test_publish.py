"""What is published is what the code says."""

import json
import sys

import pytest

from schemas import addresses, publish
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode
from schemas.receipt import NOTICE_TYP, RECEIPT_TYP, STATUS_TYP
from schemas.refusal import CATALOGUE


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The published files, where they may be changed."""
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path)
    for name, text in publish.documents().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def described():
    return json.loads(publish.documents()["asyncapi.json"])


def test_no_published_file_differs_from_the_code():
    assert publish.drift() == []


def test_a_changed_and_a_missing_file_are_found(copy, monkeypatch, capsys):
    (copy / "codes.json").write_text("[]\n")
    (copy / "asyncapi.json").unlink()
    monkeypatch.setattr(sys, "argv", ["publish", "--check"])

    assert publish.main() == 1
    assert {"codes.json", "asyncapi.json"} == {
        line.split()[0].rpartition("/")[2] for line in capsys.readouterr().out.splitlines()
    }


def test_writing_ends_the_drift(copy, monkeypatch, capsys):
    (copy / "codes.json").write_text("[]\n")
    monkeypatch.setattr(sys, "argv", ["publish"])
    assert publish.main() == 0

    monkeypatch.setattr(sys, "argv", ["publish", "--check"])
    assert publish.main() == 0
    assert capsys.readouterr().out == "no drift\n"


@pytest.mark.parametrize("name", ["envelope", "receipt", "status", "grant", "notice", "directory"])
def test_every_member_is_described(name):
    """An attribute that is missing in a docstring would be published without a word."""
    schema = publish.schema(name)
    undescribed = [
        f"{part}.{member}"
        for part, definition in {name: schema, **schema["$defs"]}.items()
        for member, value in definition["properties"].items()
        if "description" not in value
    ]

    assert undescribed == []


def test_codes_are_published_whole():
    published = json.loads(publish.documents()["codes.json"])

    assert list(CATALOGUE) == [code["code"] for code in published]
    assert {"code", "name", "en", "vi", "fix_en", "fix_vi", "acts", "retry"} == set(published[0])


def test_the_table_of_codes_has_a_row_for_each_and_says_who_acts():
    rows = [line.split(" | ") for line in publish.code_table().splitlines() if line.startswith(("| E", "| N"))]

    assert [row[0].removeprefix("| ") for row in rows] == list(CATALOGUE)
    assert {len(row) for row in rows} == {6}
    assert [(row[2].partition("<br>")[0], row[3] != "—") for row in rows] == [
        (code.acts, code.retry) for code in CATALOGUE.values()
    ]


def test_every_code_is_explained_in_two_languages():
    for code in CATALOGUE.values():
        assert all(text.endswith(".") for text in (code.en, code.vi, code.fix_en, code.fix_vi)), code.code
        assert not code.vi.isascii(), code.code
        assert not code.fix_vi.isascii(), code.code


def test_asyncapi_names_every_exchange_and_queue(described):
    exchanges = {
        channel["bindings"]["amqp"]["exchange"]["name"]: channel["bindings"]["amqp"]["exchange"]["type"]
        for channel in described["channels"].values()
        if channel["bindings"]["amqp"]["is"] == "routingKey"
    }

    assert exchanges == {addresses.SUBMIT: "topic"} | {
        addresses.tier_exchange(tier): "direct" for tier in addresses.TIERS
    }
    queue = described["channels"]["agency-queue"]["bindings"]["amqp"]["queue"]["name"]
    assert queue.format(endpoint="H26") == addresses.agency_queue(AgencyCode("H26"))


def test_asyncapi_names_the_routing_keys_of_submissions(described):
    for lane in ("document", "receipt", "status"):
        address = described["channels"][f"submit-{lane}"]["address"]
        assert address.format(user="H26") == addresses.submit_key(lane, "H26")


def test_asyncapi_names_every_type_with_its_schema(described):
    messages = described["components"]["messages"].values()

    assert {
        message["name"]: message["x-truc-payload"]["$ref"].removeprefix("./").removesuffix(".schema.json")
        for message in messages
    } == {ENVELOPE_TYP: "envelope", RECEIPT_TYP: "receipt", STATUS_TYP: "status", NOTICE_TYP: "notice"}


def test_references_in_asyncapi_lead_somewhere(described):
    references = list(_references(described))

    assert len(references) > 20
    for reference in references:
        if reference.startswith("#/"):
            place = described
            for step in reference[2:].split("/"):
                place = place[step]
        else:
            assert (publish.PUBLISHED / reference).is_file()


def _references(value):
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "$ref":
                yield member
            else:
                yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
