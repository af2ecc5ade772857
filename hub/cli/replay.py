"""`truc replay`: sends a frozen selection of dead letters again, in the hub, watched, and on the record."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from hub.cli.asking import Actor, AsJson, Filters, Reason, actor_of, now, said, selection_of, with_pool
from hub.cli.output import Exit, fail, print_json, reporting, say

if TYPE_CHECKING:
    from hub.core.replay import ReplayPace
    from hub.settings import Settings
    from hub.store.pool import Pool
    from hub.store.replay_orders import ReplayView
    from schemas.addresses import Tier
    from schemas.checks.directory import Directory
    from schemas.identifiers import AgencyCode, DeliveryId

app = typer.Typer(no_args_is_help=True, help="Gửi lại: lập danh sách đã chốt, thử một, gửi theo nhịp, theo dõi.")

Number = Annotated[int, typer.Argument(metavar="REPLAY", help="Number of the replay.")]


class ModeName(StrEnum):
    """How a replay goes."""

    ONE = "one"
    RATE = "rate"
    ALL = "all"


@app.command()
def plan(filters: Filters = None, by: Actor = None, as_json: AsJson = False) -> None:
    """Freeze a selection, count it, leave out what must not be sent; nothing is sent yet."""
    from hub.store import replay_orders

    selection, actor, moment = selection_of(filters), actor_of(by), now()
    with reporting():
        settings = _settings()

    async def work(pool: "Pool") -> "ReplayView | None":
        from hub.core import replay
        from hub.core.delivery import Due
        from hub.core.submission import Submission
        from hub.replay import rehearse_all
        from schemas.refusal import Problem

        directory, policy = await _directory(pool), settings.policy()

        def rehearse(candidates: Sequence[Due | Submission]) -> list[Problem | None]:
            return rehearse_all(candidates, directory, policy, moment)

        def needs_second(recipients: "Collection[AgencyCode]", size: int) -> bool:
            return replay.needs_second_person(recipients, size, directory, settings.replay_second_person_above)

        number = await replay_orders.plan(
            pool,
            selection,
            rehearse=rehearse,
            needs_second=needs_second,
            actor=actor,
            now=moment,
        )
        return await replay_orders.view(pool, number)

    _print(with_pool(work), as_json=as_json)


@app.command()
def start(
    replay_id: Number,
    *,
    reason: Reason,
    mode: Annotated[ModeName, typer.Option(help="One and no more; so many a minute; or as fast as it goes.")],
    rate: Annotated[str | None, typer.Option(help="For --mode rate, such as 60/min.")] = None,
    per_recipient: Annotated[str | None, typer.Option(help="The same for one recipient.")] = None,
    by: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Let the hub begin, or go on at another pace. It stops by itself when more than 20 % of twenty fail again."""
    from hub.store import replay_orders

    with reporting():
        pace = _pace(mode, rate, per_recipient, _settings())
    why, actor = said(reason), actor_of(by)
    _order(
        replay_id, lambda pool: replay_orders.start(pool, replay_id, pace, why, actor=actor, now=now()), as_json=as_json
    )


@app.command()
def confirm(replay_id: Number, by: Actor = None, as_json: AsJson = False) -> None:
    """Confirm a replay as the second person."""
    from hub.store import replay_orders

    actor = actor_of(by)
    _order(replay_id, lambda pool: replay_orders.confirm(pool, replay_id, actor=actor, now=now()), as_json=as_json)


@app.command()
def pause(replay_id: Number, by: Actor = None, as_json: AsJson = False) -> None:
    """Release nothing more until `resume`."""
    from hub.store import replay_orders

    actor = actor_of(by)
    _order(replay_id, lambda pool: replay_orders.pause(pool, replay_id, actor=actor, now=now()), as_json=as_json)


@app.command()
def resume(replay_id: Number, by: Actor = None, as_json: AsJson = False) -> None:
    """Go on with a replay that is paused or has stopped; the next twenty are watched anew."""
    from hub.store import replay_orders

    actor = actor_of(by)
    _order(replay_id, lambda pool: replay_orders.resume(pool, replay_id, actor=actor, now=now()), as_json=as_json)


@app.command()
def cancel(replay_id: Number, by: Actor = None, as_json: AsJson = False) -> None:
    """Cancel the rest: what is released goes on, the others stay dead letters."""
    from hub.store import replay_orders

    actor = actor_of(by)
    _order(replay_id, lambda pool: replay_orders.cancel(pool, replay_id, actor=actor, now=now()), as_json=as_json)


@app.command()
def status(
    replay_id: Annotated[int | None, typer.Argument(metavar="[REPLAY]", help="Without it, the newest ones.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a replay is, and what became of its items."""
    from hub.store import replay_orders

    if replay_id is not None:
        _print(with_pool(lambda pool: replay_orders.view(pool, replay_id)), as_json=as_json)
        return
    views = with_pool(replay_orders.latest)
    if as_json:
        print_json({"version": 1, "replays": [asdict(each) for each in views]})
        return
    for each in views:
        _show(each)
    if not views:
        say("Chưa có lần gửi lại nào.")


@app.command()
def failed(
    replay_id: Number,
    everything: Annotated[bool, typer.Option("--all", help="All items, whatever became of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the items that did not arrive."""
    from hub.store import replay_orders

    outcomes = None if everything else replay_orders.FAILED
    found = with_pool(lambda pool: replay_orders.items(pool, replay_id, outcomes=outcomes))
    if as_json:
        print_json({"version": 1, "items": [asdict(item) for item in found]})
        return
    for item in found:
        print(f"{item.letter_id}  {item.agency or '—'}  {item.outcome or '—'}  {item.because or ''}")


@app.command()
def redirect(
    *,
    reason: Reason,
    deliveries: Annotated[list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="Ids.")] = None,
    agency: Annotated[str | None, typer.Option("--from", help="All that is owed to this merged agency.")] = None,
    to: Annotated[str | None, typer.Option(help="Which successor, where there are several.")] = None,
    by: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Send documents for an agency that was merged away to its successor; the signed content stays as it is."""
    from hub.store import replay_orders

    if bool(deliveries) == bool(agency):
        raise typer.BadParameter("name deliveries, or --from an agency")
    ids, why, actor = [_delivery_id(text) for text in deliveries or []], said(reason), actor_of(by)

    async def work(pool: "Pool") -> list[replay_orders.Redirected]:
        from schemas.identifiers import AgencyCode

        found = await replay_orders.deliveries(pool, ids)
        if agency is not None:
            found = await replay_orders.undelivered_to(pool, AgencyCode(agency))
        directory = await _directory(pool)
        heirs = [(each.delivery_id, *_heir(each.recipient, to, directory)) for each in found]
        return await replay_orders.redirect(pool, heirs, reason=why, actor=actor, now=now())

    done = with_pool(work)
    if as_json:
        print_json({"version": 1, "redirected": [asdict(item) for item in done]})
    elif done:
        for item in done:
            print(f"{item.delivery_id}  {item.recipient} → {item.successor}  {item.new_delivery_id}")
    if not done:
        raise fail(Exit.NOT_FOUND, "there is no delivery to be redirected")


@app.command("catch-up")
def catch_up(
    agency: Annotated[str, typer.Argument(help="The agency that has lost what it had.")],
    *,
    since: Annotated[str, typer.Option(help="Since when, such as 2026-11-23, 2026-11-23T09:05 or 7d.")],
    reason: Reason,
    rate: Annotated[str | None, typer.Option(help="Such as 600/min.")] = None,
    by: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Hand out again all that an agency has had since a moment; its deliveries stay received."""
    from hub.core.selection import read_moment
    from hub.store import replay_orders
    from schemas.identifiers import AgencyCode

    try:
        moment = read_moment(since, now())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with reporting():
        per_minute = _rate(rate, _settings().replay_catch_up_per_minute)
    why, actor = said(reason), actor_of(by)

    async def work(pool: "Pool") -> "ReplayView | None":
        number = await replay_orders.catch_up(
            pool, AgencyCode(agency), moment, per_minute=per_minute, reason=why, actor=actor, now=now()
        )
        return await replay_orders.view(pool, number)

    _print(with_pool(work), as_json=as_json)


def _order(replay_id: int, order: "Callable[[Pool], Awaitable[object]]", *, as_json: bool) -> None:
    """Carry an order out and show what stands then."""

    async def work(pool: "Pool") -> "ReplayView | None":
        from hub.store import replay_orders

        await order(pool)
        return await replay_orders.view(pool, replay_id)

    _print(with_pool(work), as_json=as_json)


def _settings() -> "Settings":
    from hub.settings import load_settings

    return load_settings()


async def _directory(pool: "Pool") -> "Directory":
    from hub.store.directory import DirectoryStore
    from schemas.checks.directory import snapshot

    epoch, held = await DirectoryStore(pool).read()
    return snapshot(held, epoch=epoch, as_of=now())


def _pace(mode: ModeName, rate: str | None, per_recipient: str | None, settings: "Settings") -> "ReplayPace":
    from hub.core.replay import ReplayPace

    if mode is not ModeName.RATE and (rate or per_recipient):
        raise typer.BadParameter("--rate and --per-recipient belong to --mode rate")
    per_minute = _rate(rate, settings.replay_per_minute)
    return ReplayPace(mode.value, per_minute, min(_rate(per_recipient, settings.replay_per_recipient), per_minute))


def _rate(text: str | None, default: int) -> int:
    if text is None:
        return default
    match = re.fullmatch(r"([1-9][0-9]{0,5})(?:/min)?", text)
    if match is None:
        raise typer.BadParameter(f"{text}: no rate such as 60/min")
    return int(match[1])


def _delivery_id(text: str) -> "DeliveryId":
    from schemas.identifiers import DeliveryId

    try:
        return DeliveryId(UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: no delivery id") from error


def _heir(recipient: "AgencyCode", to: str | None, directory: "Directory") -> "tuple[AgencyCode, Tier]":
    from hub.core.replay import heirs_of
    from hub.core.trouble import Conflict

    heirs = heirs_of(recipient, directory)
    chosen = [heir for heir in heirs if to in (None, heir)]
    if not heirs:
        raise Conflict(f"{recipient} is not closed, or the directory names no open successor")
    if len(chosen) != 1:
        raise Conflict(f"{recipient} has the successors {', '.join(heirs)}: choose one with --to")
    return chosen[0], directory.agencies[chosen[0]].tier


def _print(view: "ReplayView | None", *, as_json: bool) -> None:
    if view is None:
        raise fail(Exit.NOT_FOUND, "there is no replay of this number")
    if as_json:
        print_json({"version": 1} | asdict(view))
        return
    _show(view)


_STATES_VI = {
    "planned": "đã lập danh sách, chưa gửi",
    "awaiting-second": "chờ người thứ hai xác nhận",
    "running": "đang chạy",
    "paused": "tạm dừng",
    "stopped": "tự dừng",
    "cancelled": "đã hủy phần còn lại",
    "done": "xong",
}
_OUTCOMES_VI = {
    "waiting": "chờ gửi lại",
    "in-hand": "đã gửi lại, chờ kết quả",
    "excluded": "loại khỏi danh sách",
    "skipped": "bỏ qua lúc gửi",
    "cancelled": "không gửi vì đã hủy",
    "received": "đơn vị đã nhận",
    "dead": "lại không chuyển được",
    "expired": "hết hạn chuyển",
    "accepted": "trục đã nhận",
    "refused": "trục từ chối, bên gửi đã được báo",
    "parked": "vẫn để riêng",
    "handed-out": "đã đưa lại vào hàng đợi",
}


def _show(view: "ReplayView") -> None:
    from hub.core.diagnosis import clock_time

    said_why = f" ({view.said})" if view.said else ""
    print(f"Gửi lại {view.replay_id}: {_STATES_VI[view.state]}{said_why}")
    if view.state == "planned":
        print(f"  Sẽ gửi lại {view.size} mục tới {view.recipient_count} đơn vị; đơn vị đã nhận sẽ không bị trùng.")
    print(f"  Người lập: {view.planned_by} {clock_time(view.planned_at)}; lý do: {view.reason or '—'}")
    if view.needs_second:
        print(f"  Cần người thứ hai xác nhận: {view.confirmed_by or 'chưa có'}")
    for outcome, count in view.outcomes.items():
        print(f"  {count:>9}  {_OUTCOMES_VI[outcome]}")
    for because, count in view.reasons.items():
        print(f"  {count:>9}  lý do bỏ: {because}")
    for recipient in view.recipients:
        silent = "  CHƯA THẤY HOẠT ĐỘNG LẠI" if recipient.silent and view.purpose == "dead-letters" else ""
        print(f"  {recipient.count:>9}  {recipient.agency or '—'}{silent}")
