"""`truc-agency catch-up`."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from adapters.cli.output import Exit, Session, run

if TYPE_CHECKING:
    from schemas.catch_up import CatchUp

_AGO: Final = re.compile(r"([1-9][0-9]{0,3})([hd])")
_UNITS: Final = {"h": "hours", "d": "days"}
_STATES_VI: Final = {
    "running": "đang gửi lại",
    "suspended": "tạm dừng vì danh mục đang tạm ngừng đơn vị, tự tiếp tục khi đơn vị được mở lại",
    "paused": "đơn vị vận hành tạm dừng",
    "stopped": "tự dừng",
    "cancelled": "đơn vị vận hành đã hủy phần còn lại",
    "done": "đã gửi lại xong",
}


def catch_up(
    context: typer.Context,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            help="From when on: 2026-11-23, 2026-11-23T09:05, 12h or 7d. Without it: how far the last one is."
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="For platforms: the agency that lost what it had.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask the axis for everything again that we have had since a moment, after the loss of a disk.

    It comes into our queue: take it with `listen --catch-up` or `folder --catch-up`. Asked again while it goes on, it is
    the same one.
    """
    session: Session = context.obj
    moment = None if since is None else _moment(since)

    async def command() -> Exit:
        from adapters.cli.wiring import inquiry_of
        from schemas.identifiers import AgencyCode

        settings = session.settings()
        agency = AgencyCode(from_ or settings.code)
        inquiry = inquiry_of(settings)
        try:
            found = await (inquiry.latest_catch_up(agency) if moment is None else inquiry.catch_up(agency, moment))
        finally:
            await inquiry.close()
        if as_json:
            print("null" if found is None else found.to_json().decode())
        else:
            _show(session, found)
        return Exit.NEGATIVE if found is None else Exit.DONE

    run(session, command)


def _show(session: Session, found: "CatchUp | None") -> None:
    if found is None:
        print(session.choose("Chưa yêu cầu nhận bù lần nào.", "No catch-up was asked for."))
        return
    left = found.size - found.handed_out - found.not_handed_out
    minutes = -(-left // found.per_minute)
    print(
        session.choose(
            f"Nhận bù đợt {found.number} ({found.agency}): {_STATES_VI[found.state]}, {found.handed_out}/{found.size} văn bản",
            f"Catch-up {found.number} ({found.agency}): {found.state}, {found.handed_out} of {found.size} documents",
        )
    )
    if found.state == "running" and left:
        print(session.choose(f"  còn khoảng {minutes} phút", f"  about {minutes} minutes more"))
    if found.not_handed_out:
        print(
            session.choose(
                f"  {found.not_handed_out} văn bản không vào được hàng đợi: hỏi đơn vị vận hành",
                f"  {found.not_handed_out} did not get into the queue: ask the operator",
            )
        )


def _moment(text: str) -> datetime:
    """Read a moment in the time of Vietnam, or some time ago; what is none is wrong use."""
    from schemas.directory_file import VIETNAM

    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text}: no moment such as 2026-11-23, 2026-11-23T09:05, 12h or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=VIETNAM)
