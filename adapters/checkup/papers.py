"""Key, certificate and directory file."""

import stat
from datetime import UTC, datetime, timedelta
from typing import Final

from adapters.checkup.finding import Case, Finding
from adapters.cli.wiring import signer_of
from adapters.signer import load_record
from schemas.signing import KeyRecord

_EXPIRES_SOON: Final = timedelta(days=30)
_DIRECTORY_IS_OLD: Final = timedelta(days=7)
_AGENCY_STATES_VI: Final = {"open": "hoạt động", "suspended": "tạm dừng", "closed": "đã đóng"}


async def key(case: Case) -> Finding:
    """Check that key and certificate belong together, may sign, are in force, and that the key is nobody else's."""
    signer = signer_of(case.settings)
    record = load_record(case.settings.certificate_file)
    ends = datetime.fromtimestamp(record.not_after_s, UTC)
    evidence = f"{signer.alg}, {signer.fingerprint}, {_days(record)}"
    if not record.not_before_s <= case.now.timestamp() <= record.not_after_s:
        return Finding("key", "fail", evidence, case.fix_of("E202"))
    if is_open_to_all(case.settings.key_file.stat().st_mode):
        file = case.settings.key_file
        seen = case.choose("mọi người trên máy đều đọc được", "everybody on this machine can read it")
        return Finding("key", "warn", f"{evidence}; {file}: {seen}", f"chmod o= {file}")
    if ends < case.now + _EXPIRES_SOON:
        fix = case.choose("Xin cấp và đăng ký chứng thư mới.", "Get a new certificate and have it registered.")
        return Finding("key", "warn", evidence, fix)
    return Finding("key", "pass", evidence)


async def directory(case: Case) -> Finding:
    """Check that the directory file can be read, has the hub's key, and is not old."""
    view = case.trust.view()
    written = datetime.fromtimestamp(case.settings.directory_file.stat().st_mtime, UTC)
    agencies, certificates = case.choose("đơn vị", "agencies"), case.choose("chứng thư", "certificates")
    evidence = f"{len(view.agencies)} {agencies}, {len(view.keys)} {certificates}, {written:%Y-%m-%d %H:%M} UTC"
    if not view.owned_by_hub:
        fix = case.choose(
            "Lấy lại tệp danh mục: thiếu chứng thư của trục.", "Fetch it again: the hub's key is missing."
        )
        return Finding("directory", "fail", evidence, fix)
    if written < case.now - _DIRECTORY_IS_OLD:
        return Finding("directory", "warn", evidence, case.fix_of("A103"))
    return Finding("directory", "pass", evidence)


async def own_entry(case: Case) -> Finding:
    """Check that the directory has us, open and connected."""
    view = case.trust.view()
    code = case.settings.code
    if view.is_platform(code, case.now):
        return Finding("own-entry", "pass", f"{code}: {case.choose('nền tảng', 'platform')}")
    entry = view.agency(code, case.now)
    ask = case.choose("Đề nghị đơn vị vận hành sửa danh mục.", "Ask the operator to correct the directory.")
    if entry is None or entry.state == "closed":
        return Finding("own-entry", "fail", f"{code}: {entry.state if entry else '—'}", ask)
    state = case.choose(_AGENCY_STATES_VI[entry.state], entry.state)
    endpoint = case.choose("điểm kết nối", "endpoint")
    evidence = f"{code}: {entry.name}, {state}, {endpoint} {entry.endpoint or '—'}"
    connected = entry.endpoint == code and entry.state == "open"
    return Finding("own-entry", "pass", evidence) if connected else Finding("own-entry", "warn", evidence, ask)


async def own_certificate(case: Case) -> Finding:
    """Check that the directory knows our certificate as ours."""
    record = load_record(case.settings.certificate_file)
    known = case.trust.view().keys.get(record.fingerprint)
    if known is None or known.owner != case.settings.code:
        owner = known.owner if known else "—"
        return Finding("own-certificate", "fail", f"{record.fingerprint}: {owner}", case.fix_of("E201"))
    if known.revoked_at_s is not None:
        return Finding("own-certificate", "fail", record.fingerprint, case.fix_of("E203"))
    return Finding("own-certificate", "pass", record.fingerprint)


def is_open_to_all(mode: int) -> bool:
    """Tell whether others than owner and group may read or change a file."""
    return bool(mode & (stat.S_IROTH | stat.S_IWOTH))


def _days(record: KeyRecord) -> str:
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in (record.not_before_s, record.not_after_s))
    return f"{begins:%Y-%m-%d} … {ends:%Y-%m-%d}"
