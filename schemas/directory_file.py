"""The directory as a file: who the agencies, platforms, mandates and certificates are, by date.

One JSON document, the same for the hub that imports it and for the agencies that verify what they receive. An entry
may stand several times with periods that do not overlap: that is how an agency changes its tier, parent or name. A
day is a calendar day in Vietnam (UTC+7); `valid_to` is the first day on which the entry no longer holds.
"""

from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import Field

from schemas.addresses import Tier
from schemas.envelope import Action
from schemas.identifiers import HUB, AgencyCodeText, PartyCodeText, PlatformCodeText
from schemas.refusal import Problem
from schemas.signing import KeyRecord, algorithm_of, fingerprint_of
from schemas.wire import Day, Version1, Wire, text

VIETNAM: Final = timezone(timedelta(hours=7), "UTC+07:00")
"""Civil time of all days in the directory; Vietnam has had no daylight saving since 1975."""

State = Literal["open", "suspended", "closed"]


class AgencyEntry(Wire):
    """An agency during one period.

    Attributes:
        code: Identifier code.
        name: Name in Vietnamese.
        tier: The one administrative tier it has during the period.
        parent: The agency above it.
        endpoint: Whose queue its mail goes to: its own code, a platform's code, or absent while not connected.
        state: `open`; `suspended`: nothing is accepted for it; `closed`: its code is no longer used.
        successors: Who took over, for a closed one.
        valid_from: First day.
        valid_to: First day on which the entry no longer holds; absent without end.
    """

    code: AgencyCodeText
    name: Annotated[str, text(300)]
    tier: Tier
    parent: AgencyCodeText | None = None
    endpoint: PartyCodeText | None = None
    state: State = "open"
    successors: Annotated[tuple[AgencyCodeText, ...], Field(max_length=50)] = ()
    valid_from: Day
    valid_to: Day | None = None


class PlatformEntry(Wire):
    """An integration platform (LGSP) that connects for several agencies.

    Attributes:
        code: Code of the platform, which is also its broker user and its queue.
        name: Name in Vietnamese.
        valid_from: First day.
        valid_to: First day on which the entry no longer holds; absent without end.
    """

    code: PlatformCodeText
    name: Annotated[str, text(300)]
    valid_from: Day
    valid_to: Day | None = None


class MandateEntry(Wire):
    """The right of a platform to speak for an agency, for the listed actions, during a period.

    Attributes:
        platform: Who may speak.
        agency: For whom.
        actions: What its documents may do.
        valid_from: First day.
        valid_to: First day on which the entry no longer holds; absent without end.
    """

    platform: PlatformCodeText
    agency: AgencyCodeText
    actions: Annotated[tuple[Action, ...], Field(min_length=1, max_length=4)]
    valid_from: Day
    valid_to: Day | None = None


class CertificateEntry(Wire):
    """A certificate, bound to its owner by this entry and not by the name written in it.

    Attributes:
        owner: An agency, a platform, or `hub`.
        pem: The X.509 certificate, one PEM block.
        revoked_at: Moment of revocation, seconds since 1970 UTC.
    """

    owner: PartyCodeText | Literal["hub"]
    pem: Annotated[str, text(20_000)]
    revoked_at: Annotated[int, Field(strict=True, ge=0)] | None = None


class DirectoryFile(Wire):
    """A whole directory, or the part of one that is to be entered or changed.

    Attributes:
        directory: Version of this format.
        agencies: Agencies by period.
        platforms: Platforms by period.
        mandates: Mandates by period.
        certificates: Certificates with their owners.
    """

    directory: Version1 = 1
    agencies: tuple[AgencyEntry, ...] = ()
    platforms: tuple[PlatformEntry, ...] = ()
    mandates: tuple[MandateEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = ()


def key_record(entry: CertificateEntry) -> KeyRecord | Problem:
    """Read a certificate and check that it may sign documents.

    A leaf with `digitalSignature` or `contentCommitment`, no authority, a key of an allowed kind and size.

    Returns:
        The record; or E206 for the key, E207 for the certificate.
    """
    if entry.pem.count("-----BEGIN") != 1:  # a private key may have been pasted along
        return Problem("E207", "/pem", "not exactly one PEM block", "không phải đúng một khối PEM")
    try:
        certificate = x509.load_pem_x509_certificate(entry.pem.encode())
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension):
        return Problem("E207", "/pem", "not a certificate that can be read", "không đọc được chứng thư")
    try:
        key: object = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    alg = algorithm_of(key)
    if alg is None or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return Problem("E206", "/pem")
    if _is_authority(extensions):
        return Problem("E207", "/pem", "an authority's certificate", "chứng thư của cơ quan chứng thực")
    if not _may_sign(extensions):
        return Problem("E207", "/pem", "not for digital signatures", "không dùng để ký số")
    return KeyRecord(
        fingerprint=fingerprint_of(certificate),
        owner=HUB if entry.owner == "hub" else entry.owner,
        alg=alg,
        public_key=key,
        not_before_s=int(certificate.not_valid_before_utc.timestamp()),
        not_after_s=int(certificate.not_valid_after_utc.timestamp()),
        revoked_at_s=entry.revoked_at,
    )


@lru_cache(maxsize=4096)  # a directory has few different days, and asks for them with every document
def start_of(day: str) -> datetime:
    """Say when a day of the directory begins, in UTC."""
    return datetime.combine(date.fromisoformat(day), time(), VIETNAM).astimezone(UTC)


def in_force(entry: AgencyEntry | PlatformEntry | MandateEntry, now: datetime) -> bool:
    """Tell whether an entry holds at a moment."""
    return start_of(entry.valid_from) <= now and (entry.valid_to is None or now < start_of(entry.valid_to))


def _is_authority(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _may_sign(extensions: x509.Extensions) -> bool:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return (usage.digital_signature or usage.content_commitment) and not usage.key_cert_sign
