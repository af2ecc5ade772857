"""What every outbox does, the real one and the one in memory. Subclasses give the fixtures."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub.core.delivery import Posting
from schemas.addresses import tier_exchange
from schemas.identifiers import AgencyCode
from tests.builders import delivery

Connect = Callable[[AgencyCode], Awaitable[None]]
Mail = Callable[[AgencyCode], Awaitable[list[bytes]]]

EXCHANGE = tier_exchange("commune")
HERE, THERE, NOWHERE = AgencyCode("H26.01"), AgencyCode("H26.02"), AgencyCode("H26.99")


def posting(recipient: AgencyCode, body: bytes = b"token", *, exchange: str = EXCHANGE, document: int = 1) -> Posting:
    return Posting(exchange, recipient, body, (delivery(document, recipient),))


class OutboxContract:
    """The way to the recipients' queues."""

    @pytest.fixture
    def outbox(self) -> Any:
        """An outbox on a broker that is up."""
        raise NotImplementedError

    @pytest.fixture
    def connect(self) -> Connect:
        """Make the queue of an agency, bound to the exchange of the communes."""
        raise NotImplementedError

    @pytest.fixture
    def mail(self) -> Mail:
        """Say what lies in the queue of an agency, oldest first."""
        raise NotImplementedError

    async def test_nothing_to_publish_is_nothing_to_do(self, outbox):
        await outbox.ready()

        assert list(await outbox.publish([])) == []

    async def test_what_is_routed_lies_in_the_recipient_s_queue_byte_for_byte(self, outbox, connect, mail):
        await connect(HERE)
        await connect(THERE)
        body = bytes(range(256))

        assert list(await outbox.publish([posting(HERE, body)])) == ["routed"]
        assert await mail(HERE) == [body]
        assert await mail(THERE) == []

    async def test_a_recipient_without_a_queue_is_unroutable_and_harms_nobody(self, outbox, connect, mail):
        await connect(HERE)
        await connect(THERE)

        assert list(await outbox.publish([posting(HERE), posting(NOWHERE), posting(THERE)])) == [
            "routed",
            "unroutable",
            "routed",
        ]
        assert await mail(HERE) == await mail(THERE) == [b"token"]

    async def test_a_delivery_that_is_published_again_arrives_again(self, outbox, connect, mail):
        """The recipient drops it by its delivery id; the way there does not."""
        await connect(HERE)
        await outbox.publish([posting(HERE)])
        await outbox.publish([posting(HERE)])

        assert await mail(HERE) == [b"token", b"token"]

    async def test_one_document_for_many_is_one_message_for_each(self, outbox, connect, mail):
        recipients = [AgencyCode(f"H26.{number}") for number in range(20)]
        for recipient in recipients:
            await connect(recipient)

        assert list(await outbox.publish([posting(recipient) for recipient in recipients])) == ["routed"] * 20
        assert [await mail(recipient) for recipient in recipients] == [[b"token"]] * 20
