"""What the loops tell about a turn, in counts and in one log record for each thing that a person may ask about."""

from collections import Counter
from collections.abc import Sequence

import structlog

from hub.core.breaker import Tended, news
from hub.core.delivery import Delivery, Transition
from hub.core.part import Progress
from hub.core.replay import Release, Step, Turn
from hub.core.settlement import Handover
from hub.core.verdict import Accept, Answered, AnswerVerdict, Park, Refuse, Stated, Verdict
from hub.telemetry import metrics
from schemas.catch_up import CatchUp
from schemas.grant import Act
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

log = structlog.get_logger("truc")


def verdicts(decided: Sequence[Verdict]) -> None:
    """Tell what the checks decided about a batch of submissions."""
    for verdict in decided:
        match verdict:
            case Accept():
                metrics.SUBMISSIONS.labels("accept", "").inc()
            case Refuse():
                _refused(verdict)
            case Park():
                _parked(verdict)


def answers(decided: Sequence[AnswerVerdict]) -> None:
    """Tell what came back in receipts and statuses."""
    for verdict in decided:
        match verdict:
            case Answered():
                for outcome, count in Counter(answer.outcome for answer in verdict.receipt.answers).items():
                    metrics.ANSWERS.labels(outcome).inc(count)
            case Stated():
                metrics.STATUSES.labels(verdict.status.status).inc()
            case Park():
                _parked(verdict)


def handovers(attempted: Sequence[tuple[Delivery, Handover]]) -> None:
    """Tell what the broker said about a batch of deliveries."""
    for outcome, count in Counter(handover for _, handover in attempted).items():
        metrics.HANDOVERS.labels(outcome).inc(count)
    for delivery, handover in attempted:
        if handover != "routed":
            event = f"delivery.{handover}"
            log.warning(
                event,
                delivery_id=str(delivery.delivery_id),
                recipient=delivery.recipient,
                attempts=delivery.attempts,
            )


def held(transitions: Sequence[Transition]) -> None:
    """Tell which deliveries were held, together for each recipient: they may be very many."""
    counts = Counter((transition.delivery.recipient, transition.code) for transition in transitions)
    for (recipient, code), count in counts.items():
        metrics.HELD.labels(code).inc(count)
        log.info("delivery.held", recipient=recipient, code=code, deliveries=count)


def tended(done: Sequence[Tended]) -> None:
    """Tell what was done about recipients that are not well."""
    for item in done:
        event = news(item.before, item.after)
        if event is not None:
            log.warning(event, recipient=item.after.recipient, code=item.before.code, released=item.released)


def resettled(deadline: str, transitions: Sequence[Transition]) -> None:
    """Tell which deliveries a deadline has changed."""
    metrics.RESETTLED.labels(deadline).inc(len(transitions))
    for transition in transitions:
        log.warning(
            transition.event,
            delivery_id=str(transition.delivery.delivery_id),
            recipient=transition.delivery.recipient,
            state=transition.state,
            code=transition.code,
        )


def months_made(count: int) -> None:
    """Tell that tables were made for coming months."""
    if count:
        log.info("months.made", count=count)


def returns(deliveries: int, parked: Sequence[Park]) -> None:
    """Tell what the broker put aside."""
    metrics.RETURNS.labels("delivery").inc(deliveries)
    metrics.RETURNS.labels("submission").inc(len(parked))
    for park in parked:
        _parked(park)


def replay_step(replay_id: int, step: Step, changed: int) -> None:
    """Tell what a replay has done by itself."""
    match step:
        case Release():
            metrics.REPLAYED.inc(changed)
        case Turn():
            event = f"replay.{step.state}"
            log.warning(event, replay=replay_id, why=step.why)
        case None:
            return


def catch_up_asked(agency: AgencyCode, signer: AgencyCode, answered: CatchUp | Problem) -> None:
    """Tell what became of an agency's wish to get again what it had."""
    if isinstance(answered, Problem):
        log.warning("catch-up.refused", agency=agency, signer=signer, code=answered.code)
    else:
        log.info("catch-up.asked", agency=agency, signer=signer, replay=answered.number, size=answered.size)


def part_answered(act: Act, result: Progress | Problem | None) -> None:
    """Tell how a request for a part was answered; `None` stands for bytes that were handed out."""
    code = result.code if isinstance(result, Problem) else ""
    metrics.PARTS.labels(act, code).inc()
    if code:
        log.info("part.refused", act=act, code=code)


def swept(event: str, count: int) -> None:
    """Tell what was removed from the blob store; `event` says of which kind."""
    if count:
        metrics.SWEPT.labels(event.partition(".")[0]).inc(count)
        log.info(event, count=count)


def _refused(refuse: Refuse) -> None:
    codes = [problem.code for problem in refuse.problems]
    metrics.SUBMISSIONS.labels("refuse", codes[0]).inc()
    log.info("document.refused", document_id=refuse.document_id, signer=refuse.signer, codes=codes)


def _parked(park: Park) -> None:
    codes = [problem.code for problem in park.problems]
    metrics.SUBMISSIONS.labels("park", codes[0]).inc()
    log.warning(
        "submission.parked",
        user=park.submission.user,
        codes=codes,
        found=park.problems[0].en,
        length=len(park.submission.body),
    )
