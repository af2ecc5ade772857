"""What the gateway publishes about itself, held against what it does: by schemathesis, over HTTP."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema
import pytest
import uvicorn

from adapters.gateway import publish
from adapters.gateway.serve import bind
from adapters.trust import Trust
from schemas.checks.directory import snapshot
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.gateways import TOKEN, now, open_counter
from tests.parts_hub import serving
from tests.played_hub import Axis, open_axis
from tests.services import Broker

_TIMEOUT_S = 240


def test_the_published_description_is_what_the_code_says():
    assert publish.PUBLISHED.read_text(encoding="utf-8") == publish.document()


def test_every_refusal_is_described_as_problem_json():
    described = json.loads(publish.document())
    for path in described["paths"].values():
        for operation in path.values():
            assert {"4XX", "5XX"} <= operation["responses"].keys()
            for status, response in operation["responses"].items():
                media_types = set(response.get("content", {}))
                assert status[0] == "2" or media_types == {"application/problem+json"}


def test_the_examples_in_the_description_fit_it():
    described = json.loads(publish.document())
    checked = 0
    for schema in described["components"]["schemas"].values():
        for example in schema.get("examples", ()):
            jsonschema.validate(example, {**schema, "components": described["components"]})
            checked += 1
    assert checked >= 3


@pytest.fixture
async def axis(vhost: Broker, tmp_path: Path) -> AsyncIterator[Axis]:
    async with open_axis(vhost, tmp_path) as axis:
        yield axis


@pytest.mark.timeout(_TIMEOUT_S + 60)
async def test_whatever_is_asked_the_answer_is_one_that_is_described(axis: Axis, tmp_path: Path):
    """Requests right and wrong in every way that the description knows; no answer may contradict it, none be a fault."""
    who_is_who = snapshot(Trust(axis.directory_file).view().file, epoch=1, as_of=now())
    async with (
        serving(MemoryBlobs(now), MemoryParts(), who_is_who=who_is_who) as hub,
        open_counter(
            tmp_path,
            code=axis.agency,
            amqp_url=axis.url(axis.agency),
            hub_url=hub.url,
            directory_file=axis.directory_file,
            tokens=True,
        ) as counter,
    ):
        for _ in range(3):
            await counter.arrive()
        counter.office.close()  # lists answer at once, whatever `wait_s` is drawn
        with bind("127.0.0.1", 0) as listener:
            server = uvicorn.Server(uvicorn.Config(counter.app, log_config=None))
            answering = asyncio.create_task(server.serve(sockets=[listener]))
            code, said = await run_schemathesis(listener.getsockname()[1], tmp_path)
            server.should_exit = True
            await answering
    assert code == 0, said


async def run_schemathesis(port: int, folder: Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"http://127.0.0.1:{port}/v1/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--phases", "coverage,fuzzing,stateful", "--max-examples", "6", "--seed", "20261120"),
        # What the schema allows may still name an agency that nobody knows, or a delivery that never arrived.
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        "--no-color",
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, said.decode()[-6000:]
