"""Codes, identities, and the names made of them."""

import re
import unicodedata
from uuid import RFC_4122, UUID

import pytest

from schemas import addresses
from schemas.identifiers import AgencyCode, DocumentId, delivery_id_of, identity_of, is_agency_code, is_platform_code

CODES = ["H26", "G01", "H26.01.07", "A01.ABC", "000.00.00.H26", "0100109106", "0100109106-001", "0100109106001"]

NO_CODES = {
    "empty": "",
    "lower case": "h26",
    "Cyrillic": "\u041d26",
    "Greek": "\u039726",
    "fullwidth letter": "\uff2826",
    "fullwidth digit": "H2\uff16",
    "Arabic digit": "H2\u0666",
    "mathematical digit": "H2\U0001d7d4",
    "zero-width space": "H2\u200b6",
    "joiner": "H26\u200d",
    "soft hyphen": "H\u00ad26",
    "combining mark": "H26\u0301",
    "line feed at the end": "H26\n",
    "line feed before the end": "H26\nH27",
    "space": "H26 ",
    "NUL": "H26\0",
    "dot at the end": "H26.",
    "empty step": "H26..01",
    "dots only": "...",
    "two digits": "0100109106-01",
    "old form cut": "00.00.00.H26",
    "old form with a tail": "000.00.00.H26.01",
    "wildcard": "H26.*",
    "hub": "hub",
    "too long": "H26." + "A" * 32,
}


@pytest.mark.parametrize("code", CODES)
def test_the_national_forms_are_codes(code):
    assert is_agency_code(code)
    assert not is_platform_code(code)


@pytest.mark.parametrize("what", NO_CODES)
def test_what_only_looks_like_a_code_is_none(what):
    assert not is_agency_code(NO_CODES[what])
    assert not is_platform_code(NO_CODES[what])


def test_a_code_that_normalises_to_another_is_refused_not_normalised():
    """NFKC makes H26 of the fullwidth form, so whoever normalises first lets two senders share one code."""
    assert unicodedata.normalize("NFKC", NO_CODES["fullwidth digit"]) == "H26"
    assert not is_agency_code(NO_CODES["fullwidth digit"])


def test_a_code_has_at_most_35_characters():
    assert is_agency_code("H26." + "A" * 31)
    assert is_platform_code("lgsp-" + "a" * 30)
    assert not is_platform_code("lgsp-" + "a" * 31)


@pytest.mark.parametrize("code", ["lgsp-h26", "lgsp-bo-tai-chinh", "lgsp-1"])
def test_platforms_have_a_form_of_their_own(code):
    assert is_platform_code(code)
    assert not is_agency_code(code)


@pytest.mark.parametrize("code", ["lgsp-", "lgsp", "LGSP-H26", "lgsp-H26", "lgsp--a", "lgsp-a-", "lgsp-a\n", "lgsp-é"])
def test_what_only_looks_like_a_platform_is_none(code):
    assert not is_platform_code(code)


def test_the_delivery_id_does_not_change_over_the_years():
    """Recipients compute it too, so it is a part of the interface; this value was computed by another program."""
    document = DocumentId("ab" * 32)

    assert delivery_id_of(document, AgencyCode("H26")) == UUID("71043ea9-027c-8695-b70e-6bd8e39f379a")


def test_a_delivery_id_is_a_uuid_of_version_8():
    made = delivery_id_of(DocumentId("ab" * 32), AgencyCode("H26"))

    assert made.version == 8
    assert made.variant == RFC_4122


def test_identity_depends_on_every_byte():
    assert identity_of(b"a.b") != identity_of(b"a.c")
    assert identity_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_names_at_the_broker():
    assert addresses.agency_queue(AgencyCode("H26.01")) == "truc.agency.H26.01"
    assert [addresses.tier_exchange(tier) for tier in addresses.TIERS] == [
        "truc.tier.ministry-province",
        "truc.tier.department-district",
        "truc.tier.commune",
        "truc.tier.associate",
    ]
    assert addresses.submit_key("document", "H26.01") == "document.H26.01"


@pytest.mark.parametrize("user", [*CODES, "lgsp-h26"])
def test_a_user_may_publish_under_its_own_keys_only(user):
    allowed = re.compile(addresses.submit_permission(user))

    for lane in ("document", "receipt", "status"):
        assert allowed.search(f"{lane}.{user}")
        assert not allowed.search(f"{lane}.{user}.01")
        assert not allowed.search(f"{lane}.X{user}")
        assert not allowed.search(f"x{lane}.{user}")
    assert not allowed.search(f"notice.{user}")


def test_a_dot_in_a_code_is_a_dot_in_its_permission():
    """Unescaped, H26.01 could publish and read as H26x01."""
    assert not re.search(addresses.submit_permission("H26.01"), "document.H26x01")
    assert not re.search(addresses.queue_permission("H26.01"), "truc.agency.H26x01")
    assert re.search(addresses.queue_permission("H26.01"), "truc.agency.H26.01")


def test_a_user_reads_its_own_queue_only():
    allowed = re.compile(addresses.queue_permission("H26"))

    assert allowed.search("truc.agency.H26")
    assert not allowed.search("truc.agency.H26.01")
    assert not allowed.search("truc.agency.H261")
    assert not allowed.search("truc.intake")
