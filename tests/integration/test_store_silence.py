"""Since when an agency is silent, by the tables of the ledger."""

from datetime import timedelta

import pytest

from hub.core.settlement import settle_attempt
from hub.store.deliveries import PostgresDeliveries
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from hub.store.silence import PostgresSilence
from schemas.identifiers import AgencyCode
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS, SENDER

FIRST, SECOND, _ = map(AgencyCode, RECIPIENTS)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
async def accept(pool):
    """A document that has been handed over to three recipients, none of which has answered."""
    accept = a.accept()
    await PostgresLedger(pool).record([a.decided(accept)], NOW)
    async with PostgresDeliveries(pool, wait_s=0.01).claim(NOW) as claim:
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, NOW) for due in claim.due], NOW)
    return accept


async def test_whom_nobody_writes_to_is_not_silent(pool):
    assert await PostgresSilence(pool).since(FIRST) is None


async def test_who_does_not_answer_is_silent_since_the_document_was_accepted(pool, accept):
    assert await PostgresSilence(pool).since(FIRST) == NOW
    assert await PostgresSilence(pool).since(AgencyCode(SENDER)) is None


async def test_who_has_answered_everything_is_not_silent(pool, accept):
    answer = a.receipt(accept.delivery_id(accept.addressees[0]))
    await PostgresLedger(pool).record_answers([answer], a.settle, LATER)

    assert await PostgresSilence(pool).since(FIRST) is None
    assert await PostgresSilence(pool).since(SECOND) == NOW


async def test_who_answers_something_else_is_silent_since_then(pool, accept):
    other = a.accept()
    await PostgresLedger(pool).record([a.decided(other)], NOW)
    answer = a.receipt(other.delivery_id(other.addressees[0]))
    await PostgresLedger(pool).record_answers([answer], a.settle, LATER)

    assert await PostgresSilence(pool).since(FIRST) == LATER


async def test_who_sends_something_is_silent_since_then(pool, accept):
    sent = a.accept(a.envelope(from_=FIRST, to=[SECOND]))
    await PostgresLedger(pool).record([a.decided(sent)], LATER)

    assert await PostgresSilence(pool).since(FIRST) == LATER
