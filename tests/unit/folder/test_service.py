"""The shipped systemd unit: systemd reads it, and it starts what the command line knows."""

import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from typer.testing import CliRunner

from adapters.cli import app

UNIT = Path(__file__).parents[3] / "adapters" / "published" / "truc-agency-folder.service"


def settings() -> dict[str, list[str]]:
    """What the unit sets, by name; names occur in one section each."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def test_it_starts_a_command_that_exists():
    (command,) = settings()["ExecStart"]
    program, *arguments = shlex.split(command)

    assert Path(program).name == "truc-agency"
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    assert "outbox" in result.output


def test_it_comes_back_whatever_ended_it():
    assert settings()["Restart"] == ["always"]
    assert settings()["StartLimitIntervalSec"] == ["0"]


def test_it_may_write_where_its_files_lie_and_nowhere_else():
    found = settings()

    assert found["ProtectSystem"] == ["strict"]
    assert (found["StateDirectory"], found["ReadWritePaths"]) == (["truc-agency"], ["-/srv/truc-agency"])
    assert found["WorkingDirectory"] == ["/var/lib/truc-agency"]


def test_systemd_reads_every_line_and_finds_it_well_guarded(tmp_path):
    """Where there is no systemd, the lines above are what can be checked."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert {"NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet"} <= settings().keys()
        return
    unit = tmp_path / UNIT.name
    program = shlex.split(settings()["ExecStart"][0])[0]
    unit.write_text(UNIT.read_text().replace(program, sys.executable))
    read = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout
