"""The command `truc` as an operator runs it."""

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from hub.installation import Installation
from tests.forked import Forked
from tests.hub_process import eventually


async def truc(installation: Installation, *arguments: str, expect: int = 0) -> str:
    """Run `truc` against an installation; returns what it printed on stdout."""
    environment = {**os.environ, **installation.environment}
    code, printed, said = await asyncio.to_thread(_run, arguments, environment)
    assert code == expect, f"truc {' '.join(arguments)}: {code}\n{printed}{said}"
    return printed


async def truc_json(installation: Installation, *arguments: str, expect: int = 0) -> dict[str, Any]:
    """Run `truc … --json`."""
    return dict(json.loads(await truc(installation, *arguments, "--json", expect=expect)))


async def traced(installation: Installation, document: str) -> dict[str, Any]:
    """What `truc trace` says about one document, once the hub has taken it in."""
    found: list[dict[str, Any]] = []

    async def is_known() -> bool:
        environment = {**os.environ, **installation.environment}
        code, printed, _ = await asyncio.to_thread(_run, ("trace", document, "--json"), environment)
        found[:] = json.loads(printed)["found"] if code == 0 else []
        return bool(found)

    await eventually(is_known, 20, f"{document} is not known")
    (only,) = found
    return only


def _run(arguments: tuple[str, ...], environment: Mapping[str, str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        code = Forked(arguments, environment, stdout, stderr).wait()
        stdout.seek(0)
        stderr.seek(0)
        return code, stdout.read(), stderr.read()
