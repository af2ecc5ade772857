"""Packets: what is written is read again; whatever is read never raises."""

import dataclasses
import types
import typing
from datetime import UTC, date, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.edxml import documents, statuses
from schemas.edxml.attachments import files, pack
from schemas.edxml.binding import clean
from schemas.edxml.packet import Earlier, Packet, Party, StatusPacket
from schemas.edxml.reader import read_packet
from schemas.edxml.signature import assess
from schemas.edxml.writer import write_packet
from tests import packets

# What XML can hold; a carriage return survives as a character reference.
characters = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"), include_characters="\t\n\r")
texts = st.text(characters, min_size=1, max_size=30).filter(lambda text: clean(text) == text)
codes = st.from_regex(r"[A-Z][0-9]{2}(\.[A-Z0-9]{1,3}){0,2}", fullmatch=True)
moments = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001 - bounds are naive, times are not
    datetime(2999, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=0))
LEAVES = {str: texts, date: st.dates(date(1000, 1, 1)), datetime: moments, bytes: st.just(b"")}


def values_of(hint) -> st.SearchStrategy:
    if isinstance(hint, types.UnionType):
        return st.none() | values_of(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        # An element without content is not told from an absent one.
        return st.lists(values_of(typing.get_args(hint)[0]).filter(says_something), max_size=2).map(tuple)
    return records_of(hint) if dataclasses.is_dataclass(hint) else LEAVES[hint]


def says_something(value) -> bool:
    return not dataclasses.is_dataclass(value) or any(getattr(value, each.name) for each in dataclasses.fields(value))


def records_of(record: type) -> st.SearchStrategy:
    hints = typing.get_type_hints(record)
    fields = {each.name: values_of(hints[each.name]) for each in dataclasses.fields(record) if each.name != "unmapped"}
    return st.builds(record, **fields).map(without_empty_records)


def without_empty_records(value):
    empty = {
        each.name: None
        for each in dataclasses.fields(value)
        if dataclasses.is_dataclass(getattr(value, each.name)) and not says_something(getattr(value, each.name))
    }
    return dataclasses.replace(value, **empty)


@st.composite
def written_packets(draw) -> Packet:
    """Packets that a strict writer writes: everything is free but what it insists on."""
    packet = draw(records_of(Packet))
    recipients = draw(st.lists(codes, min_size=1, max_size=3, unique=True))
    packed = [
        pack(f"{number}.pdf", data, "application/pdf")
        for number, data in enumerate(draw(st.lists(st.binary(max_size=50), max_size=2)))
    ]
    business = packet.business
    if business is not None:
        business = without_empty_records(dataclasses.replace(business, replaced=business.replaced[:1]))
    return dataclasses.replace(
        packet,
        from_=Party(code=draw(codes)),
        to=tuple(Party(code=code, name=draw(st.none() | texts)) for code in recipients),
        number=str(draw(st.integers(0, 10**11 - 1))),
        id=draw(texts.filter(lambda text: "," not in text)),
        business=business if business is not None and says_something(business) else None,
        manifest=tuple(entry for entry, _ in packed),
        attachments=tuple(attachment for _, attachment in packed),
    )


@st.composite
def written_statuses(draw) -> StatusPacket:
    packet = draw(records_of(StatusPacket))
    answered = dataclasses.replace(packet.answered or Earlier(), code=draw(codes))
    return dataclasses.replace(packet, from_=Party(code=draw(codes)), answered=answered)


@given(written_packets() | written_statuses())
@settings(max_examples=150)
def test_what_is_written_is_read_again(packet):
    data = write_packet(packet)

    assert isinstance(data, bytes), data
    assert read_packet(data) == packet


def go_through_everything(data: bytes) -> None:
    packet = read_packet(data)
    if not isinstance(packet, tuple):
        assess(data, packet, {}, now=datetime(2026, 3, 2, tzinfo=UTC))
    match packet:
        case Packet():
            documents.draft_of(packet, today=packets.TODAY)
            files(packet)
            write_packet(packet)
        case StatusPacket():
            statuses.draft_of(packet, now_s=1_772_416_800)
            write_packet(packet)
        case problems:
            assert problems
            assert all(problem.code in ("E510", "E511", "E512", "E513") for problem in problems)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_no_bytes_make_the_reader_raise(data):
    go_through_everything(data)
    go_through_everything(b'<?xml version="1.0"?>' + data)
    go_through_everything(b'<edXML xmlns="http://www.mic.gov.vn/TBT/QCVN_102_2016">' + data + b"</edXML>")


WHOLE = packets.xml()
STATUS = packets.xml(packets.status())
SNIPPETS = [b"<", b">", b"/", b"&", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE a>", b"\x00", b"\xff", b"xmlns=''", b"&#0;", b"&#13;", b"</edXML:From>"]  # fmt: skip


@given(
    st.sampled_from([WHOLE, STATUS]),
    st.lists(
        st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 40), st.sampled_from(SNIPPETS) | st.binary(max_size=5)),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=400)
def test_no_change_of_a_packet_makes_the_reader_raise(data, changes):
    for position, length, inserted in changes:
        data = data[:position] + inserted + data[position + length :]

    go_through_everything(data)


CONTENT = packets.zipped(("a.pdf", packets.PDF * 20))


@given(
    st.sampled_from(["a.pdf", "a.zip", "a.docx"]),
    st.integers(0, len(CONTENT)),
    st.integers(0, 8),
    st.binary(max_size=8),
)
@settings(max_examples=400)
def test_no_change_of_an_archive_makes_unpacking_raise(name, position, length, inserted):
    """And what is found keeps its promise."""
    found, problems = files(packets.with_file(name, CONTENT[:position] + inserted + CONTENT[position + length :]))

    assert bool(found) != bool(problems)
    for file in found:
        assert sum(map(len, file.chunks())) == file.part.length
