"""The command `truc` as an operator runs it."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

from hub.installation import Installation


async def truc(installation: Installation, *arguments: str, expect: int = 0) -> str:
    """Run `truc` against an installation; returns what it printed on stdout."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "hub", *arguments],
        env={**os.environ, **installation.environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == expect, f"truc {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


async def truc_json(installation: Installation, *arguments: str, expect: int = 0) -> dict[str, Any]:
    """Run `truc … --json`."""
    return dict(json.loads(await truc(installation, *arguments, "--json", expect=expect)))
