"""`truc dead`: deliveries that could not be made and submissions that were put aside; each needs a person."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.asking import Actor, AsJson, Filters, Reason, actor_of, now, said, selection_of, with_pool
from hub.cli.output import ACTS_VI, Exit, fail, print_json, say

if TYPE_CHECKING:
    from hub.store.dead_letters import DeadGroup, DeadLetter, OpenedLetter

app = typer.Typer(no_args_is_help=True, help="Văn bản không chuyển được và lượt gửi để riêng: xem, ghi chú, đóng.")

About = Annotated[str, typer.Argument(help="Id of a letter, or a group such as E807@H26.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]


@app.command("list")
def list_letters(filters: Filters = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List what needs a person, the newest first."""
    from hub.store.dead_letters import list_dead

    selection = selection_of(filters)
    letters = with_pool(lambda pool: list_dead(pool, selection, limit))
    if as_json:
        print_json({"version": 2, "dead": [asdict(letter) for letter in letters]})
        return
    if not letters:
        say("Không có văn bản nào cần người xử lý.")
        return
    _show_list(letters)


@app.command()
def groups(filters: Filters = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Group what needs a person by code and agency, the largest group first."""
    from hub.store.dead_letters import group_dead

    selection = selection_of(filters)
    found = with_pool(lambda pool: group_dead(pool, selection, limit))
    if as_json:
        print_json({"version": 1, "groups": [asdict(group) for group in found]})
        return
    if not found:
        say("Không có văn bản nào cần người xử lý.")
        return
    _show_groups(found)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(help="Id of the delivery, or of the parked submission, from the list.")],
    as_json: AsJson = False,
    body: Annotated[
        bool, typer.Option("--body", help="Write the bytes that were kept to stdout, nothing else.")
    ] = False,
) -> None:
    """Open one: why, who must act, what happened, what people wrote, in which replays it was."""
    from hub.store.dead_letters import show as open_letter

    opened = with_pool(lambda pool: open_letter(pool, letter_id))
    if opened is None:
        raise fail(Exit.NOT_FOUND, f"no dead delivery and no parked submission has the id {letter_id}")
    if body and opened.archived is not None:
        raise fail(Exit.NOT_FOUND, f"archived: the bytes are in {opened.archived}")
    if body:
        import sys

        sys.stdout.buffer.write(opened.body)
    elif as_json:
        print_json({"version": 2} | asdict(opened))
    else:
        _show_one(opened)


@app.command()
def note(about: About, text: Annotated[str, typer.Argument(help="What to write down.")], by: Actor = None) -> None:
    """Write a note about a letter or a group."""
    from hub.store.dead_letters import note as write

    actor, written = actor_of(by), said(text)
    if not with_pool(lambda pool: write(pool, about, written, actor=actor, now=now())):
        raise fail(Exit.NOT_FOUND, f"there is no dead letter and no group {about}")


@app.command()
def assign(about: About, assignee: Annotated[str, typer.Argument(help="Who.")], by: Actor = None) -> None:
    """Say who looks after a letter or a group."""
    from hub.store.dead_letters import assign as write

    actor, who = actor_of(by), said(assignee)
    if not with_pool(lambda pool: write(pool, about, who, actor=actor, now=now())):
        raise fail(Exit.NOT_FOUND, f"there is no dead letter and no group {about}")


@app.command()
def dismiss(
    reason: Reason,
    filters: Filters = None,
    by: Actor = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Close letters without sending them again; `restore` brings them back."""
    _move(filters, reason, by, yes=yes, back=False)


@app.command()
def restore(
    reason: Reason,
    filters: Filters = None,
    by: Actor = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put dismissed letters back onto the list."""
    _move(filters, reason, by, yes=yes, back=True)


def _move(filters: list[str] | None, reason: str, by: str | None, *, yes: bool, back: bool) -> None:
    """Count what is selected, ask, and move exactly what was there when it was counted."""
    from dataclasses import replace

    from hub.store import dead_letters

    selection = replace(selection_of(filters), standing="dismissed" if back else "open")
    if selection.takes_everything:
        raise typer.BadParameter("say which: nothing is closed or restored without a filter")
    why, actor, counted_at = said(reason), actor_of(by), now()
    frozen = replace(selection, until=min(counted_at, selection.until or counted_at))
    count = with_pool(lambda pool: dead_letters.count_dead(pool, frozen))
    if not count:
        raise fail(Exit.NOT_FOUND, "no letter is selected")
    question = f"Mở lại {count} mục đã đóng?" if back else f"Đóng {count} mục mà không gửi lại?"
    if not yes and not typer.confirm(question, err=True):
        raise fail(Exit.NEGATIVE, "nothing was changed")
    move = dead_letters.restore if back else dead_letters.dismiss
    moved = with_pool(lambda pool: move(pool, frozen, why, actor=actor, now=counted_at))
    say(f"Đã mở lại {moved} mục." if back else f"Đã đóng {moved} mục.")


def _show_list(letters: "list[DeadLetter]") -> None:
    """Print each as a paragraph: in a table, a terminal of 80 columns would cut the ids that `show` wants."""
    from hub.core.diagnosis import clock_time
    from schemas.refusal import CATALOGUE

    for letter in letters:
        code = CATALOGUE[letter.code]
        kind = "lượt chuyển" if letter.kind == "delivery" else "lượt gửi"
        print(f"{letter.id}")
        print(f"  {letter.code}  {kind}  {letter.agency or '—'}  {clock_time(letter.since)}  {ACTS_VI[letter.side]}")
        print(f"  {letter.reason or code.vi}")


def _show_groups(found: "list[DeadGroup]") -> None:
    from hub.core.diagnosis import clock_time
    from schemas.refusal import CATALOGUE

    for group in found:
        looks_after = f"  phụ trách: {group.assignee}" if group.assignee else ""
        notes = f"  ghi chú: {group.notes}" if group.notes else ""
        print(f"{group.count:>9}  {group.name}  {ACTS_VI[group.side]}{looks_after}{notes}")
        print(f"{'':>9}  {clock_time(group.first_seen)} – {clock_time(group.last_seen)}  {CATALOGUE[group.code].vi}")


def _show_one(opened: "OpenedLetter") -> None:
    from hub.core.diagnosis import clock_time
    from schemas.refusal import CATALOGUE

    letter = opened.letter
    code = CATALOGUE[letter.code]
    print(f"{letter.code}  {code.vi}")
    print(f"  Tìm thấy:   {letter.reason or '—'}")
    print(f"  Ai xử lý:   {ACTS_VI[code.acts]}")
    print(f"  Cách sửa:   {code.fix_vi}")
    print(f"  Đơn vị:     {letter.agency or '—'}")
    print(f"  Văn bản:    {letter.document_id}")
    print(f"  Tình trạng: {_STATES_VI[letter.state]}; phụ trách: {letter.assignee or '—'}")
    if opened.archived is not None:
        print(f"  Nội dung:   đã lưu trữ ở {opened.archived}")
    else:
        print(f"  Nội dung:   {opened.body_length} byte (xem: truc dead show {letter.id} --body)")
    for event in opened.events:
        print(f"  {clock_time(event.at)}  {event.event}  {event.code or ''}  {event.actor}")
    for written in opened.notes:
        print(f"  {clock_time(written.at)}  ghi chú của {written.actor}: {written.text}")
    for item in opened.replays:
        print(f"  gửi lại {item.replay_id}: {item.outcome or 'chưa có kết quả'} {item.because or ''}")


_STATES_VI = {"open": "đang mở", "dismissed": "đã đóng sự cố", "closed": "không còn cần xử lý"}
