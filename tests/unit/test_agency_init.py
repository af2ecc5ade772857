"""`truc-agency init` from its answers to its file."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.cli import app
from schemas.directory_file import AgencyEntry, DirectoryFile
from tests.keys import agency_keys

CODE = "H26.01"


@pytest.fixture(autouse=True)
def papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with what the operator has handed over; the command is called in the one above."""
    folder = tmp_path / "giấy tờ"
    folder.mkdir()
    (folder / "k.pem").write_bytes(agency_keys(CODE).private_key_pem)
    (folder / "c.pem").write_text(agency_keys(CODE).pem)
    agencies = (AgencyEntry(code=CODE, name="Sở", tier="commune", valid_from="2025-07-01"),)
    certificates = (agency_keys(CODE).entry(CODE),)
    (folder / "d.json").write_bytes(DirectoryFile(agencies=agencies, certificates=certificates).to_json())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUC_AGENCY_CONFIG", "")  # set by the command for the rest of its process; put back afterwards
    monkeypatch.delenv("TRUC_AGENCY_CONFIG")
    return folder


ANSWERS = ("--code", CODE, "--broker", f"amqps://{CODE}:x@axis.example.vn/", "--papers", "giấy tờ")


def init(*arguments: str, before: tuple[str, ...] = ()):
    return CliRunner().invoke(app, [*before, "init", "--yes", *arguments])


def test_it_writes_what_every_command_reads_and_makes_the_folders(tmp_path, papers):
    ended = init(*ANSWERS)

    assert ended.exit_code == 0, ended.output
    assert ended.stdout.strip() == str(tmp_path / "truc-agency.toml")
    assert "truc-agency doctor" in ended.stderr
    assert tomllib.loads((tmp_path / "truc-agency.toml").read_text()) == {
        "code": CODE,
        "amqp_url": f"amqps://{CODE}:x@axis.example.vn/",
        "hub_url": "https://axis.example.vn",
        "key_file": str(papers / "k.pem"),
        "certificate_file": str(papers / "c.pem"),
        "directory_file": str(papers / "d.json"),
        "guard_file": str(tmp_path / "du-lieu" / "guard.db"),
        "folder": str(tmp_path / "van-ban"),
        "folder_journal_file": str(tmp_path / "du-lieu" / "folder.db"),
    }
    assert (tmp_path / "truc-agency.toml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "van-ban" / "outbox").is_dir()
    assert list((tmp_path / "du-lieu").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["du-lieu", "giấy tờ", "truc-agency.toml", "van-ban"]


def test_it_overwrites_only_when_told(tmp_path):
    (tmp_path / "truc-agency.toml").write_text("# của người khác")

    ended = init(*ANSWERS)
    assert (ended.exit_code, "--force" in ended.stderr) == (2, True)
    assert (tmp_path / "truc-agency.toml").read_text() == "# của người khác"

    assert init(*ANSWERS, "--force").exit_code == 0
    assert CODE in (tmp_path / "truc-agency.toml").read_text()


def test_what_was_handed_over_is_kept_and_options_overrule_it(tmp_path, papers):
    (papers / "phieu.toml").write_text(
        f'code = "{CODE}"\namqp_url = "amqps://{CODE}:x@axis/"\nkey_file = "k.pem"\ncertificate_file = "c.pem"\n'
        'directory_file = "d.json"\necho_code = "G22"\nlanguage = "en"\n'
    )

    ended = init("--from", "giấy tờ/phieu.toml", "--hub", "-", "--way", "gateway", "--data", "sổ")

    assert ended.exit_code == 0, ended.output
    written = tomllib.loads((tmp_path / "truc-agency.toml").read_text())
    assert (written["key_file"], written["echo_code"]) == (str(papers / "k.pem"), "G22")
    assert "hub_url" not in written
    assert written["mailbox_file"] == str(tmp_path / "sổ" / "mailbox.db")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--code"),
        (("--code", "H26"), 2, "--broker"),
        (("--code", "x"), 2, "--code"),
        ((*ANSWERS, "--broker", "http://x"), 2, "--broker"),
        ((*ANSWERS, "--papers", "gone"), 2, "--papers"),
        ((*ANSWERS, "--way", "fax"), 2, "--way"),
        ((*ANSWERS, "--hub", "ftp://x"), 2, "--hub"),
        ((*ANSWERS, "--password-file", "gone"), 2, "gone"),
        ((*ANSWERS, "--folder", "giấy tờ/k.pem/x"), 3, "A101"),
        ((*ANSWERS, "--from", "gone.toml"), 2, "gone.toml"),
        (("--code", CODE, "--broker", "x", "--key", "k", "--certificate", "c", "--directory", "d"), 3, "A102"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else str(value),
)
def test_an_answer_that_cannot_be_used_is_named_and_nothing_is_written(tmp_path, arguments, code, words):
    ended = init(*arguments)

    assert (ended.exit_code, words in ended.stderr, ended.stdout) == (code, True, ""), ended.output
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".truc", "truc"))]


def test_a_handed_over_setting_that_nobody_knows_is_found_before_the_file_is_there(tmp_path):
    (tmp_path / "x.toml").write_text("prefech = 5\n")

    ended = init(*ANSWERS, "--from", "x.toml")

    assert (ended.exit_code, "prefech" in ended.stderr) == (3, True)
    assert str(tmp_path / "truc-agency.toml") in ended.stderr
    assert not (tmp_path / "truc-agency.toml").exists()


def test_without_a_terminal_nothing_is_asked():
    ended = CliRunner().invoke(app, ["init", *ANSWERS])

    assert (ended.exit_code, "--yes" in ended.stderr) == (2, True)
    assert "TRUC_AGENCY_CONFIG" not in os.environ


class Terminal:
    """A person at a terminal."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "adapters", *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        """Wait for a question and type an answer. A question for a password throws away what is typed before its last blank."""
        while question not in self.seen:
            self.seen += os.read(self.ours, 4096).decode()
        self.seen = ""
        os.write(self.ours, text.encode())

    def interrupt(self, question: str) -> int:
        """Wait for a question and press Ctrl-C: again, where Python has missed it, which it does between two looks."""
        self.answer(question, "\x03")
        for _ in range(3):
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(8)
            os.write(self.ours, b"\x03")
        return self.end()

    def end(self) -> int:
        return self.process.wait(20)

    def leave(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)


@pytest.fixture
def person() -> Iterator[Terminal]:
    terminal = Terminal("init")
    yield terminal
    terminal.leave()


def test_a_person_is_asked_five_questions_and_again_what_cannot_be_used(tmp_path, papers, person):
    person.answer("1/5", "H26/1\n")
    person.answer("1/5", f"{CODE}\n")
    person.answer("2/5", "axis.example.vn\n")
    person.answer("kết nối): ", "bí mật\n")
    person.answer("[https://axis.example.vn]", "\n")
    person.answer("4/5", "giấy tờ\n")
    person.answer("5/5", "cổng\n")

    assert person.end() == 0
    written = tomllib.loads((tmp_path / "truc-agency.toml").read_text())
    assert written["amqp_url"] == f"amqps://{CODE}:b%C3%AD%20m%E1%BA%ADt@axis.example.vn/"
    assert (written["key_file"], "folder" in written) == (str(papers / "k.pem"), False)


def test_ctrl_c_at_a_question_ends_it_and_nothing_is_written(tmp_path, person):
    assert person.interrupt("1/5") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["giấy tờ"]
