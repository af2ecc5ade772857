"""What a status changes, to whom it goes on, and who is told when it is put aside."""

from dataclasses import replace
from datetime import timedelta

import pytest

from hub.core.delivery import Delivery
from hub.core.ladder import Standing
from hub.core.letter import LETTER_LIFETIME
from hub.core.settlement import settle_status
from hub.core.verdict import Park
from schemas.envelope import ENVELOPE_TYP
from schemas.identifiers import AgencyCode, delivery_id_of
from schemas.receipt import RECEIPT_TYP, STATUS_TYP
from tests import builders as a
from tests.builders import NOW, RECIPIENTS, SENDER

DOCUMENT = a.accept(signed=False).document_id


def delivery(**changes) -> Delivery:
    held = Delivery(
        delivery_id=delivery_id_of(DOCUMENT, RECIPIENTS[0]),
        object_id=DOCUMENT,
        typ=ENVELOPE_TYP,
        sender=SENDER,
        recipient=RECIPIENTS[0],
        state="routed",
        attempts=1,
        expires_at=NOW + timedelta(days=7),
    )
    return replace(held, **changes)


def test_status_moves_the_delivery_and_goes_on_to_the_sender_as_it_was_signed():
    stated = a.status(DOCUMENT, "03")

    settlement = settle_status(stated, delivery(), NOW)

    assert settlement.standing == Standing("03")
    assert settlement.park is None
    letter = settlement.forward
    assert letter is not None
    assert (letter.object_id, letter.typ, letter.token) == (stated.status_id, STATUS_TYP, stated.token)
    assert (letter.from_, letter.to, letter.expires_at) == (RECIPIENTS[0], SENDER, NOW + LETTER_LIFETIME)


def test_request_of_the_sender_goes_on_to_the_recipient():
    settlement = settle_status(a.status(DOCUMENT, "13", from_=SENDER, to=RECIPIENTS[0]), delivery(), NOW)

    assert settlement.standing == Standing(None, "asked")
    assert settlement.forward is not None
    assert (settlement.forward.from_, settlement.forward.to) == (SENDER, RECIPIENTS[0])


def test_status_that_comes_too_late_changes_nothing_and_goes_nowhere():
    settlement = settle_status(a.status(DOCUMENT, "01"), delivery(standing=Standing("03")), NOW)

    assert (settlement.delivery is None, settlement.standing, settlement.forward, settlement.park) == (
        False,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("state", ["pending", "routed", "received", "dead", "held", "expired"])
def test_status_is_taken_in_whatever_state_the_delivery_is(state):
    """It may come before the receipt, or after the axis has given up."""
    assert settle_status(a.status(DOCUMENT, "01"), delivery(state=state), NOW).standing == Standing("01")


@pytest.mark.parametrize(
    ("stated", "held"),
    [
        pytest.param(a.status(DOCUMENT, "03"), None, id="no such delivery"),
        pytest.param(a.status(DOCUMENT, "03", to="H99"), delivery(), id="another sender"),
        pytest.param(a.status(DOCUMENT, "03"), delivery(typ=RECEIPT_TYP), id="no document"),
        pytest.param(a.status(DOCUMENT, "13"), delivery(recipient=SENDER), id="13 by the recipient"),
        pytest.param(a.status(DOCUMENT, "03", from_=SENDER, to=RECIPIENTS[0]), delivery(), id="03 by the sender"),
    ],
)
def test_status_of_an_agency_that_has_nothing_to_do_with_the_document_is_put_aside(stated, held):
    settlement = settle_status(stated, held, NOW)

    assert (settlement.standing, settlement.forward) == (None, None)
    assert settlement.park is not None
    assert [(problem.code, problem.pointer) for problem in settlement.park.problems] == [("E411", "/document")]
    assert settlement.park.tell == stated.signer


def test_who_sent_a_status_that_is_put_aside_is_told_and_who_sent_a_receipt_is_not():
    stated = a.status(DOCUMENT, "03")
    park = Park(stated.submission, (a.Problem("E411", "/document"),), AgencyCode("H26"))

    told = a.settle.notice(park)
    untold = a.settle.notice(replace(park, submission=replace(park.submission, routing_key="receipt.H26")))

    assert told is not None
    assert told.to == "H26"
    assert untold is None
