"""What broker and hub say to us: each question leaves nothing behind."""

import contextlib
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from adapters.checkup.finding import Case, Finding, State
from adapters.cli.wiring import line_of, signer_of
from adapters.errors import RefusedByBroker, Unreachable, Unusable
from adapters.inquiry import HubClock, look
from adapters.parts import PartStore
from adapters.probe import Probe
from adapters.signer import load_record
from schemas.addresses import SUBMIT, agency_queue, submit_key
from schemas.envelope import Part
from schemas.identifiers import AgencyCode, is_agency_code
from schemas.signing import MAX_AHEAD_S

_CLOCK_SLACK: Final = timedelta(minutes=5)
_CLOCK_WARNING_S: Final = 30


async def login(case: Case) -> Finding:
    """Check that the broker lets us in."""
    line = line_of(case.settings)
    try:
        await Probe(line, AgencyCode(case.settings.code)).log_in()
    except RefusedByBroker as error:
        fix = case.choose(
            "Kiểm tra mật khẩu và tên vhost trong amqp_url (ký tự đặc biệt viết dạng %XX); hỏi đơn vị vận hành tài khoản còn "
            "mở không.",
            "Check password and vhost in amqp_url (special characters as %XX); ask the operator whether the account is open.",
        )
        return case.failed("login", error, fix)
    except Unreachable as error:
        fix = case.choose(
            "Có máy chủ trả lời nhưng không nói AMQP: kiểm tra cổng (5672 cho amqp, 5671 cho amqps) và amqp hay amqps.",
            "Something answers and does not speak AMQP: check the port (5672 for amqp, 5671 for amqps), and amqp or amqps.",
        )
        return case.failed("login", error, fix)
    return Finding("login", "pass", f"{case.settings.code} @ {line.place}")


async def publish(case: Case) -> Finding:
    """Check that the broker lets us publish documents."""
    code = AgencyCode(case.settings.code)
    await Probe(line_of(case.settings), code).ask_to_publish()
    return Finding("publish", "pass", f"{SUBMIT}, {submit_key('document', code)}")


async def read(case: Case) -> Finding:
    """Check that there is a queue for us and the broker lets us read it."""
    code = AgencyCode(case.settings.code)
    probe = Probe(line_of(case.settings), code)
    await probe.ask_to_read()
    standing = await probe.look()
    waiting, readers = case.choose("đang chờ", "waiting"), case.choose("kết nối đang đọc", "readers")
    return Finding(
        "read", "pass", f"{agency_queue(code)}: {standing.waiting} {waiting}, {standing.consumers} {readers}"
    )


async def hub(case: Case) -> Finding:
    """Check that it is the hub that answers under hub_url, and ask for its clock."""
    settings = case.settings
    assert settings.hub_url is not None  # left out without it
    case.hub_clock = await look(
        settings.hub_url,
        ssl_context=settings.ssl_context(),
        timeout_s=settings.connect_timeout_s,
        clock=lambda: datetime.now(UTC),
    )
    return Finding("hub", "pass", settings.hub_url)


async def clock(case: Case) -> Finding:
    """Compare our clock with the hub's; without that, with what must lie in the past."""
    mine = f"{case.now:%Y-%m-%d %H:%M:%S} UTC"
    if case.hub_clock is not None:
        state = state_of_clock(case.hub_clock)
        ahead = case.choose("so với trục", "against the axis")
        evidence = f"{mine}, {case.hub_clock.ahead_s:+.1f} s {ahead} (± {case.hub_clock.doubt_s:.1f} s)"
        fix = case.choose(
            "Bật đồng bộ giờ: timedatectl set-ntp true.", "Let the clock be kept right: timedatectl set-ntp true."
        )
        return Finding("clock", state, evidence, "" if state == "pass" else fix)
    past = _moments_past(case)
    if past and case.now < max(past) - _CLOCK_SLACK:
        return Finding("clock", "fail", f"{mine} < {max(past):%Y-%m-%d %H:%M:%S} UTC", case.fix_of("E601"))
    note = case.choose("chưa thấy lệch; trục chưa cho biết giờ", "nothing against it; the axis has not told its time")
    return Finding("clock", "pass", f"{mine} ({note})")


async def store(case: Case) -> Finding:
    """Ask, with a grant of ours, for a part that nobody has: signature, directory, database and blob store must work."""
    agency = _speaks_for(case)
    if agency is None:
        return Finding("store", "skip", case.choose("nền tảng chưa có ủy quyền", "the platform has no mandate"))
    nothing = hashlib.sha256(secrets.token_bytes()).hexdigest()
    part = Part(name="doctor", media_type="text/plain", sha256=nothing, length=0)
    settings = case.settings
    assert settings.hub_url is not None
    parts = PartStore(
        settings.hub_url,
        AgencyCode(settings.code),
        signer_of(settings),
        ssl_context=settings.ssl_context(),
        timeout_s=settings.connect_timeout_s,
        clock=lambda: datetime.now(UTC),
    )
    try:
        offset = await parts.ask(part, agency=agency)
    finally:
        await parts.close()
    evidence = case.choose(
        "trục nhận giấy phép đã ký và xem được kho tệp", "the axis took our grant and looked into its store"
    )
    return Finding("store", "pass", f"{evidence} ({nothing[:12]}…: {offset} byte)")


def state_of_clock(clock: HubClock) -> State:
    """Judge a clock: what is signed or granted more than five minutes beside the hub's clock is refused."""
    certain_s = max(0.0, abs(clock.ahead_s) - clock.doubt_s)
    if certain_s > MAX_AHEAD_S:
        return "fail"
    return "warn" if certain_s > _CLOCK_WARNING_S else "pass"


def _moments_past(case: Case) -> list[datetime]:
    """Collect moments that must lie in the past: when our certificate began, when the directory file was written."""
    moments = []
    with contextlib.suppress(Unusable):
        moments.append(datetime.fromtimestamp(load_record(case.settings.certificate_file).not_before_s, UTC))
    with contextlib.suppress(OSError):
        moments.append(datetime.fromtimestamp(case.settings.directory_file.stat().st_mtime, UTC))
    return moments


def _speaks_for(case: Case) -> AgencyCode | None:
    """Find an agency in whose name to ask."""
    code = AgencyCode(case.settings.code)
    if is_agency_code(code):
        return code
    return next((agency for platform, agency in case.trust.view().mandates if platform == code), None)
