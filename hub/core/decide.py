"""What is checked, in what order.

| step | check                                                    | fails with           | outcome |
|------|----------------------------------------------------------|----------------------|---------|
| 0    | the broker vouches for a user that the directory knows   | E403                 | park    |
| 1    | size, three segments, base64url                          | E101 E102 E103 E302  | park    |
| 2    | header members, typ                                      | E104 E105            | park    |
| 3    | certificate known, and its owner                         | E201                 | park    |
| 4    | certificate valid, not revoked, algorithm its own        | E202 E203 E205       | park    |
| 5    | signed within the last 24 hours                          | E601                 | park    |
| 6    | signature over the received bytes                        | E301                 | park    |
| 7    | payload strict, schema, times                            | E501 E502 E601 E602  | refuse  |
| 8    | signer, connection, `from`, `via` agree; mandate         | E401 E402 E403       | refuse  |
| 9    | recipients known, open, once, not too many               | E404 E405 E406 E408  | refuse  |

Up to step 6 nobody is proven to have spoken, so nobody is answered but the connection's own user. From then on the
signer is told every problem at once. Steps 7 to 9 stand in `schemas/checks`, so that agencies can ask them beforehand.

Not here: whether the id was used before (N604, E603), whether the documents in `ref` are known (E410), and whether the
parts are there (E503, E505). Only the ledger can know, inside its transaction; its objections are refused as if step 10
had found them.
"""

from collections.abc import Sequence
from datetime import datetime

from hub.core.policy import Policy
from hub.core.submission import Submission
from hub.core.verdict import Accept, Answered, AnswerVerdict, Park, Refuse, Stated, Verdict
from schemas.addresses import Lane, submit_key
from schemas.checks.directory import Directory
from schemas.checks.examine import examine
from schemas.envelope import ENVELOPE_TYP, Envelope, read_envelope
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP, STATUS_TYP, Receipt, Status, read_receipt, read_status
from schemas.refusal import Problem
from schemas.signing import MAX_AGE_S, Verified, verify


def decide(submission: Submission, directory: Directory, policy: Policy, now: datetime) -> Verdict:
    """Decide about one submission to `truc.intake`; total: returns a verdict for any bytes whatever."""
    verified = _prove(submission, ENVELOPE_TYP, directory, now)
    if isinstance(verified, Park):
        return verified
    envelope = read_envelope(verified.payload)
    if not isinstance(envelope, Envelope):
        return _refuse(submission, verified, None, envelope)

    addressees, problems = examine(
        envelope,
        signer=verified.key.owner,
        signed_at_s=verified.signed_at_s,
        user=submission.user,
        routing_key=submission.routing_key,
        directory=directory,
        max_recipients=policy.max_recipients_of(envelope.from_),
        now=now,
    )
    if problems:
        return _refuse(submission, verified, envelope, problems)
    return Accept(
        document_id=verified.document_id,
        token=verified.token,
        envelope=envelope,
        sender_tier=directory.agencies[envelope.from_].tier,
        addressees=addressees,
        directory_epoch=directory.epoch,
        redelivered=submission.redelivered,
    )


def decide_answer(submission: Submission, directory: Directory, now: datetime) -> AnswerVerdict:
    """Decide about one submission to `truc.receipts`: the same proof, then whether the signer may answer.

    What it is, a receipt or a status, says the signed typ alone; the routing key must agree with it.
    """
    verified = _prove(submission, (RECEIPT_TYP, STATUS_TYP), directory, now)
    if isinstance(verified, Park):
        return verified
    is_receipt = verified.typ == RECEIPT_TYP
    answer = read_receipt(verified.payload) if is_receipt else read_status(verified.payload)
    if isinstance(answer, tuple):
        return Park(submission, answer, verified.key.owner)
    problems = _check_answerer(answer, verified, submission, directory)
    if problems:
        return Park(submission, problems, verified.key.owner)
    if isinstance(answer, Receipt):
        return Answered(verified.document_id, verified.token, answer, verified.key.owner, submission)
    return Stated(verified.document_id, verified.token, answer, verified.key.owner, submission)


def decide_all(submissions: Sequence[Submission], directory: Directory, policy: Policy, now: datetime) -> list[Verdict]:
    """Decide about a batch; a check that fails on one submission parks that one and harms no other."""
    return [_guarded(submission, directory, policy, now) for submission in submissions]


def decide_answers(submissions: Sequence[Submission], directory: Directory, now: datetime) -> list[AnswerVerdict]:
    """Decide about a batch of receipts and statuses; as `decide_all`."""
    verdicts: list[AnswerVerdict] = []
    for submission in submissions:
        try:
            verdicts.append(decide_answer(submission, directory, now))
        except Exception as error:  # noqa: BLE001 - one submission must never stop the queue
            verdicts.append(_park_for_engineers(submission, error))
    return verdicts


def _guarded(submission: Submission, directory: Directory, policy: Policy, now: datetime) -> Verdict:
    try:
        return decide(submission, directory, policy, now)
    except Exception as error:  # noqa: BLE001 - one submission must never stop the queue
        return _park_for_engineers(submission, error)


def _park_for_engineers(submission: Submission, error: Exception) -> Park:
    name = type(error).__name__
    return Park(submission, (Problem("E902", "", f"unexpected {name}", f"lỗi ngoài dự kiến {name}"),), tell=None)


def _prove(submission: Submission, typ: str | tuple[str, ...], directory: Directory, now: datetime) -> Verified | Park:
    """Steps 0 to 6."""
    user = submission.user
    if user is None or not directory.knows(user):
        english, vietnamese = f"broker user {user!r}", f"tài khoản {user!r}"
        if user is None:
            english, vietnamese = "user_id is not set", "không có user_id"
        return Park(submission, (Problem("E403", "", english, vietnamese),), tell=None)
    aside_s = int((now - submission.put_aside_at).total_seconds()) if submission.put_aside_at else 0
    verified = verify(
        submission.body, typ=typ, keys=directory.keys, now_s=int(now.timestamp()), max_age_s=MAX_AGE_S + aside_s
    )
    if isinstance(verified, Problem):
        return Park(submission, (verified,), tell=AgencyCode(user))
    if not directory.knows(verified.key.owner):  # the hub's own key, or one that outlived its agency: nobody to answer
        owner = verified.key.owner
        problem = Problem("E201", "/header/x5t#S256", f"its owner is {owner}", f"chủ chứng thư là {owner}")
        return Park(submission, (problem,), tell=AgencyCode(user))
    return verified


def _check_answerer(
    answer: Receipt | Status, verified: Verified, submission: Submission, directory: Directory
) -> tuple[Problem, ...]:
    """Step 8 for receipts and statuses: the agency signs, or the platform at whose endpoint its mail arrives."""
    lane: Lane = "receipt" if isinstance(answer, Receipt) else "status"
    parties = {answer.from_, answer.via}
    problems = []
    if verified.key.owner not in parties:
        problems.append(Problem("E401", "/from"))
    if answer.via is not None and directory.endpoint_of(answer.from_) != answer.via:
        problems.append(Problem("E402", "/via"))
    if submission.user not in parties or submission.routing_key != submit_key(lane, submission.user or ""):
        problems.append(Problem("E403"))
    return tuple(problems)


def _refuse(
    submission: Submission, verified: Verified, envelope: Envelope | None, problems: tuple[Problem, ...]
) -> Refuse:
    return Refuse(
        document_id=verified.document_id,
        submission=submission,
        signer=verified.key.owner,
        envelope_id=envelope.id if envelope else None,
        problems=problems,
    )
