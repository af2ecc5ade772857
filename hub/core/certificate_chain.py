"""Whether a certificate comes from a trusted authority.

Knows nothing of revocation, which is an entry of the directory (`revoked_at`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from schemas.refusal import Problem

MAX_INTERMEDIATES: Final = 2


def check_chain(
    certificate: x509.Certificate,
    anchors: Sequence[x509.Certificate],
    now: datetime,
    *,
    intermediates: Sequence[x509.Certificate] = (),
) -> Problem | None:
    """Tell whether a certificate comes from a trusted authority at a moment.

    The defaults of the library are for web servers, so its rules are replaced: every authority of the chain says that
    it is one and may sign certificates, the leaf is none and may sign documents. The name in the leaf is not read.

    Returns:
        `E207`, or nothing when the chain is good.
    """
    if not anchors:
        return Problem("E207", "/pem", "no trusted authority is known", "chưa có cơ quan chứng thực tin cậy nào")
    verifier = (
        PolicyBuilder()
        .store(Store(list(anchors)))
        .time(now.astimezone(UTC))
        .max_chain_depth(MAX_INTERMEDIATES)
        .extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate, list(intermediates))
    except VerificationError as error:
        return Problem("E207", "/pem", str(error), "chứng thư không nối được tới cơ quan chứng thực tin cậy")
    return None


def _is_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer is not an authority")


def _signs_certificates(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage) -> None:
    if not extension.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


def _is_leaf(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints | None) -> None:
    if extension is not None and extension.ca:
        raise ValueError("an authority's certificate")


def _signs_documents(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage) -> None:
    if extension.key_cert_sign or not (extension.digital_signature or extension.content_commitment):
        raise ValueError("not for digital signatures")


_AUTHORITY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
    .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
)
_LEAF: Final = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_leaf)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_documents)
    .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
)
