"""Who may ask over HTTP: every way in which a grant proves nothing, or not enough."""

from typing import Any

import pytest

from hub.core.grant import Granted, decide_grant
from schemas.grant import GRANT_TYP
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP
from tests.unit.schemas import stage
from tests.unit.schemas.stage import NOW, NOW_S

PART = "ab" * 32
DOCUMENT = "cd" * 32


def grant(**changes: Any) -> dict[str, Any]:
    """A valid grant of G01 to upload, with changes at its top level; `None` leaves a member out."""
    members = {"v": 1, "from": "G01", "act": "upload", "part": PART, "until": NOW_S + 300} | changes
    return {key: value for key, value in members.items() if value is not None}


def decided(payload: Any, name: str = "G01", **how: Any) -> Granted | list[tuple[str, str]]:
    """What the hub decides; problems as code and place."""
    token = stage.signed(payload, name, **{"typ": GRANT_TYP, **how})
    result = decide_grant(token, stage.directory(), NOW)
    return result if isinstance(result, Granted) else [(problem.code, problem.pointer) for problem in result]


def test_grant_of_the_agency_itself_is_accepted():
    granted = decided(grant())

    assert isinstance(granted, Granted)
    assert (granted.agency, granted.signer, granted.receives) == (AgencyCode("G01"), AgencyCode("G01"), True)


@pytest.mark.parametrize("token", [b"", b"x", b"a.b.c", b"\xff" * 10, b"." * 10_000])
def test_bytes_that_are_no_token_prove_nothing(token):
    assert not isinstance(decide_grant(token, stage.directory(), NOW), Granted)


def test_another_signed_object_is_no_grant():
    assert decided(stage.receipt(), typ=RECEIPT_TYP) == [("E105", "/header/typ")]


def test_key_that_nobody_knows_proves_nothing():
    token = stage.signed(grant(), typ=GRANT_TYP)
    header = stage.certified("G01 unknown").signer

    other = stage.token(
        f'{{"alg":"ES256","typ":"{GRANT_TYP}","x5t#S256":"{header.fingerprint}","iat":{NOW_S}}}'.encode(), b"{}", header
    )

    assert isinstance(decide_grant(token, stage.directory(), NOW), Granted)
    [problem] = decide_grant(other, stage.directory(), NOW)
    assert problem.code == "E201"


def test_the_hubs_own_key_asks_nothing():
    assert decided(grant(), "hub") == [("E201", "/header/x5t#S256")]


def test_revoked_certificate_proves_nothing():
    assert decided(grant(), "G01 revoked") == [("E203", "/header/x5t#S256")]


def test_changed_grant_proves_nothing():
    token = bytearray(stage.signed(grant(), typ=GRANT_TYP))
    token[-90] ^= 1

    [problem] = decide_grant(bytes(token), stage.directory(), NOW)
    assert problem.code in ("E301", "E103")


@pytest.mark.parametrize(
    ("iat_s", "until_s", "places"),
    [
        (NOW_S - 300, NOW_S + 1, ["/until"]),  # longer than five minutes
        (NOW_S - 300, NOW_S, ["/until"]),  # over
        (NOW_S - 301, NOW_S - 1, ["/header/iat", "/until"]),
        (NOW_S - 301, NOW_S + 1, ["/header/iat", "/until"]),
        (NOW_S, NOW_S + 301, ["/until"]),
        (NOW_S, NOW_S, ["/until"]),
    ],
)
def test_grant_that_is_too_old_or_too_long_is_over(iat_s, until_s, places):
    assert decided(grant(until=until_s), iat_s=iat_s) == [("E605", place) for place in places]


def test_grant_of_an_almost_right_clock_is_accepted():
    assert isinstance(decided(grant(until=NOW_S + 500), iat_s=NOW_S + 200), Granted)
    assert isinstance(decided(grant(until=NOW_S + 10), iat_s=NOW_S - 290), Granted)


def test_payload_is_read_strictly():
    assert decided(grant(act="delete")) == [("E502", "/act")]
    assert decided(grant(until=None)) == [("E502", "/until")]
    assert decided(b'{"v":1,"v":1}') == [("E501", "")]


def test_nobody_asks_in_the_name_of_another():
    assert decided(grant(**{"from": "H26"})) == [("E401", "/from")]


def test_closed_agency_asks_nothing():
    assert decided(grant(**{"from": "H31"}), "H31") == [("E401", "/from")]


def test_platform_asks_under_its_mandate():
    granted = decided(grant(**{"from": "H26.01"}, via="lgsp-h26"), "lgsp-h26")

    assert isinstance(granted, Granted)
    assert (granted.agency, granted.signer) == (AgencyCode("H26.01"), AgencyCode("lgsp-h26"))


def test_platform_without_mandate_and_endpoint_asks_nothing():
    assert decided(grant(via="lgsp-h26"), "lgsp-h26") == [("E402", "/via")]


def test_platform_that_is_not_named_asks_nothing():
    assert decided(grant(**{"from": "H26.01"}), "lgsp-h26") == [("E401", "/from")]


def test_mail_is_the_platforms_to_read_only_where_it_is_the_endpoint():
    directory = stage.directory()
    for agency in ("H26.01", "H26.02"):
        granted = decided(grant(**{"from": agency}, via="lgsp-h26"), "lgsp-h26")
        if isinstance(granted, Granted):
            assert granted.receives == (directory.endpoint_of(AgencyCode(agency)) == "lgsp-h26")


def test_grant_is_good_for_exactly_what_it_names():
    upload = decided(grant())
    fetch = decided(grant(act="fetch", document=DOCUMENT))
    assert isinstance(upload, Granted)
    assert isinstance(fetch, Granted)

    assert upload.covers("upload", part=PART) == ()
    assert fetch.covers("fetch", part=PART, document=DOCUMENT) == ()
    assert [problem.pointer for problem in upload.covers("upload", part="ef" * 32)] == ["/part"]
    assert [problem.pointer for problem in upload.covers("fetch", part=PART, document=DOCUMENT)] == [
        "/act",
        "/document",
    ]
    assert [problem.pointer for problem in fetch.covers("fetch", part=PART, document="ef" * 32)] == ["/document"]
    assert {problem.code for problem in fetch.covers("ask")} == {"E420"}


def test_grant_to_catch_up_names_since_when():
    granted = decided(grant(act="catch-up", part=None, since=NOW_S - 86_400))
    assert isinstance(granted, Granted)

    assert granted.covers("catch-up", since=NOW_S - 86_400) == ()
    assert [problem.pointer for problem in granted.covers("catch-up", since=NOW_S - 90_000)] == ["/since"]
    assert [problem.pointer for problem in granted.covers("ask")] == ["/act", "/since"]
