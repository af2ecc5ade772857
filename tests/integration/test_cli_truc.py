"""`truc` against a real database, where what it prints is meant for programs or to be copied."""

import asyncio
import json
import os
import subprocess
import sys

from tests.command_line import truc, truc_json
from tests.services import with_path


async def test_status_of_the_tables_is_data(installation):
    found = await truc_json(installation, "db", "status")

    assert (found["version"], found["current"], found["pending"]) == (1, True, [])
    assert found["applied"]


async def test_status_of_an_empty_database_says_what_is_missing(installation, postgresql):
    environment = {**os.environ, **installation.environment, "TRUC_DATABASE_URL": with_path(postgresql, "postgres")}
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "hub", "db", "status"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (1, "truc: run `truc db upgrade`\n")
    assert "Còn thiếu: " in ended.stdout


async def test_demo_keeps_off_a_given_ledger(installation):
    before = await truc(installation, "directory", "show", "--json")

    await truc(installation, "demo", expect=2)

    assert json.loads(await truc(installation, "directory", "show", "--json"))["epoch"] == json.loads(before)["epoch"]
