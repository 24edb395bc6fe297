"""The persister as a process."""

import asyncio
import contextlib
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from consumers.daemon import durable, run
from consumers.persister.retention import keep_partitions
from consumers.persister.store import EventStore
from consumers.persister.stragglers import store_stragglers
from schemas.subjects import EVENTS_STREAM
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import PersisterSettings
from service.runtime.streams import keep_streams

NAME: Final = "persister"
LOOK_EVERY: Final = 5.0


async def persist(bus: Bus, pool: Pool, settings: PersisterSettings) -> None:
    """Stores events for ever. Run as many of these side by side as you like."""
    store = EventStore(pool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_streams(bus), name="streams")
        tasks.create_task(keep_partitions(pool, settings.keep_months), name="partitions")
        tasks.create_task(watch_lag(bus), name="lag")
        tasks.create_task(store_stragglers(bus, store, NAME), name="stragglers")
        tasks.create_task(
            run(bus, durable(NAME), store.store, batch=settings.batch, workers=settings.writers),
            name="persist",
        )


async def watch_lag(bus: Bus) -> None:
    """Looks for ever at how far all persisters together are behind."""
    while True:
        with contextlib.suppress(NatsError, APIError, TimeoutError):
            info = await bus.js.consumer_info(EVENTS_STREAM, NAME)
            metrics.EVENTS_BEHIND.set((info.num_pending or 0) + (info.num_ack_pending or 0))
        await asyncio.sleep(LOOK_EVERY)
