"""Step 9: groups are expanded from the directory; every recipient is known, open and named once."""

from dataclasses import replace

import pytest

from schemas.checks.address import address
from schemas.checks.directory import Agency, Directory, endpoints_of, snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from tests.unit.schemas import stage

DAYS = {"valid_from": "2020-01-01"}


def entry(code, tier="commune", **more):
    return {"code": code, "name": code, "tier": tier, "endpoint": code, **DAYS, **more}


def directory_of(*agencies, **more) -> Directory:
    file = DirectoryFile.model_validate_json(_json({"agencies": agencies, **more}))
    return snapshot(file, epoch=1, as_of=stage.NOW)


def _json(value):
    import json

    return json.dumps(value)


def addressed(*to, directory=None, sender="G01", most=100):
    envelope = Envelope.model_validate_json(_json(stage.document(**{"from": sender}, to=list(to))))
    addressees, problems = address(envelope, directory or stage.directory(), most)
    return [addressee.code for addressee in addressees], [(problem.code, problem.pointer) for problem in problems]


def test_named_recipients_are_sorted_and_keep_their_tier():
    envelope = Envelope.model_validate_json(_json(stage.document(to=["H26.01.07", "0100109106", "H26"])))

    addressees, problems = address(envelope, stage.directory(), stage.POLICY.max_recipients)

    assert [(addressee.code, addressee.tier) for addressee in addressees] == [
        ("0100109106", "associate"),
        ("H26", "ministry-province"),
        ("H26.01.07", "commune"),
    ]
    assert problems == ()


def test_a_named_recipient_that_is_not_connected_yet_is_addressed():
    """Its mail waits; a group leaves it out, because nobody meant it in particular."""
    assert addressed("H26.02") == (["H26.02"], [])
    assert "H26.02" not in addressed("children:H26")[0]


def test_an_agency_may_write_to_itself_by_name():
    assert addressed("G01") == (["G01"], [])


def test_a_tier_is_its_open_connected_members_without_the_sender():
    """H30 is suspended, H31 closed, H32 no longer in force, G01 the sender."""
    assert addressed("tier:ministry-province") == (["000.00.00.H27", "H26"], [])
    assert addressed("tier:commune") == (["H26.01.07"], [])


def test_children_are_one_level_and_descendants_all():
    assert addressed("children:H26") == (["H26.01"], [])
    assert addressed("descendants:H26") == (["H26.01", "H26.01.07"], [])


def test_descendants_are_found_below_an_agency_that_is_not_connected():
    """The way down leads through members that get nothing themselves."""
    directory = directory_of(
        entry("H01"), entry("H01.1", parent="H01", endpoint=None), entry("H01.1.1", parent="H01.1")
    )

    assert addressed("descendants:H01", directory=directory) == (["H01.1.1"], [])


def test_a_name_and_groups_that_reach_one_agency_give_one_delivery():
    assert addressed("H26.01", "children:H26", "descendants:H26", "tier:department-district") == (
        ["H26.01", "H26.01.07"],
        [],
    )


def test_agencies_that_are_each_other_s_parents_end_the_search():
    directory = directory_of(
        entry("H01", parent="H03"), entry("H02", parent="H01"), entry("H03", parent="H02"), entry("H04", parent="H04")
    )

    assert addressed("descendants:H01", directory=directory) == (["H02", "H03"], [])
    assert addressed("children:H04", directory=directory) == ([], [("E404", "/to/0")])


@pytest.mark.parametrize("group", ["children:G01", "descendants:H99", "children:H99", "tier:associate"])
def test_a_group_without_members_is_a_mistake(group):
    directory = replace(stage.directory(), agencies={"G01": stage.directory().agencies["G01"]}, children={})

    assert addressed(group, directory=directory) == ([], [("E404", "/to/0")])


def test_a_group_of_the_sender_alone_has_no_members():
    assert addressed("children:H26", sender="H26.01")[1] == [("E404", "/to/0")]


def test_unknown_suspended_and_closed_recipients_are_all_told():
    assert addressed("H26", "H99", "H30", "H31", "H32") == (
        ["H26"],
        [("E404", "/to/1"), ("E405", "/to/2"), ("E408", "/to/3"), ("E404", "/to/4")],
    )


@pytest.mark.parametrize(
    ("successors", "told"),
    [((), "—"), (("H01",), "H01"), (("H01", "H02"), "H01, H02"), (("H01", "H02", "H03", "H04"), "H01, H02, H03")],
)
def test_a_closed_recipient_names_its_successors(successors, told):
    closed = Agency(AgencyCode("H09"), "H09", "commune", None, None, "closed", tuple(map(AgencyCode, successors)))
    directory = replace(stage.directory(), agencies={"H09": closed})
    envelope = Envelope.model_validate_json(_json(stage.document(to=["H09"])))

    _, problems = address(envelope, directory, stage.POLICY.max_recipients)

    assert problems == (Problem("E408", "/to/0", f"successor: {told}", f"đơn vị kế thừa: {told}"),)


def test_a_repeated_recipient_is_told_at_each_repetition():
    assert addressed("H26", "G01", "H26", "H26")[1] == [("E406", "/to/2"), ("E406", "/to/3")]
    assert addressed("H99", "H99")[1] == [("E404", "/to/0"), ("E406", "/to/1")]


class _Counting(dict):
    """Agencies that count how often all of them are walked through."""

    walks = 0

    def values(self):
        self.walks += 1
        return super().values()


def test_a_repeated_group_is_expanded_once():
    """A thousand times the same group in one document would keep a hub of 111,000 agencies busy for minutes."""
    agencies = _Counting(stage.directory().agencies)
    directory = replace(stage.directory(), agencies=agencies)

    found, problems = addressed(*["tier:commune"] * 1000, directory=directory)

    assert agencies.walks == 1
    assert found == ["H26.01.07"]
    assert len(problems) == 999


def test_the_limit_counts_agencies_and_not_names():
    assert addressed("descendants:H26", "H26.01", most=2)[1] == []
    assert addressed("descendants:H26", "H26", most=2)[1] == [("E406", "/to")]


def test_a_snapshot_holds_what_is_in_force_at_its_moment():
    directory = directory_of(
        entry("H01", "commune", valid_to="2026-03-02"),
        entry("H01", "department-district", valid_from="2026-03-02"),
        entry("H02", valid_from="2026-03-03"),
        platforms=[
            {"code": "lgsp-a", "name": "A", **DAYS},
            {"code": "lgsp-b", "name": "B", "valid_from": "2026-03-03"},
        ],
        mandates=[
            {"platform": "lgsp-a", "agency": "H01", "actions": ["new"], **DAYS},
            {"platform": "lgsp-a", "agency": "H02", "actions": ["new"], **DAYS, "valid_to": "2026-03-02"},
        ],
    )

    assert directory.agencies.keys() == {"H01"}
    assert directory.agencies["H01"].tier == "department-district"
    assert directory.platforms == {"lgsp-a": "A"}
    assert directory.allows("lgsp-a", "H01", "new")
    assert not directory.allows("lgsp-a", "H01", "update")
    assert not directory.allows("lgsp-a", "H02", "new")
    assert not directory.allows("lgsp-b", "H01", "new")
    assert directory.epoch == 1
    assert directory.as_of == stage.NOW


def test_a_snapshot_leaves_out_certificates_that_may_not_sign():
    good, weak = stage.certified("G01"), stage.make_certificate("G01", "P-384", not_before=stage.NOW)
    file = DirectoryFile(certificates=(good.entry("G01"), weak.entry("G01")))

    assert snapshot(file, epoch=1, as_of=stage.NOW).keys.keys() == {good.signer.fingerprint}


def test_a_snapshot_takes_certificates_that_were_read_before():
    keys = list(stage.directory().keys.values())

    assert snapshot(DirectoryFile(), epoch=1, as_of=stage.NOW, keys=keys).keys == stage.directory().keys
    assert snapshot(stage.directory_file(), epoch=1, as_of=stage.NOW, keys=[]).keys == {}


def test_the_directory_knows_agencies_and_platforms_in_force():
    directory = stage.directory()

    assert directory.knows("G01")
    assert directory.knows("lgsp-h26")
    assert directory.knows("H31")
    assert not directory.knows("H32")
    assert not directory.knows("lgsp-cu")
    assert not directory.knows("hub")


def test_mail_travels_by_the_exchange_of_the_tier_into_the_queue_of_the_endpoint():
    directory = stage.directory()

    assert directory.tier_of("H26.01") == "department-district"
    assert directory.endpoint_of("H26.01") == "lgsp-h26"
    assert directory.endpoint_of("H26.02") is None
    assert directory.tier_of("lgsp-h26") == "associate"
    assert directory.endpoint_of("lgsp-h26") == "lgsp-h26"
    assert directory.tier_of("H99") is None
    assert directory.endpoint_of("H99") is None


def test_everybody_who_connects_is_an_endpoint_once():
    directory = stage.directory()
    assert endpoints_of(directory) == sorted(
        {agency.endpoint for agency in directory.agencies.values() if agency.endpoint} | {"lgsp-h26"}
    )
    assert "H26.01" not in endpoints_of(directory)  # its platform connects for it
