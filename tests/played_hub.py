"""The hub's side of the wire, played by a test: what an agency's adapter meets at a real broker."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import aio_pika

from adapters.trust import Trust
from schemas.addresses import (
    DEAD,
    INTAKE,
    RECEIPTS,
    SUBMIT,
    agency_queue,
    queue_permission,
    submit_permission,
    tier_exchange,
)
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Envelope, Signer, new_envelope
from schemas.identifiers import AgencyCode
from schemas.receipt import (
    NOTICE_TYP,
    RECEIPT_TYP,
    STATUS_TYP,
    Notice,
    NoticeProblem,
    Receipt,
    Status,
    StatusCode,
    read_receipt,
    read_status,
)
from schemas.signing import Verified, identity, sign, verify
from tests.keys import agency_keys
from tests.services import Broker

PASSWORD = "bí mật"
PATIENCE_S = 20


def now_s() -> int:
    return int(datetime.now(UTC).timestamp())


def envelope(from_: str, *to: str, **changes) -> Envelope:
    facts = DocumentFacts(
        kind="Công văn",
        subject="Về việc kết nối, liên thông văn bản điện tử",
        issued_on="2026-07-01",
        signer=Signer(name="Nguyễn Văn An"),
    )
    return new_envelope(**{"from_": from_, "to": to, "doc": facts, "now_s": now_s(), **changes})


def signed(document: Envelope, signer=None) -> bytes:
    owner = document.via or document.from_
    return sign(document.to_json(), typ=ENVELOPE_TYP, signer=signer or agency_keys(owner).signer, now_s=now_s())


@dataclass
class Axis:
    """The hub's side, played by the test."""

    broker: Broker
    channel: aio_pika.abc.AbstractChannel
    directory_file: Path
    sender: AgencyCode
    agency: AgencyCode
    other: AgencyCode
    platform: AgencyCode

    def url(self, user: str, password: str = PASSWORD) -> str:
        parts = urlsplit(self.broker.amqp_url)
        host = f"{quote(user)}:{quote(password)}@{parts.hostname}:{parts.port}"
        return urlunsplit(parts._replace(netloc=host))

    async def deliver(self, token: bytes, recipient: str, times: int = 1) -> None:
        exchange = await self.channel.get_exchange(tier_exchange("commune"), ensure=False)
        for _ in range(times):
            message = aio_pika.Message(
                token,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=uuid.uuid4().hex,
                correlation_id=identity(token),
            )
            await exchange.publish(message, recipient, mandatory=True)

    async def take(self, queue: str) -> aio_pika.abc.AbstractIncomingMessage:
        """Take the next message from a queue of the hub."""
        declared = await self.channel.get_queue(queue, ensure=False)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await declared.get(fail=False)
                if message is not None:
                    await message.ack()
                    return message
                await asyncio.sleep(0.02)

    async def take_receipt(self) -> Receipt:
        message = await self.take(RECEIPTS)
        view = Trust(self.directory_file).view()
        verified = verify(message.body, typ=RECEIPT_TYP, keys=view.keys, now_s=now_s())
        assert isinstance(verified, Verified)
        receipt = read_receipt(verified.payload)
        assert isinstance(receipt, Receipt)
        return receipt

    async def take_status(self) -> Status:
        message = await self.take(RECEIPTS)
        assert message.routing_key == f"status.{message.user_id}"
        view = Trust(self.directory_file).view()
        verified = verify(message.body, typ=STATUS_TYP, keys=view.keys, now_s=now_s())
        assert isinstance(verified, Verified)
        status = read_status(verified.payload)
        assert isinstance(status, Status)
        return status

    async def waiting(self, queue: str) -> int:
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def is_empty(self, queue: str) -> bool:
        """Tell whether nothing is left in a queue; a client that consumed must be closed, so that it holds nothing."""
        await asyncio.sleep(0.2)
        return await self.waiting(queue) == 0


@asynccontextmanager
async def open_axis(vhost: Broker, tmp_path: Path) -> AsyncIterator[Axis]:
    base = f"Z99.{secrets.token_hex(4).upper()}"
    sender, agency, other = (AgencyCode(f"{base}.{number}") for number in (1, 2, 3))
    platform = AgencyCode(f"lgsp-{secrets.token_hex(4)}")
    users = [sender, agency, platform]
    async with AsyncExitStack() as stack:
        for user in users:
            await asyncio.to_thread(make_user, vhost, user)
            stack.push_async_callback(asyncio.to_thread, vhost.manage, "DELETE", f"/users/{quote(user)}")
        connection = await aio_pika.connect(vhost.amqp_url)
        stack.push_async_callback(connection.close)
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await declare(channel, {agency: agency, sender: sender, other: platform, platform: platform})
        directory_file = tmp_path / "directory.json"
        directory_file.write_bytes(directory(sender, agency, other, platform))
        yield Axis(vhost, channel, directory_file, sender, agency, other, platform)


def make_user(vhost: Broker, user: str) -> None:
    place = f"{quote(vhost.vhost, safe='')}/{quote(user)}"
    vhost.manage("PUT", f"/users/{quote(user)}", {"password": PASSWORD, "tags": ""})
    rights = {"configure": "^$", "write": r"^truc\.submit$", "read": queue_permission(user)}
    vhost.manage("PUT", f"/permissions/{place}", rights)
    topic = {"exchange": SUBMIT, "write": submit_permission(user), "read": "^$"}
    vhost.manage("PUT", f"/topic-permissions/{place}", topic)


async def declare(channel: aio_pika.abc.AbstractChannel, endpoints: dict[AgencyCode, AgencyCode]) -> None:
    quorum = {"x-queue-type": "quorum"}
    submit = await channel.declare_exchange(SUBMIT, aio_pika.ExchangeType.TOPIC, durable=True)
    for name, key in ((INTAKE, "document.#"), (RECEIPTS, "receipt.#"), (RECEIPTS, "status.#")):
        await (await channel.declare_queue(name, durable=True, arguments=quorum)).bind(submit, key)
    await channel.declare_queue(DEAD, durable=True, arguments=quorum)
    aside = quorum | {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
    tier = await channel.declare_exchange(tier_exchange("commune"), durable=True)
    for code, endpoint in endpoints.items():
        await (await channel.declare_queue(agency_queue(endpoint), durable=True, arguments=aside)).bind(tier, code)


def directory(sender: str, agency: str, other: str, platform: str) -> bytes:
    def entry(code: str, endpoint: str) -> dict:
        return {
            "code": code,
            "name": f"Đơn vị {code}",
            "tier": "commune",
            "endpoint": endpoint,
            "valid_from": "2025-07-01",
        }

    return DirectoryFile.model_validate(
        {
            "agencies": (entry(sender, sender), entry(agency, agency), entry(other, platform)),
            "platforms": ({"code": platform, "name": "LGSP", "valid_from": "2025-07-01"},),
            "mandates": ({"platform": platform, "agency": other, "actions": ("new",), "valid_from": "2025-07-01"},),
            "certificates": tuple(
                agency_keys(owner).entry(owner).model_dump() for owner in (sender, agency, platform, "hub")
            ),
        }
    ).to_json()


def notice_to(code: str, signer=None) -> bytes:
    notice = Notice(to=code, kind="refused", at=now_s(), problems=(NoticeProblem(code="E404", en="no", vi="không"),))
    return sign(notice.to_json(), typ=NOTICE_TYP, signer=signer or agency_keys("hub").signer, now_s=now_s())


def status_to(code: str, from_: str, status: StatusCode = "03", signer=None, document: str = "ab" * 32) -> bytes:
    content = Status(from_=from_, to=code, document=document, status=status, at=now_s(), detail="Lý do")
    return sign(content.to_json(), typ=STATUS_TYP, signer=signer or agency_keys(from_).signer, now_s=now_s())
