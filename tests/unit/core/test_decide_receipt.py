"""Receipts: the same proof, then whether the signer is the recipient or receives for it."""

import pytest

from hub.core.decide import decide_answer, decide_answers
from hub.core.verdict import Answered, Park
from schemas.receipt import RECEIPT_TYP
from schemas.signing import identity
from tests.unit.schemas import stage
from tests.unit.schemas.stage import receipt, submitted

BY_PLATFORM = {"from": "H26.01.07", "via": "lgsp-h26"}


def signed(payload, signer="H26", **options):
    return stage.signed(payload, signer, **{"typ": RECEIPT_TYP, **options})


def decided(body, user="H26", *, key=None):
    return decide_answer(submitted(body, user, lane="receipt", key=key), stage.directory(), stage.NOW)


def places(verdict):
    assert isinstance(verdict, Park)
    return [(problem.code, problem.pointer) for problem in verdict.problems]


def test_a_recipient_answers_for_itself():
    body = signed(receipt())

    verdict = decided(body)

    assert isinstance(verdict, Answered)
    assert verdict.receipt_id == identity(body)
    assert verdict.token == body
    assert verdict.signer == "H26"
    assert verdict.receipt.to == "G01"
    assert verdict.submission.user == "H26"


@pytest.mark.parametrize("signer", ["lgsp-h26", "H26.01.07"])
@pytest.mark.parametrize("user", ["lgsp-h26", "H26.01.07"])
def test_a_platform_answers_for_the_agencies_whose_mail_it_receives(signer, user):
    """No mandate is needed: the directory sends their mail to its queue. This one's mandate for sending is over."""
    verdict = decided(signed(receipt(**BY_PLATFORM), signer), user)

    assert isinstance(verdict, Answered)
    assert verdict.signer == signer


def test_a_platform_does_not_answer_for_an_agency_with_a_queue_of_its_own():
    """H26.01 could have a mandate for sending; receiving goes by the endpoint alone."""
    assert places(decided(signed(receipt(via="lgsp-h26"), "lgsp-h26"), "lgsp-h26")) == [("E402", "/via")]
    assert places(decided(signed(receipt(**{"from": "H26.02", "via": "lgsp-h26"}), "lgsp-h26"), "lgsp-h26")) == [
        ("E402", "/via")
    ]


def test_a_platform_is_named_when_it_answers():
    assert places(decided(signed(receipt(**{"from": "H26.01.07"}), "lgsp-h26"), "H26.01.07")) == [("E401", "/from")]


def test_nobody_answers_for_another():
    assert places(decided(signed(receipt(), "G01"), "G01")) == [("E401", "/from"), ("E403", "")]
    assert places(decided(signed(receipt(), "G01"), "H26")) == [("E401", "/from")]
    assert places(decided(signed(receipt()), "G01")) == [("E403", "")]


@pytest.mark.parametrize("key", ["receipt.G01", "document.H26", "status.H26", "", "receipt.H26\n"])
def test_a_routing_key_that_contradicts_the_connection_is_parked(key):
    assert places(decided(signed(receipt()), key=key)) == [("E403", "")]


def test_all_problems_are_told_at_once():
    verdict = decided(signed(receipt(via="lgsp-h26"), "G01"), "G01", key="document.G01")

    assert places(verdict) == [("E401", "/from"), ("E402", "/via"), ("E403", "")]


def test_a_proven_signer_is_told_and_not_the_claimed_recipient():
    verdict = decided(signed(receipt(), "G01"), "H26")

    assert verdict.tell == "G01"


def test_a_receipt_that_cannot_be_read_is_parked_for_its_signer():
    verdict = decided(signed(receipt(answers=[], x=1)))

    assert places(verdict) == [("E502", "/answers"), ("E502", "/x")]
    assert verdict.tell == "H26"


def test_an_unproven_receipt_is_told_to_its_connection_only():
    assert decided(b"no token", "G01").tell == "G01"
    assert decided(signed(receipt()), None).tell is None
    assert places(decided(signed(receipt(), "H26", typ="truc.document.v1"))) == [("E105", "/header/typ")]


def test_a_batch_is_decided_one_by_one():
    bodies = [signed(receipt()), b"no token"]

    verdicts = decide_answers([submitted(body, "H26", lane="receipt") for body in bodies], stage.directory(), stage.NOW)

    assert [type(verdict) for verdict in verdicts] == [Answered, Park]
