"""Events that the server believes in somebody's hands, though nobody has them any more.

It delivers again by its time of day: what it delivered while that was ahead, to a process that then
died, comes again only when the hour that it was ahead has passed once more.
"""

import asyncio
import logging
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import APIError, NotFoundError

from consumers.daemon import Delivery
from consumers.persister.store import EventStore
from schemas import codec
from schemas.subjects import EVENTS_STREAM
from service.runtime.bus import Bus
from service.runtime.pull import ACK_WAIT

log: Final = logging.getLogger("mediabus.persister")

LOOK_EVERY: Final = 5.0
LATE_AFTER: Final = 3 * ACK_WAIT
"""Seconds in which a delivery is settled, or comes again and is settled then."""


async def store_stragglers(bus: Bus, store: EventStore, consumer: str) -> None:
    """Looks for ever; stores what is late beside its consumer, which then finds it stored."""
    clock = asyncio.get_running_loop().time
    floor, since, swept_to = -1, clock(), 0
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            info = await bus.js.consumer_info(EVENTS_STREAM, consumer)
            settled_to, delivered_to = _places(info)
            if settled_to != floor or not info.num_ack_pending:
                floor, since, swept_to = settled_to, clock(), settled_to
            elif clock() - since > LATE_AFTER and delivered_to > swept_to:
                log.warning("storing what nobody settles", extra={"after": swept_to})
                for place in range(swept_to + 1, delivered_to + 1):
                    await _store(bus, store, place)
                since, swept_to = clock(), delivered_to
        except (NatsError, APIError, TimeoutError, asyncpg.PostgresError) as error:
            log.debug("stragglers: %s", str(error) or type(error).__name__)


def _places(info: ConsumerInfo) -> tuple[int, int]:
    """Up to where everything is settled, and up to where something was delivered."""
    settled, delivered = info.ack_floor, info.delivered
    return settled.stream_seq if settled else 0, delivered.stream_seq if delivered else 0


async def _store(bus: Bus, store: EventStore, place: int) -> None:
    """What is no event is left to its consumer."""
    try:
        message = await bus.js.get_msg(EVENTS_STREAM, place)
        envelope = codec.decode(message.data or b"", message.headers)
    except (NotFoundError, codec.InvalidEvent):
        return
    await store.store([Delivery(envelope, place, 1)])
