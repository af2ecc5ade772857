"""`truc archive`: moves the bytes and the events of old months out of the ledger, into files."""

import asyncio
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.asking import Actor, AsJson, Reason, actor_of, now, said, with_pool
from hub.cli.database import OwnerUrl
from hub.cli.output import Exit, fail, print_json, reporting, say

if TYPE_CHECKING:
    from hub.store.archive import Archive
    from hub.store.archive_file import Finding, Manifest
    from hub.store.archive_plan import Hindrance, MonthPlan
    from hub.store.pool import Pool

app = typer.Typer(
    no_args_is_help=True,
    help="Lưu trữ tháng cũ: nội dung và diễn biến ra tệp; ai gửi gì cho ai và kết quả vẫn ở sổ cái.",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-11.")]

_HINDRANCES_VI = {
    "not-over": "tháng chưa hết",
    "earlier-month": "còn tháng trước chưa lưu trữ",
    "unfinished": "lượt chuyển chưa kết thúc",
    "alive": "lượt chuyển chưa hết thời hạn",
    "dead-letters": "mục chưa xử lý (truc dead list)",
    "replays": "có mục trong đợt gửi lại chưa xong",
}
_STAGES_VI = {
    "exporting": "Đang ghi tệp …",
    "checking": "Đang đọc lại và đối chiếu tệp …",
    "dropping": "Đang gỡ tháng khỏi sổ cái …",
}
_FAULTS_VI = {
    "manifest": "không có bản kê đọc được",
    "missing": "không có tệp",
    "unreadable": "không đọc được",
    "bytes": "sai độ dài",
    "sha256": "sai mã băm của tệp",
    "rows": "sai số dòng",
    "content": "sai mã băm của nội dung",
    "identity": "nội dung không khớp mã định danh",
    "events": "sai khoảng số thứ tự diễn biến",
}


@app.command()
def plan(
    month: Annotated[str | None, typer.Argument(metavar="[MONTH]", help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the months with their size, those that may be archived, and why the others may not."""
    from hub.store.archive import archives
    from hub.store.archive_plan import months

    only = _month(month) if month is not None else None

    async def ask(pool: "Pool") -> "tuple[list[MonthPlan], list[Archive]]":
        gone = [each for each in await archives(pool) if only is None or each.month == f"{only:%Y-%m}"]
        return await months(pool, now(), only), gone

    there, gone = with_pool(ask)
    if only is not None and not there and not gone:
        raise fail(Exit.NOT_FOUND, f"there is no month {month} in the ledger and in no archive")
    if as_json:
        print_json(
            {
                "version": 1,
                "months": [asdict(each) for each in there],
                "archives": [_archive_as_json(each) for each in gone],
            }
        )
        return
    for archive in gone:
        print(f"{archive.month}  đã lưu trữ  {archive.file}  {archive.actor}: {archive.reason}")
    for each in there:
        ready = "lưu trữ được" if not each.hindrances else "chưa lưu trữ được"
        print(f"{each.month}  {each.bytes / 2**20:,.0f} MiB  {ready}")
        for hindrance in each.hindrances:
            print(f"  {_hindrance_line(hindrance)}")


@app.command()
def run(
    month: Month,
    *,
    into: Annotated[
        Path, typer.Option("--into", help="Folder for the file and its manifest.", file_okay=False, exists=True)
    ],
    reason: Reason,
    by: Actor = None,
    owner_url: OwnerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Archive a month: write its file, read it back, and only then drop the month. Interrupted, run it again."""
    from hub.settings import load_settings
    from hub.store.archive import Hindered, archive

    day, why, actor = _month(month), said(reason), actor_of(by)
    with reporting():
        url = owner_url or load_settings().database_url.get_secret_value()
        try:
            done = asyncio.run(
                archive(url, day, into, reason=why, actor=actor, now=now(), tell=lambda stage: say(_STAGES_VI[stage]))
            )
        except Hindered as hindered:
            for hindrance in hindered.hindrances:
                say(f"  {_hindrance_line(hindrance)}")
            raise
    if as_json:
        print_json({"version": 1} | _archive_as_json(done))
        return
    rows = {table: content.rows for table, content in done.manifest.tables.items()}
    say(f"Đã lưu trữ {done.month}: {rows['signed_objects']} nội dung, {rows['ledger']} diễn biến, ở {done.file}")
    say(f"SHA-256 {done.sha256}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file, or its manifest; both must lie in one folder.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Read a file and compare it with its manifest, without any database. Exits 1 when something is wrong."""
    from hub.store.archive_file import Finding, read_manifest
    from hub.store.archive_file import check as compare

    manifest = read_manifest(file)
    findings = [Finding("manifest", str(file))] if manifest is None else compare(file.parent, manifest)
    if as_json:
        print_json({"version": 1, "sound": not findings, "findings": [asdict(each) for each in findings]})
    else:
        _show_check(manifest, findings)
    if findings:
        raise typer.Exit(Exit.NEGATIVE)


def _show_check(manifest: "Manifest | None", findings: "list[Finding]") -> None:
    if manifest is not None:
        rows = {table: content.rows for table, content in manifest.tables.items()}
        print(
            f"{manifest.month}: {rows['signed_objects']} nội dung, {rows['ledger']} diễn biến, {manifest.documents} văn bản"
        )
    for each in findings:
        print(f"SAI {each.fault}: {_FAULTS_VI[each.fault]}: {each.about}")
    if not findings:
        print("Tệp khớp với bản kê.")


def _archive_as_json(archive: "Archive") -> dict[str, Any]:
    return asdict(archive) | {"manifest": archive.manifest.model_dump(mode="json")}


def _hindrance_line(hindrance: "Hindrance") -> str:
    more = ", …" if hindrance.count > len(hindrance.ids) else ""
    return f"{hindrance.code}: {_HINDRANCES_VI[hindrance.code]}: {hindrance.count} ({', '.join(hindrance.ids)}{more})"


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month, of no zone
    except ValueError as error:
        raise typer.BadParameter(f"{text}: no month such as 2026-11") from error
