"""What `truc-agency doctor` finds: judgements, certificates of servers, files and folders."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.checkup import machine, network
from adapters.checkup.axis import state_of_clock
from adapters.checkup.finding import Case
from adapters.checkup.machine import state_of_disk
from adapters.checkup.papers import is_open_to_all
from adapters.folder.places import FOLDERS
from adapters.inbox_guard import InboxGuard
from adapters.inquiry import HubClock, clock_of
from adapters.settings import AgencySettings
from adapters.trust import Trust
from tests.keys import authority

NOW = datetime.now(UTC)
MIB = 1024 * 1024


def case(home: Path, **settings: object) -> Case:
    values = {
        "amqp_url": "amqp://H26:x@127.0.0.1:1/",
        "code": "H26",
        "key_file": home / "key.pem",
        "certificate_file": home / "certificate.pem",
        "directory_file": home / "directory.json",
        "guard_file": home / "guard.db",
        "folder_journal_file": home / "folder.db",
        "mailbox_file": home / "mailbox.db",
        **settings,
    }
    return Case(AgencySettings(**values), Trust(home / "directory.json"), NOW, lambda _, en: en)


@pytest.mark.parametrize(
    ("ahead_s", "state"),
    [(0, "pass"), (-25, "pass"), (40, "warn"), (-40, "warn"), (299, "warn"), (310, "fail"), (-7200, "fail")],
)
def test_a_clock_is_judged_by_what_the_axis_would_refuse(ahead_s, state):
    assert state_of_clock(HubClock(ahead_s, 1.0)) == state


def test_a_slow_answer_is_no_wrong_clock():
    assert state_of_clock(HubClock(40, 15)) == "pass"


def test_the_clock_of_an_answer_is_compared_with_the_middle_of_the_question():
    asked = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)

    clock = clock_of("Tue, 24 Nov 2026 12:00:00 GMT", asked, asked + timedelta(seconds=2))

    assert clock == HubClock(ahead_s=0.0, doubt_s=2.0)
    assert clock_of("", asked, asked) is None
    assert clock_of("yesterday", asked, asked) is None


@pytest.mark.parametrize(("free", "state"), [(100 * MIB, "fail"), (500 * MIB, "warn"), (5000 * MIB, "pass")])
def test_a_disk_is_judged_by_what_is_free(free, state):
    assert state_of_disk(free) == state


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o100600, False), (0o100640, False), (0o100644, True), (0o100602, True)]
)
def test_a_key_that_everybody_can_read_is_found(mode, is_open):
    assert is_open_to_all(mode) is is_open


def certificate(folder: Path, *, name: str = "localhost", days: int = 90, names_key: bool = True) -> Path:
    """Make a server's certificate and key of the session's authority, in one file.

    Args:
        folder: Where it is to lie.
        name: Of the server.
        days: Until it expires.
        names_key: Whether it says by which key it was signed, as RFC 5280 (4.2.1.1) demands.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority()
    names = [x509.DNSName(name), *([x509.IPAddress(ip_address("127.0.0.1"))] if name == "localhost" else [])]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=60))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    if names_key:
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(signed_by, critical=False)
    made = builder.sign(issuer.key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{name}.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def listening(certificate_file: Path | None) -> AsyncIterator[int]:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = None
    if certificate_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file)
    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


def ca_file(folder: Path) -> Path:
    file = folder / "ca.pem"
    file.write_bytes(authority().certificate.public_bytes(serialization.Encoding.PEM))
    return file


async def tls(folder: Path, port: int, *, trusted: bool = True):
    given = {"ca_file": ca_file(folder)} if trusted else {}
    return await network.broker_tls(case(folder, amqp_url=f"amqps://H26:x@127.0.0.1:{port}/", **given))


async def test_a_good_certificate_is_shown_with_its_issuer_and_the_days_left(tmp_path):
    async with listening(certificate(tmp_path)) as port:
        finding = await tls(tmp_path, port)

    assert (finding.state, finding.fix) == ("pass", "")
    assert "CN=localhost ← CN=Truc test authority" in finding.evidence
    assert "(89 d)" in finding.evidence or "(90 d)" in finding.evidence


@pytest.mark.parametrize(
    ("made", "trusted", "state", "words"),
    [
        ({"days": 5}, True, "warn", "renew"),
        ({"name": "other.example.vn"}, True, "fail", "use the name that the operator gave"),
        ({"days": -1}, True, "fail", "has expired"),
        ({}, False, "fail", "ca_file"),
    ],
    ids=["ends soon", "other name", "expired", "unknown authority"],
)
async def test_what_is_wrong_with_a_certificate_is_told_apart(tmp_path, made, trusted, state, words):
    async with listening(certificate(tmp_path, **made)) as port:
        finding = await tls(tmp_path, port, trusted=trusted)

    assert (finding.state, words in finding.fix) == (state, True), finding
    assert "← CN=Truc test authority" in finding.evidence


async def test_a_certificate_whose_form_is_wrong_is_not_called_unknown(tmp_path, monkeypatch):
    """Python looks at the form from 3.13 on by itself."""

    def strict(**given: Any) -> ssl.SSLContext:
        context = usual(**given)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    usual = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", strict)
    async with listening(certificate(tmp_path, names_key=False)) as port:
        finding = await tls(tmp_path, port)

    assert finding.state == "fail"
    assert "authority key identifier" in finding.evidence.lower()
    assert "RFC 5280" in finding.fix


async def test_a_port_without_tls_is_told(tmp_path):
    async with listening(None) as port:
        finding = await tls(tmp_path, port)

    assert (finding.state, "does not speak TLS" in finding.fix) == ("fail", True), finding


async def test_no_tls_is_worth_a_warning_only_beyond_this_machine(tmp_path):
    here = await network.broker_tls(case(tmp_path))
    beyond = await network.broker_tls(case(tmp_path, amqp_url="amqp://H26:x@axis.example.vn/"))

    assert (here.state, beyond.state) == ("pass", "warn")


async def test_a_name_that_nobody_knows_and_a_closed_port(tmp_path):
    nowhere = case(tmp_path, amqp_url="amqps://H26:x@axis.invalid/", hub_url="http://127.0.0.1:1")

    assert (await network.broker_name(nowhere)).state == "fail"
    finding = await network.hub_port(nowhere)
    assert (finding.state, "hub_url" in finding.fix) == ("fail", True)


async def test_one_closed_port_of_several_is_worth_a_warning_as_there_is_another(tmp_path):
    async with listening(None) as port:
        some = await network.broker_port(case(tmp_path, amqp_url=f"amqp://H26:x@127.0.0.1:1,127.0.0.1:{port}/"))
    none = await network.broker_port(case(tmp_path, amqp_url="amqp://H26:x@127.0.0.1:1,127.0.0.1:2/"))

    assert (some.state, none.state) == ("warn", "fail")
    assert "127.0.0.1:1" in some.evidence
    assert f"127.0.0.1:{port}" in some.evidence


@pytest.mark.parametrize(
    ("url", "port"),
    [("amqps://h/", 5671), ("amqp://h", 5672), ("https://h", 443), ("http://h", 80), ("https://h:8443/x", 8443)],
)
def test_the_usual_port_is_that_of_the_scheme(url, port):
    assert network.server_of("hub", url).port == port


async def test_files_that_are_not_there_are_not_made(tmp_path):
    given = case(tmp_path, folder=tmp_path / "van-ban")

    findings = [await check(given) for check in (machine.guard, machine.journal, machine.folder, machine.disk)]

    assert [finding.state for finding in findings[:3]] == ["pass"] * 3
    assert list(tmp_path.iterdir()) == []


async def test_a_guard_in_the_hands_of_an_adapter_is_no_failure(tmp_path):
    with InboxGuard(tmp_path / "guard.db"):
        finding = await machine.guard(case(tmp_path))

    assert (finding.state, "running adapter" in finding.evidence) == ("pass", True)


async def test_a_guard_in_a_folder_that_is_not_there_fails(tmp_path):
    finding = await machine.guard(case(tmp_path, guard_file=tmp_path / "gone" / "guard.db"))

    assert finding.state == "fail"


async def test_folders_are_tried_out_and_left_as_they_were(tmp_path):
    root = tmp_path / "van-ban"
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    given = case(tmp_path, folder=root)

    assert (await machine.folder(given)).state == "pass"
    assert [path for path in root.rglob("*") if path.is_file()] == []

    (root / "inbox").rmdir()
    finding = await machine.folder(given)
    assert (finding.state, "inbox" in finding.evidence) == ("pass", True)
    (root / "sent").rmdir()
    (root / "sent").symlink_to("/proc")  # another file system, where nothing can be written
    finding = await machine.folder(given)
    assert (finding.state, "file system" in finding.fix) == ("fail", True), finding
    assert [path for path in root.rglob("*") if path.is_file()] == []
