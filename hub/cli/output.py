"""How every command speaks: data on stdout, everything else on stderr, one exit code for each kind of ending."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from typing import Any

import typer

STATE_VI = {
    "pending": "Chờ chuyển",
    "routed": "Đã vào hàng đợi đơn vị",
    "received": "Đơn vị đã nhận (có biên nhận)",
    "dead": "Không chuyển được",
    "held": "Tạm giữ",
    "expired": "Hết hạn chuyển",
}
TIERS_VI = {
    "ministry-province": "Bộ, ngành, tỉnh",
    "department-district": "Cục, vụ, sở, huyện",
    "commune": "Xã, phường",
    "associate": "Ngoài hệ thống hành chính",
}
ACTS_VI = {
    "sender": "bên gửi",
    "recipient": "đơn vị nhận",
    "hub": "trục",
    "operator": "đơn vị vận hành",
    "nobody": "không ai",
}
_FIXES_VI = {
    "database": (
        "kiểm tra PostgreSQL có đang chạy và TRUC_DATABASE_URL có đúng (máy, cổng, tài khoản, mật khẩu, tên cơ sở dữ "
        "liệu); `truc db status` cho biết bảng đã có chưa. Biến TRUC_… còn lại của một lần `make run` đã dừng thì bỏ "
        "bằng `unset`, hoặc mở cửa sổ lệnh mới."
    ),
    "broker": (
        "kiểm tra RabbitMQ có đang chạy và TRUC_AMQP_URL, TRUC_AMQP_MANAGEMENT_URL có đúng (máy, cổng, tài khoản, mật "
        "khẩu, vhost). Biến TRUC_… còn lại của một lần `make run` đã dừng thì bỏ bằng `unset`, hoặc mở cửa sổ lệnh mới."
    ),
}


class Exit(IntEnum):
    """Exit codes of `truc`."""

    DONE = 0
    NEGATIVE = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    NOT_FOUND = 6
    CONFLICT = 7
    INTERRUPTED = 130


def say(text: str) -> None:
    """Tell the person at the terminal something that is not data."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print data for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def agreed(question: str) -> bool:
    """Ask the person at the terminal; where nobody can answer, say how to do without."""
    if not sys.stdin.isatty():
        say("Không có người trả lời; thêm --yes để thực hiện.")
        return False
    return typer.confirm(question, err=True)


def fail(code: Exit, message: str) -> typer.Exit:
    """Say what went wrong and what to do; the caller raises what this returns."""
    say(f"truc: {message}")
    return typer.Exit(code)


@contextmanager
def reporting() -> Iterator[None]:
    """Turn what a command may meet into what went wrong, what to do, and an exit code."""
    try:
        yield
    except KeyboardInterrupt as error:
        _let_go_quietly()
        raise typer.Exit(Exit.INTERRUPTED) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        ending = _ending_of(error)
        if ending is None:
            raise
        raise ending from error


def _let_go_quietly() -> None:
    """Say nothing about what was interrupted while it was being made, such as an event loop: it complains when it goes."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")


def _ending_of(error: Exception) -> typer.Exit | None:
    """Explain an error; a defect is not explained away."""
    from hub.core.trouble import Conflict, Trouble, Unavailable
    from hub.dev.processes import DevError
    from hub.settings import SettingsError

    match error:
        case ExceptionGroup(exceptions=(first, *_)) if isinstance(first, Exception):
            return _ending_of(first)  # of a task group, whose other tasks have ended because of it
        case SettingsError():
            return fail(Exit.CONFIGURATION, f"settings: {error}")
        case Unavailable(part=part) if part in _FIXES_VI:
            return fail(Exit.UNREACHABLE, f"{error}\n  Cách sửa: {_FIXES_VI[part]}")
        case Conflict():
            return fail(Exit.CONFLICT, str(error))
        case Trouble() | DevError():
            return fail(Exit.UNREACHABLE, str(error))
        case _:
            return None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
