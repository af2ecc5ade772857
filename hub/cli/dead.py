"""`truc dead`: deliveries that could not be made and submissions that were put aside; each needs a person."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import ACTS_VI, Exit, fail, print_json, reporting, say

if TYPE_CHECKING:
    from hub.store.dead_letters import DeadLetter, OpenedLetter

app = typer.Typer(no_args_is_help=True, help="Văn bản không chuyển được và lượt gửi để riêng: xem, mở.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_letters(
    agency: Annotated[str | None, typer.Option(help="Only this recipient, or this broker user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what needs a person, the newest first."""
    with reporting():
        letters = asyncio.run(_list(agency, limit))
    if as_json:
        print_json({"version": 1, "dead": [asdict(letter) for letter in letters]})
        return
    if not letters:
        say("Không có văn bản nào cần người xử lý.")
        return
    _show_list(letters)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(help="Id of the delivery, or of the parked submission, from the list.")],
    as_json: AsJson = False,
    body: Annotated[
        bool, typer.Option("--body", help="Write the bytes that were kept to stdout, nothing else.")
    ] = False,
) -> None:
    """Open one: why, who must act, what happened."""
    with reporting():
        opened = asyncio.run(_open(letter_id))
    if opened is None:
        raise fail(Exit.NOT_FOUND, f"no dead delivery and no parked submission has the id {letter_id}")
    if body:
        import sys

        sys.stdout.buffer.write(opened.body)
    elif as_json:
        print_json({"version": 1} | asdict(opened))
    else:
        _show_one(opened)


async def _list(agency: str | None, limit: int) -> "list[DeadLetter]":
    from hub.settings import load_settings
    from hub.store.dead_letters import list_dead
    from hub.store.pool import open_pool
    from schemas.identifiers import AgencyCode

    async with open_pool(load_settings().database_url.get_secret_value()) as pool:
        return await list_dead(pool, limit, agency=AgencyCode(agency) if agency else None)


async def _open(letter_id: str) -> "OpenedLetter | None":
    from hub.settings import load_settings
    from hub.store.dead_letters import show as open_letter
    from hub.store.pool import open_pool

    async with open_pool(load_settings().database_url.get_secret_value()) as pool:
        return await open_letter(pool, letter_id)


def _show_list(letters: "list[DeadLetter]") -> None:
    """Print each as a paragraph: in a table, a terminal of 80 columns would cut the ids that `show` wants."""
    from hub.core.diagnosis import clock_time
    from schemas.refusal import CATALOGUE

    for letter in letters:
        code = CATALOGUE[letter.code]
        kind = "lượt chuyển" if letter.kind == "delivery" else "lượt gửi"
        print(f"{letter.id}")
        print(f"  {letter.code}  {kind}  {letter.agency or '—'}  {clock_time(letter.since)}  {ACTS_VI[code.acts]}")
        print(f"  {letter.reason or code.vi}")


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
    print(f"  Nội dung:   {opened.body_length} byte (xem: truc dead show {letter.id} --body)")
    for event in opened.events:
        print(f"  {clock_time(event.at)}  {event.event}  {event.code or ''}  {event.actor}")
