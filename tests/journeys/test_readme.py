"""Every command of the README is run, in a folder of its own, as a newcomer would run it."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.dev.servers import clean, missing
from tests.hub_process import eventually, free_port
from tests.services import unavailable

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text().replace("\\\n", "")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]

GIVEN = ("TRUC_AMQP_URL", "TRUC_AMQP_MANAGEMENT_URL", "TRUC_DATABASE_URL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout whose `.truc` is its own, so that nobody's `make run` is disturbed."""
    if missing({}):
        unavailable(f"not installed: {', '.join(missing({}))}")
    checkout = tmp_path_factory.mktemp("checkout")
    for entry in ROOT.iterdir():
        if entry.name not in (".truc", ".git"):
            (checkout / entry.name).symlink_to(entry)
    yield checkout
    clean(checkout / ".truc")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    of_the_make_above_us = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS")
    left_out = {*GIVEN, *of_the_make_above_us}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "TRUC_HTTP_PORT": str(free_port())}


def make(target: str) -> list[str]:
    """The target, without making the Python environment again: that is the one the tests run in."""
    return ["make", "-o", ".venv/.complete", target]


def left_running(folder: Path) -> list[str]:
    """Processes that work inside the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def left_behind(folder: Path) -> list[str]:
    """Folders below `.truc`, but for the one that `make run` keeps."""
    return [path.name for path in (folder / ".truc").iterdir() if path.is_dir() and path.name != "run"]


def test_the_readme_has_the_commands_that_are_run_here() -> None:
    assert BLOCKS[:3] == [["make demo"], ["make test"], ["make run"]]
    assert len(BLOCKS) == 4


def test_make_demo_ends_well_and_leaves_nothing(folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        make("demo"), cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Văn bản theo cấp" in done.stdout
    assert "Sổ cái khớp" in done.stdout
    assert re.search(r"E404", done.stdout)
    for way in ("Thư mục", "Cổng REST", "Python"):
        assert re.search(rf"{way} .*/CV-VP .*đã nhận .*01, 03", done.stdout), way
    assert re.search(r"thu hồi .*đã nhận .*16", done.stdout)
    assert len(re.findall(r"đã nhận +│ 15 ", done.stdout)) == 3
    assert "chưa có" not in done.stdout
    assert left_running(folder) == []
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    "phase", ["Khởi động RabbitMQ", "Tạo sổ cái", "Khởi động trục", "gửi văn bản cho nhau", "gửi gói edXML"]
)
async def test_ctrl_c_in_any_phase_of_the_demo_cleans_up(folder: Path, environment: dict[str, str], phase: str) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing else waits for this loop
        make("demo"),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if phase in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in said
    # A server whose start was cut in half is ended by its guard, which notices a moment later that its owner is gone.
    await eventually(lambda: left_running(folder) == [], 5, lambda: left_running(folder))
    assert left_behind(folder) == []


def test_make_test_checks_and_tests() -> None:
    """Not run from within itself: what it would do is read."""
    planned = subprocess.run(
        ["make", "-n", "-o", ".venv/.complete", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for step in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert step in planned


def test_make_run_stays_up_until_ctrl_c_and_the_commands_beside_it_work(
    folder: Path, environment: dict[str, str]
) -> None:
    log = folder / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            make("run"),
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_ready(process, environment, log)
        preparation, *commands = BLOCKS[3]
        for command in commands:
            done = subprocess.run(
                ["sh", "-ec", f"{preparation}\n{command}"],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, command + done.stdout + done.stderr
            if "trace" in command:
                assert "1/2 đơn vị đã nhận" in done.stdout
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    assert "hub.stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert left_running(folder) == []
    assert (folder / ".truc/run/installation/directory.json").exists()


def wait_until_ready(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    end = time.monotonic() + 60
    while not is_ready(environment):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def is_ready(environment: dict[str, str]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environment['TRUC_HTTP_PORT']}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
