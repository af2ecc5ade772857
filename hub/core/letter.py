"""What the hub itself sends: its signed notices, and the receipts and statuses that it passes on unchanged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hub.core.verdict import Park, Refuse, Verdict
from schemas.identifiers import HUB, AgencyCode, DeliveryId, DocumentId, delivery_id_of
from schemas.receipt import NOTICE_TYP, Notice, NoticeKind, NoticeProblem
from schemas.refusal import CATALOGUE, Problem
from schemas.signing import MAX_TOKEN_BYTES, Signer, identity, sign

LETTER_LIFETIME: Final = timedelta(days=30)
_MAX_PROBLEMS: Final = 200
_MAX_PROBLEM_BYTES: Final = MAX_TOKEN_BYTES // 2
"""Base64 adds a third, the other members of a notice are small."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A signed object owed to an agency or platform, other than a document.

    Attributes:
        object_id: Its identity.
        typ: `truc.notice.v1`, `truc.receipt.v1` or `truc.status.v1`.
        token: The signed bytes.
        from_: Who signed it.
        to: Who gets it.
        expires_at: When delivering it is given up.
    """

    object_id: DocumentId
    typ: str
    token: bytes
    from_: AgencyCode
    to: AgencyCode
    expires_at: datetime

    @property
    def delivery_id(self) -> DeliveryId:
        """Id of its only delivery."""
        return delivery_id_of(self.object_id, self.to)


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with the notice that goes out because of it."""

    verdict: Verdict
    notice: Letter | None


def notice_of(verdict: Refuse | Park, signer: Signer, now: datetime) -> Letter | None:
    """Write the notice that a verdict calls for; `None` when nobody may be told."""
    if isinstance(verdict, Refuse):
        return write_notice(verdict.signer, "refused", verdict.problems, signer, now, document_id=verdict.document_id)
    if verdict.tell is None:
        return None
    claimed = identity(verdict.submission.body)
    return write_notice(verdict.tell, "parked", verdict.problems, signer, now, document_id=claimed)


def write_notice(
    to: AgencyCode,
    kind: NoticeKind,
    problems: Sequence[Problem],
    signer: Signer,
    now: datetime,
    *,
    document_id: DocumentId | None = None,
    recipient: AgencyCode | None = None,
) -> Letter:
    """Sign a notice; each problem says what it means, what was found and what to do, in both languages."""
    notice = Notice(
        to=to,
        kind=kind,
        document=document_id,
        recipient=recipient,
        at=int(now.timestamp()),
        problems=tuple(_as_many_as_fit(problems)),
    )
    token = sign(notice.to_json(), typ=NOTICE_TYP, signer=signer, now_s=int(now.timestamp()))
    return Letter(identity(token), NOTICE_TYP, token, HUB, to, now + LETTER_LIFETIME)


def _as_many_as_fit(problems: Sequence[Problem]) -> Iterator[NoticeProblem]:
    """Explain problems until the notice is full: the first always, the rest within the size of a signed object."""
    room = _MAX_PROBLEM_BYTES
    for problem in problems[:_MAX_PROBLEMS]:
        explained = _explain(problem)
        room -= len(explained.to_json())
        if room < 0:
            return
        yield explained


def _explain(problem: Problem) -> NoticeProblem:
    code = CATALOGUE[problem.code]
    return NoticeProblem(
        code=problem.code,
        pointer=problem.pointer[:400],
        en=_sentence(code.en, problem.en, code.fix_en),
        vi=_sentence(code.vi, problem.vi, code.fix_vi),
    )


def _sentence(meaning: str, found: str, fix: str) -> str:
    return f"{meaning} {f'({found[:300]}) ' if found else ''}{fix}"
