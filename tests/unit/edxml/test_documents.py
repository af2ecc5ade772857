"""What a document packet means to the axis, and how an envelope becomes a packet."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from schemas.edxml.documents import Draft, draft_of, envelope_of, own_id, packet_of
from schemas.edxml.mapping import NationalId
from schemas.edxml.packet import Business, Earlier, Packet, Party, Replaced, number_in
from schemas.edxml.writer import write_packet
from schemas.envelope import URGENCIES, Envelope, Part, read_envelope
from schemas.identifiers import AgencyCode, DocumentId, identity_of
from tests import packets
from tests.packets import TODAY
from tests.unit.schemas import stage

MESSAGE = "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader"
BUSINESS = "/edXML/edXMLEnvelope/edXMLHeader/TraceHeaderList/Bussiness"
EARLIER, OTHER = "G01,2026/02/20,11/TB-BTN", "G01,2026/02/20,10/TB-BTN"
IDENTITY = DocumentId("ab" * 32)


def draft(**changes) -> Draft:
    made = draft_of(packets.packet(**changes), today=TODAY)
    assert isinstance(made, Draft), made
    return made


def problems(**changes) -> list[tuple[str, str]]:
    made = draft_of(packets.packet(**changes), today=TODAY)
    assert isinstance(made, tuple)
    return [(problem.code, problem.pointer) for problem in made]


def part(data: bytes, name: str = "goi-tin.edxml") -> Part:
    return Part(name=name, media_type="application/xml", sha256=identity_of(data), length=len(data))


def envelope(made: Draft, documents=None, **options) -> Envelope | tuple:
    return envelope_of(
        made,
        documents=documents or {},
        packet=part(packets.xml()),
        attachments=(),
        level="A1",
        now_s=stage.NOW_S,
        **options,
    )


def test_the_entry_of_the_register_is_that_of_the_packet():
    facts = draft().doc

    assert facts.model_dump(exclude_none=True) == {
        "number": "12",
        "notation": "TB-BTN",
        "kind": "Thông báo",
        "subject": "Về việc kết nối thử với trục liên thông văn bản",
        "issued_on": "2026-02-27",
        "urgency": "normal",
        "signer": {"name": "Nguyễn Văn Mẫu", "position": "Chánh Văn phòng", "competence": "TL. BỘ TRƯỞNG"},
        "due_on": "2026-03-15",
        "reply_to": (),
    }


@pytest.mark.parametrize(("priority", "urgency"), [*zip("01234", URGENCIES, strict=True), (None, "normal")])
def test_every_priority_is_an_urgency(priority, urgency):
    assert draft(priority=priority).doc.urgency == urgency


@pytest.mark.parametrize(
    ("business", "action", "refs"),
    [
        (None, "new", []),
        (Business(), "new", []),
        (Business(kind="0", document=EARLIER), "new", []),
        (Business(kind="1"), "revoke", [packets.ID]),
        (Business(kind="1", document=EARLIER), "revoke", [EARLIER]),
        (Business(kind="2", document=EARLIER), "update", [EARLIER]),
        (Business(kind="3", document=EARLIER), "replace", [EARLIER]),
        (
            Business(kind="3", replaced=(Replaced(document=EARLIER), Replaced(document=OTHER))),
            "replace",
            [EARLIER, OTHER],
        ),
        (Business(kind="3", replaced=(Replaced(document=EARLIER), Replaced(document=EARLIER))), "replace", [EARLIER]),
    ],
)
def test_the_kind_of_business_says_what_happens_to_which_documents(business, action, refs):
    made = draft(business=business)

    assert (made.action, made.ref) == (action, tuple(NationalId("G01", document) for document in refs))


@pytest.mark.parametrize(
    "business", [Business(kind="2"), Business(kind="3"), Business(kind="3", replaced=(Replaced(),))]
)
def test_a_change_of_no_document_is_refused(business):
    assert problems(business=business) == [("E512", f"{BUSINESS}/DocumentId")]


def test_all_problems_are_told_at_once():
    told = problems(
        from_=Party(code="vxp.saas.03"),
        to=(Party(code="28.22.H17"), Party(code="H26"), Party(code="H26")),
        subject="(Mật) Về việc thử",
        sphere="Tối mật",
        issued_on=TODAY + timedelta(days=1),
        priority="9",
        kinds=(),
        kind_table=None,
        business=Business(kind="7"),
        notation="x" * 61,
    )

    assert sorted(told) == sorted(
        [
            ("E514", f"{MESSAGE}/Subject"),
            ("E514", f"{MESSAGE}/OtherInfo/SphereOfPromulgation"),
            ("E512", f"{MESSAGE}/From/OrganId"),
            ("E404", f"{MESSAGE}/To[1]/OrganId"),
            ("E406", f"{MESSAGE}/To[3]/OrganId"),
            ("E512", f"{MESSAGE}/PromulgationInfo/PromulgationDate"),
            ("E512", f"{MESSAGE}/OtherInfo/Priority"),
            ("E512", f"{MESSAGE}/DocumentType/TypeName"),
            ("E512", f"{BUSINESS}/BussinessDocType"),
            ("E512", f"{MESSAGE}/Code/CodeNotation"),
        ]
    )


def test_a_code_of_no_form_goes_by_its_alias():
    made = draft_of(
        packets.packet(to=(Party(code="28.22.H17"),)), today=TODAY, aliases={"28.22.H17": AgencyCode("H26.02")}
    )

    assert isinstance(made, Draft)
    assert made.to == ("H26.02",)


def test_codes_of_both_forms_stay_as_they_are():
    assert draft(to=(Party(code="000.00.00.H27"), Party(code="H26.01"))).to == ("000.00.00.H27", "H26.01")


def test_a_document_of_today_in_vietnam_is_not_in_the_future():
    assert draft(issued_on=TODAY).doc.issued_on == "2026-03-02"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"kinds": ("Công văn",), "kind_table": "1", "kind_row": "0"}, "Công văn"),
        ({"kinds": (), "kind_table": "2", "kind_row": "18"}, "Công văn"),
        ({"kinds": ("Giấy mời", "Thông báo")}, "Giấy mời"),
    ],
)
def test_the_name_of_the_kind_is_trusted_before_its_numbers(changes, kind):
    assert draft(**changes).doc.kind == kind


@pytest.mark.parametrize("row", ["0", "21", "25", "٣", "-1"])
def test_rows_where_the_tables_differ_name_no_kind(row):
    assert problems(kinds=(), kind_table="2", kind_row=row) == [("E512", f"{MESSAGE}/DocumentType/TypeName")]


def test_without_a_name_the_office_signs():
    assert draft(signer=None).doc.signer.name == "Chánh Văn phòng"
    assert draft(signer=None, position=None, competence=None).doc.signer is None


def test_a_subject_is_one_line():
    assert draft(subject="Về việc\n      thử").doc.subject == "Về việc thử"


@pytest.mark.parametrize(
    ("answer", "reference", "looked_up"),
    [
        (
            Earlier(code="H26", number="3/CV", issued_on=date(2026, 2, 20), document="x"),
            {"from_": "H26", "number": "3/CV", "issued_on": "2026-02-20"},
            NationalId("H26", "x"),
        ),
        (Earlier(number="3/CV"), {"number": "3/CV"}, None),
        (
            Earlier(code="H26", document="H26,2026/02/30,3/CV"),
            {"from_": "H26", "number": "3/CV"},
            NationalId("H26", "H26,2026/02/30,3/CV"),
        ),
        (Earlier(code="vxp.saas.03", number="3/CV", document="x"), {"number": "3/CV"}, None),
    ],
)
def test_an_answered_document_becomes_a_reference(answer, reference, looked_up):
    made = draft(answers=(answer,))

    assert made.doc.reply_to[0].model_dump(exclude_none=True) == reference
    assert made.replies == (looked_up,)


def test_an_answered_document_without_number_is_named_as_lost():
    made = draft(answers=(Earlier(code="H26", document="5e515fca"),))

    assert made.doc.reply_to == ()
    assert f"{MESSAGE}/ResponseFor[1]" in made.unmapped


def test_everything_without_a_place_in_the_envelope_is_named():
    made = draft(
        to=(Party(code="H26", fax="1"), Party(code="H26.02", fax="2")),
        kinds=("Thông báo", "Khác"),
        business=Business(kind="0", reason="x"),
        unmapped=("/edXML/x",),
    )

    assert made.unmapped == (
        "/edXML/x",
        *(
            f"{MESSAGE}/{name}"
            for name in (
                "PromulgationInfo/Place", "DocumentType/Type", "DocumentType/TypeDetail", "Content", "ToPlaces/Place",
                "OtherInfo/SphereOfPromulgation", "OtherInfo/TyperNotation", "OtherInfo/PromulgationAmount",
                "OtherInfo/PageAmount", "OtherInfo/Appendixes/Appendix", "SteeringType",
            )
        ),
        "/edXML/edXMLEnvelope/edXMLHeader/TraceHeaderList/TraceHeader",
        f"{MESSAGE}/From/OrganName",
        f"{MESSAGE}/From/OrganAdd",
        f"{MESSAGE}/From/Email",
        f"{MESSAGE}/To/Fax",
        f"{MESSAGE}/DocumentType/TypeName",
        f"{BUSINESS}/BussinessDocReason",
    )  # fmt: skip


def test_the_envelope_names_the_packet_by_its_id_and_bytes():
    made = envelope(draft())

    assert isinstance(made, Envelope)
    assert made.edxml.model_dump() == {"id": packets.ID, "part": identity_of(packets.xml()), "level": "A1"}
    assert read_envelope(made.to_json()) == made


def test_earlier_documents_are_named_by_the_identities_that_were_looked_up():
    made = draft(
        business=Business(kind="2", document=EARLIER), answers=(Earlier(code="H26", number="3", document="x"),)
    )

    whole = envelope(made, {NationalId("G01", EARLIER): IDENTITY, NationalId("H26", "x"): DocumentId("cd" * 32)})

    assert made.named == {NationalId("G01", EARLIER), NationalId("H26", "x")}
    assert whole.ref == (IDENTITY,)
    assert whole.doc.reply_to[0].document == "cd" * 32


def test_a_change_of_an_unknown_document_is_refused_and_an_unknown_answered_one_is_not():
    answered = (Earlier(code="H26", number="3", document="x"),)

    [problem] = envelope(draft(business=Business(kind="1", document=EARLIER), answers=answered))

    assert (problem.code, problem.pointer) == ("E512", f"{BUSINESS}/DocumentId")
    assert isinstance(envelope(draft(answers=answered)), Envelope)


def test_a_platform_speaks_for_the_sender():
    assert envelope(draft(), via=AgencyCode("lgsp-h26")).via == "lgsp-h26"


@pytest.mark.parametrize(("changes", "place"), [({"id": "x" * 301}, f"{MESSAGE}/DocumentId")])
def test_what_does_not_fit_the_envelope_is_told_by_its_place_in_the_packet(changes, place):
    assert [(problem.code, problem.pointer) for problem in envelope(draft(**changes))] == [("E512", place)]


def example(name: str, **facts) -> Envelope:
    """A published envelope with a number, which the format wants."""
    payload = stage.valid(f"document-{name}.json")
    doc = {"number": "12", "notation": "TB-BTN", **payload["doc"], **facts}
    return Envelope.model_validate({**payload, "doc": doc}, strict=False)


@pytest.mark.parametrize("name", ["new", "reply", "code-of-2016"])
def test_an_envelope_becomes_a_packet_that_means_the_same(name):
    whole = example(name)
    files = [(item, b"x") for item in whole.parts]
    national = {each.document: NationalId("G01", "x") for each in whole.doc.reply_to if each.document}

    packet = packet_of(whole, files=files, names={"G01": "Bộ Thử nghiệm"}, national=national, to=[AgencyCode("H26")])

    assert isinstance(packet, Packet)
    assert isinstance(write_packet(packet), bytes)
    made = draft_of(packet, today=TODAY)
    assert isinstance(made, Draft)
    facts = replace_documents(whole)
    assert (made.from_, made.action, made.doc) == (whole.from_, whole.action, facts)


def replace_documents(whole: Envelope):
    """The facts without identities of answered documents, which packets do not know."""
    replies = tuple(each.model_copy(update={"document": None}) for each in whole.doc.reply_to if each.number)
    return whole.doc.model_copy(update={"reply_to": replies})


@pytest.mark.parametrize("action", ["update", "replace", "revoke"])
def test_a_change_becomes_the_business_of_the_packet(action):
    whole = example(action)
    national = {document: NationalId("G01", f"id-{index}") for index, document in enumerate(whole.ref)}

    packet = packet_of(whole, files=[(item, b"x") for item in whole.parts], national=national, to=[AgencyCode("H26")])

    assert isinstance(packet, Packet)
    made = draft_of(packet, today=TODAY)
    assert isinstance(made, Draft)
    assert (made.action, made.ref) == (action, tuple(national.values()))


def test_what_the_format_wants_and_the_envelope_lacks_is_refused_at_once():
    whole = example("revoke", number=None, notation=None, reply_to=({"document": IDENTITY},))
    whole = whole.model_copy(update={"to": ("tier:commune",)})

    told = packet_of(whole, files=())

    assert isinstance(told, tuple)
    assert [problem.pointer for problem in told] == [
        "/to/0",
        "/ref/0",
        "/doc/reply_to/0",
        "/doc/number",
        "/doc/notation",
    ]


def test_a_document_that_came_as_a_packet_keeps_its_own_id():
    made = envelope(draft(id="5e515fca-3627"))

    assert own_id(made) == "5e515fca-3627"
    assert own_id(made.model_copy(update={"edxml": None})) == packets.ID


@pytest.mark.parametrize(("name", "number"), [("a,2015/09/30,7/X", "7/X"), ("5e515fca", None), ("a,b,c", None)])
def test_a_number_is_shown_from_an_id_of_the_standard(name, number):
    assert number_in(name) == number


def test_a_draft_of_a_changed_packet_differs():
    assert replace(draft(), id="x") != draft()
