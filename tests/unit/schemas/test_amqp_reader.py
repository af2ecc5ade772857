"""What the broker sends reaches whom it is for, in whatever pieces it comes; the library writes it here."""

import asyncio
import struct
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import frame as wire
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.decode import field_table
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from schemas.amqp_reader import HEARTBEAT, Arrived, FrameReader, Properties, Receiver, read_properties
from schemas.amqp_transport import Transport

OURS, LIBRARYS = 3, 4
PROPERTIES = Basic.Properties(message_id="m")
RAW_PROPERTIES = b"\x00\x80\x01m"


class Heard(Receiver):
    def __init__(self) -> None:
        self.all: list[Any] = []

    def arrived(self, message: Arrived) -> None:
        self.all.append(message)

    def returned(self, properties: bytes) -> None:
        self.all.append(("returned", properties))

    def confirmed(self, number: int, *, taken: bool, all_before: bool) -> None:
        self.all.append((number, taken, all_before))


def reader_and_heard() -> tuple[FrameReader, list[Any]]:
    reader, receiver = FrameReader(), Heard()
    reader.channels = {OURS: receiver, LIBRARYS: object()}
    return reader, receiver.all


def frames(channel: int, *items: Any) -> bytes:
    return b"".join(wire.marshal(item, channel) for item in items)


def delivered(number: int, *bodies: bytes) -> list[Any]:
    return [
        Basic.Deliver("truc.intake", number, number % 2 == 0, "truc.submit", "document.Đ"),
        ContentHeader(body_size=sum(map(len, bodies)), properties=PROPERTIES),
        *map(ContentBody, bodies),
    ]


def expected(number: int, body: bytes) -> Arrived:
    return Arrived("truc.intake", number, number % 2 == 0, "document.Đ", RAW_PROPERTIES, body)


EVERYTHING = [
    (frames(OURS, Basic.ConsumeOk("truc.intake")), None),
    (frames(OURS, *delivered(1, b"one")), expected(1, b"one")),
    (frames(0, Heartbeat()), None),
    (frames(OURS, *delivered(2, b"x" * 300, b"y" * 5)), expected(2, b"x" * 300 + b"y" * 5)),
    (frames(LIBRARYS, *delivered(3, b"not ours")), None),
    (frames(OURS, *delivered(4)), expected(4, b"")),
    (frames(OURS, Basic.Ack(2**40, multiple=True)), (2**40, True, True)),
    (frames(OURS, Basic.Ack(7)), (7, True, False)),
    (frames(OURS, Basic.Nack(8, multiple=False, requeue=True)), (8, False, False)),
    (frames(OURS, Basic.Nack(9, multiple=True)), (9, False, True)),
    (
        frames(
            OURS,
            Basic.Return(312, "NO_ROUTE", "truc.tier.commune", "H26"),
            ContentHeader(body_size=5, properties=PROPERTIES),
            ContentBody(b"token"),
        ),
        ("returned", RAW_PROPERTIES),
    ),
    (frames(LIBRARYS, Basic.Ack(1)), None),
    (frames(OURS, Channel.Close(404, "NOT_FOUND", 60, 20)), None),
]
SENT = b"".join(data for data, _ in EVERYTHING)


@given(st.lists(st.integers(0, len(SENT)), max_size=30).map(sorted))
@example(list(range(len(SENT))))
@example([])
def test_everybody_hears_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    reader, heard = reader_and_heard()
    passed = b"".join(reader.read(SENT[start:end]) for start, end in pairwise([0, *cuts, len(SENT)]))

    assert heard == [each for _, each in EVERYTHING if each is not None]
    assert passed == b"".join(data for data, each in EVERYTHING if each is None)
    assert reader.rest() == b""


def test_messages_of_two_channels_may_be_interleaved() -> None:
    first, second = Heard(), Heard()
    reader = FrameReader()
    reader.channels = {1: first, 2: second}
    one, other = delivered(1, b"a", b"b"), delivered(1, b"c", b"d")
    for mine, yours in zip(one, other, strict=True):
        reader.read(frames(1, mine) + frames(2, yours))

    assert (first.all, second.all) == ([expected(1, b"ab")], [expected(1, b"cd")])


def test_a_message_that_the_broker_breaks_off_is_forgotten() -> None:
    reader, heard = reader_and_heard()
    close = frames(OURS, Channel.Close(541, "INTERNAL_ERROR", 60, 60))
    reader.read(frames(OURS, *delivered(1, b"a", b"b")[:3]))
    passed = reader.read(close + frames(OURS, *delivered(1, b"new")))

    assert passed == close
    assert heard == [expected(1, b"new")]


@pytest.mark.parametrize("strange", [b"AMQP\x00\x00\x09\x01", frames(OURS, Basic.Ack(1))[:-1] + b"\x00"])
def test_what_cannot_be_read_is_the_library_s_with_all_that_follows(strange: bytes) -> None:
    reader, heard = reader_and_heard()
    before, behind = frames(OURS, Basic.Ack(1)), frames(OURS, Basic.Ack(2))

    assert reader.read(before + strange + behind) + reader.read(behind[:3]) + reader.rest() == (
        strange + behind + behind[:3]
    )
    assert heard == [(1, True, False)]


def test_the_rest_of_a_frame_can_be_had_at_the_end() -> None:
    reader, heard = reader_and_heard()
    ack = frames(OURS, Basic.Ack(1))

    assert reader.read(ack[:10]) == b""
    assert reader.rest() == ack[:10]
    assert heard == []


def test_properties_are_read_as_the_library_reads_them() -> None:
    headers = {"x-first-death-queue": "truc.agency.H26"}
    texts = {name: name for name in ("content_type", "content_encoding", "reply_to", "expiration", "message_type")}
    written = Basic.Properties(
        headers=headers,
        delivery_mode=2,
        priority=1,
        correlation_id="c",
        message_id="m",
        timestamp=datetime(2026, 3, 2, tzinfo=UTC),
        user_id="Đ",
        app_id="a",
        cluster_id="",
        **texts,
    )
    read = read_properties(written.marshal())

    assert read is not None
    assert (read.correlation_id, read.message_id, read.user_id) == ("c", "m", "Đ")
    assert field_table(read.headers)[1] == headers
    assert read_properties(Basic.Properties().marshal()) == Properties()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x80\x05abcd", id="a text that is cut off"),
        pytest.param(b"\x00\x80", id="a text without a length"),
        pytest.param(b"\x00\x80\x02\xff\xfe", id="a message id that is not UTF-8"),
        pytest.param(b"\x20\x00" + struct.pack(">I", 9) + b"\x01", id="a table that is cut off"),
        pytest.param(b"\x20\x00\x00", id="a table without a length"),
        pytest.param(b"\x00\x40\x01", id="a moment that is cut off"),
    ],
)
def test_properties_that_cannot_be_read_are_none(data: bytes) -> None:
    assert read_properties(data) is None


@given(st.binary(max_size=60))
def test_no_properties_are_an_error(data: bytes) -> None:
    assert isinstance(read_properties(data), Properties | None)


@pytest.mark.parametrize(("told_every_s", "told"), [(0.0, True), (60.0, False)])
async def test_the_library_is_told_now_and_then_of_a_broker_that_speaks_to_receivers_only(
    monkeypatch: pytest.MonkeyPatch, told_every_s: float, told: bool
) -> None:
    """It ends a connection on which it reads nothing for long."""
    monkeypatch.setattr("schemas.amqp_transport._TOLD_EVERY_S", told_every_s)

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serving.wait()
        writer.writelines(frames(OURS, Basic.Ack(number)) for number in range(1, 30))
        writer.close()

    serving = asyncio.Event()
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    transport, receiver = Transport(), Heard()
    url = SimpleNamespace(scheme="amqp", host=host, port=port)
    reader, writer = await transport.create(url, ssl_context_provider=None)
    transport.serve({OURS: receiver})
    serving.set()
    async with asyncio.timeout(10):
        read = await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()

    assert [number for number, _, _ in receiver.all] == list(range(1, 30))
    assert read == HEARTBEAT * (len(read) // len(HEARTBEAT))
    assert bool(read) is told
