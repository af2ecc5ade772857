"""Makes of settings what talks to the axis."""

from datetime import UTC, datetime

from adapters.client import AgencyClient
from adapters.errors import Unusable
from adapters.inbox_guard import InboxGuard
from adapters.inquiry import Inquiry
from adapters.line import Line
from adapters.settings import AgencySettings
from adapters.signer import load_signer
from adapters.trust import Trust
from schemas.identifiers import AgencyCode
from schemas.signing import KeySigner


def signer_of(settings: AgencySettings) -> KeySigner:
    """Load the key that the settings name; raises `Unusable`."""
    password = settings.key_password.get_secret_value().encode() if settings.key_password else None
    return load_signer(settings.key_file, settings.certificate_file, password=password)


def line_of(settings: AgencySettings) -> Line:
    """Make the way to the broker; raises `Unusable`."""
    url, code = settings.amqp_url.get_secret_value(), AgencyCode(settings.code)
    return Line(url, code, settings.ssl_context(), settings.connect_timeout_s)


def inquiry_of(settings: AgencySettings) -> Inquiry:
    """Make what asks the hub; raises `Unusable`."""
    if settings.hub_url is None:
        raise Unusable("not set", "chưa đặt", place="hub_url")
    return Inquiry(
        settings.hub_url,
        AgencyCode(settings.code),
        signer_of(settings),
        ssl_context=settings.ssl_context(),
        clock=lambda: datetime.now(UTC),
    )


def client_of(settings: AgencySettings, guard: InboxGuard, *, expired_too: bool = False) -> AgencyClient:
    """Make the client; raises `Unusable`."""
    trust = Trust(settings.directory_file)
    trust.view()  # a missing file should be told before anything is sent
    return AgencyClient(
        settings.amqp_url.get_secret_value(),
        settings.code,
        signer_of(settings),
        trust,
        guard,
        hub_url=settings.hub_url,
        ssl_context=settings.ssl_context(),
        prefetch=settings.prefetch,
        publish_timeout_s=settings.publish_timeout_s,
        confirm_timeout_s=settings.confirm_timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        expired_too=expired_too,
        part_timeout_s=settings.part_timeout_s,
    )
