"""The published examples say what the hub does: each is put through its checks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hub.core.decide import decide, decide_answer
from hub.core.verdict import Accept, Answered, Stated
from schemas.envelope import Envelope
from schemas.receipt import Notice, Receipt, Status
from schemas.refusal import CATALOGUE
from schemas.signing import MAX_TOKEN_BYTES
from tests.unit.schemas import examples, stage

SCHEMAS = stage.EXAMPLES.parent
MODELS = {"document": Envelope, "receipt": Receipt, "status": Status, "notice": Notice}
SCHEMA_NAMES = {name: "envelope" if name == "document" else name for name in (*MODELS, "directory")}

_JOURNEY = "journeys/test_codes_of_the_running_hub.py"
_API = "integration/test_parts_api.py"
ONLY_THE_RUNNING_HUB = {
    **dict.fromkeys(["E409", "E410", "E411", "E603", "N604", "E903"], _JOURNEY),
    **dict.fromkeys([f"E80{number}" for number in range(1, 10)], _JOURNEY),
    "E810": "journeys/test_replay.py",
    **dict.fromkeys(["E420", "E421", "E504", "E520", "E521", "E522", "E605", "E904", "E905"], _API),
    **dict.fromkeys(["E503", "E505"], "journeys/test_parts_travel.py"),
    **dict.fromkeys(["E811", "E812", "E813", "N605"], "journeys/test_recipients_that_are_down.py"),
    **dict.fromkeys(["E422", "E423", "E424"], "integration/test_catch_up.py"),
    "E901": "integration/test_agency_cli.py",
    "E902": "unit/core/test_decide_steps.py",
}
"""Codes that need a ledger, a broker or a failure, each with the test that shows it."""

VALID = sorted((stage.EXAMPLES / "valid").glob("*.json"))
SUBMITTED = [path for path in VALID if path.name.startswith(("document", "receipt", "status"))]


def load(path: Path) -> dict[str, Any]:
    example: dict[str, Any] = json.loads(path.read_bytes())
    return example


def ecma_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """In ECMA 262 `$` is the end of the text; in Python it also stands before a line feed."""
    if isinstance(instance, str) and not re.search(pattern.removesuffix("$") + r"\Z", instance):
        yield jsonschema.ValidationError(f"not of the form {pattern}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": ecma_pattern})


def validator(name: str) -> jsonschema.protocols.Validator:
    schema = load(SCHEMAS / f"{name}.schema.json")
    return Validator(schema, format_checker=jsonschema.FormatChecker(["date"]))


def contains(whole: Any, part: Any) -> bool:
    """Tell whether everything in a JSON value is also in another, which may have more members."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and contains(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


def by_name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", examples.refused(), ids=by_name)
def test_a_refused_example_has_the_one_problem_that_its_name_says(path):
    example = load(path)

    assert [(examples.code_of(path), example.get("at", ""))] == [
        (problem.code, problem.pointer) for problem in examples.problems_of(example)
    ]


@pytest.mark.parametrize("path", examples.refused(), ids=by_name)
def test_a_refused_example_uses_only_the_members_that_are_explained(path):
    """A misspelt member would leave the example valid for another reason than it says."""
    readme = (SCHEMAS.parent / "README.md").read_text(encoding="utf-8")

    assert load(path).keys() <= examples.MEMBERS
    assert all(f"`{member}`" in readme for member in load(path))


def test_every_code_has_an_example_or_needs_the_running_hub():
    packets = (stage.EXAMPLES / "edxml" / "refused").iterdir()
    shown = {examples.code_of(path) for path in (*examples.refused(), *packets)}

    assert CATALOGUE.keys() == shown | ONLY_THE_RUNNING_HUB.keys()
    assert not shown & ONLY_THE_RUNNING_HUB.keys()


@pytest.mark.parametrize("code", ONLY_THE_RUNNING_HUB)
def test_a_code_of_the_running_hub_stands_in_the_test_that_shows_it(code):
    tests = Path(__file__).parents[2]

    assert code in (tests / ONLY_THE_RUNNING_HUB[code]).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SUBMITTED, ids=by_name)
def test_a_valid_example_is_accepted(path):
    payload = load(path)
    name = payload.get("via") or payload["from"]
    lane = path.stem.partition("-")[0]
    arrival = stage.submitted(stage.signed(path.read_bytes(), name, typ=stage.TYPS[lane]), name, lane=lane)

    if lane == "document":
        assert isinstance(decide(arrival, stage.directory(), stage.POLICY, stage.NOW), Accept)
    else:
        assert isinstance(decide_answer(arrival, stage.directory(), stage.NOW), Answered | Stated)


def test_a_token_of_exactly_256_kib_is_not_too_large():
    """The example of E101 is one byte larger."""
    example = load(stage.EXAMPLES / "refused" / "E101-body-over-256-kib.json")
    example["body"]["times"] = MAX_TOKEN_BYTES

    assert [problem.code for problem in examples.problems_of(example)] == ["E102"]


@pytest.mark.parametrize("path", VALID, ids=by_name)
def test_a_valid_example_obeys_the_published_schema(path):
    validator(SCHEMA_NAMES[path.stem.partition("-")[0]]).validate(load(path))


@pytest.mark.parametrize(
    "path", [path for path in examples.refused() if path.name.startswith(("E406", "E502"))], ids=by_name
)
def test_the_published_schema_refuses_what_the_hub_refuses_for_its_form(path):
    """So an integrator finds such a mistake without the hub."""
    example = load(path)
    payload = examples.payload_of(example) if "like" in example else json.loads(example["payload_text"])
    lane = example.get("like", "document").partition("-")[0]

    assert not validator(SCHEMA_NAMES[lane]).is_valid(payload)


@pytest.mark.parametrize("path", [path for path in VALID if path.stem != "directory"], ids=by_name)
def test_an_example_survives_being_read_and_written(path):
    model = MODELS[path.stem.partition("-")[0]]

    read = model.model_validate_json(path.read_bytes())

    assert read == model.model_validate_json(read.to_json())
    assert contains(json.loads(read.to_json()), load(path))
