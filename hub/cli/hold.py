"""`truc hold` and `truc release`: recipients whose documents wait, because of a person or because they are down."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hub.cli.output import Exit, fail, print_json, reporting, say
from schemas.identifiers import AgencyCode, is_agency_code

if TYPE_CHECKING:
    from hub.store.holds import Unwell
    from hub.store.pool import Pool

T = TypeVar("T")

_PHASES_VI = {
    "closed": "có lỗi, vẫn chuyển",
    "open": "tạm giữ, chờ thử lại",
    "probing": "đang thử một văn bản",
    "draining": "đang chuyển dần",
}

Reason = Annotated[str, typer.Option(help="Why; it is kept in the ledger and shown by `truc trace`.")]
As = Annotated[str | None, typer.Option("--as", help="Who decides; by default the user of this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def hold(
    agency: Annotated[
        str | None, typer.Argument(help="Code of the recipient; without it, list those not well.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; needed to hold a recipient.")] = "",
    actor: As = None,
    as_json: AsJson = False,
) -> None:
    """Hold every document for a recipient from now on; what is in its queue already stays there."""
    if agency is None:
        _list(as_json=as_json)
        return
    if not reason.strip():
        raise fail(Exit.USAGE, "--reason is needed: it is what senders and colleagues will read")
    from hub.store.holds import hold_recipient

    code, who, now = _code(agency), actor or getpass.getuser(), datetime.now(UTC)
    done = _with_pool(lambda pool: hold_recipient(pool, code, who, reason.strip(), now))
    if as_json:
        print_json({"version": 1, "recipient": code, "changed": done})
    elif done:
        say(f"Từ nay mọi văn bản gửi {code} được tạm giữ. Chuyển tiếp: truc release {code} --reason …")
    else:
        say(f"{code} đã được tạm giữ từ trước.")


def release(
    agency: Annotated[str, typer.Argument(help="Code of the recipient.")],
    reason: Reason,
    actor: As = None,
    as_json: AsJson = False,
) -> None:
    """Let everything that is held for a recipient go, a few at a time. Exits 1 when nothing is held back."""
    from hub.store.holds import release_recipient

    code, who, now = _code(agency), actor or getpass.getuser(), datetime.now(UTC)
    done = _with_pool(lambda pool: release_recipient(pool, code, who, reason, now))
    if as_json:
        print_json({"version": 1, "recipient": code, "changed": done})
    elif done:
        say(f"Văn bản đang giữ của {code} được chuyển dần; xem: truc hold")
    else:
        say(f"Không có gì của {code} bị giữ lại.")
    if not done:
        raise typer.Exit(Exit.NEGATIVE)


def _list(*, as_json: bool) -> None:
    from hub.core.diagnosis import clock_time
    from hub.store.holds import list_unwell

    found = _with_pool(list_unwell)
    if as_json:
        print_json({"version": 1, "recipients": [_as_json(item) for item in found]})
        return
    if not found:
        say("Không có đơn vị nào bị giữ hay gặp lỗi.")
        return
    for item in found:
        breaker = item.breaker
        print(
            f"{breaker.recipient}  {_PHASES_VI[breaker.phase]}  giữ {item.held} văn bản  lỗi liên tiếp {breaker.failures}"
        )
        if breaker.held_by is not None and breaker.held_at is not None:
            print(f"  {breaker.held_by} giữ từ {clock_time(breaker.held_at)}: {breaker.held_reason}")
        if breaker.silent_since is not None:
            print(f"  im lặng từ {clock_time(breaker.silent_since)}")
        if breaker.phase == "open" and breaker.due_at is not None:
            print(f"  thử lại lúc {clock_time(breaker.due_at)}")


def _as_json(item: "Unwell") -> dict[str, object]:
    return asdict(item.breaker) | {"held": item.held, "silent_since": item.breaker.silent_since}


def _with_pool(act: "Callable[[Pool], Awaitable[T]]") -> T:
    from hub.settings import load_settings
    from hub.store.pool import open_pool

    async def with_pool() -> T:
        async with open_pool(load_settings().database_url.get_secret_value()) as pool:
            return await act(pool)

    with reporting():
        return asyncio.run(with_pool())


def _code(text: str) -> AgencyCode:
    if not is_agency_code(text):
        raise fail(Exit.USAGE, f"{text} is no code of an agency, such as H26 or H26.01.02")
    return AgencyCode(text)
