"""What an agency says: signed in its name, published until the broker has confirmed it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from adapters.line import Publisher
from schemas.addresses import Lane, submit_key
from schemas.bundle import in_bundles, tie
from schemas.identifiers import AgencyCode
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import MAX_AGE_S, KeySigner, Signer, sign

_REPEATABLE_S: Final = MAX_AGE_S - 3600


class Outbox:
    """The way out of one agency or platform.

    Args:
        code: Who speaks.
        signer: Its key.
        publisher: Its line to the broker, on which `publish` waits for confirms.
        clock: The present, aware.
    """

    def __init__(self, code: AgencyCode, signer: Signer, publisher: Publisher, clock: Callable[[], datetime]) -> None:
        self._code = code
        self._signer = signer
        self._publisher = publisher
        self._clock = clock

    def via(self, agency: AgencyCode | None) -> AgencyCode | None:
        """Name ourselves when we speak for somebody else."""
        return None if agency in (None, self._code) else self._code

    async def sign(self, payload: bytes, typ: str, at_s: int | None = None) -> bytes:
        """Sign a payload, by default as of now.

        Raises:
            ValueError: When the token would be larger than 256 KiB.
        """
        now_s = int(self._clock().timestamp()) if at_s is None else at_s
        if self._signer.alg == "ES256" and isinstance(self._signer, KeySigner):
            # Quicker than the way to a thread; other keys take a millisecond, or live in a device.
            return sign(payload, typ=typ, signer=self._signer, now_s=now_s)
        return await asyncio.to_thread(sign, payload, typ=typ, signer=self._signer, now_s=now_s)

    def repeatable(self, at_s: int) -> int:
        """Say as of when to sign what was said at a moment: as of that moment, while the axis takes it.

        What is signed again then has the same identity.
        """
        now_s = int(self._clock().timestamp())
        return at_s if now_s - _REPEATABLE_S < at_s <= now_s else now_s

    async def publish(self, lane: Lane, body: bytes, timeout_s: float | None) -> None:
        """Publish the same token or bundle until it is confirmed, or until the time is over; without end for `None`.

        Raises:
            BrokerError: As `AgencyClient.submit`.
        """
        await self._publisher.publish(body, submit_key(lane, self._code), timeout_s)

    def receipt(self, recipient: AgencyCode, sender: AgencyCode | None, answers: Sequence[Answer]) -> Receipt:
        """Write a receipt of one of our agencies; without a sender where none can be believed."""
        return Receipt(from_=recipient, via=self.via(recipient), to=sender, answers=tuple(answers))

    async def send_receipts(self, receipts: Iterable[Receipt], timeout_s: float | None) -> None:
        """Sign and publish receipts, as many in one message as fit.

        Raises:
            BrokerError: As `publish`.
        """
        bundles = await self.tie_receipts(receipts)
        await asyncio.gather(*(self.publish("receipt", body, timeout_s) for _, body in bundles))

    async def tie_receipts(self, receipts: Iterable[Receipt]) -> list[tuple[Sequence[Receipt], bytes]]:
        """Sign receipts, each as of its last answer, so that a repetition has the same identity.

        Returns:
            What travels in one message, with its body.
        """
        whole = list(receipts)
        tokens = await asyncio.gather(*map(self._sign_receipt, whole))
        bundles = in_bundles(zip(whole, tokens, strict=True), lambda pair: pair[1])
        return [([receipt for receipt, _ in pairs], tie(token for _, token in pairs)) for pairs in bundles]

    async def _sign_receipt(self, receipt: Receipt) -> bytes:
        signed_at_s = self.repeatable(max(answer.at for answer in receipt.answers))
        return await self.sign(receipt.to_json(), RECEIPT_TYP, signed_at_s)

    async def close(self) -> None:
        """End the connection; nothing can be published afterwards."""
        await self._publisher.close()
