"""`truc-agency doctor`: goes through what a connection needs, in the order in which it breaks."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from adapters.cli.output import Exit, Language, Session, run

if TYPE_CHECKING:
    from adapters.checkup.finding import Case, Finding

_NEEDS: Final = {
    "own-entry": {"directory"},
    "own-certificate": {"directory", "key"},
    "broker-port": {"broker-name"},
    "broker-tls": {"broker-port"},
    "login": {"broker-tls"},
    "publish": {"login"},
    "read": {"login"},
    "hub-port": {"hub-name"},
    "hub-tls": {"hub-port"},
    "hub": {"hub-tls"},
    "store": {"hub", "directory", "key"},
}
_NAMES_VI: Final = {
    "settings": "thiết lập",
    "key": "khóa và chứng thư",
    "directory": "tệp danh mục",
    "own-entry": "mã của đơn vị trong danh mục",
    "own-certificate": "chứng thư trong danh mục",
    "broker-name": "tên máy chủ chuyển tin (DNS)",
    "broker-port": "cổng máy chủ chuyển tin (TCP)",
    "broker-tls": "TLS máy chủ chuyển tin",
    "login": "đăng nhập máy chủ chuyển tin",
    "publish": "quyền gửi",
    "read": "quyền đọc hàng đợi",
    "hub-name": "tên máy chủ HTTP của trục (DNS)",
    "hub-port": "cổng HTTP của trục (TCP)",
    "hub-tls": "TLS HTTP của trục",
    "hub": "giao diện HTTP của trục",
    "clock": "đồng hồ",
    "store": "kho tệp của trục",
    "guard": "cơ sở dữ liệu chống trùng",
    "folder": "thư mục văn bản",
    "journal": "sổ nhật ký thư mục",
    "mailbox": "hộp thư của cổng REST",
    "disk": "ổ đĩa",
}
_STATES_VI: Final = {"pass": "ĐẠT", "warn": "LƯU Ý", "fail": "HỎNG", "skip": "BỎ QUA"}


def doctor(
    context: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False
) -> None:
    """Check settings, key, directory, network, TLS, permissions, hub, clock, files and disk.

    Sends nothing, takes nothing, leaves nothing behind. Run it as the user that the adapter runs as. Exit codes: 0 no
    check has failed; 1 one has.
    """
    session: Session = context.obj

    async def command() -> Exit:
        findings = await _examine(session)
        if as_json:
            print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
        else:
            for finding in findings:
                print(_line(session, finding))
        return Exit.NEGATIVE if any(finding.state == "fail" for finding in findings) else Exit.DONE

    run(session, command)


async def _examine(session: Session) -> "list[Finding]":
    from datetime import UTC, datetime

    from adapters.checkup.finding import Case, Finding
    from adapters.errors import AgencyError
    from adapters.settings import settings_file
    from adapters.trust import Trust

    try:
        settings = session.settings()
    except AgencyError as error:
        found = session.choose(error.vi, error.en)
        evidence = f"{error.code.code} {error.place}: {found}"
        return [Finding("settings", "fail", evidence, session.choose(error.code.fix_vi, error.code.fix_en))]
    case = Case(settings, Trust(settings.directory_file), datetime.now(UTC), session.choose)
    findings = [Finding("settings", "pass", f"{settings_file().absolute()}: code = {settings.code}")]
    unavailable: set[str] = set()
    for check in _checks(case):
        finding = await _run(case, check, unavailable)
        if finding.state in ("fail", "skip"):
            unavailable.add(finding.check)
        findings.append(finding)
    return findings


def _checks(case: "Case") -> "Sequence[Callable[[Case], Awaitable[Finding]]]":
    """List the checks of what is set up, in order."""
    from adapters.checkup import axis, machine, network, papers

    with_hub = (network.hub_name, network.hub_port, network.hub_tls, axis.hub)
    with_folder = (machine.folder, machine.journal)
    return (
        papers.key,
        papers.directory,
        papers.own_entry,
        papers.own_certificate,
        network.broker_name,
        network.broker_port,
        network.broker_tls,
        axis.login,
        axis.publish,
        axis.read,
        *(with_hub if case.settings.hub_url is not None else (_no_hub,)),
        axis.clock,
        *((axis.store,) if case.settings.hub_url is not None else ()),
        machine.guard,
        *(with_folder if case.settings.folder is not None else ()),
        *((machine.mailbox,) if machine.uses_mailbox(case) else ()),
        machine.disk,
    )


async def _no_hub(case: "Case") -> "Finding":
    from adapters.checkup.finding import Finding

    fix = case.choose(
        "Đặt hub_url để chuyển được tệp đính kèm và so được đồng hồ.",
        "Set hub_url, so that parts can be transferred and clocks compared.",
    )
    return Finding("hub", "skip", case.choose("chưa đặt hub_url", "hub_url is not set"), fix)


async def _run(case: "Case", check: "Callable[[Case], Awaitable[Finding]]", unavailable: set[str]) -> "Finding":
    """Run one check; errors are findings too."""
    from adapters.checkup.finding import Finding
    from adapters.errors import AgencyError

    name = check.__name__.replace("_", "-")
    needed = _NEEDS.get(name, set()) & unavailable
    if needed:
        return Finding(name, "skip", ", ".join(case.choose(_NAMES_VI[each], each) for each in sorted(needed)))
    try:
        return await check(case)
    except AgencyError as error:
        return case.failed(name, error)


def _line(session: Session, finding: "Finding") -> str:
    vietnamese = session.language is Language.VI
    state = _STATES_VI[finding.state] if vietnamese else finding.state.upper()
    name = _NAMES_VI[finding.check] if vietnamese else finding.check
    fix = f"\n{'':9}→ {finding.fix}" if finding.fix else ""
    return f"{state:<8} {name}: {finding.evidence}{fix}"
