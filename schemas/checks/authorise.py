"""Who may speak for whom: the proven signer, the connection and the envelope must agree."""

from schemas.addresses import submit_key
from schemas.checks.directory import Directory
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem


def authorise(
    envelope: Envelope, *, signer: AgencyCode, user: str | None, routing_key: str, directory: Directory
) -> tuple[Problem, ...]:
    """Check that the signer may send this envelope over this connection; lists every contradiction.

    Args:
        envelope: What was signed.
        signer: Whose key signed it.
        user: The broker user that brings it.
        routing_key: The key that it is published under.
        directory: Who is who.
    """
    problems = []
    parties = {envelope.from_, envelope.via}
    if signer not in parties:
        problems.append(
            Problem(
                "E401",
                "/from",
                f"{envelope.from_} is claimed, {signer} signed",
                f"ghi {envelope.from_}, nhưng {signer} ký",
            )
        )
    if envelope.from_ not in directory.agencies or directory.agencies[envelope.from_].state == "closed":
        problems.append(
            Problem("E401", "/from", f"{envelope.from_} is not an open agency", f"{envelope.from_} không còn hoạt động")
        )
    if envelope.via is not None and not (
        envelope.via in directory.platforms and directory.allows(envelope.via, envelope.from_, envelope.action)
    ):
        problems.append(Problem("E402", "/via"))
    if user not in parties:
        problems.append(
            Problem(
                "E403",
                "",
                f"connected as {user}",
                f"kết nối bằng tài khoản {user}",
            )
        )
    if user is not None and routing_key != submit_key("document", user):
        problems.append(
            Problem(
                "E403",
                "",
                f"published under {routing_key[:100]!r}",
                f"gửi bằng khóa định tuyến {routing_key[:100]!r}",
            )
        )
    return tuple(problems)
