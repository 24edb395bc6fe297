"""Find an event in the stream by its id."""

import datetime
from typing import Final
from uuid import UUID

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.stream_reader import stored_messages
from mediabus.schemas import codec
from mediabus.schemas.dead_letter_headers import first_id
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import EVENTS_STREAM

BEFORE: Final = datetime.timedelta(minutes=1)
"""How much the clock of a publisher may be ahead of the server's."""


async def find_event(bus: Bus, event_id: str) -> Envelope | None:
    """Return the event; None if the stream does not have it. Raises nats-py's errors."""
    messages = stored_messages(bus, EVENTS_STREAM, since=_made_at(event_id))
    async for message in messages:
        if first_id(message.headers.get("Nats-Msg-Id")) == event_id:
            return codec.decode(message.data, message.headers, published_at=lambda: message.time)  # noqa: B023 - called at once
    return None


def _made_at(event_id: str) -> datetime.datetime | None:
    """Return the time in a UUID of version 7, so that not all of the stream is read."""
    try:
        made = UUID(event_id)
    except ValueError:
        return None
    if made.version != 7:
        return None
    return datetime.datetime.fromtimestamp((made.int >> 80) / 1000, datetime.UTC) - BEFORE
