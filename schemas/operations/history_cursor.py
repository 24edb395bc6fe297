"""The position of an event in the order of the history, as text: the ``next`` of a page."""

import base64
import binascii
import datetime
from typing import Final
from uuid import UUID

EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)
MICROSECOND: Final = datetime.timedelta(microseconds=1)


class InvalidCursor(Exception):
    """A text is not the position of an event."""


def cursor_of(time: datetime.datetime, event_id: UUID) -> str:
    """Encode a position: the time in microseconds, and the id."""
    microseconds = (time - EPOCH) // MICROSECOND
    plain = microseconds.to_bytes(8, "big", signed=True) + event_id.bytes
    return base64.urlsafe_b64encode(plain).decode()


def position_of(cursor: str) -> tuple[datetime.datetime, UUID]:
    """Decode a position. Raises InvalidCursor."""
    try:
        plain = base64.b64decode(cursor, altchars=b"-_", validate=True)
        microseconds = int.from_bytes(plain[:8], "big", signed=True)
        return EPOCH + microseconds * MICROSECOND, UUID(bytes=plain[8:])
    except (binascii.Error, ValueError, OverflowError) as error:
        raise InvalidCursor(f"{cursor[:100]!r} is not the position of an event") from error
