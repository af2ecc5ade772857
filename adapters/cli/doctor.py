"""`truc-agency doctor`: goes through what a connection needs, in the order in which it breaks."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

import typer

from adapters.cli.output import Exit, Language, Session, run

if TYPE_CHECKING:
    from adapters.line import Line, Probe
    from adapters.settings import AgencySettings
    from schemas.signing import KeyRecord

_EXPIRES_SOON: Final = timedelta(days=30)
_CLOCK_SLACK: Final = timedelta(minutes=5)
_DIRECTORY_IS_OLD: Final = timedelta(days=7)

State = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Stable name.
        state: `skip` when an earlier failure leaves nothing to check.
        evidence: What was seen.
        fix: What to do; empty for `pass`.
    """

    check: str
    state: State
    evidence: str
    fix: str = ""


def doctor(
    context: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False
) -> None:
    """Check settings, key, directory, network, permissions, clock and guard; sends nothing, takes nothing."""
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


async def _examine(session: Session) -> list[Finding]:
    from adapters.errors import AgencyError

    try:
        settings = session.settings()
    except AgencyError as error:
        return [_failed(session, "settings", error)]
    examination = _Examination(session, settings)
    checks = (
        examination.key,
        examination.directory,
        examination.own_entry,
        examination.own_certificate,
        examination.clock,
        examination.guard,
        examination.network,
        examination.login,
        examination.publish,
        examination.read,
    )
    passed = Finding("settings", "pass", f"code = {settings.code}")
    return [passed, *[await examination.run(check) for check in checks]]


class _Examination:
    """The checks, each with the name that its finding bears."""

    def __init__(self, session: Session, settings: "AgencySettings") -> None:
        from adapters.trust import Trust

        self._session = session
        self._settings = settings
        self._trust = Trust(settings.directory_file)
        self._now = datetime.now(UTC)
        self._failed: set[str] = set()

    async def run(self, check: Callable[[], Awaitable[Finding]]) -> Finding:
        """Run one check; errors are findings too."""
        from adapters.errors import AgencyError

        name = check.__name__.replace("_", "-")
        needed = _NEEDS.get(name, set()) & self._failed
        if needed:
            finding = Finding(name, "skip", ", ".join(self._choose(_NAMES_VI[each], each) for each in sorted(needed)))
        else:
            try:
                finding = await check()
            except AgencyError as error:
                finding = _failed(self._session, name, error)
        if finding.state in ("fail", "skip"):
            self._failed.add(name)
        return finding

    async def key(self) -> Finding:
        from adapters.cli.wiring import signer_of

        signer = signer_of(self._settings)
        record = self._record()
        ends = datetime.fromtimestamp(record.not_after_s, UTC)
        evidence = f"{signer.alg}, {signer.fingerprint}, {_days(record)}"
        if not record.not_before_s <= self._now.timestamp() <= record.not_after_s:
            return Finding("key", "fail", evidence, self._fix_of("E202"))
        if ends < self._now + _EXPIRES_SOON:
            fix = self._choose("Xin cấp và đăng ký chứng thư mới.", "Get a new certificate and have it registered.")
            return Finding("key", "warn", evidence, fix)
        return Finding("key", "pass", evidence)

    async def directory(self) -> Finding:
        view = self._trust.view()
        written = datetime.fromtimestamp(self._settings.directory_file.stat().st_mtime, UTC)
        agencies, certificates = self._choose("đơn vị", "agencies"), self._choose("chứng thư", "certificates")
        evidence = f"{len(view.agencies)} {agencies}, {len(view.keys)} {certificates}, {written:%Y-%m-%d %H:%M} UTC"
        if not view.owned_by_hub:
            fix = self._choose(
                "Lấy lại tệp danh mục: thiếu chứng thư của trục.", "Fetch it again: the hub's key is missing."
            )
            return Finding("directory", "fail", evidence, fix)
        if written < self._now - _DIRECTORY_IS_OLD:
            return Finding("directory", "warn", evidence, self._fix_of("A103"))
        return Finding("directory", "pass", evidence)

    async def own_entry(self) -> Finding:
        view = self._trust.view()
        code = self._settings.code
        if view.is_platform(code, self._now):
            return Finding("own-entry", "pass", f"{code}: {self._choose('nền tảng', 'platform')}")
        entry = view.agency(code, self._now)
        ask = self._choose("Đề nghị đơn vị vận hành sửa danh mục.", "Ask the operator to correct the directory.")
        if entry is None or entry.state == "closed":
            return Finding("own-entry", "fail", f"{code}: {entry.state if entry else '—'}", ask)
        state = self._choose(_AGENCY_STATES_VI[entry.state], entry.state)
        endpoint = self._choose("điểm kết nối", "endpoint")
        evidence = f"{code}: {entry.name}, {state}, {endpoint} {entry.endpoint or '—'}"
        connected = entry.endpoint == code and entry.state == "open"
        return Finding("own-entry", "pass", evidence) if connected else Finding("own-entry", "warn", evidence, ask)

    async def own_certificate(self) -> Finding:
        record = self._record()
        known = self._trust.view().keys.get(record.fingerprint)
        if known is None or known.owner != self._settings.code:
            owner = known.owner if known else "—"
            return Finding("own-certificate", "fail", f"{record.fingerprint}: {owner}", self._fix_of("E201"))
        if known.revoked_at_s is not None:
            return Finding("own-certificate", "fail", record.fingerprint, self._fix_of("E203"))
        return Finding("own-certificate", "pass", record.fingerprint)

    async def clock(self) -> Finding:
        """Compare with what must lie in the past: the broker tells no time."""
        record = self._record()
        newest = max(
            datetime.fromtimestamp(record.not_before_s, UTC),
            datetime.fromtimestamp(self._settings.directory_file.stat().st_mtime, UTC),
        )
        evidence = f"{self._now:%Y-%m-%d %H:%M:%S} UTC"
        if self._now < newest - _CLOCK_SLACK:
            return Finding("clock", "fail", f"{evidence} < {newest:%Y-%m-%d %H:%M:%S} UTC", self._fix_of("E601"))
        note = self._choose(
            "chưa thấy lệch; AMQP không cho biết giờ của trục", "nothing against it; AMQP does not tell the axis' time"
        )
        return Finding("clock", "pass", f"{evidence} ({note})")

    async def guard(self) -> Finding:
        from adapters.errors import Unusable
        from adapters.inbox_guard import InboxGuard

        file = self._settings.guard_file
        try:
            with InboxGuard(file):
                return Finding("guard", "pass", str(file.absolute()))
        except Unusable as error:
            if "locked" not in error.en:
                raise
            busy = self._choose("một tiến trình khác đang dùng", "in use by another process")
            return Finding("guard", "pass", f"{file.absolute()}: {busy}")

    async def network(self) -> Finding:
        url = urlsplit(self._settings.amqp_url.get_secret_value())
        port = url.port or (5671 if url.scheme == "amqps" else 5672)
        fix = self._choose("Kiểm tra tên máy, DNS, tường lửa và cổng.", "Check host name, DNS, firewall and port.")
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
                addresses = sorted({str(each[4][0]) for each in found})
                _, writer = await asyncio.open_connection(url.hostname, port)
                writer.close()
        except OSError as error:  # TimeoutError and gaierror are such
            return Finding("network", "fail", f"{url.hostname}:{port}: {str(error) or 'timeout'}", fix)
        return Finding("network", "pass", f"{url.hostname}:{port} = {', '.join(addresses)}")

    async def login(self) -> Finding:
        line = self._line()
        await self._probe(line).log_in()
        return Finding("login", "pass", f"{self._settings.code} @ {line.place}")

    async def publish(self) -> Finding:
        from schemas.addresses import SUBMIT, submit_key

        await self._probe(self._line()).ask_to_publish()
        return Finding("publish", "pass", f"{SUBMIT}, {submit_key('document', self._settings.code)}")

    async def read(self) -> Finding:
        from schemas.addresses import agency_queue
        from schemas.identifiers import AgencyCode

        await self._probe(self._line()).ask_to_read()
        return Finding("read", "pass", agency_queue(AgencyCode(self._settings.code)))

    def _record(self) -> "KeyRecord":
        from adapters.signer import load_record

        return load_record(self._settings.certificate_file)

    def _line(self) -> "Line":
        from adapters.line import Line
        from schemas.identifiers import AgencyCode

        settings = self._settings
        url, code = settings.amqp_url.get_secret_value(), AgencyCode(settings.code)
        return Line(url, code, settings.ssl_context(), settings.connect_timeout_s)

    def _probe(self, line: "Line") -> "Probe":
        from adapters.line import Probe
        from schemas.identifiers import AgencyCode

        return Probe(line, AgencyCode(self._settings.code))

    def _choose(self, vi: str, en: str) -> str:
        return self._session.choose(vi, en)

    def _fix_of(self, code: str) -> str:
        from adapters.errors import entry_of

        entry = entry_of(code)
        return self._choose(entry.fix_vi, entry.fix_en)


_NEEDS: Final = {
    "own-entry": {"directory"},
    "own-certificate": {"directory", "key"},
    "clock": {"directory", "key"},
    "login": {"network"},
    "publish": {"login"},
    "read": {"login"},
}
_NAMES_VI: Final = {
    "settings": "thiết lập",
    "key": "khóa và chứng thư",
    "directory": "tệp danh mục",
    "own-entry": "mã của đơn vị trong danh mục",
    "own-certificate": "chứng thư trong danh mục",
    "clock": "đồng hồ",
    "guard": "cơ sở dữ liệu chống trùng",
    "network": "mạng",
    "login": "đăng nhập máy chủ chuyển tin",
    "publish": "quyền gửi",
    "read": "quyền đọc hàng đợi",
}
_AGENCY_STATES_VI: Final = {"open": "hoạt động", "suspended": "tạm dừng", "closed": "đã đóng"}
_STATES_VI: Final = {"pass": "ĐẠT", "warn": "LƯU Ý", "fail": "HỎNG", "skip": "BỎ QUA"}


def _failed(session: Session, check: str, error: Exception) -> Finding:
    from adapters.errors import AgencyError

    assert isinstance(error, AgencyError)
    vietnamese = session.language is Language.VI
    found = error.vi if vietnamese else error.en
    place = f"{error.place}: " if error.place else ""
    return Finding(
        check, "fail", f"{error.code.code} {place}{found}", error.code.fix_vi if vietnamese else error.code.fix_en
    )


def _days(record: "KeyRecord") -> str:
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in (record.not_before_s, record.not_after_s))
    return f"{begins:%Y-%m-%d} … {ends:%Y-%m-%d}"


def _line(session: Session, finding: Finding) -> str:
    vietnamese = session.language is Language.VI
    state = _STATES_VI[finding.state] if vietnamese else finding.state.upper()
    name = _NAMES_VI[finding.check] if vietnamese else finding.check
    fix = f"\n{'':9}→ {finding.fix}" if finding.fix else ""
    return f"{state:<8} {name}: {finding.evidence}{fix}"
