"""The persister as a process."""

import asyncio

from consumers.daemon import durable, run
from consumers.persister.retention import keep_partitions
from consumers.persister.store import EventStore
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import PersisterSettings
from service.runtime.streams import keep_streams

NAME = "persister"


async def persist(bus: Bus, pool: Pool, settings: PersisterSettings) -> None:
    """Stores events for ever. Run as many of these side by side as you like."""
    store = EventStore(pool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_streams(bus), name="streams")
        tasks.create_task(keep_partitions(pool, settings.keep_months), name="partitions")
        tasks.create_task(
            run(bus, durable(NAME), store.store, batch=settings.batch, workers=settings.writers),
            name="persist",
        )
