"""What `truc broker` says when the broker has no room for what the directory wants."""

import json

import pytest
from typer.testing import CliRunner

from hub.broker.topology import Drift, Queue, Step
from hub.cli import broker

MISSING = Drift((Step(Queue("truc.agency.H26", {})),), (), ())
NOTHING = Drift((), (), ())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    state: dict[str, object] = {"drift": MISSING, "shortage": "the broker may open 1024 files", "applied": False}

    async def compare() -> object:
        return state["drift"], state["shortage"]

    async def apply(steps: object) -> None:
        state["applied"] = True

    monkeypatch.setattr(broker, "_compare", compare)
    monkeypatch.setattr(broker, "_apply", apply)
    return state


def test_apply_makes_nothing_when_the_broker_would_run_out_of_files(found: dict[str, object]) -> None:
    result = CliRunner().invoke(broker.app, ["apply", "--yes"])
    assert result.exit_code == 7
    assert "may open 1024 files" in result.output
    assert not found["applied"]


def test_apply_works_when_there_is_room(found: dict[str, object]) -> None:
    found["shortage"] = None
    result = CliRunner().invoke(broker.app, ["apply", "--yes"])
    assert result.exit_code == 0
    assert found["applied"]


def test_plan_and_drift_say_what_the_broker_is_short_of(found: dict[str, object]) -> None:
    found["drift"] = NOTHING
    assert "chưa đủ: the broker may open 1024 files" in CliRunner().invoke(broker.app, ["plan"]).output
    planned = json.loads(CliRunner().invoke(broker.app, ["plan", "--json"]).output)
    assert planned == {"version": 1, "steps": [], "shortage": "the broker may open 1024 files"}
    compared = CliRunner().invoke(broker.app, ["drift", "--json"])
    assert compared.exit_code == 1
    assert json.loads(compared.output)["wrong"] == ["the broker may open 1024 files"]


def test_nothing_is_said_when_all_is_as_it_should_be(found: dict[str, object]) -> None:
    found |= {"drift": NOTHING, "shortage": None}
    assert CliRunner().invoke(broker.app, ["drift"]).exit_code == 0
