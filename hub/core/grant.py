"""Whether a grant proves who asks over HTTP, and what it is good for.

| step | check                                                          | fails with                     |
|------|----------------------------------------------------------------|--------------------------------|
| 1    | token, certificate and signature, as of any signed object      | E101 to E105, E201 to E302     |
| 2    | signed within the last five minutes, its end within five more  | E601 E605                      |
| 3    | payload strict, schema                                         | E501 E502                      |
| 4    | signer is `from`, or `via` with a mandate or endpoint          | E401 E402                      |
| 5    | it is for this act, part, document, time (`Granted.covers`)    | E420                           |

Until step 4 nobody is proven to have asked. Not here: whether the document was delivered; only the ledger knows.
"""

from dataclasses import dataclass
from datetime import datetime

from schemas.checks.directory import Directory
from schemas.grant import GRANT_TYP, MAX_GRANT_AGE_S, Act, Grant, read_grant
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from schemas.signing import Verified, verify


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant whose signer is proven and may speak for its agency.

    Attributes:
        grant: What it says.
        signer: Whose key it was: the agency's own, or that of its platform.
        receives: Whether mail for the agency is the signer's to read: it is the agency, or its endpoint.
    """

    grant: Grant
    signer: AgencyCode
    receives: bool

    @property
    def agency(self) -> AgencyCode:
        """In whose name is asked."""
        return self.grant.from_

    def covers(
        self, act: Act, *, part: str | None = None, document: str | None = None, since: int | None = None
    ) -> tuple[Problem, ...]:
        """Step 5: list what is asked and the grant is not for."""
        asked = {"act": act, "part": part, "document": document, "since": since}
        return tuple(
            Problem("E420", f"/{member}", f"asked is {value or 'nothing'}", f"yêu cầu là {value or 'không có'}")
            for member, value in asked.items()
            if getattr(self.grant, member) != value
        )


def decide_grant(token: bytes, directory: Directory, now: datetime) -> Granted | tuple[Problem, ...]:
    """Prove a grant, or say what is wrong with it; total for any bytes whatever."""
    now_s = int(now.timestamp())
    verified = verify(token, typ=GRANT_TYP, keys=directory.keys, now_s=now_s)
    if isinstance(verified, Problem):
        return (verified,)
    if not directory.knows(verified.key.owner):
        owner = verified.key.owner
        return (Problem("E201", "/header/x5t#S256", f"its owner is {owner}", f"chủ chứng thư là {owner}"),)
    grant = read_grant(verified.payload)
    if not isinstance(grant, Grant):
        return grant
    problems = (*_check_times(grant, verified, now_s), *_check_signer(grant, verified, directory))
    if problems:
        return problems
    signer = verified.key.owner
    return Granted(grant, signer, receives=signer == grant.from_ or directory.endpoint_of(grant.from_) == signer)


def _check_times(grant: Grant, verified: Verified, now_s: int) -> tuple[Problem, ...]:
    """Step 2, what `verify` leaves open."""
    problems = []
    if verified.signed_at_s < now_s - MAX_GRANT_AGE_S:
        problems.append(Problem("E605", "/header/iat"))
    if not now_s < grant.until <= verified.signed_at_s + MAX_GRANT_AGE_S:
        problems.append(Problem("E605", "/until"))
    return tuple(problems)


def _check_signer(grant: Grant, verified: Verified, directory: Directory) -> tuple[Problem, ...]:
    """Step 4."""
    problems = []
    signer, agency, platform = verified.key.owner, grant.from_, grant.via
    if signer not in (agency, platform):
        problems.append(
            Problem("E401", "/from", f"{agency} is claimed, {signer} signed", f"ghi {agency}, nhưng {signer} ký")
        )
    known = directory.agencies.get(agency)
    if known is None or known.state == "closed":
        problems.append(Problem("E401", "/from", f"{agency} is not an open agency", f"{agency} không còn hoạt động"))
    speaks = platform is None or (
        platform in directory.platforms
        and (directory.endpoint_of(agency) == platform or (platform, agency) in directory.mandates)
    )
    if not speaks:
        problems.append(Problem("E402", "/via"))
    return tuple(problems)
