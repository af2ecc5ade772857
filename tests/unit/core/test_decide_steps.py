"""Each step of the table in `hub/core/decide.py`, and that the steps come in its order."""

import json
from dataclasses import replace

import pytest

from hub.core.decide import decide, decide_all, decide_answers
from hub.core.policy import Policy
from hub.core.verdict import Accept, Addressee, Park, Refuse
from schemas.identifiers import AgencyCode, delivery_id_of
from schemas.signing import identity
from tests.unit.schemas import stage
from tests.unit.schemas.stage import NOW_S, document, signed, submitted


def decided(body, user="G01", *, key=None, directory=None, policy=stage.POLICY):
    return decide(submitted(body, user, key=key), directory or stage.directory(), policy, stage.NOW)


def codes(verdict):
    assert not isinstance(verdict, Accept)
    return [problem.code for problem in verdict.problems]


def places(verdict):
    return sorted((problem.code, problem.pointer) for problem in verdict.problems)


def without_key(**changes):
    return replace(stage.directory(), **changes)


# Acceptance.


def test_an_accepted_document_is_all_that_the_ledger_needs():
    body = signed(document(to=["H26.01", "G01", "H26"]))

    verdict = decided(body)

    assert isinstance(verdict, Accept)
    assert verdict.document_id == identity(body)
    assert verdict.token == body
    assert verdict.envelope.from_ == "G01"
    assert verdict.sender_tier == "ministry-province"
    assert verdict.addressees == (
        Addressee(AgencyCode("G01"), "ministry-province"),
        Addressee(AgencyCode("H26"), "ministry-province"),
        Addressee(AgencyCode("H26.01"), "department-district"),
    )
    assert verdict.directory_epoch == 7
    assert verdict.delivery_id(verdict.addressees[1]) == delivery_id_of(identity(body), AgencyCode("H26"))


def test_the_same_bytes_decide_the_same_way():
    body = signed(document())

    assert decided(body) == decided(body)


# Steps 0 to 6: nobody is proven, so it is parked.


@pytest.mark.parametrize("user", [None, "", "H99", "g01", "G01 ", "hub", "H32"])
def test_step_0_without_a_known_user_nobody_is_told(user):
    verdict = decided(signed(document()), user)

    assert isinstance(verdict, Park)
    assert codes(verdict) == ["E403"]
    assert verdict.tell is None


def broken(body: bytes) -> dict[int, bytes]:
    """A body for each step, wrong in that step and in every later one."""
    later = document(**{"from": "H26.02", "via": "lgsp-h26", "to": ["H99"]}, expires=NOW_S - 1)
    bad_signature = signed(later)[:-86] + b"A" * 86
    return {
        1: b"no token",
        2: signed(later, typ="JWT"),
        3: signed(later, "G01 unregistered"),
        4: signed(later, "G01 expired", iat_s=NOW_S - 90_000),
        5: signed(later, iat_s=NOW_S - 90_000)[:-86] + b"A" * 86,
        6: bad_signature,
    }


@pytest.mark.parametrize(
    ("step", "expected"), [(1, "E102"), (2, "E105"), (3, "E201"), (4, "E202"), (5, "E601"), (6, "E301")]
)
def test_steps_1_to_6_stop_at_the_first_failure(step, expected):
    """Each body is also wrong in all later steps; a later check must not even run."""
    verdict = decided(broken(b"")[step])

    assert isinstance(verdict, Park)
    assert codes(verdict) == [expected]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_what_is_parked_is_told_to_the_user_of_the_connection_and_never_to_the_claimed_sender(step):
    """Anybody can write `from: G01`; only the broker user is proven."""
    verdict = decided(broken(b"")[step], "H26")

    assert isinstance(verdict, Park)
    assert verdict.tell == "H26"
    assert verdict.submission.user == "H26"


def test_a_platform_is_told_too():
    assert decided(b"no token", "lgsp-h26").tell == "lgsp-h26"


@pytest.mark.parametrize("owner", ["hub", "H32"])
def test_a_key_whose_owner_the_directory_does_not_know_proves_nobody(owner):
    """A refusal would have to be sent to that owner: to the hub itself, or to an agency that is no more."""
    verdict = decided(signed(document(), owner))

    assert isinstance(verdict, Park)
    assert codes(verdict) == ["E201"]
    assert verdict.tell == "G01"


# Steps 7 to 9: the signer is proven and is told everything.


def test_step_7_problems_of_the_schema_go_to_the_signer():
    verdict = decided(signed(document(priority=1, to=[])))

    assert isinstance(verdict, Refuse)
    assert places(verdict) == [("E502", "/priority"), ("E502", "/to")]
    assert verdict.envelope_id is None


def test_a_refusal_knows_the_envelope_that_could_be_read():
    body = signed(document(to=["H99"]))

    verdict = decided(body)

    assert isinstance(verdict, Refuse)
    assert verdict.envelope_id == document()["id"]
    assert verdict.document_id == identity(body)
    assert verdict.submission.body == body


def test_the_signer_is_the_owner_of_the_key_whatever_the_envelope_claims():
    """A forged `from` must not send the notice to the victim."""
    verdict = decided(signed(document(**{"from": "H26"}), "G01"))

    assert isinstance(verdict, Refuse)
    assert verdict.signer == "G01"
    assert verdict.envelope_id == document()["id"]


def test_the_signer_is_the_owner_even_when_the_payload_says_nothing():
    verdict = decided(signed(b"[]", "H26"), "G01")

    assert isinstance(verdict, Refuse)
    assert verdict.signer == "H26"


@pytest.mark.parametrize(
    ("created", "expires", "expected"),
    [
        (NOW_S, NOW_S + 1, []),
        (NOW_S, NOW_S, [("E602", "/expires"), ("E602", "/expires")]),
        (NOW_S - 10, NOW_S, [("E602", "/expires")]),
        (NOW_S + 300, NOW_S + 301, []),
        (NOW_S + 301, NOW_S + 302, [("E601", "/created")]),
        (NOW_S, NOW_S + 30 * 86400, []),
        (NOW_S, NOW_S + 30 * 86400 + 1, [("E602", "/expires")]),
        (NOW_S - 31 * 86400, NOW_S + 1, [("E602", "/expires")]),
        (NOW_S + 301, NOW_S - 1, [("E601", "/created"), ("E602", "/expires"), ("E602", "/expires")]),
    ],
)
def test_step_7_times(created, expires, expected):
    verdict = decided(signed(document(created=created, expires=expires)))

    assert expected == ([] if isinstance(verdict, Accept) else places(verdict))


def test_created_is_held_against_the_signature_and_not_against_the_clock():
    """Signed an hour ago and created 10 minutes after that is impossible, though both are past."""
    body = signed(document(created=NOW_S - 3000), iat_s=NOW_S - 3600)

    assert places(decided(body)) == [("E601", "/created")]


def test_problems_of_all_later_steps_are_told_at_once():
    payload = document(
        **{"from": "H26.01", "via": "lgsp-h26", "action": "revoke", "ref": ["a" * 64]},
        to=["H99", "H30", "H31", "H26", "H26"],
        created=NOW_S + 301,
        expires=NOW_S,
    )

    verdict = decided(signed(payload, "H26"), "G01", key="document.H26")

    assert isinstance(verdict, Refuse)
    assert places(verdict) == [
        ("E401", "/from"),
        ("E402", "/via"),
        ("E403", ""),
        ("E403", ""),
        ("E404", "/to/0"),
        ("E405", "/to/1"),
        ("E406", "/to/4"),
        ("E408", "/to/2"),
        ("E601", "/created"),
        ("E602", "/expires"),
        ("E602", "/expires"),
    ]


def test_a_schema_problem_hides_the_later_steps():
    """There is no envelope to check further."""
    assert codes(decided(signed(document(to=["H99"], x=1)))) == ["E502"]


def test_a_batch_is_decided_one_by_one_in_its_order():
    bodies = [signed(document()), b"no token", signed(document(to=["H99"]))]

    verdicts = decide_all([submitted(body) for body in bodies], stage.directory(), stage.POLICY, stage.NOW)

    assert [type(verdict) for verdict in verdicts] == [Accept, Park, Refuse]


class _Failing(dict):
    def get(self, *_):
        raise ZeroDivisionError


def test_a_check_that_fails_parks_its_submission_and_harms_no_other():
    """A fault of ours must not stop the queue, nor be answered as if the sender were wrong."""
    sound = submitted(signed(document()))
    broken_directory = replace(stage.directory(), keys=_Failing())

    documents = decide_all([sound, submitted(b"no token")], broken_directory, stage.POLICY, stage.NOW)
    receipts = decide_answers(
        [submitted(signed(stage.receipt(), "H26", typ="truc.receipt.v1"), "H26")], broken_directory, stage.NOW
    )

    for verdict in (documents[0], receipts[0]):
        assert isinstance(verdict, Park)
        assert codes(verdict) == ["E902"]
        assert "ZeroDivisionError" in verdict.problems[0].en
        assert verdict.tell is None
    assert documents[0].submission == sound
    assert codes(documents[1]) == ["E102"]


def test_too_many_recipients_are_counted_after_groups_are_expanded():
    body = signed(document(to=["descendants:H26", "H26"]))

    assert isinstance(decided(body, policy=Policy(max_recipients=3)), Accept)
    assert places(decided(body, policy=Policy(max_recipients=2))) == [("E406", "/to")]


def test_a_hostile_routing_key_or_user_is_shown_without_its_control_characters():
    verdict = decided(signed(document()), key="document.\x1b[2J\u202e" + "x" * 1000)

    (problem,) = verdict.problems
    assert problem.code == "E403"
    assert problem.en.isprintable()
    assert problem.vi.isprintable()
    assert len(problem.en) < 200
    assert decided(b"", "\x1b[2J").problems[0].en.isprintable()


def test_a_payload_is_read_from_the_signed_bytes_and_not_written_again():
    """Spaces and the order of members are the sender's; the identity is of these bytes."""
    payload = json.dumps(dict(reversed(document().items())), indent=3).encode()
    body = signed(payload)

    verdict = decided(body)

    assert isinstance(verdict, Accept)
    assert verdict.token == body
    assert verdict.document_id != identity(signed(document()))
