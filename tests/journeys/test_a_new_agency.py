"""The first ten minutes of a new agency: init, doctor, test against a real hub, then the first document with a part."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.installation import Installation
from tests.agencies import COMMUNE, MINISTRY, PROVINCE
from tests.command_line import truc_json
from tests.hub_process import HubProcess

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TRUC_AGENCY_ECHO_CODE": COMMUNE}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "adapters", *arguments]


def handed_over(installation: Installation, code: str) -> Path:
    return installation.environment_file.parent / "agencies" / f"{code}.toml"


async def agency(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        command(*arguments),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def echo(installation: Installation, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The echo agency, as its operator runs it."""
    log = (tmp_path / "echo.log").open("wb")
    config = str(handed_over(installation, COMMUNE))
    process = subprocess.Popen(
        command("--config", config, "echo"), cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log
    )
    try:
        yield process
    finally:
        log.close()
        process.terminate()
        process.wait(20)


async def test_a_new_agency_sets_up_examines_itself_and_hears_an_answer(
    hub: HubProcess, installation: Installation, echo: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    office = tmp_path / "office"
    office.mkdir()
    code, out, err = await agency(office, "init", "--yes", "--from", str(handed_over(installation, PROVINCE)))
    assert (code, out.strip()) == (0, str(office / "truc-agency.toml")), err

    code, out, err = await agency(office, "doctor", "--json")
    assert (code, err) == (0, ""), out
    assert {finding["state"] for finding in json.loads(out)} == {"pass"}

    before = sorted(office.rglob("*"))
    code, out, err = await agency(office, "test", "--json")
    assert (code, err) == (0, ""), out
    told = json.loads(out)
    assert {step["step"] for step in told["steps"]} == {"uploaded", "confirmed", "receipt", "01", "03"}
    assert sorted(office.rglob("*")) == before

    traced = (await truc_json(installation, "trace", told["document"]))["found"][0]
    assert [(part["name"], part["stored"]) for part in traced["parts"]] == [("thu-ket-noi.txt", True)]
    assert traced["subject"].startswith("THỬ KẾT NỐI")


async def test_listen_brings_the_parts_of_what_arrives(
    hub: HubProcess, installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "Phụ lục.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "in").mkdir()
    facts = ("--to", PROVINCE, "--number", "7", "--subject", "Thử", "--signer", "An", "--part", "Phụ lục.pdf")
    code, _, err = await agency(tmp_path, "--config", str(handed_over(installation, MINISTRY)), "send", *facts)
    assert code == 0, err

    config = str(handed_over(installation, PROVINCE))
    code, out, err = await agency(tmp_path, "--config", config, "listen", "--count", "1", "--into", "in", "--json")

    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (tmp_path / "in" / f"{told['delivery']}.parts" / "001-Phụ lục.pdf").read_bytes() == b"%PDF-1.7"
    assert [part["name"] for part in told["parts"]] == ["Phụ lục.pdf"]
