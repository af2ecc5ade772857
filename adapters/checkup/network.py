"""Names, ports and TLS of broker and hub; what speaks there is asked by `adapters.checkup.axis`."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

from cryptography import x509

from adapters.checkup.finding import Case, Finding
from adapters.settings import is_loopback
from schemas.hosts import urls_by_host

_EXPIRES_SOON: Final = timedelta(days=30)
_PORTS: Final = {"amqp": 5672, "amqps": 5671, "http": 80, "https": 443}
_CLOSE_TIMEOUT_S: Final = 5.0

# Numbers of X509_verify_cert (OpenSSL): what is wrong with a certificate.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_NAME_DIFFERS: Final = (62, 64)
_BREAKS_RULES: Final = range(79, 95)
"""What is demanded of the form of each certificate of the chain, most of it from Python 3.13 on (`VERIFY_X509_STRICT`)."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where one of the two servers is.

    Attributes:
        name: Which of them.
        scheme: Of its url.
        host: Name or address.
        port: The given one, or that of the scheme.
    """

    name: Literal["broker", "hub"]
    scheme: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """Host and port, as people write them."""
        return f"{self.host}:{self.port}"

    @property
    def is_encrypted(self) -> bool:
        """Whether its url asks for TLS."""
        return self.scheme in ("amqps", "https")


def server_of(name: Literal["broker", "hub"], url: str) -> Server:
    """Find the server in a url that the settings have let through."""
    parts = urlsplit(url)
    return Server(name, parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


async def broker_name(case: Case) -> Finding:
    """Check that the name of the broker is known."""
    return await _of_each_broker(_name, case)


async def broker_port(case: Case) -> Finding:
    """Check that something listens at the broker's port."""
    return await _of_each_broker(_port, case)


async def broker_tls(case: Case) -> Finding:
    """Check the broker's certificate: name, chain, days left."""
    return await _of_each_broker(_tls, case)


async def hub_name(case: Case) -> Finding:
    """Check that the name of the hub is known."""
    return await _name(case, _hub(case))


async def hub_port(case: Case) -> Finding:
    """Check that something listens at the hub's port."""
    return await _port(case, _hub(case))


async def hub_tls(case: Case) -> Finding:
    """Check the hub's certificate: name, chain, days left."""
    return await _tls(case, _hub(case))


async def _of_each_broker(check: Callable[[Case, Server], Awaitable[Finding]], case: Case) -> Finding:
    """Check every host of the broker; that one of several fails is a warning, as the adapter goes on to the next."""
    urls = urls_by_host(case.settings.amqp_url.get_secret_value())
    findings = await asyncio.gather(*(check(case, server_of("broker", url)) for url in urls))
    states = {finding.state for finding in findings}
    return Finding(
        findings[0].check,
        states.pop() if len(states) == 1 else "warn",
        "; ".join(finding.evidence for finding in findings),
        " ".join(dict.fromkeys(finding.fix for finding in findings if finding.fix)),
    )


def _hub(case: Case) -> Server:
    assert case.settings.hub_url is not None  # these checks are left out without it
    return server_of("hub", case.settings.hub_url)


async def _name(case: Case, server: Server) -> Finding:
    check = f"{server.name}-name"
    try:
        async with asyncio.timeout(case.settings.connect_timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except OSError as error:  # TimeoutError and gaierror are such
        fix = case.choose(
            f"Kiểm tra tên máy trong {_setting(server)} và máy chủ DNS của đơn vị.",
            f"Check the host name in {_setting(server)}, and your DNS server.",
        )
        return Finding(check, "fail", f"{server.host}: {_reason(error)}", fix)
    addresses = sorted({str(each[4][0]) for each in found})
    return Finding(check, "pass", f"{server.host} = {', '.join(addresses)}")


async def _port(case: Case, server: Server) -> Finding:
    check = f"{server.name}-port"
    try:
        async with asyncio.timeout(case.settings.connect_timeout_s):
            _, writer = await asyncio.open_connection(server.host, server.port)
    except OSError as error:
        fix = case.choose(
            f"Kiểm tra cổng trong {_setting(server)}; đề nghị mở tường lửa đi {server.place}; hỏi đơn vị vận hành máy chủ có "
            "đang chạy không.",
            f"Check the port in {_setting(server)}; have the firewall let out to {server.place}; ask the operator whether "
            "it runs.",
        )
        return Finding(check, "fail", f"{server.place}: {_reason(error)}", fix)
    writer.close()
    return Finding(check, "pass", server.place)


async def _tls(case: Case, server: Server) -> Finding:
    check = f"{server.name}-tls"
    if not server.is_encrypted:
        return _unencrypted(case, check, server)
    context = case.settings.ssl_context()
    assert context is not None
    try:
        certificate, version = await _handshake(case, server, context)
    except ssl.SSLCertVerificationError as error:
        return Finding(
            check,
            "fail",
            f"{error.verify_message}; {await _presented(case, server)}",
            fix_of_certificate(case, server, error.verify_code),
        )
    except OSError as error:  # ssl.SSLError is one; a server that speaks something else may also just hang up
        plain, usual = server.scheme.removesuffix("s"), _PORTS[server.scheme]
        fix = case.choose(
            f"Cổng này không nói TLS như mong đợi: kiểm tra cổng (thông thường {usual}), {plain}:// hay {server.scheme}://, và "
            "tls_certificate_file.",
            f"This port does not speak TLS as expected: check the port (usually {usual}), {plain}:// or {server.scheme}://, and "
            "tls_certificate_file.",
        )
        return Finding(check, "fail", f"{server.place}: {getattr(error, 'reason', '') or _reason(error)}", fix)
    evidence = f"{version}, {_describe(certificate, case.now)}"
    if certificate.not_valid_after_utc < case.now + _EXPIRES_SOON:
        fix = case.choose("Báo đơn vị vận hành thay chứng thư máy chủ.", "Tell the operator to renew it.")
        return Finding(check, "warn", evidence, fix)
    return Finding(check, "pass", evidence)


def _unencrypted(case: Case, check: str, server: Server) -> Finding:
    evidence = f"{server.scheme}:// {case.choose('không mã hóa', 'is not encrypted')}"
    if is_loopback(server.host):
        return Finding(check, "pass", f"{evidence}, {case.choose('chỉ trong máy này', 'within this machine')}")
    fix = case.choose(
        f"Hỏi đơn vị vận hành địa chỉ {server.scheme}s://; mật khẩu và văn bản đang đi không mã hóa.",
        f"Ask the operator for a {server.scheme}s:// address; password and documents go unencrypted.",
    )
    return Finding(check, "warn", evidence, fix)


async def _handshake(case: Case, server: Server, context: ssl.SSLContext) -> tuple[x509.Certificate, str]:
    async with asyncio.timeout(case.settings.connect_timeout_s):
        _, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    try:
        session = writer.get_extra_info("ssl_object")
        return x509.load_der_x509_certificate(session.getpeercert(binary_form=True)), session.version()
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await writer.wait_closed()


async def _presented(case: Case, server: Server) -> str:
    """Look at a certificate that is not believed, to say whose it is; nothing is sent to it."""
    unsafe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unsafe.check_hostname = False
    unsafe.verify_mode = ssl.CERT_NONE
    try:
        certificate, _ = await _handshake(case, server, unsafe)
    except (OSError, ValueError):
        return server.place
    return _describe(certificate, case.now)


def _describe(certificate: x509.Certificate, now: datetime) -> str:
    left = (certificate.not_valid_after_utc - now).days
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    return f"{subject} ← {issuer}, … {certificate.not_valid_after_utc:%Y-%m-%d} ({left} d)"


def fix_of_certificate(case: Case, server: Server, verify_code: int) -> str:
    """Say what to do about a server's certificate that is not believed.

    Args:
        case: For the language.
        server: Whose it is.
        verify_code: What OpenSSL calls it.
    """
    if verify_code in _NAME_DIFFERS:
        return case.choose(
            f"Chứng thư không phải của {server.host}: dùng đúng tên máy mà đơn vị vận hành cho, không dùng địa chỉ IP.",
            f"It is not the certificate of {server.host}: use the name that the operator gave, not an IP address.",
        )
    if verify_code == _EXPIRED:
        return case.choose(
            "Chứng thư máy chủ đã hết hạn: báo đơn vị vận hành; xem lại đồng hồ máy này.",
            "The server's certificate has expired: tell the operator; look at the clock of this machine.",
        )
    if verify_code == _NOT_YET_VALID:
        return case.choose("Chỉnh lại đồng hồ máy này.", "Set the clock of this machine.")
    if verify_code in _BREAKS_RULES:
        return case.choose(
            "Chứng thư máy chủ, hoặc của nơi cấp, không đúng quy định của RFC 5280: báo đơn vị vận hành cấp lại; nếu là chứng "
            "thư gốc thì thay cả tệp ca_file.",
            "The server's certificate, or that of its issuer, breaks a rule of RFC 5280: have the operator issue it again; if "
            "it is the authority's, replace ca_file as well.",
        )
    return case.choose(
        "Chứng thư do nơi máy này không tin cấp: đặt ca_file là tệp chứng thư gốc mà đơn vị vận hành cho; kiểm tra có proxy "
        "đứng giữa không.",
        "Issued by nobody that is trusted here: set ca_file to the authorities that the operator gave; look whether a proxy "
        "stands between.",
    )


def _setting(server: Server) -> str:
    return "amqp_url" if server.name == "broker" else "hub_url"


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or "timeout"
