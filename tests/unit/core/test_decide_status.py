"""Statuses: the same proof as for receipts, in a lane of their own."""

import pytest

from hub.core.decide import decide_answer
from hub.core.verdict import Answered, Park, Stated
from schemas.identifiers import delivery_id_of
from schemas.receipt import RECEIPT_TYP, STATUS_TYP
from schemas.signing import identity
from tests.unit.schemas import stage
from tests.unit.schemas.stage import receipt, status, submitted

BY_PLATFORM = {"from": "H26.01.07", "via": "lgsp-h26"}


def signed(payload, signer="H26", **options):
    return stage.signed(payload, signer, **{"typ": STATUS_TYP, **options})


def decided(body, user="H26", *, lane="status", key=None):
    return decide_answer(submitted(body, user, lane=lane, key=key), stage.directory(), stage.NOW)


def places(verdict):
    assert isinstance(verdict, Park)
    return [(problem.code, problem.pointer) for problem in verdict.problems]


def test_an_agency_states_what_it_does_with_a_document():
    body = signed(status())

    verdict = decided(body)

    assert isinstance(verdict, Stated)
    assert (verdict.status_id, verdict.token, verdict.signer) == (identity(body), body, "H26")
    assert verdict.delivery_id == delivery_id_of(verdict.status.document, "H26")


def test_a_sender_that_asks_for_a_document_means_the_delivery_to_the_other():
    verdict = decided(signed(status(status="13", to="H26", **{"from": "G01"}), "G01"), "G01")

    assert isinstance(verdict, Stated)
    assert verdict.delivery_id == delivery_id_of(verdict.status.document, "H26")


@pytest.mark.parametrize("signer", ["lgsp-h26", "H26.01.07"])
def test_a_platform_states_for_the_agencies_whose_mail_it_receives(signer):
    assert isinstance(decided(signed(status(**BY_PLATFORM), signer), "lgsp-h26"), Stated)


def test_nobody_states_for_another():
    assert places(decided(signed(status(), "G01"), "G01")) == [("E401", "/from"), ("E403", "")]
    assert places(decided(signed(status()), "G01")) == [("E403", "")]
    assert places(decided(signed(status(**BY_PLATFORM | {"from": "H26.02"}), "lgsp-h26"), "lgsp-h26")) == [
        ("E402", "/via")
    ]


def test_typ_says_what_it_is_and_the_lane_must_agree():
    assert places(decided(signed(status()), lane="receipt")) == [("E403", "")]
    assert places(decided(signed(receipt(), typ=RECEIPT_TYP), lane="status")) == [("E403", "")]
    assert isinstance(decided(signed(receipt(), typ=RECEIPT_TYP), lane="receipt"), Answered)


def test_a_status_that_cannot_be_read_is_parked_for_its_signer():
    verdict = decided(signed(status(status="07", x=1)))

    assert places(verdict) == [("E502", "/status"), ("E502", "/x")]
    assert verdict.tell == "H26"


def test_a_refusal_without_a_reason_is_none():
    assert places(decided(signed(status(status="02", detail=None)))) == [("E502", "")]
