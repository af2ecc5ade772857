"""What is written down by hand is what the library writes."""

import pytest
from pamqp import frame as wire
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from schemas.amqp_frames import ack_frame, publish_frames, reject_frame
from schemas.envelope import ENVELOPE_TYP


@pytest.mark.parametrize("content_type", ["application/jose", None])
@pytest.mark.parametrize("user", ["truc-hub", None])
@pytest.mark.parametrize("size", [0, 5, 131_064, 131_065, 300_000])
def test_a_publish_is_written_as_the_library_writes_it(user: str | None, size: int, content_type: str | None) -> None:
    body = b"x" * size
    properties = Basic.Properties(
        content_type=content_type,
        delivery_mode=2,
        correlation_id="c",
        message_id="m",
        message_type=ENVELOPE_TYP,
        user_id=user,
    )
    frames = [
        Basic.Publish(exchange="truc.tier.commune", routing_key="Đ", mandatory=True),
        ContentHeader(body_size=size, properties=properties),
        *(ContentBody(body[start : start + 131_064]) for start in range(0, size, 131_064)),
    ]

    assert publish_frames(
        3,
        exchange="truc.tier.commune",
        routing_key="Đ",
        body=body,
        message_id="m",
        correlation_id="c",
        message_type=ENVELOPE_TYP,
        content_type=content_type,
        user_id=user,
        max_body_bytes=131_064,
    ) == b"".join(wire.marshal(frame, 3) for frame in frames)


def test_what_settles_a_message_is_written_as_the_library_writes_it() -> None:
    assert ack_frame(3, 2**40) == wire.marshal(Basic.Ack(delivery_tag=2**40, multiple=False), 3)
    assert ack_frame(3, 7, all_before=True) == wire.marshal(Basic.Ack(delivery_tag=7, multiple=True), 3)
    assert reject_frame(3, 7) == wire.marshal(Basic.Reject(delivery_tag=7, requeue=False), 3)


@pytest.mark.parametrize("member", ["exchange", "routing_key", "message_id", "correlation_id", "user_id"])
def test_a_text_that_amqp_cannot_carry_is_an_error(member: str) -> None:
    texts = dict.fromkeys(["exchange", "routing_key", "message_id", "correlation_id", "user_id"], "a")

    publish_frames(1, body=b"", max_body_bytes=10, **{**texts, member: "a" * 255})
    with pytest.raises(ValueError, match="more than 255"):
        publish_frames(1, body=b"", max_body_bytes=10, **{**texts, member: "a" * 256})
