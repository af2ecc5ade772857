"""What `truc` says when it is used wrongly, and how it ends."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from hub.cli import app
from hub.cli.output import reporting
from hub.core.trouble import Unavailable
from hub.store.dead_letters import DeadLetter
from schemas.identifiers import AgencyCode, DocumentId

NOBODY_LISTENS = "postgresql://truc@127.0.0.1:1/truc"


def truc(*arguments: str, **environment: str):
    return CliRunner().invoke(app, arguments, env={"TRUC_DATABASE_URL": NOBODY_LISTENS, **environment})


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit",),
        ("db", "status"),
        ("db", "upgrade"),
        ("dead", "list"),
        ("dead", "show", "x"),
        ("dead", "groups", "code=E807"),
        ("dead", "note", "E807@H26", "x"),
        ("dead", "dismiss", "code=E807", "--reason", "x", "--yes"),
        ("replay", "plan", "code=E807"),
        ("replay", "start", "1", "--mode", "one", "--reason", "x"),
        ("replay", "status"),
        ("replay", "cancel", "1"),
        ("replay", "failed", "1"),
        ("replay", "redirect", "--from", "H26", "--reason", "x"),
        ("replay", "catch-up", "H26", "--since", "7d", "--reason", "x"),
        ("directory", "show"),
        ("hold",),
        ("hold", "H26", "--reason", "bảo trì"),
        ("release", "H26", "--reason", "xong"),
        ("trace", "x"),
        ("broker", "drift"),
        ("stats", "show"),
        ("archive", "plan"),
        ("archive", "run", "2026-11", "--into", ".", "--reason", "x"),
    ],
    ids=" ".join,
)
def test_database_that_is_away_ends_with_4_and_what_to_look_at(arguments):
    ended = truc(*arguments)

    assert (ended.exit_code, ended.stdout) == (4, "")
    assert "TRUC_DATABASE_URL" in ended.stderr


@pytest.mark.parametrize("arguments", [("audit",), ("run",), ("run", "--dev"), ("demo",), ("trace", "x")], ids=" ".join)
def test_unusable_settings_end_with_3(arguments):
    ended = truc(*arguments, TRUC_LOG_LEVEL="loud")

    assert ended.exit_code == 3
    assert "log_level" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("trace", "x", "--lang", "fr"),
        ("run", "fly"),
        ("dead", "list", "--limit", "0"),
        ("dead", "list", "colour=red"),
        ("dead", "dismiss", "--reason", "x", "--yes"),
        ("dead", "dismiss", "code=E807", "--reason", " ", "--yes"),
        ("replay", "start", "1", "--mode", "one"),
        ("replay", "start", "1", "--mode", "rate", "--rate", "fast", "--reason", "x"),
        ("replay", "start", "1", "--mode", "all", "--rate", "60/min", "--reason", "x"),
        ("replay", "redirect", "--reason", "x"),
        ("replay", "redirect", "x", "--reason", "x"),
        ("replay", "catch-up", "H26", "--since", "yesterday", "--reason", "x"),
        ("stats", "show", "--from", "2026-02-01", "--to", "2026-01-01"),
    ],
)
def test_wrong_use_ends_with_2(arguments):
    assert truc(*arguments).exit_code == 2


def test_keys_that_cannot_be_written_are_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()

    ended = truc("directory", "generate", "--out", "-", "--keys", str(tmp_path / "file" / "keys"))

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "file/keys" in ended.stderr


def test_trouble_of_a_task_group_is_told_like_any_other(capsys):
    with pytest.raises(typer.Exit) as ended, reporting():
        raise ExceptionGroup("tasks", [Unavailable("http", "127.0.0.1:8470 cannot be used; set TRUC_HTTP_PORT")])

    assert ended.value.exit_code == 4
    assert capsys.readouterr().err == "truc: http: 127.0.0.1:8470 cannot be used; set TRUC_HTTP_PORT\n"


def test_defect_is_not_explained_away():
    with pytest.raises(ZeroDivisionError), reporting():
        raise ZeroDivisionError


@pytest.mark.parametrize("program", ["hub", "adapters"])
def test_ctrl_c_while_still_starting_leaves_no_traceback(program):
    """The signal is sent by the first module that is imported after the entry point."""
    interrupt = (
        "import os, signal, runpy, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.meta_path.insert(0, Finder()); runpy.run_module({program!r}, run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", interrupt], env=os.environ, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (128 + signal.SIGINT, "")


def test_list_of_what_needs_a_person_has_the_ids_that_show_takes(monkeypatch):
    """In full: a table would cut them on a terminal of 80 columns."""
    letter = DeadLetter(
        kind="submission",
        id="ab" * 32,
        code="E301",
        side="sender",
        reason="",
        agency=AgencyCode("H26"),
        sender=None,
        tier=None,
        document_id=DocumentId("cd" * 32),
        attempts=0,
        since=datetime(2026, 11, 23, 3, 0, tzinfo=UTC),
        times=1,
        state="open",
        assignee=None,
    )

    async def letters(_pool, _selection, _limit):
        return [letter]

    monkeypatch.setattr("hub.store.dead_letters.list_dead", letters)

    shown = truc("dead", "list").stdout.splitlines()

    assert shown[0] == letter.id
    assert shown[1] == "  E301  lượt gửi  H26  10:00 23/11/2026  bên gửi"
