"""Files, folders and disks of this machine, as the user who runs the check may use them."""

import os
import pwd
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from adapters.checkup.finding import Case, Finding, State
from adapters.errors import Unusable
from adapters.folder.journal import Journal
from adapters.folder.places import FOLDERS
from adapters.inbox_guard import InboxGuard
from adapters.mailbox import Mailbox

_MIB: Final = 1024 * 1024
_LEAST_FREE_BYTES: Final = 200 * _MIB
_LITTLE_FREE_BYTES: Final = 2048 * _MIB
_TRIAL: Final = ".truc-agency-doctor.tmp"


async def guard(case: Case) -> Finding:
    """Check the memory of what was handed over."""
    return _memory(case, "guard", case.settings.guard_file, InboxGuard, "A104")


async def journal(case: Case) -> Finding:
    """Check the memory of the folder adapter."""
    return _memory(case, "journal", case.settings.folder_journal_file, Journal, "A107")


async def mailbox(case: Case) -> Finding:
    """Check what the gateway keeps."""
    return _memory(case, "mailbox", case.settings.mailbox_file, Mailbox, "A106")


async def folder(case: Case) -> Finding:
    """Check that files can be written in the folders and renamed from one into the next, by doing so."""
    root = case.settings.folder
    assert root is not None  # left out without it
    user = f"{case.choose('người dùng', 'user')} {_user()}"
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    try:
        if not root.is_dir():
            _try_out(root.parent, root.parent)
        for source, target in (
            ("outbox", "sending"),
            ("arriving", "inbox"),
            ("sending", "sent"),
            ("sending", "failed"),
        ):
            if not {source, target} & set(missing):
                _try_out(root / source, root / target)
    except OSError as error:
        fix = case.choose(
            f"Tạo thư mục, cấp quyền ghi cho {_user()}, và để mọi thư mục con trên cùng một hệ thống tệp.",
            f"Make the folder, let {_user()} write there, and keep all its folders on one file system.",
        )
        return Finding(
            "folder", "fail", f"{error.filename2 or error.filename or root}: {error.strerror or error}; {user}", fix
        )
    made = f", {case.choose('sẽ được tạo', 'to be made')}: {', '.join(missing)}" if missing else ""
    return Finding("folder", "pass", f"{root}; {user}{made}")


async def disk(case: Case) -> Finding:
    """Check that there is space where we keep things."""
    settings = case.settings
    places = [settings.guard_file, settings.folder, settings.mailbox_file if uses_mailbox(case) else None]
    seen: dict[int, tuple[Path, int]] = {}
    for place in places:
        nearest = _nearest(place) if place is not None else None
        if nearest is not None:
            seen.setdefault(nearest.stat().st_dev, (nearest, shutil.disk_usage(nearest).free))
    state = state_of_disk(min((free for _, free in seen.values()), default=0))
    free_text = case.choose("còn trống", "free")
    evidence = ", ".join(f"{path}: {free / 1024 / _MIB:.1f} GiB {free_text}" for path, free in seen.values())
    fix = case.choose("Dọn hoặc mở rộng ổ đĩa.", "Clear or enlarge the disk.")
    return Finding("disk", state, evidence, "" if state == "pass" else fix)


def state_of_disk(free_bytes: int) -> State:
    """Judge how much is free."""
    if free_bytes < _LEAST_FREE_BYTES:
        return "fail"
    return "warn" if free_bytes < _LITTLE_FREE_BYTES else "pass"


def uses_mailbox(case: Case) -> bool:
    """Tell whether somebody means to run the gateway here."""
    return "mailbox_file" in case.settings.model_fields_set or case.settings.mailbox_file.exists()


def _memory(
    case: Case, check: str, file: Path, open_: Callable[[Path], AbstractContextManager[Any]], code: str
) -> Finding:
    """Open a file that is there, and look whether one that is not could be made."""
    if not file.exists():
        parent = file.absolute().parent
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding(check, "pass", f"{file.absolute()}: {case.choose('sẽ được tạo', 'to be made')}")
        seen = case.choose("không ghi được thư mục", "the folder cannot be written to")
        return Finding(check, "fail", f"{parent}: {seen} ({_user()})", case.fix_of(code))
    try:
        with open_(file):
            return Finding(check, "pass", str(file.absolute()))
    except Unusable as error:
        if "locked" not in error.en:
            raise
        busy = case.choose("phần mềm kết nối đang chạy và dùng tệp này", "in use by a running adapter")
        return Finding(check, "pass", f"{file.absolute()}: {busy}")


def _try_out(source: Path, target: Path) -> None:
    """Write a hidden file and rename it; it is gone afterwards."""
    trial = source / _TRIAL
    renamed = target / f"{_TRIAL}.2.tmp"
    try:
        trial.write_bytes(b"")
        trial.rename(renamed)
    finally:
        trial.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)


def _nearest(path: Path) -> Path | None:
    """Find the folder that is there, going up."""
    return next((each for each in (path.absolute(), *path.absolute().parents) if each.is_dir()), None)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
