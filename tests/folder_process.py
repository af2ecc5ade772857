"""The folder adapter as a process of its own, as an agency runs it, and the software that reads and writes its files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.installation import Installation
from schemas.identifiers import AgencyCode
from tests.hub_process import eventually

ROOT = Path(__file__).parents[1]
PATIENCE_S = 30


class FolderProcess:
    """`truc-agency folder` for one endpoint of an installation."""

    def __init__(self, installation: Installation, code: str, home: Path, **settings: object) -> None:
        account = installation.accounts[AgencyCode(code)]
        self.home = home
        self.root = home / "van-ban"
        given = {
            "amqp_url": account.amqp_url,
            "hub_url": account.hub_url,
            "code": code,
            "key_file": account.key_file,
            "certificate_file": account.certificate_file,
            "directory_file": installation.directory_file,
            "guard_file": home / "guard.db",
            "folder": self.root,
            "folder_journal_file": home / "folder.db",
            "folder_poll_s": 0.1,
            "folder_settle_s": 0.1,
            "confirm_timeout_s": 3,
            "publish_timeout_s": 5,
            "part_timeout_s": 5,
            **settings,
        }
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **{f"TRUC_AGENCY_{name.upper()}": str(value) for name, value in given.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "folder.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "adapters", "folder", *arguments],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return self.process

    def log(self) -> str:
        file = self.home / "folder.log"
        return file.read_text() if file.exists() else ""

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def put(self, name: str, data: bytes) -> None:
        """Put a file into outbox as software should: under a hidden name, then renamed."""
        outbox = self.root / "outbox"
        outbox.mkdir(parents=True, exist_ok=True)
        (outbox / f".{name}").write_bytes(data)
        (outbox / f".{name}").rename(outbox / name)

    def names(self, place: str) -> list[str]:
        """The files that lie in one of the folders, reasons and folders of statuses left out."""
        folder = self.root / place
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(path.name for path in found if path.is_file() and ".reason." not in path.name)

    def packets(self, place: str = "inbox") -> list[bytes]:
        return [(self.root / place / name).read_bytes() for name in self.names(place) if not name.startswith(".")]

    def statuses(self, name: str, place: str = "sent") -> list[Path]:
        """The status packets beside a document, oldest first."""
        return sorted((self.root / place / f"{name}.status").glob("*.edxml"))

    def outcomes(self, name: str) -> dict[str, str]:
        """What each recipient has answered to a document in sent."""
        files = (self.root / "sent" / f"{name}.status").glob("*.json")
        return {file.stem: json.loads(file.read_bytes())["outcome"] for file in files}

    def reason(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.root / "failed" / f"{name}.reason.json").read_bytes()))

    def codes(self, name: str) -> list[str]:
        return [problem["code"] for problem in self.reason(name)["problems"]]

    async def until(self, condition: object, timeout_s: float = PATIENCE_S) -> None:
        """Wait for something that will happen in the folder."""
        await eventually(condition, timeout_s, lambda: f"{self.tree()}\n{self.log()[-3000:]}")

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@contextmanager
def running(*folders: FolderProcess) -> Iterator[None]:
    for folder in folders:
        folder.start()
    try:
        yield
    finally:
        for folder in folders:
            if folder.process is not None and folder.process.poll() is None:
                folder.kill()
