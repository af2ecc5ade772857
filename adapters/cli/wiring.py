"""Makes a client of settings."""

from adapters.client import AgencyClient
from adapters.inbox_guard import InboxGuard
from adapters.settings import AgencySettings
from adapters.signer import load_signer
from adapters.trust import Trust
from schemas.signing import KeySigner


def signer_of(settings: AgencySettings) -> KeySigner:
    """Load the key that the settings name; raises `Unusable`."""
    password = settings.key_password.get_secret_value().encode() if settings.key_password else None
    return load_signer(settings.key_file, settings.certificate_file, password=password)


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
