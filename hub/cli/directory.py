"""`truc directory`: who the agencies, platforms, mandates and certificates are.

An import always shows what it would change first, and refuses what `check` calls an error; importing the same file
again is nothing to do.
"""

import asyncio
import getpass
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from hub.cli.output import TIERS_VI, Exit, agreed, fail, print_json, reporting, say

if TYPE_CHECKING:
    from cryptography import x509

    from hub.core.directory_change import Changes
    from hub.core.directory_check import Finding
    from hub.store.directory import DirectoryStore
    from schemas.checks.directory import Directory
    from schemas.directory_file import DirectoryFile
    from schemas.signing import KeyRecord

app = typer.Typer(no_args_is_help=True, help="Danh mục: đơn vị, nền tảng, ủy quyền, chứng thư. The directory, by date.")

T = TypeVar("T")

MAX_ROWS: Final = 40
KINDS: Final = {
    "agencies": "Đơn vị",
    "platforms": "Nền tảng",
    "mandates": "Ủy quyền",
    "certificates": "Chứng thư",
}
STATE_VI: Final = {"open": "hoạt động", "suspended": "tạm dừng", "closed": "đã đóng"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Anchors = Annotated[
    Path | None, typer.Option("--anchors", help="Certificates of trusted authorities (PEM); chains are checked then.")
]


class Size(StrEnum):
    """How large a generated directory is."""

    DEMO = "demo"
    COUNTRY = "country"


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A directory file, whole or in part.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    anchors: Anchors = None,
    as_json: AsJson = False,
) -> None:
    """Enter the entries of a file; what the file does not name stays. Exits 1 on errors, with nothing entered."""
    from hub.core.directory_change import diff, merged
    from hub.core.directory_check import check, check_repeats

    wanted, trusted = _read(file), _read_anchors(anchors)
    with reporting():
        seen, held = _with_store(lambda store: store.read())
        epoch, changes = seen, diff(held, wanted)
        findings = check_repeats(wanted)
        if changes:
            findings += check(merged(held, changes), now=_now(), anchors=trusted)
        refused = _has_errors(findings)
        if not as_json:
            _show_changes(changes)
            _show_findings(findings)
        applied = bool(changes) and not refused and not dry_run and (yes or agreed("Nhập các thay đổi này?"))
        if applied:
            actor, now = getpass.getuser(), _now()
            epoch = _with_store(
                lambda store: store.apply(changes, actor=actor, source=file.name, now=now, expected_epoch=seen)
            )
            say(f"Đã nhập; danh mục ở phiên bản {epoch}.")
    if as_json:
        print_json({"version": 1, "epoch": epoch, "applied": applied, **_counts(changes), "findings": _plain(findings)})
    if refused:
        raise fail(Exit.NEGATIVE, "nothing was imported: the directory would have errors")
    if changes and not applied and not dry_run:
        raise fail(Exit.NEGATIVE, "nothing was imported")


@app.command()
def show(
    code: Annotated[str | None, typer.Argument(help="Code of an agency or platform; without it, the numbers.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Day, YYYY-MM-DD; by default now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the directory, or one agency or platform, as it is on a day."""
    from schemas.checks.directory import snapshot

    as_of = _moment(at)
    with reporting():
        epoch, held = _with_store(lambda store: store.read())
    directory = snapshot(held, epoch=epoch, as_of=as_of)
    if code is None:
        numbers = _numbers(directory)
        if as_json:
            print_json(numbers)
        else:
            _show_numbers(numbers)
        return
    found = _describe(directory, held, code)
    if found is None:
        raise fail(Exit.NOT_FOUND, f"the directory has no agency or platform {code}")
    if as_json:
        print_json(found)
    else:
        _show_one(found)


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A directory file; by default what the hub holds.")] = None,
    anchors: Anchors = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with a directory; exits 1 when there are errors."""
    from hub.core.directory_check import check as find

    trusted = _read_anchors(anchors)
    with reporting():
        directory = _read(file) if file else _with_store(lambda store: store.read())[1]
    findings = find(directory, now=_now(), anchors=trusted)
    if as_json:
        print_json({"version": 1, "findings": _plain(findings)})
    else:
        _show_findings(findings)
        if not findings:
            say("Danh mục không có lỗi.")
    if _has_errors(findings):
        raise typer.Exit(Exit.NEGATIVE)


@app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="File to write; - is the standard output.")],
    size: Annotated[Size, typer.Option(help="A small country to try things in, or one of the real size.")] = Size.DEMO,
    seed: Annotated[int, typer.Option(help="The same seed gives the same country.")] = 0,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Folder for development keys of all endpoints and the hub.")
    ] = None,
) -> None:
    """Make up a directory for trials: the real first level, with plausible departments and communes below it."""
    from hub.dev.country import country, demo_country, shipped
    from hub.dev.pki import equip
    from schemas.checks.directory import endpoints_of, snapshot

    directory = demo_country(seed) if size is Size.DEMO else country(shipped(), seed=seed)
    if keys is not None:
        now = _now()
        say(f"Khóa và chứng thư trong {keys} CHỈ DÙNG ĐỂ THỬ NGHIỆM, không dùng để ký văn bản thật.")
        owners = ["hub", *endpoints_of(snapshot(directory, epoch=0, as_of=now))]
        try:
            directory = equip(directory, owners, keys, now)
        except OSError as error:
            raise fail(Exit.USAGE, f"{error.filename or keys}: {error.strerror}") from error
    _write(out, directory)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write; - is the standard output.")],
) -> None:
    """Write the whole directory to a file, such as agencies get to verify what they receive."""
    with reporting():
        _, held = _with_store(lambda store: store.read())
    _write(file, held)


def _with_store(work: "Callable[[DirectoryStore], Awaitable[T]]") -> T:
    from hub.settings import load_settings
    from hub.store.directory import DirectoryStore
    from hub.store.pool import open_pool

    async def run(url: str) -> T:
        async with open_pool(url) as pool:
            return await work(DirectoryStore(pool))

    return asyncio.run(run(load_settings().database_url.get_secret_value()))


def _now() -> datetime:
    return datetime.now(UTC)


def _moment(day: str | None) -> datetime:
    from schemas.directory_file import start_of

    if day is None:
        return _now()
    try:
        return start_of(date.fromisoformat(day).isoformat())
    except ValueError as error:
        raise fail(Exit.USAGE, f"--at {day}: not a day, write YYYY-MM-DD") from error


def _read(file: Path) -> "DirectoryFile":
    from schemas.directory_file import DirectoryFile
    from schemas.wire import read_payload

    directory = read_payload(DirectoryFile, _read_bytes(file))
    if isinstance(directory, DirectoryFile):
        return directory
    for problem in directory:
        say(f"{file}: {problem.pointer or '/'}: {problem.vi} ({problem.en})")
    raise fail(Exit.USAGE, f"{file} is not a directory file")


def _read_anchors(file: Path | None) -> "Sequence[x509.Certificate]":
    from cryptography import x509

    if file is None:
        return ()
    try:
        return x509.load_pem_x509_certificates(_read_bytes(file))
    except ValueError as error:
        raise fail(Exit.USAGE, f"{file}: no PEM certificates") from error


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise fail(Exit.USAGE, f"{file}: {error.strerror}") from error


def _write(file: Path, directory: "DirectoryFile") -> None:
    """Write one entry on each line, and replace the file as a whole: agencies may be reading it."""
    text = _as_text(directory)
    if str(file) == "-":
        sys.stdout.write(text)
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise fail(Exit.USAGE, f"{file}: {error.strerror}") from error
    say(f"Đã ghi {file}.")


def _as_text(directory: "DirectoryFile") -> str:
    members = ['  "directory": 1']
    for kind in KINDS:
        entries: Iterable[Any] = getattr(directory, kind)
        lines = ",\n".join(
            "    " + json.dumps(entry.model_dump(exclude_defaults=True), ensure_ascii=False) for entry in entries
        )
        members.append(f'  "{kind}": [\n{lines}\n  ]' if lines else f'  "{kind}": []')
    return "{\n" + ",\n".join(members) + "\n}\n"


def _has_errors(findings: "Sequence[Finding]") -> bool:
    return any(finding.level == "error" for finding in findings)


def _plain(findings: "Sequence[Finding]") -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]


def _counts(changes: "Changes") -> dict[str, Any]:
    return {
        "added": {kind: len(getattr(changes.added, kind)) for kind in KINDS},
        "changed": {kind: len(getattr(changes.changed, kind)) for kind in KINDS},
        "unchanged": changes.unchanged,
        "absent": changes.absent,
    }


def _show_changes(changes: "Changes") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not changes:
        console.print(f"Không có gì thay đổi ({changes.unchanged} mục như trong danh mục).", markup=False)
        return
    table = Table("", "Thêm", "Sửa")
    for kind, name in KINDS.items():
        table.add_row(name, str(len(getattr(changes.added, kind))), str(len(getattr(changes.changed, kind))))
    console.print(table)
    # What is changed comes first: of a whole country the new entries alone are far more than can be shown.
    lines = [
        edit
        for kind in KINDS
        for before, after in zip(getattr(changes.before, kind), getattr(changes.changed, kind), strict=True)
        for edit in _edits(before, after)
    ]
    lines += [f"+ {_entry(entry)}" for kind in KINDS for entry in getattr(changes.added, kind)]
    for line in lines[:MAX_ROWS]:
        console.print(line, markup=False, soft_wrap=True)
    _say_rest(lines)
    console.print(f"Giữ nguyên {changes.unchanged} mục; {changes.absent} mục không có trong tệp vẫn giữ lại.")


def _entry(entry: Any) -> str:
    members = entry.model_dump(exclude_defaults=True, exclude={"pem"})
    return ", ".join(f"{key}: {value}" for key, value in members.items())


def _edits(before: Any, after: Any) -> list[str]:
    old, new = before.model_dump(), after.model_dump()
    name = next(str(old[key]) for key in ("code", "agency", "owner") if key in old)
    return [f"{name}: {key}: {old[key]} → {new[key]}" for key in old if old[key] != new[key] and key != "pem"]


def _show_findings(findings: "Sequence[Finding]") -> None:
    from rich.console import Console
    from rich.table import Table

    if not findings:
        return
    table = Table("Mức", "Chỗ", "Mã", "Nội dung")
    worst_first = sorted(findings, key=lambda finding: finding.level != "error")
    for finding in worst_first[:MAX_ROWS]:
        table.add_row("lỗi" if finding.level == "error" else "lưu ý", finding.place, finding.code, finding.vi)
    Console(highlight=False, markup=False).print(table)
    _say_rest(findings)


def _say_rest(rows: Sequence[object]) -> None:
    if len(rows) > MAX_ROWS:
        say(f"… và {len(rows) - MAX_ROWS} dòng nữa; dùng --json để xem tất cả.")


def _numbers(directory: "Directory") -> dict[str, Any]:
    from schemas.checks.directory import endpoints_of

    agencies = directory.agencies.values()
    known: Counter[str] = Counter(agency.tier for agency in agencies if agency.state != "closed")
    connected: Counter[str] = Counter(
        agency.tier for agency in agencies if agency.state != "closed" and agency.endpoint
    )
    closed: Counter[str] = Counter(agency.tier for agency in agencies if agency.state == "closed")
    return {
        "version": 1,
        "epoch": directory.epoch,
        "as_of": directory.as_of,
        "tiers": {
            tier: {"agencies": known[tier], "connected": connected[tier], "closed": closed[tier]} for tier in TIERS_VI
        },
        "endpoints": len(endpoints_of(directory)),
        "platforms": len(directory.platforms),
        "mandates": len(directory.mandates),
        "certificates": len(directory.keys),
    }


def _show_numbers(numbers: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Cấp", "Đơn vị", "Đã kết nối", "Đã đóng", title=f"Danh mục, phiên bản {numbers['epoch']}")
    for tier, counts in numbers["tiers"].items():
        table.add_row(TIERS_VI[tier], *(str(count) for count in counts.values()))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{numbers['endpoints']} điểm kết nối, {numbers['platforms']} nền tảng, {numbers['mandates']} ủy quyền, "
        f"{numbers['certificates']} chứng thư."
    )


def _describe(directory: "Directory", held: "DirectoryFile", code: str) -> dict[str, Any] | None:
    from schemas.identifiers import AgencyCode

    party = AgencyCode(code)
    agency = directory.agencies.get(party)
    history = [
        *(entry for entry in held.agencies if entry.code == code),
        *(entry for entry in held.platforms if entry.code == code),
    ]
    if not history:
        return None
    return {
        "version": 1,
        "code": code,
        "as_of": directory.as_of,
        "agency": asdict(agency) if agency else None,
        "platform": directory.platforms.get(party),
        "children": len(directory.children.get(party, ())),
        "mandates": [
            {"platform": platform, "agency": for_whom, "actions": sorted(actions)}
            for (platform, for_whom), actions in directory.mandates.items()
            if code in (platform, for_whom)
        ],
        "certificates": [_certificate(key) for key in directory.keys.values() if key.owner == code],
        "history": [entry.model_dump(exclude_defaults=True) for entry in history],
    }


def _certificate(key: "KeyRecord") -> dict[str, Any]:
    return {
        "fingerprint": key.fingerprint,
        "alg": key.alg,
        "not_before": datetime.fromtimestamp(key.not_before_s, UTC),
        "not_after": datetime.fromtimestamp(key.not_after_s, UTC),
        "revoked_at": None if key.revoked_at_s is None else datetime.fromtimestamp(key.revoked_at_s, UTC),
    }


def _show_one(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    agency = found["agency"]
    facts = Table(show_header=False)
    facts.add_row("Mã", found["code"])
    if agency:
        facts.add_row("Tên", agency["name"])
        facts.add_row("Cấp", TIERS_VI[agency["tier"]])
        facts.add_row("Đơn vị cấp trên", agency["parent"] or "–")
        facts.add_row("Đơn vị trực thuộc", str(found["children"]))
        facts.add_row("Điểm kết nối", agency["endpoint"] or "chưa kết nối")
        facts.add_row("Tình trạng", STATE_VI[agency["state"]])
        facts.add_row("Đơn vị kế thừa", ", ".join(agency["successors"]) or "–")
    elif found["platform"]:
        facts.add_row("Tên", found["platform"])
    else:
        facts.add_row("Tình trạng", "không có hiệu lực vào ngày này")
    for mandate in found["mandates"][:MAX_ROWS]:
        facts.add_row("Ủy quyền", f"{mandate['platform']} → {mandate['agency']}: {', '.join(mandate['actions'])}")
    for key in found["certificates"]:
        facts.add_row("Chứng thư", _certificate_text(key))
    for entry in found["history"]:
        facts.add_row("Giai đoạn", f"{entry['valid_from']} → {entry.get('valid_to', '')}  {entry['name']}")
    Console(highlight=False, markup=False).print(facts)
    _say_rest(found["mandates"])


def _certificate_text(key: dict[str, Any]) -> str:
    end = (
        f"hết hạn {key['not_after']:%d/%m/%Y}" if key["revoked_at"] is None else f"thu hồi {key['revoked_at']:%d/%m/%Y}"
    )
    return f"{key['alg']}, {end}, {key['fingerprint']}"
