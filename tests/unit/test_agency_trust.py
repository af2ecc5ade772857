import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.errors import Unusable
from adapters.trust import Trust
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Envelope, Signer, new_envelope
from schemas.identifiers import AgencyCode
from schemas.receipt import NOTICE_TYP, RECEIPT_TYP, STATUS_TYP, Answer, Notice, NoticeProblem, Receipt, Status
from schemas.signing import Verified, sign
from tests.keys import agency_keys, make_certificate

NOW = datetime.now(UTC)
NOW_S = int(NOW.timestamp())
SENDER, OTHER, PARENT, PLATFORM = AgencyCode("H26.01"), AgencyCode("H26.02"), AgencyCode("H26"), AgencyCode("lgsp-h26")
EARLIER, TODAY = "2020-01-01", NOW.date().isoformat()


def agency(code: str, **changes) -> dict:
    return {"code": code, "name": code, "tier": "commune", "parent": PARENT, "valid_from": EARLIER, **changes}


def directory(**changes) -> DirectoryFile:
    members = {
        "agencies": (
            agency(PARENT, tier="ministry-province", parent=None),
            agency(SENDER, endpoint=PLATFORM),
            agency(OTHER),
        ),
        "platforms": ({"code": PLATFORM, "name": "LGSP", "valid_from": EARLIER},),
        "mandates": ({"platform": PLATFORM, "agency": SENDER, "actions": ("new",), "valid_from": EARLIER},),
        "certificates": tuple(
            agency_keys(owner).entry(owner).model_dump() for owner in (SENDER, OTHER, PLATFORM, "hub")
        ),
    }
    return DirectoryFile.model_validate(members | changes)


@pytest.fixture
def write(tmp_path: Path):
    """Write a directory file in whole, as its users are asked to."""

    def write(file: DirectoryFile) -> Path:
        (tmp_path / "new.json").write_bytes(file.to_json())
        return (tmp_path / "new.json").rename(tmp_path / "directory.json")

    return write


def envelope(**changes) -> Envelope:
    facts = DocumentFacts(kind="Tờ trình", subject="Về việc …", issued_on="2026-07-01", signer=Signer(name="Lê Văn B"))
    return new_envelope(**{"from_": SENDER, "to": [OTHER], "doc": facts, "now_s": NOW_S, **changes})


def signed(payload: bytes, owner: str, typ: str = ENVELOPE_TYP, signer=None, at_s: int = NOW_S) -> bytes:
    return sign(payload, typ=typ, signer=signer or agency_keys(owner).signer, now_s=at_s)


def codes(result) -> list[str]:
    return [] if isinstance(result[0], Verified) else [problem.code for problem in result]


def test_a_document_of_its_sender_is_believed(write):
    document = envelope()

    verified, read = Trust(write(directory())).view().verify_document(signed(document.to_json(), SENDER), NOW)

    assert read == document
    assert verified.key.owner == SENDER


def test_a_document_is_believed_however_long_it_waited(write):
    """The certificate is over by then; it was valid when it signed."""
    token = signed(envelope().to_json(), SENDER)

    assert codes(Trust(write(directory())).view().verify_document(token, NOW + timedelta(days=3000))) == []


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (signed(envelope().to_json(), OTHER), "E401"),
        (signed(envelope().to_json(), "hub"), "E401"),
        (signed(envelope(via="lgsp-khac").to_json(), PLATFORM), "E401"),
        (signed(envelope().to_json(), SENDER, signer=make_certificate(SENDER).signer), "E201"),
        (signed(envelope().to_json(), SENDER, typ=RECEIPT_TYP), "E105"),
        (signed(b'{"v":1}', SENDER), "E502"),
        (signed(b'{"v":1,"v":1}', SENDER), "E501"),
        (signed(envelope().to_json(), SENDER, at_s=NOW_S + 3600), "E601"),
        (signed(envelope().to_json(), SENDER)[:-4] + b"AAAA", "E301"),
        (signed(envelope().to_json(), SENDER, at_s=NOW_S - 7 * 86400), "E202"),
        (b"", "E102"),
    ],
)
def test_anything_else_is_not(write, token, code):
    assert code in codes(Trust(write(directory())).view().verify_document(token, NOW))


def test_a_revoked_certificate_is_not_believed_for_what_it_signs_later(write):
    entry = agency_keys(SENDER).entry(SENDER, revoked_at=NOW_S - 60).model_dump()
    trust = Trust(write(directory(certificates=(entry,))))

    assert codes(trust.view().verify_document(signed(envelope().to_json(), SENDER), NOW)) == ["E203"]
    assert codes(trust.view().verify_document(signed(envelope().to_json(), SENDER, at_s=NOW_S - 120), NOW)) == []


VIA = {"via": PLATFORM}
MANDATE = {"platform": PLATFORM, "agency": SENDER, "actions": ("new",), "valid_from": EARLIER}


@pytest.mark.parametrize(
    ("mandates", "code"),
    [
        ((MANDATE,), []),
        ((), ["E402"]),
        ((MANDATE | {"agency": OTHER},), ["E402"]),
        ((MANDATE | {"actions": ("revoke",)},), ["E402"]),
        ((MANDATE | {"valid_to": "2021-01-01"},), ["E402"]),
    ],
)
def test_a_platform_is_believed_for_an_agency_whose_mandate_it_has(write, mandates, code):
    token = signed(envelope(**VIA).to_json(), PLATFORM)

    assert codes(Trust(write(directory(mandates=mandates))).view().verify_document(token, NOW)) == code


def test_a_mandate_ends_with_its_platform(write):
    platforms = ({"code": PLATFORM, "name": "LGSP", "valid_from": EARLIER, "valid_to": "2021-01-01"},)
    token = signed(envelope(**VIA).to_json(), PLATFORM)

    assert codes(Trust(write(directory(platforms=platforms))).view().verify_document(token, NOW)) == ["E402"]


def test_a_mandate_may_end_while_the_document_waits(write):
    token = signed(envelope(**VIA).to_json(), PLATFORM)
    ends_soon = MANDATE | {"valid_to": (NOW + timedelta(days=2)).date().isoformat()}

    assert (
        codes(Trust(write(directory(mandates=(ends_soon,)))).view().verify_document(token, NOW + timedelta(days=9)))
        == []
    )


def status(from_: str = OTHER, via: str | None = None) -> bytes:
    to = SENDER if from_ == OTHER else OTHER
    return Status(from_=from_, via=via, to=to, document="ab" * 32, status="03", at=NOW_S).to_json()


@pytest.mark.parametrize(
    ("payload", "signer", "code"),
    [
        (status(), OTHER, []),
        (status(), SENDER, ["E401"]),
        (status(), "hub", ["E401"]),
        (status(SENDER, PLATFORM), PLATFORM, []),
        (status(SENDER, PLATFORM), SENDER, []),
        (status(OTHER, PLATFORM), PLATFORM, ["E402"]),
        (b'{"v":1}', OTHER, ["E502"] * 5),
    ],
)
def test_a_status_is_the_agencys_own_or_that_of_the_platform_it_receives_through(write, payload, signer, code):
    assert codes(Trust(write(directory())).view().verify_letter(signed(payload, signer, STATUS_TYP), NOW)) == code


def receipt(from_: str = OTHER, via: str | None = None) -> bytes:
    answer = Answer(delivery="0190b6a0-0000-8000-8000-000000000000", outcome="received", at=NOW_S)
    return Receipt(from_=from_, via=via, to=SENDER, answers=(answer,)).to_json()


@pytest.mark.parametrize(
    ("payload", "signer", "code"),
    [
        (receipt(), OTHER, []),
        (receipt(), SENDER, ["E401"]),
        (receipt(SENDER, PLATFORM), PLATFORM, []),
        (receipt(OTHER, PLATFORM), PLATFORM, ["E402"]),
    ],
    ids=["recipient", "somebody else", "its platform", "a platform that does not receive for it"],
)
def test_a_receipt_is_the_recipients_or_that_of_the_platform_it_receives_through(write, payload, signer, code):
    assert codes(Trust(write(directory())).view().verify_letter(signed(payload, signer, RECEIPT_TYP), NOW)) == code


@pytest.mark.parametrize(("signer", "code"), [("hub", []), (SENDER, ["E401"])])
def test_a_notice_is_the_hubs_alone(write, signer, code):
    problem = NoticeProblem(code="E404", en="no", vi="không")
    payload = Notice(to=SENDER, kind="refused", at=NOW_S, problems=(problem,)).to_json()

    assert codes(Trust(write(directory())).view().verify_letter(signed(payload, signer, NOTICE_TYP), NOW)) == code


@pytest.mark.parametrize(
    ("to", "covered"),
    [
        ([OTHER], True),
        ([SENDER], False),
        (["tier:commune"], True),
        (["tier:ministry-province"], False),
        ([f"children:{PARENT}"], True),
        ([f"descendants:{PARENT}"], True),
        ([f"descendants:{OTHER}"], False),
        ([SENDER, f"children:{SENDER}", "tier:commune"], True),
    ],
)
def test_a_recipient_is_covered_by_name_or_group(write, to, covered):
    assert Trust(write(directory())).view().covers(OTHER, envelope(to=to), NOW) is covered


def test_only_descendants_reach_deeper(write):
    deep = AgencyCode("H26.02.03")
    view = Trust(write(directory(agencies=(*directory().agencies, agency(deep, parent=OTHER))))).view()

    assert view.covers(deep, envelope(to=[f"descendants:{PARENT}"]), NOW)
    assert not view.covers(deep, envelope(to=[f"children:{PARENT}"]), NOW)


def test_parents_in_a_circle_end_somewhere(write):
    circle = (agency(SENDER, parent=OTHER), agency(OTHER, parent=SENDER))

    assert not Trust(write(directory(agencies=circle))).view().covers(OTHER, envelope(to=["descendants:H26"]), NOW)


def test_a_group_covers_who_was_in_it_when_the_document_was_made(write):
    moved = (
        agency(OTHER, valid_to=(NOW + timedelta(days=2)).date().isoformat()),
        agency(OTHER, tier="associate", valid_from=(NOW + timedelta(days=2)).date().isoformat()),
    )
    view = Trust(write(directory(agencies=moved))).view()

    assert view.covers(OTHER, envelope(to=["tier:commune"]), NOW + timedelta(days=5))


@pytest.mark.parametrize("to", [(SENDER,), ("H26.09",), (f"children:{PARENT}",)], ids=str)
def test_the_heir_of_a_merged_agency_is_covered_over_all_mergers(write, to):
    merged = (
        agency(PARENT, tier="ministry-province", parent=None),
        agency("H26.09", state="closed", successors=(SENDER,)),
        agency(SENDER, state="closed", successors=("H27",)),
        agency("H27", parent=None),
        agency(OTHER, parent=None),
    )
    view = Trust(write(directory(agencies=merged))).view()

    assert view.covers(AgencyCode("H27"), envelope(to=to), NOW)
    assert not view.covers(OTHER, envelope(to=to), NOW)


def test_heirs_of_each_other_end_somewhere(write):
    circle = (
        agency(SENDER, state="closed", successors=(OTHER,)),
        agency(OTHER, state="closed", successors=(SENDER,)),
    )

    assert not Trust(write(directory(agencies=circle))).view().covers(OTHER, envelope(to=["H99"]), NOW)


def test_a_changed_file_is_read_again(write):
    trust = Trust(write(directory(certificates=())))
    token = signed(envelope().to_json(), SENDER)
    assert codes(trust.view().verify_document(token, NOW)) == ["E201"]

    write(directory())

    assert codes(trust.view().verify_document(token, NOW)) == []


def test_an_unchanged_file_is_not_read_again(write):
    trust = Trust(write(directory()))

    assert trust.view() is trust.view()


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_a_file_that_cannot_be_read_any_more_leaves_the_last_reading(write, damage, caplog):
    file = write(directory())
    trust = Trust(file)
    view = trust.view()

    if damage == "gone":
        file.unlink()
    else:
        file.write_text("{")

    assert trust.view() is view
    assert "directory.unreadable" in caplog.text


@pytest.mark.parametrize("content", [None, "{", '{"directory": 2}', '{"agencies": [{}]}'])
def test_a_file_that_was_never_good_is_refused(tmp_path, content):
    file = tmp_path / "directory.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(Unusable, match="A103") as caught:
        Trust(file).view()

    assert os.fspath(file) == caught.value.place


def test_a_certificate_that_may_not_sign_is_left_out(write):
    authority = make_certificate(SENDER, ca=True).entry(SENDER).model_dump()

    assert Trust(write(directory(certificates=(authority,)))).view().keys == {}
