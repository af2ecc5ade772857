"""Documents both ways: Packet → Draft → Envelope, Envelope → Packet; `mapping` says what is lost on the way."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Final

from schemas.directory_file import VIETNAM
from schemas.edxml.attachments import pack
from schemas.edxml.mapping import (
    MISSING,
    NO_ALIASES,
    NO_CODE,
    Aliases,
    Level,
    NationalId,
    Sentence,
    agency_of,
    made,
    wrong,
)
from schemas.edxml.packet import Business, Earlier, Packet, Party, Replaced, Trace, number_in, path_of, spoken_id
from schemas.edxml.secrecy import declares_secret, sphere_declares_secret
from schemas.envelope import (
    URGENCIES,
    Action,
    DocumentFacts,
    EdxmlOrigin,
    Envelope,
    Part,
    Reference,
    Urgency,
    new_envelope_id,
)
from schemas.identifiers import AgencyCode, DocumentId
from schemas.refusal import Problem

_ACTIONS: Final[Mapping[str, Action]] = {"0": "new", "1": "revoke", "2": "update", "3": "replace"}
_KINDS: Final[Mapping[Action, str]] = {action: kind for kind, action in _ACTIONS.items()}

_TABLE_B: Final = (
    "Nghị quyết", "Quyết định", "Chỉ thị", "Quy chế", "Quy định", "Thông cáo", "Thông báo", "Hướng dẫn", "Chương trình",
    "Kế hoạch", "Phương án", "Đề án", "Dự án", "Báo cáo", "Biên bản", "Tờ trình", "Hợp đồng", "Công văn", "Công điện",
    "Bản ghi nhớ",
)  # fmt: skip
"""Rows 1 to 20 of table B of the standard; the later ones differ from Nghị định 30/2020/NĐ-CP."""

_BUSINESS: Final = path_of(Packet, "business")
_EARLIER: Final = _BUSINESS + path_of(Business, "document")

_MAPPED: Final = frozenset({
    "from_", "to", "number", "notation", "issued_on", "kinds", "subject", "competence", "position", "signer", "due_on",
    "priority", "answers", "id", "business", "manifest", "attachments", "manifest_version", "trace_version",
})  # fmt: skip
"""Fields that an envelope has a place for, or whose only value is the version of the format."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An envelope in the making.

    Attributes:
        from_: The sender.
        to: The recipients.
        action: What it does to earlier documents.
        ref: Those documents, to be looked up.
        doc: The entry in the register; its `reply_to` name no identities yet.
        replies: The documents of `doc.reply_to`, in the same order, where the packet says enough to look them up.
        id: The packet's own DocumentId.
        unmapped: Places in the packet that the envelope has no field for.
    """

    from_: AgencyCode
    to: tuple[AgencyCode, ...]
    action: Action
    ref: tuple[NationalId, ...]
    doc: DocumentFacts
    replies: tuple[NationalId | None, ...]
    id: str
    unmapped: tuple[str, ...]

    @property
    def named(self) -> frozenset[NationalId]:
        """All earlier documents that are to be looked up."""
        return frozenset(self.ref) | {each for each in self.replies if each is not None}


def draft_of(packet: Packet, *, today: date, aliases: Aliases = NO_ALIASES) -> Draft | tuple[Problem, ...]:
    """Say what a packet means to the axis, or everything that stands against it.

    Args:
        packet: As read.
        today: The day in Vietnam: no document is promulgated later.
        aliases: Codes that the directory knows by other names.

    Returns:
        The draft; or its problems: E404 and E406 for recipients, E514 for state secrets, E512 for everything else.
    """
    sender = agency_of(packet.from_.code, aliases)
    recipients = [agency_of(party.code, aliases) for party in packet.to]
    answered, lost = _answered(packet, aliases)
    facts = _facts(packet, [reference for reference, _ in answered])
    problems = (
        *_secrets(packet),
        *_strangers(packet, sender, recipients),
        *_future(packet, today),
        *_unknown_codes(packet),
        *(facts if isinstance(facts, tuple) else ()),
    )
    if problems or sender is None or isinstance(facts, tuple):
        return problems
    return Draft(
        from_=sender,
        to=tuple(recipient for recipient in recipients if recipient is not None),
        action=_action(packet),
        ref=tuple(NationalId(sender, document) for document in _earlier_documents(packet)),
        doc=facts,
        replies=tuple(reply for _, reply in answered),
        id=packet.id,
        unmapped=(*packet.unmapped, *_without_place(packet), *lost),
    )


def envelope_of(
    draft: Draft,
    *,
    documents: Mapping[NationalId, DocumentId],
    packet: Part,
    attachments: Sequence[Part],
    level: Level,
    now_s: int,
    lifetime_s: int = 7 * 24 * 3600,
    via: AgencyCode | None = None,
) -> Envelope | tuple[Problem, ...]:
    """Make the envelope of a draft.

    Args:
        draft: What the packet means.
        documents: Identities of the earlier documents that it names, as far as they came over the axis.
        packet: The packet itself, unchanged, as a part.
        attachments: Its files, as parts.
        level: What stands behind the packet.
        now_s: The present, seconds since 1970 UTC.
        lifetime_s: How long delivery is tried.
        via: The platform that speaks for the sender.

    Returns:
        The envelope; or E512 for an earlier document that is not known, and for what does not fit.
    """
    unknown = [each for each in draft.ref if each not in documents]
    if unknown:
        return tuple(wrong(_EARLIER, each.document, _UNKNOWN) for each in unknown)
    doc = draft.doc.model_dump(mode="json", by_alias=True, exclude_none=True)
    for reference, reply in zip(doc["reply_to"], draft.replies, strict=True):
        if reply is not None and reply in documents:
            reference["document"] = documents[reply]
    return made(
        Envelope,
        {
            "v": 1,
            "id": new_envelope_id(),
            "from": draft.from_,
            "via": via,
            "to": draft.to,
            "action": draft.action,
            "ref": [documents[each] for each in draft.ref],
            "doc": doc,
            "created": now_s,
            "expires": now_s + lifetime_s,
            "parts": [part.model_dump(mode="json") for part in (packet, *attachments)],
            "edxml": EdxmlOrigin.model_construct(id=draft.id, part=packet.sha256, level=level).model_dump(),
        },
    )


def packet_of(
    envelope: Envelope,
    *,
    files: Sequence[tuple[Part, bytes]],
    names: Mapping[str, str] = MappingProxyType({}),
    national: Mapping[DocumentId, NationalId] = MappingProxyType({}),
    to: Sequence[AgencyCode] | None = None,
) -> Packet | tuple[Problem, ...]:
    """Make a packet of an envelope that never was one; where `envelope.edxml` is set, hand out that part instead.

    Args:
        envelope: What is to be told in the national format.
        files: Its parts with their bytes.
        names: Names of agencies by code.
        national: What packets call the documents that the envelope names.
        to: The recipients, where the envelope names groups.

    Returns:
        The packet; or E512 with JSON pointers into the envelope.
    """
    recipients = list(to if to is not None else envelope.to)
    facts = envelope.doc
    refs = [national[document] for document in envelope.ref if document in national]
    problems = (
        *(wrong(f"/to/{index}", each, _GROUP) for index, each in enumerate(recipients) if ":" in each),
        *(wrong(f"/ref/{index}", each, _UNKNOWN) for index, each in enumerate(envelope.ref) if each not in national),
        *(
            wrong(f"/doc/reply_to/{index}", each.document or "", _UNKNOWN)
            for index, each in enumerate(facts.reply_to)
            if each.number is None and each.document not in national
        ),
        *(Problem("E512", f"/doc/{name}", *MISSING) for name in ("number", "notation") if getattr(facts, name) is None),
    )
    if problems or facts.number is None or facts.notation is None:
        return problems
    issued_on = date.fromisoformat(facts.issued_on)
    packed = [pack(part.name, data, part.media_type) for part, data in files]
    row = str(_TABLE_B.index(facts.kind) + 1) if facts.kind in _TABLE_B else None
    signer = facts.signer
    return Packet(
        from_=Party(code=envelope.from_, name=names.get(envelope.from_)),
        to=tuple(Party(code=code, name=names.get(code)) for code in recipients),
        number=facts.number,
        notation=facts.notation,
        issued_on=issued_on,
        kind_table="2" if row is not None else None,
        kind_row=row,
        kinds=(facts.kind,),
        subject=_one_line(facts.subject),
        competence=signer.competence if signer is not None else None,
        position=signer.position if signer is not None else None,
        signer=signer.name if signer is not None else None,
        due_on=date.fromisoformat(facts.due_on) if facts.due_on is not None else None,
        priority=str(URGENCIES.index(facts.urgency)),
        answers=tuple(_earlier(reference, national) for reference in facts.reply_to),
        id=own_id(envelope),
        trace_version="1.0",
        traces=(Trace(code=envelope.from_, at=datetime.fromtimestamp(envelope.created, VIETNAM)),),
        business=_business(envelope.action, refs, recipients),
        manifest_version="1.0",
        manifest=tuple(entry for entry, _ in packed),
        attachments=tuple(attachment for _, attachment in packed),
    )


def own_id(envelope: Envelope) -> str:
    """Give the DocumentId of a document: its packet's own, else the one that the standard makes of what it says."""
    if envelope.edxml is not None:
        return envelope.edxml.id
    return spoken_id(envelope.from_, date.fromisoformat(envelope.doc.issued_on), envelope.doc.printed_number)


def _secrets(packet: Packet) -> list[Problem]:
    found = []
    if declares_secret(packet.subject):
        found.append(Problem("E514", path_of(Packet, "subject")))
    if sphere_declares_secret(packet.sphere):
        found.append(Problem("E514", path_of(Packet, "sphere")))
    return found


def _strangers(packet: Packet, sender: AgencyCode | None, recipients: Sequence[AgencyCode | None]) -> list[Problem]:
    found = []
    if sender is None:
        found.append(wrong(f"{path_of(Packet, 'from_')}/OrganId", packet.from_.code, NO_CODE))
    for number, (party, recipient) in enumerate(zip(packet.to, recipients, strict=True), 1):
        place = f"{path_of(Packet, 'to')}[{number}]/OrganId"
        if recipient is None:
            found.append(wrong(place, party.code, NO_CODE, code="E404"))
        elif recipient in recipients[: number - 1]:
            found.append(wrong(place, recipient, _TWICE, code="E406"))
    return found


def _future(packet: Packet, today: date) -> list[Problem]:
    day = f"{packet.issued_on:%Y/%m/%d}"
    return [wrong(path_of(Packet, "issued_on"), day, _IN_FUTURE)] if packet.issued_on > today else []


def _unknown_codes(packet: Packet) -> list[Problem]:
    """Find what stands where the standard lists what may stand."""
    found = []
    if packet.priority is not None and _urgency(packet) is None:
        found.append(wrong(path_of(Packet, "priority"), packet.priority, _NO_PRIORITY))
    if not _kind(packet):
        found.append(Problem("E512", path_of(Packet, "kinds"), *MISSING))
    kind = _business_kind(packet)
    if kind not in _ACTIONS:
        found.append(wrong(_BUSINESS + path_of(Business, "kind"), kind, _NO_KIND))
    elif _ACTIONS[kind] != "new" and not _earlier_documents(packet):
        found.append(Problem("E512", _EARLIER, *MISSING))
    return found


def _business_kind(packet: Packet) -> str:
    return (packet.business.kind if packet.business is not None else None) or "0"


def _action(packet: Packet) -> Action:
    return _ACTIONS[_business_kind(packet)]


def _earlier_documents(packet: Packet) -> tuple[str, ...]:
    """Name the documents that this one updates, replaces or recalls: each kind of business has its own place for them.

    A new document may bear a Bussiness/DocumentId too, which says nothing.
    """
    business = packet.business
    if business is None:
        return ()
    match _ACTIONS.get(_business_kind(packet)):
        case "revoke":
            named: Sequence[str | None] = [business.document or packet.id]
        case "update":
            named = [business.document]
        case "replace":
            named = [each.document for each in business.replaced] or [business.document]
        case _:
            named = []
    return tuple(dict.fromkeys(document for document in named if document is not None))


def _facts(packet: Packet, references: Sequence[Mapping[str, str]]) -> DocumentFacts | tuple[Problem, ...]:
    return made(
        DocumentFacts,
        {
            "number": packet.number,
            "notation": packet.notation,
            "kind": _kind(packet) or "—",  # its absence is told by `_unknown_codes`
            "subject": _one_line(packet.subject),
            "issued_on": packet.issued_on.isoformat(),
            "urgency": _urgency(packet) or "normal",
            "signer": _signer(packet),
            "due_on": packet.due_on.isoformat() if packet.due_on is not None else None,
            "reply_to": references,
        },
        below="/doc",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _kind(packet: Packet) -> str | None:
    """Trust the name; the numbers say something only in table B, up to the row where the tables part."""
    if packet.kinds:
        return packet.kinds[0]
    row = packet.kind_row if packet.kind_table == "2" else None
    rows = {str(number): name for number, name in enumerate(_TABLE_B, 1)}
    return rows.get(row) if row is not None else None


def _urgency(packet: Packet) -> Urgency | None:
    return dict(zip("01234", URGENCIES, strict=True)).get(packet.priority or "0")


def _signer(packet: Packet) -> dict[str, str] | None:
    """Give the signer; without a name the office stands for the person, as it does in print."""
    name = packet.signer or packet.position or packet.competence
    given = {"name": name, "position": packet.position, "competence": packet.competence}
    return {key: value for key, value in given.items() if value is not None} if name is not None else None


def _answered(packet: Packet, aliases: Aliases) -> tuple[list[tuple[dict[str, str], NationalId | None]], list[str]]:
    """Give the references to answered documents, each with what it can be looked up by; and what none can be made of."""
    found = []
    lost = []
    for index, answer in enumerate(packet.answers, 1):
        place = f"{path_of(Packet, 'answers')}[{index}]"
        agency = agency_of(answer.code, aliases)
        number = answer.number or (number_in(answer.document) if answer.document is not None else None)
        if number is None:
            lost.append(place)
            continue
        if agency is None and answer.code is not None:
            lost.append(f"{place}/OrganId")
        day = answer.issued_on.isoformat() if answer.issued_on is not None else None
        reference = {"from": agency, "number": number, "issued_on": day}
        known = NationalId(agency, answer.document) if agency is not None and answer.document is not None else None
        found.append(({key: value for key, value in reference.items() if value is not None}, known))
    return found, lost


def _without_place(packet: Packet) -> list[str]:
    """Name what stands in the packet and has no field in an envelope."""
    found = [
        path_of(Packet, each.name)
        for each in dataclasses.fields(Packet)
        if "path" in each.metadata and each.name not in _MAPPED and getattr(packet, each.name)
    ]
    found += [*about_parties(path_of(Packet, "from_"), packet.from_), *about_parties(path_of(Packet, "to"), *packet.to)]
    if len(packet.kinds) > 1:
        found.append(path_of(Packet, "kinds"))
    if packet.business is not None:
        found += [
            _BUSINESS + path_of(Business, each.name)
            for each in dataclasses.fields(Business)
            if each.name not in ("kind", "document") and getattr(packet.business, each.name)
        ]
    return found


def about_parties(place: str, *parties: Party) -> list[str]:
    """Name what is told about parties beside their codes, each element once however many parties have it."""
    return [
        place + path_of(Party, each.name)
        for each in dataclasses.fields(Party)
        if each.name != "code" and any(getattr(party, each.name) is not None for party in parties)
    ]


def _earlier(reference: Reference, national: Mapping[DocumentId, NationalId]) -> Earlier:
    known = national.get(reference.document) if reference.document is not None else None
    return Earlier(
        code=reference.from_ or (known.agency if known is not None else None),
        number=reference.number,
        issued_on=date.fromisoformat(reference.issued_on) if reference.issued_on is not None else None,
        document=known.document if known is not None else None,
    )


def _business(action: Action, refs: Sequence[NationalId], recipients: Sequence[str]) -> Business:
    if action == "replace":
        replaced = tuple(Replaced(document=ref.document, codes=tuple(recipients)) for ref in refs)
        return Business(kind=_KINDS[action], replaced=replaced)
    return Business(kind=_KINDS[action], document=refs[0].document if refs else None)


_TWICE: Final[Sentence] = ("named twice", "ghi hai lần")
_IN_FUTURE: Final[Sentence] = ("a day in the future", "là ngày trong tương lai")
_NO_KIND: Final[Sentence] = (
    "no BussinessDocType; 0 new, 1 revoke, 2 update, 3 replace",
    "không phải loại nghiệp vụ; 0 mới, 1 thu hồi, 2 cập nhật, 3 thay thế",
)
_NO_PRIORITY: Final[Sentence] = ("no Priority; known are 0 to 4", "không phải độ khẩn; chỉ có 0 đến 4")
_UNKNOWN: Final[Sentence] = (
    "no document of this name went over the axis from this agency",
    "đơn vị chưa gửi văn bản nào có mã này qua trục",
)
_GROUP: Final[Sentence] = (
    "a group; the format knows only agencies",
    "là nhóm; định dạng quốc gia chỉ nhận từng đơn vị",
)
