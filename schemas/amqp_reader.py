"""Reads what the broker sends (AMQP 0-9-1): takes out what is about messages and leaves all else to the library.

The library makes an object of every frame, by reflection, and passes it from task to task: three for a message, one for a
confirm. For the hub that was a quarter of what a receipt costs. Here all that came together is read in one go.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_FRAME: Final = struct.Struct(">BHI")
_END: Final = 0xCE
HEARTBEAT: Final = _FRAME.pack(_HEARTBEAT, 0, 0) + bytes((_END,))
"""The frame that says that the broker lives, and nothing else."""

_WHICH_METHOD: Final = struct.Struct(">HH")
_RETURN, _DELIVER, _ACK, _NACK = ((60, method) for method in (50, 60, 80, 120))
_NUMBER_AND_BITS: Final = struct.Struct(">QB")
_REDELIVERED: Final = 1
_ALL_BEFORE: Final = 1
_BODY_SIZE: Final = struct.Struct(">Q")

_FLAGS: Final = struct.Struct(">H")
_TABLE_SIZE: Final = struct.Struct(">I")
_NO_HEADERS: Final = _TABLE_SIZE.pack(0)
_HEADERS, _CORRELATION_ID, _MESSAGE_ID, _USER_ID = (1 << bit for bit in (13, 10, 7, 4))
_OCTETS: Final = {1 << 12: 1, 1 << 11: 1, 1 << 6: 8}  # delivery mode, priority, timestamp
_LAST_PROPERTY: Final = 2


@dataclass(frozen=True, slots=True)
class Properties:
    """What is read of the properties of a message.

    Attributes:
        correlation_id: Identity of what it carries.
        message_id: Its own id.
        user_id: The user in whose name it was published, which the broker has checked.
        headers: The table of headers, as it was written.
    """

    correlation_id: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    headers: bytes = _NO_HEADERS


@dataclass(slots=True)
class Arrived:
    """A message as it came.

    Attributes:
        consumer: The tag of the consumer that it is for.
        number: By what the channel knows it; 1, 2, 3 … in the order of arrival.
        redelivered: Whether the broker handed it out before.
        routing_key: Under which it came.
        properties: As they were written, see `read_properties`.
        body: The bytes.
    """

    consumer: str
    number: int
    redelivered: bool
    routing_key: str
    properties: bytes = b""
    body: bytes = b""


class Receiver(ABC):
    """A channel that is told of messages and confirms as they are read.

    What is called here must not raise: the connection would end with it.
    """

    @abstractmethod
    def arrived(self, message: Arrived) -> None:
        """Take a message."""

    @abstractmethod
    def returned(self, properties: bytes) -> None:
        """Hear that a message, told by its properties, could not be routed; its confirm follows."""

    @abstractmethod
    def confirmed(self, number: int, *, taken: bool, all_before: bool) -> None:
        """Hear what became of a publish, or of all up to it that were not spoken about."""


@dataclass(slots=True)
class _Content:
    """A message of which the last frame has not come; `message` is absent when it was returned."""

    message: Arrived | None
    properties: bytes = b""
    missing_bytes: int | None = None
    bodies: list[bytes] = field(default_factory=list)


class FrameReader:
    """Reads the bytes of one connection, in whatever pieces they come.

    No more is held back than the rest of one frame, and a message for its receiver until it is whole.

    Attributes:
        channels: The open channels by number; those that are no receivers are the library's.
    """

    def __init__(self) -> None:
        self.channels: Mapping[int, object] = {}
        self._contents: dict[int, _Content] = {}  # by channel
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wanted_bytes = _FRAME.size
        self._unreadable = False

    def read(self, data: bytes) -> bytes:
        """Tell the receivers what is for them; returns the frames that are for the library, as they came."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes < self._wanted_bytes and not self._unreadable:
            return b""
        data = b"".join(self._held)
        passed, rest = self._read(data)
        self._held = [data[rest:]] if rest < len(data) else []
        self._held_bytes = len(data) - rest
        return b"".join(passed)

    def rest(self) -> bytes:
        """Give what is held back of a frame that will not be whole any more."""
        return b"".join(self._held)

    def _read(self, data: bytes) -> tuple[list[bytes], int]:
        """Read all frames that are whole; returns those of the library, and where the rest begins."""
        passed: list[bytes] = []
        start, end = 0, len(data)
        self._wanted_bytes = _FRAME.size
        while end - start >= _FRAME.size:
            kind, number, size = _FRAME.unpack_from(data, start)
            after = start + _FRAME.size + size + 1
            if kind not in (_METHOD, _HEADER, _BODY, _HEARTBEAT) or (after <= end and data[after - 1] != _END):
                self._unreadable = True  # the library finds that too, and says it in its own words
            if self._unreadable:
                return [*passed, data[start:]], end
            if after > end:
                self._wanted_bytes = after - start
                break
            receiver = self.channels.get(number)
            payload = slice(start + _FRAME.size, after - 1)
            if not (isinstance(receiver, Receiver) and self._tell(receiver, kind, number, data[payload])):
                passed.append(data[start:after])
            start = after
        return passed, start

    def _tell(self, receiver: Receiver, kind: int, number: int, payload: bytes) -> bool:
        """Tell a receiver of a frame, when it is the last of something; false for what is the library's."""
        if kind == _METHOD:
            return self._tell_method(receiver, number, payload)
        content = self._contents.get(number)
        if content is None:
            return False
        if kind == _HEADER:
            (content.missing_bytes,) = _BODY_SIZE.unpack_from(payload, 4)
            content.properties = payload[12:]
        elif kind == _BODY and content.missing_bytes is not None:
            content.missing_bytes -= len(payload)
            content.bodies.append(payload)
        else:
            return False
        if content.missing_bytes <= 0:
            del self._contents[number]
            _tell_content(receiver, content)
        return True

    def _tell_method(self, receiver: Receiver, number: int, payload: bytes) -> bool:
        self._contents.pop(number, None)  # the broker interrupts a message only to close the channel
        method = _WHICH_METHOD.unpack_from(payload)
        if method == _DELIVER:
            self._contents[number] = _Content(_arrived(payload))
        elif method in (_ACK, _NACK):
            confirmed, bits = _NUMBER_AND_BITS.unpack_from(payload, 4)
            receiver.confirmed(confirmed, taken=method == _ACK, all_before=bool(bits & _ALL_BEFORE))
        elif method == _RETURN:
            self._contents[number] = _Content(None)
        else:
            return False
        return True


def _tell_content(receiver: Receiver, content: _Content) -> None:
    message = content.message
    if message is None:
        receiver.returned(content.properties)
    else:
        message.properties = content.properties
        message.body = content.bodies[0] if len(content.bodies) == 1 else b"".join(content.bodies)
        receiver.arrived(message)


def _arrived(payload: bytes) -> Arrived:
    """Read a Basic.Deliver."""
    consumer, after = _short(payload, 4)
    number, bits = _NUMBER_AND_BITS.unpack_from(payload, after)
    _, after = _short(payload, after + _NUMBER_AND_BITS.size)
    routing_key, _ = _short(payload, after)
    return Arrived(_text(consumer), number, bool(bits & _REDELIVERED), _text(routing_key))


def read_properties(data: bytes) -> Properties | None:
    """Read the properties of a message; `None` when they cannot be read.

    The broker passes on whatever an agency wrote: a moment beyond all calendars, texts that are not UTF-8, tables nested
    a thousand deep. Nothing is read here that is not needed.
    """
    found: dict[int, bytes] = {}
    try:
        (flags,) = _FLAGS.unpack_from(data)
        start = _FLAGS.size
        for bit in range(15, _LAST_PROPERTY - 1, -1):
            flag = 1 << bit
            if not flags & flag:
                continue
            if flag == _HEADERS:
                after = start + _TABLE_SIZE.size + _TABLE_SIZE.unpack_from(data, start)[0]
                found[flag] = data[start:after]
            elif flag in _OCTETS:
                after = start + _OCTETS[flag]
            else:
                found[flag], after = _short(data, start)
            if after > len(data):
                return None
            start = after
        return Properties(
            _text_of(found, _CORRELATION_ID),
            _text_of(found, _MESSAGE_ID),
            _text_of(found, _USER_ID),
            found.get(_HEADERS, _NO_HEADERS),
        )
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def _text_of(found: Mapping[int, bytes], flag: int) -> str | None:
    return found[flag].decode() if flag in found else None


def _short(data: bytes, start: int) -> tuple[bytes, int]:
    """Read a short string; returns it, and where what follows begins."""
    after = start + 1 + data[start]
    return data[start + 1 : after], after


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
