"""Who may speak for whom: the proven signer, the connection and the envelope must agree."""

from hub.core.directory import Directory
from hub.core.submission import Submission
from schemas.addresses import submit_key
from schemas.envelope import Envelope
from schemas.refusal import Problem
from schemas.signing import Verified


def authorise(
    envelope: Envelope, verified: Verified, submission: Submission, directory: Directory
) -> tuple[Problem, ...]:
    """Check that the signer may send this envelope over this connection; lists every contradiction."""
    problems = []
    parties = {envelope.from_, envelope.via}
    if verified.key.owner not in parties:
        problems.append(
            Problem(
                "E401",
                "/from",
                f"{envelope.from_} is claimed, {verified.key.owner} signed",
                f"ghi {envelope.from_}, nhưng {verified.key.owner} ký",
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
    if submission.user not in parties:
        problems.append(
            Problem(
                "E403",
                "",
                f"connected as {submission.user}",
                f"kết nối bằng tài khoản {submission.user}",
            )
        )
    if submission.user is not None and submission.routing_key != submit_key("document", submission.user):
        problems.append(
            Problem(
                "E403",
                "",
                f"published under {submission.routing_key[:100]!r}",
                f"gửi bằng khóa định tuyến {submission.routing_key[:100]!r}",
            )
        )
    return tuple(problems)
