"""The audit: nothing to say about a ledger that the hub wrote, and a word about every violation planted in one."""

from datetime import timedelta

import pytest

from hub.core.settlement import settle_attempt, settle_expired, settle_held, settle_overdue, warn_of_end
from hub.store.audit import MAX_LISTED, RULES, audit
from hub.store.deliveries import PostgresDeliveries
from hub.store.holds import hold_recipient
from hub.store.ledger import PostgresLedger
from hub.store.pool import open_pool
from schemas.identifiers import AgencyCode
from tests import builders as a
from tests.builders import NOW, POLICY, RECIPIENTS
from tests.keys import agency_keys
from tests.services import run_sql

LATER = NOW + timedelta(hours=1)


@pytest.fixture
async def pool(database_url):
    """A ledger in which everything has happened once."""
    async with open_pool(database_url) as pool:
        ledger = PostgresLedger(pool)
        answered, waiting, gone = a.accept(), a.accept(), a.accept(a.envelope(now=NOW - timedelta(days=6, hours=23)))
        verdicts = (answered, waiting, gone, a.refuse(), a.park(tell="G22"), answered)
        await ledger.record([a.decided(verdict) for verdict in verdicts], NOW)
        await _route(pool, NOW)
        first, second, third = (answered.delivery_id(addressee) for addressee in answered.addressees)
        await ledger.record_answers(
            [
                a.receipt(first),
                a.receipt(first, code="late"),
                a.receipt(second, from_=RECIPIENTS[1], outcome="refused"),
                a.receipt(third, from_=RECIPIENTS[2], outcome="failed"),
                a.receipt(third, code="not its own"),
                a.park(),
            ],
            a.settle,
            NOW,
        )
        recall = a.accept(a.envelope(action="revoke", ref=[answered.document_id], to=RECIPIENTS[:1]))
        await ledger.record([a.decided(recall)], NOW)
        await ledger.record_answers(
            [
                a.status(answered.document_id, "03"),
                a.status(answered.document_id, "01"),
                a.status(answered.document_id, "13", from_="G22", to=RECIPIENTS[0]),
                a.status(recall.document_id, "15"),
                a.status(answered.document_id, "03", to="H99"),
            ],
            a.settle,
            NOW,
        )
        await _route(pool, NOW + timedelta(minutes=1))
        await hold_recipient(pool, AgencyCode("H26.09"), "an", "bảo trì", NOW)
        await ledger.record([a.decided(a.accept(a.envelope(to=["H26.09"])))], NOW)
        async with PostgresDeliveries(pool, wait_s=0.01).claim(NOW) as claim:
            await claim.settle([settle_held(due.delivery, "E813") for due in claim.due], NOW)
        signer = agency_keys("hub").signer
        await ledger.warn(lambda item: warn_of_end(item, signer, NOW), LATER - timedelta(minutes=10))
        await ledger.record([a.decided(a.refuse())], LATER)
        await ledger.resettle("expired", lambda item: settle_expired(item, agency_keys("hub").signer, LATER), LATER)
        await ledger.resettle("overdue", lambda item: settle_overdue(item, POLICY, LATER), LATER)
        yield pool


async def _route(pool, now):
    async with PostgresDeliveries(pool, wait_s=0.01).claim(now) as claim:
        await claim.settle([settle_attempt(due.delivery, "routed", POLICY, now) for due in claim.due], now)


async def test_ledger_that_the_hub_wrote_holds(pool):
    report = await audit(pool, identities=None)
    assert report.violations == ()
    assert report.holds
    assert (report.documents, report.owed) == (5, 11)
    assert report.by_state == {"pending": 5, "routed": 0, "received": 1, "dead": 1, "held": 1, "expired": 3}
    # documents, receipts, statuses, notices: refused, parked, status put aside, expiring, expired
    assert report.identities_checked == 5 + 5 + 5 + 1 + 1 + 1 + 3 + 3


async def test_empty_ledger_holds(database_url):
    async with open_pool(database_url) as pool:
        report = await audit(pool)
    assert (report.holds, report.documents, report.owed) == (True, 0, 0)


_OF_DOCUMENT = "typ = 'truc.document.v1'"
_ONE = f"(SELECT delivery_id FROM deliveries WHERE {_OF_DOCUMENT} AND state = 'received')"


_COPY = f"""
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, state, created_at, changed_at, expires_at,
    stored_at)
SELECT gen_random_uuid(), object_id, typ, sender, {{recipient}}, state, created_at, changed_at, expires_at, stored_at
FROM deliveries
WHERE delivery_id = {_ONE}
"""

_LETTER = "(SELECT letter_id FROM dead_letters WHERE kind = 'delivery')"
_REPLAY = """
INSERT INTO replays (purpose, state, selection, size, excluded, needs_second, planned_by, planned_at, changed_by,
    changed_at, mode, reason, started_by)
VALUES ('dead-letters', 'done', '{}', 1, 0, false, 'an', now(), 'an', now(), 'all', 'x', 'an')
"""
_ITEM = """
;
INSERT INTO replay_items (replay_id, letter_id, kind, delivery_id, agency, code, since, position)
SELECT replay_id, letter_id, 'delivery', delivery_id, agency, code, since, 1
FROM replays, dead_letters WHERE kind = 'delivery'
"""

PLANTED = [
    (
        "every redirected document has a delivery that was closed for it",
        """
        INSERT INTO ledger (at, event, actor, document_id, detail)
        SELECT now(), 'document.redirected', 'x', document_id, '{"recipients": ["H99"], "instead_of": "x"}'
        FROM documents LIMIT 1
        """,
    ),
    (
        "every dead delivery and every submission put aside is a dead letter, and nothing else is",
        f"DELETE FROM dead_letters WHERE letter_id = {_LETTER}",
    ),
    (
        "every dead delivery and every submission put aside is a dead letter, and nothing else is",
        "UPDATE dead_letters SET state = 'closed' WHERE kind = 'submission'",
    ),
    (
        "every dead delivery and every submission put aside is a dead letter, and nothing else is",
        "UPDATE deliveries SET state = 'routed' WHERE state = 'dead'",
    ),
    ("every group of dead letters has as many as it says", "UPDATE dead_groups SET open = open + 1"),
    ("every group of dead letters has as many as it says", "UPDATE dead_groups SET last_seen = '2000-01-01'"),
    ("every replay has as many items as it says", _REPLAY),
    ("every item of a replay that has ended has an outcome", _REPLAY + _ITEM),
    (
        "every delivery that was replayed is an item of that replay, released once",
        _REPLAY + _ITEM + "; UPDATE replay_items SET released_at = now(), outcome = 'dead', ended_at = now()",
    ),
    (
        "every delivery that was replayed is an item of that replay, released once",
        f"""
        INSERT INTO ledger (at, event, actor, document_id, delivery_id, state, detail)
        SELECT now(), 'delivery.replayed', 'x', document_id, delivery_id, 'dead', '{{"replay": 7}}'
        FROM dead_letters WHERE letter_id = {_LETTER}
        """,
    ),
    (
        "every accepted document has one event of acceptance, and every such event its document",
        "DELETE FROM ledger WHERE event = 'document.accepted'",
    ),
    (
        "every accepted document has one event of acceptance, and every such event its document",
        """
        INSERT INTO ledger (at, event, actor, document_id, detail)
        VALUES (now(), 'document.accepted', 'x', decode(repeat('00', 32), 'hex'), '{"recipients": []}')
        """,
    ),
    (
        "every recipient of an accepted document has a delivery",
        f"DELETE FROM deliveries WHERE delivery_id = {_ONE}",
    ),
    ("every delivery of a document is owed, once", _COPY.format(recipient="'H99'")),
    (
        "every delivery of a document is owed, once",
        "ALTER TABLE deliveries DROP CONSTRAINT deliveries_object_id_recipient_key;"
        + _COPY.format(recipient="recipient"),
    ),
    ("every document has as many deliveries as it says", "UPDATE documents SET recipients = 99"),
    (
        "every delivery is in the state of its last event",
        f"UPDATE deliveries SET state = 'dead' WHERE delivery_id = {_ONE}",
    ),
    ("every delivery is in the state of its last event", "DELETE FROM ledger WHERE event = 'delivery.received'"),
    (
        "every event of a delivery has its delivery",
        """
        INSERT INTO ledger (at, event, actor, delivery_id, state)
        VALUES (now(), 'delivery.routed', 'x', gen_random_uuid(), 'routed')
        """,
    ),
    ("every received delivery has a receipt of its recipient", "UPDATE receipts SET recipient = 'H99'"),
    (
        "every received delivery has a receipt of its recipient",
        "UPDATE ledger SET detail = NULL WHERE event = 'delivery.received'",
    ),
    (
        "every receipt has answered a delivery, or was put aside",
        f"""
        INSERT INTO receipts
        SELECT object_id, 'H99', NULL, now() FROM signed_objects WHERE {_OF_DOCUMENT} LIMIT 1
        """,
    ),
    (
        "every status has moved its delivery or come too late, once, or was put aside",
        "DELETE FROM ledger WHERE event = 'status.late'",
    ),
    (
        "every status has moved its delivery or come too late, once, or was put aside",
        "UPDATE statuses SET delivery_id = gen_random_uuid()",
    ),
    (
        "every status has moved its delivery or come too late, once, or was put aside",
        "DELETE FROM dead_letters WHERE code = 'E411'; DELETE FROM parked WHERE code = 'E411'",
    ),
    (
        "every status that moved a delivery went on once, and no other did",
        "UPDATE ledger SET event = 'status.late' WHERE event = 'status.moved'",
    ),
    (
        "every status that moved a delivery went on once, and no other did",
        "DELETE FROM deliveries WHERE typ = 'truc.status.v1'",
    ),
    (
        "every delivery stands where its last status has left it",
        "UPDATE deliveries SET progress = '06' WHERE progress = '03'",
    ),
    (
        "every delivery stands where its last status has left it",
        "UPDATE deliveries SET request = NULL WHERE request = 'agreed'",
    ),
    ("every reference names a document of the same sender", "UPDATE documents SET sender = 'H99' WHERE refs = '{}'"),
    (
        "every held delivery says why, and its recipient's own events say so too",
        "UPDATE ledger SET code = NULL WHERE event = 'delivery.held'",
    ),
    (
        "every held delivery says why, and its recipient's own events say so too",
        "DELETE FROM ledger WHERE event = 'recipient.held'",
    ),
    (
        "every held delivery says why, and its recipient's own events say so too",
        "UPDATE ledger SET code = 'E811' WHERE event = 'delivery.held'",
    ),
    (
        "every held delivery waits for a recipient that is not well",
        "UPDATE recipients SET held_by = NULL, held_reason = NULL, held_at = NULL",
    ),
    ("every held delivery waits for a recipient that is not well", "DELETE FROM recipients"),
    (
        "a sender is warned of the end of a delivery at most once, and told of it at most once",
        """
        INSERT INTO ledger (at, event, actor, document_id, delivery_id, code)
        SELECT at, event, actor, document_id, delivery_id, code FROM ledger WHERE event = 'delivery.expiring'
        """,
    ),
    (
        "every notice about a delivery has a delivery of its own",
        """
        DELETE FROM deliveries
        WHERE object_id IN (
            SELECT decode(detail ->> 'notice', 'hex') FROM ledger WHERE event = 'delivery.expiring' LIMIT 1
        )
        """,
    ),
    (
        "every notice of a refusal has a delivery",
        "DELETE FROM deliveries WHERE object_id IN (SELECT notice_id FROM refusals)",
    ),
    (
        "every document, receipt and status has its signed bytes",
        f"DELETE FROM signed_objects WHERE NOT {_OF_DOCUMENT}",
    ),
    (
        "every delivery has its signed bytes in the month that it names",
        f"UPDATE deliveries SET stored_at = stored_at - interval '1 month' WHERE delivery_id = {_ONE}",
    ),
    (
        "every signed object is kept once",
        f"""
        INSERT INTO signed_objects
        SELECT object_id, typ, token, stored_at + interval '2 months' FROM signed_objects WHERE {_OF_DOCUMENT} LIMIT 1
        """,
    ),
    (
        "every archived month has left as much as its manifest says",
        """
        INSERT INTO archives VALUES
        ('2000-01-01', '2000-02-01', 'x', 'x', '{"documents": 1, "deliveries": 0, "owed": 0}', now(), 'x', 'x')
        """,
    ),
    (
        "every archived month has left as much as its manifest says",
        """
        INSERT INTO archives VALUES
        ('2000-01-01', '2000-02-01', 'x', 'x', '{"documents": 0, "deliveries": 1, "owed": 0}', now(), 'x', 'x')
        """,
    ),
    (
        "every event and every signed object lies in its month",
        "INSERT INTO ledger (at, event, actor) VALUES (now() + interval '10 years', 'x', 'x')",
    ),
    (
        "every event and every signed object lies in its month",
        f"UPDATE signed_objects SET stored_at = stored_at + interval '10 years' WHERE {_OF_DOCUMENT}",
    ),
    (
        "every signed object has the identity of its bytes",
        f"UPDATE signed_objects SET token = 'x' || token WHERE {_OF_DOCUMENT}",
    ),
    (
        "every delivery has the id of its object and recipient",
        f"UPDATE deliveries SET delivery_id = gen_random_uuid() WHERE delivery_id = {_ONE}",
    ),
]


@pytest.mark.parametrize(("rule", "planted"), PLANTED)
async def test_planted_violation_is_found(pool, database_url, rule, planted):
    await run_sql(database_url, planted)
    report = await audit(pool)
    found = {violation.rule: violation for violation in report.violations}
    assert rule in found
    assert found[rule].count == len(found[rule].ids) >= 1
    assert not report.holds


def test_every_rule_has_been_seen_to_find_something():
    assert {rule for rule, _ in PLANTED} >= set(RULES)


async def test_great_number_of_violations_is_counted_and_some_are_listed(pool, database_url):
    await PostgresLedger(pool).record([a.decided(a.accept(signed=False)) for _ in range(30)], NOW)
    await run_sql(database_url, "UPDATE documents SET recipients = 99")
    [violation] = (await audit(pool)).violations
    assert (violation.count, len(violation.ids)) == (35, MAX_LISTED)


async def test_sample_of_identities_is_no_larger_than_asked_for(pool):
    assert (await audit(pool, identities=4)).identities_checked == 4
