"""`truc-agency verify`: says offline what the axis would refuse, and why."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from adapters.cli.output import Exit, Language, Session, explain_problems, run, say

if TYPE_CHECKING:
    from adapters.examination import Findings
    from schemas.refusal import Problem

_KINDS_VI: Final = {
    "document packet": "gói văn bản edXML",
    "status packet": "gói trạng thái edXML",
    "packet": "gói edXML",
    "document": "văn bản đã ký",
    "receipt": "biên nhận đã ký",
    "status": "trạng thái đã ký",
    "notice": "thông báo đã ký",
    "envelope": "mô tả văn bản",
}


def verify(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="edXML packets, signed tokens (.jws), envelopes (JSON).")],
    *,
    directory: Annotated[Path | None, typer.Option(help="Directory file; by default that of the settings.")] = None,
    party: Annotated[
        str | None, typer.Option("--as", help="Who would sign and send; by default the sender in the file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Check files by the axis' own checks, without a connection; says what would be refused, where and why.

    Not checked, because only the axis knows: whether an id was used before, whether an earlier document went over the
    axis, whether parts are stored.
    """
    session: Session = context.obj

    async def command() -> Exit:
        from adapters.examination import examine_file, examiner_of, read_limited

        examiner = examiner_of(directory_of(session, directory), party=party, now=datetime.now(UTC))
        told = []
        ending = Exit.DONE
        for file in files:
            try:
                data = read_limited(file)
            except OSError as error:
                say(f"{file}: {error.strerror}")
                return Exit.USAGE
            findings = examine_file(data, examiner, name=file.name)
            told.append((file, findings))
            ending = Exit.NEGATIVE if findings.problems else ending
        if as_json:
            print(json.dumps([_as_json(session, *each) for each in told], ensure_ascii=False, indent=2))
        else:
            print("\n".join(_as_text(session, *each) for each in told))
        return ending

    run(session, command)


def directory_of(session: Session, given: Path | None) -> Path:
    """Name the directory file; raises `Unusable`."""
    return given if given is not None else session.settings().directory_file


def problem_as_json(session: Session, problem: "Problem") -> dict[str, Any]:
    """Give a problem as a JSON object, its texts in the language of the session."""
    from adapters.errors import entry_of

    entry = entry_of(problem.code)
    return {
        "code": problem.code,
        "name": entry.name,
        "place": problem.pointer,
        "found": session.choose(problem.vi, problem.en),
        "meaning": session.choose(entry.vi, entry.en),
        "fix": session.choose(entry.fix_vi, entry.fix_en),
    }


def _as_json(session: Session, file: Path, findings: "Findings") -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": str(file),
        "kind": findings.kind,
        "accepted": not findings.problems,
        "problems": [problem_as_json(session, problem) for problem in findings.problems],
    }
    if findings.assurance is not None:
        reason = findings.assurance.reason
        told["level"] = findings.assurance.level
        told["level_reason"] = problem_as_json(session, reason) if reason is not None else None
    return {**told, "unmapped": list(findings.unmapped), "unchecked": list(findings.unchecked)}


def _as_text(session: Session, file: Path, findings: "Findings") -> str:
    kind = session.choose(_KINDS_VI[findings.kind], findings.kind)
    count = len(findings.problems)
    verdict = (
        session.choose(f"SẼ BỊ TỪ CHỐI, {count} lỗi", f"WOULD BE REFUSED, {count} problems")
        if count
        else session.choose("ĐẠT", "PASSES")
    )
    lines = [f"{file}: {verdict} ({kind})"]
    if findings.assurance is not None and not count:
        lines.append(f"  {session.choose('Mức bảo đảm', 'Assurance')} {_level(session, findings)}")
    if findings.unchecked:
        asked = ", ".join(findings.unchecked)
        lines.append(f"  {session.choose('Chỉ trục mới kiểm tra được', 'Only the axis can look up')}: {asked}")
    if findings.problems:
        lines.append(explain_problems(findings.problems, session.language))
    return "\n".join(lines)


def _level(session: Session, findings: "Findings") -> str:
    from adapters.errors import entry_of

    assurance = findings.assurance
    assert assurance is not None
    if assurance.reason is None:
        return assurance.level
    entry = entry_of(assurance.reason.code)
    meaning = entry.vi if session.language is Language.VI else entry.en
    found = session.choose(assurance.reason.vi, assurance.reason.en)
    return f"{assurance.level}: {assurance.reason.code} {meaning}{' ' + found if found else ''}"
