"""`truc db`: the ledger's tables."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.output import Exit, fail, print_json, reporting, say

if TYPE_CHECKING:
    from hub.store.migrations.revisions import SchemaStatus

app = typer.Typer(no_args_is_help=True, help="Bảng của sổ cái: nâng cấp, trạng thái.")

OwnerUrl = Annotated[
    str | None,
    typer.Option(
        "--owner-url",
        envvar="TRUC_DATABASE_OWNER_URL",
        help="Database URL of the tables' owner; by default TRUC_DATABASE_URL.",
    ),
]


@app.command()
def upgrade(owner_url: OwnerUrl = None) -> None:
    """Bring the tables to the revision of this version; does nothing when they are there."""
    from hub.settings import load_settings
    from hub.store.migrations.runner import upgrade as apply

    with reporting():
        url = owner_url or load_settings().database_url.get_secret_value()
        applied = asyncio.run(apply(url))
    say(f"Đã nâng cấp: {', '.join(applied)}" if applied else "Sổ cái đã ở phiên bản mới nhất.")


@app.command()
def status(
    owner_url: OwnerUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show at which revision the tables are; exits 1 when they need an upgrade."""
    from hub.settings import load_settings
    from hub.store.migrations.runner import status as ask

    with reporting():
        url = owner_url or load_settings().database_url.get_secret_value()
        found = asyncio.run(ask(url))
    if as_json:
        print_json({"version": 1, "current": found.is_current} | asdict(found))
    else:
        _show(found)
    if not found.is_current:
        raise fail(Exit.NEGATIVE, _fix(found))


def _show(found: "SchemaStatus") -> None:
    print(f"Đã có: {', '.join(found.applied) or '—'}")
    for name, revisions in (
        ("Còn thiếu", found.pending),
        ("Đã bị sửa sau khi nâng cấp", found.changed),
        ("Phiên bản này không biết", found.unknown),
    ):
        if revisions:
            print(f"{name}: {', '.join(revisions)}")


def _fix(found: "SchemaStatus") -> str:
    if found.unknown or found.changed:
        return "install the version of the hub that these tables belong to"
    return "run `truc db upgrade`"
