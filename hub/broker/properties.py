"""Reads the properties of a message without trusting who wrote them.

The broker passes properties on as it got them, and pamqp refuses some: a `timestamp` beyond the year 9999, text that is
not UTF-8, tables nested a thousand deep. aiormq then closes the whole connection, the broker hands the message out
again, and one message from one agency stops the intake of all. Here such a message is one without properties: it has
no proven user, so the checks park it.
"""

from typing import Final

import structlog
from pamqp.commands import Basic
from pamqp.header import ContentHeader

_decode: Final = ContentHeader.unmarshal
_log: Final = structlog.get_logger(__name__)


def tolerate_unreadable_properties() -> None:
    """Make pamqp read unreadable properties as none, in this process; calling it again changes nothing."""
    ContentHeader.unmarshal = _decode_or_leave_empty  # type: ignore[assignment]


def _decode_or_leave_empty(header: ContentHeader, data: bytes) -> None:
    try:
        _decode(header, data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the sender's doing
        _log.warning("message.unreadable_properties", error=type(error).__name__)
        # Class, weight and size have a fixed place and are set already when the properties fail.
        header.properties = Basic.Properties()
