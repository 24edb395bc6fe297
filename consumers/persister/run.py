"""Run the persister: store events, maintain partitions, watch the lag."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Final

import asyncpg
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import APIError

from mediabus.consumers.daemon import durable, published_at, run
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister.isolation import Progress
from mediabus.consumers.persister.retention import keep_partitions
from mediabus.consumers.persister.store import EventStore
from mediabus.consumers.persister.stragglers import store_stragglers
from mediabus.runtime import metrics, tracing
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.pull import place_of
from mediabus.runtime.postgres.database import AWAY, Pool
from mediabus.runtime.postgres.locks import blocked_by
from mediabus.runtime.process.health import checking
from mediabus.runtime.settings import PersisterSettings
from mediabus.schemas.subjects import EVENTS_STREAM, PERSISTER

POLL_EVERY: Final = 5.0
STALLED_AFTER: Final = 30.0
"""Seconds without a stored event after which ``/readyz`` fails, if events are waiting."""


async def persist(bus: Bus, pool: Pool, settings: PersisterSettings) -> None:
    """Store events until cancelled. Any number of persisters may run at the same time."""
    store = EventStore(pool)
    storing = Storing(pool, store.progress)
    with checking("storing", storing.problem):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_partitions(pool, settings.keep_months), name="partitions")
            tasks.create_task(watch_lag(bus, storing), name="lag")
            tasks.create_task(store_stragglers(bus, store, PERSISTER), name="stragglers")
            tasks.create_task(
                run(
                    bus,
                    durable(PERSISTER),
                    functools.partial(_store, store),
                    decode=_row_of,
                    batch=settings.batch,
                    workers=settings.writers,
                ),
                name="persist",
            )


def _row_of(bus: Bus, message: Msg) -> EventRow:
    return EventRow.decode(
        message.data,
        message.headers,
        place_of(message).stream_seq,
        published_at=lambda: published_at(message.headers, message.metadata.timestamp),
        trust_actor=bus.trusts_actors,
    )


async def _store(store: EventStore, batch: Sequence[EventRow]) -> Sequence[Exception | None]:
    carriers = (row.extensions or {} for row in batch)
    with tracing.process(PERSISTER, carriers, len(batch)) as span:
        outcomes = await store.store(batch)
        if any(outcomes):
            failed = [outcome for outcome in outcomes if outcome is not None]
            span.note("mediabus.events.not_stored", len(failed))
            # The words of PostgreSQL may quote an event.
            span.fail(type(failed[0]).__name__, f"{len(failed)} of {len(batch)} not stored")
        return outcomes


async def watch_lag(bus: Bus, storing: "Storing") -> None:
    """Poll the lag of all persisters together, until cancelled."""
    try:
        while True:
            try:
                storing.update(await bus.js.consumer_info(EVENTS_STREAM, PERSISTER))
                metrics.EVENTS_BEHIND.set(storing.waiting)
            except (NatsError, APIError, TimeoutError):
                storing.lag_unknown()
                metrics.EVENTS_BEHIND.remove()
            await asyncio.sleep(POLL_EVERY)
    finally:
        metrics.EVENTS_BEHIND.remove()


class Storing:
    """Detects that waiting events are not stored, neither here nor by another persister."""

    def __init__(self, pool: Pool, progress: Progress) -> None:
        self.waiting = 0
        self._pool = pool
        self._progress = progress
        self._now = asyncio.get_running_loop().time
        self._moved_at = self._now()
        self._acknowledged = 0

    def update(self, info: ConsumerInfo) -> None:
        """Update the lag from the state of the consumer."""
        unacknowledged = info.num_ack_pending or 0
        self.waiting = (info.num_pending or 0) + unacknowledged
        acknowledged = (info.delivered.stream_seq if info.delivered else 0) - unacknowledged
        if acknowledged > self._acknowledged or not self.waiting:
            self._moved_at = self._now()
        self._acknowledged = acknowledged

    def lag_unknown(self) -> None:
        """Reset the timer: without NATS it is unknown whether events wait."""
        self._moved_at = self._now()

    async def _blocker(self) -> str | None:
        """Return who holds the lock that storing waits for."""
        try:
            async with self._pool.acquire(timeout=2) as connection, asyncio.timeout(2):
                return await blocked_by(connection)
        except (*AWAY, asyncpg.PostgresError):
            return None

    async def problem(self) -> str | None:
        """Return why no event was stored for a while, for ``/readyz``. None if all is well."""
        silence = self._now() - max(self._moved_at, self._progress.stored_at)
        if silence <= STALLED_AFTER:
            return None
        reason = self._progress.problem or await self._blocker() or "see the log of the persister"
        return f"no event stored for {silence:.0f} s, {self.waiting} events waiting: {reason}"
