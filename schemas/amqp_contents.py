"""The frames of a message, joined as they are read: its method, its content header, its content bodies (AMQP 0-9-1).

The library sets every frame down in a queue, from which a task of each channel takes it: three times for a message, and
once for a confirm. For an agency that was as much work as all that it does with the confirm.
"""

from collections.abc import Callable
from typing import Any

from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

Method = Basic.Deliver | Basic.Return
"""What begins a message."""
Confirm = Basic.Ack | Basic.Nack


class Frames:
    """What the connection has read for a channel: messages and confirms go past its queue, all else waits in it.

    Put it in the place of the `frames` of a channel that has just been made.

    Args:
        queue: That of the library.
        arrived: Called with each message when its last frame was read.
        confirmed: Called with each confirm.
    """

    def __init__(
        self,
        queue: Any,
        arrived: Callable[[Method, ContentHeader, bytes], None],
        confirmed: Callable[[Confirm], None],
    ) -> None:
        self._arrived = arrived
        self._confirmed = confirmed
        self._queue = queue
        self.get = queue.get
        self.task_done = queue.task_done
        self._method: Method | None = None
        self._header: ContentHeader | None = None
        self._bodies: list[bytes] = []
        self._missing_bytes = 0

    async def put(self, item: tuple[int, object]) -> None:
        """Take a frame as the connection has read it, with its weight."""
        if not self._take(item[1]):
            await self._queue.put(item)

    def _take(self, frame: object) -> bool:
        match frame:
            case Basic.Deliver() | Basic.Return():
                self._method = frame
            case ContentHeader() if self._method is not None:
                self._begin(frame)
            case ContentBody() if self._header is not None:
                self._go_on(frame.value or b"")
            case Basic.Ack() | Basic.Nack():
                self._confirmed(frame)
            case _:
                return False
        return True

    def _begin(self, header: ContentHeader) -> None:
        self._header = header
        self._missing_bytes = header.body_size or 0
        if not self._missing_bytes:
            self._end()

    def _go_on(self, body: bytes) -> None:
        self._bodies.append(body)
        self._missing_bytes -= len(body)
        if self._missing_bytes <= 0:
            self._end()

    def _end(self) -> None:
        method, header, body = self._method, self._header, b"".join(self._bodies)
        self._method, self._header = None, None
        self._bodies.clear()
        assert method is not None
        assert header is not None
        self._arrived(method, header, body)
