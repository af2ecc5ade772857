"""Which documents are set aside at intake: broadcasts, and what refers to one that is not recorded yet."""

from hub.core.submission import Submission
from hub.core.verdict import Accept
from hub.intake import Aside, Left
from tests import builders as a
from tests.component.memory import Batch


def left(accept: Accept) -> Left:
    return Left(accept.document_id, Submission(body=accept.token, user=None, routing_key=""))


def recall(accept: Accept) -> Accept:
    return a.accept(a.envelope(action="revoke", ref=[accept.document_id]))


def test_document_to_very_many_is_set_aside_and_others_are_not():
    sets_aside = Aside(least=1_000).rule([])
    assert sets_aside(a.broadcast(1_000))
    assert not sets_aside(a.broadcast(999))


def test_what_refers_to_a_document_that_is_set_aside_follows_it_wherever_that_is():
    in_work, waiting, of_this_batch, recorded = (a.broadcast(2) for _ in range(4))
    aside = Aside(in_work=[left(in_work)])
    aside.waiting.append((Batch([]), [left(waiting)]))
    sets_aside = aside.rule([left(of_this_batch)])
    assert [sets_aside(recall(each)) for each in (in_work, waiting, of_this_batch, recorded)] == [
        True,
        True,
        True,
        False,
    ]
