"""Store events that JetStream counts as delivered although their consumer is gone.

Redelivery follows the server's wall clock. If the clock was an hour ahead when an event was
delivered, and was then corrected, the event is redelivered an hour late.
"""

import asyncio
import datetime
import logging
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import APIError, NotFoundError

from mediabus.consumers.daemon import published_at
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister.store import EventStore
from mediabus.consumers.verdict import RetryLater
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.pull import ACK_WAIT
from mediabus.schemas import codec
from mediabus.schemas.subjects import EVENTS_STREAM

log: Final = logging.getLogger("mediabus.persister")

POLL_EVERY: Final = 5.0
LATE_AFTER: Final = 3 * ACK_WAIT
"""Seconds within which an event is normally acknowledged, even if it had to be redelivered."""


async def store_stragglers(bus: Bus, store: EventStore, consumer: str) -> None:
    """Store late events, until cancelled.

    The consumer still gets them and then finds them stored.
    """
    clock = asyncio.get_running_loop().time
    ack_floor = -1
    since = clock()
    stored_to = 0
    while True:
        await asyncio.sleep(POLL_EVERY)
        try:
            info = await bus.js.consumer_info(EVENTS_STREAM, consumer)
            acknowledged_to, delivered_to = _positions(info)
            if acknowledged_to != ack_floor or not info.num_ack_pending:
                ack_floor = stored_to = acknowledged_to
                since = clock()
            elif clock() - since > LATE_AFTER and delivered_to > stored_to:
                log.warning("storing unacknowledged events", extra={"after": stored_to})
                for stream_seq in range(stored_to + 1, delivered_to + 1):
                    if not await _store(bus, store, stream_seq):
                        break
                    stored_to = stream_seq
                since = clock()
        except (NatsError, APIError, TimeoutError, asyncpg.PostgresError) as error:
            log.debug("unacknowledged events not checked", extra={"error": error_text(error)})


def _positions(info: ConsumerInfo) -> tuple[int, int]:
    """Return the sequence numbers up to which all is acknowledged, and up to which delivered."""
    ack_floor, delivered = info.ack_floor, info.delivered
    return ack_floor.stream_seq if ack_floor else 0, delivered.stream_seq if delivered else 0


async def _store(bus: Bus, store: EventStore, stream_seq: int) -> bool:
    """Store one event. Return False if it must be retried.

    Messages that are not events, and rejected events, are left to the consumer.
    """
    try:
        message = await bus.js.get_msg(EVENTS_STREAM, stream_seq)
        row = EventRow.decode(
            message.data or b"",
            message.headers,
            stream_seq,
            published_at=lambda: published_at(
                message.headers, message.time or datetime.datetime.now(datetime.UTC)
            ),
            trust_actor=bus.trusts_actors,
        )
    except (NotFoundError, codec.InvalidEvent):
        return True
    [outcome] = await store.store([row])
    return not isinstance(outcome, RetryLater)
