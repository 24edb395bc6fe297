"""The relay: takes events from the outbox to NATS, in order, and sees them arrive.

It *reads* what waits (``reading.py``), publishes it in atomic batches, and lets a row *leave* when
its event has arrived (``leaving.py``). While the server stores one batch, the next one is read and
sent already; the server keeps it aside until it is told to store it, which happens only when the
batch before it is stored.

After a reconnect, and before anything newer, a server that has forgotten the end of its stream is
told it again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
from nats.errors import Error as NatsError

from service.outbox.batch import Batch, outgoing
from service.outbox.forgetting import has_forgotten
from service.outbox.leaving import Leaving, publish_again
from service.outbox.outbox import RECORDED_SUBJECT
from service.outbox.reading import Reading, is_full
from service.runtime import metrics
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import AWAY, Pool
from service.runtime.lease import while_leading
from service.runtime.streams import keep_streams

log: Final = logging.getLogger("mediabus.relay")

LEASE: Final = "relay"
AT_MOST_EVERY: Final = 0.005
"""Seconds from one look to the next: under load a few operations then share one batch."""
POLL_EVERY: Final = 1.0
"""Seconds after which the relay looks although nothing woke it."""
RETRY_AFTER: Final = 0.5


class Prepared(NamedTuple):
    """What was read from ``positions``, sent but for its commit."""

    positions: list[int]
    batch: Batch
    more_waits: bool


class Relay:
    """One relay at work. ``confirm_in_events``: see ``Leaving``."""

    def __init__(self, pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
        self._pool = pool
        self._bus = bus
        self.reading = Reading(pool)
        self.leaving = Leaving(pool, bus, self.reading, confirm_in_events=confirm_in_events)
        self._next: Prepared | None = None
        self._is_behind = False
        self._woken = asyncio.Event()
        self._connection = -1  # none of which it is known what the server has

    async def run(self) -> None:
        """Relays for ever."""
        await self.reading.begin()
        subscription = await self._bus.nc.subscribe(RECORDED_SUBJECT, cb=self._wake)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_streams(self._bus), name="streams")
                tasks.create_task(self._relay(), name="relay")
                tasks.create_task(self.leaving.run(), name="relay confirms")
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _wake(self, _: object) -> None:
        self._woken.set()

    async def _relay(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            looked_at = now()
            try:
                await self.relay_batch()
            except PublishFailed as error:
                log.warning("events wait in the outbox: %s", error)
                await asyncio.sleep(RETRY_AFTER)
                continue
            if not self._is_behind:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), timeout=POLL_EVERY)
                await asyncio.sleep(looked_at + AT_MOST_EVERY - now())

    async def relay_batch(self) -> int:
        """Publishes what has appeared, up to one batch, and says how many that were. Prepares the
        next batch meanwhile, where more waits. Raises PublishFailed: then none is prepared."""
        await self._look_back()
        current, self._next = self._next or await self._prepare(), None
        self._is_behind = current.more_waits
        if current.more_waits:
            await self._publish_and_prepare(current)
        else:
            if current.positions:
                await self._publish(current)
            await self.reading.move_cursor_when_due()
        return len(current.positions)

    async def _publish(self, current: Prepared) -> None:
        await current.batch.commit()
        metrics.RELAYED.inc(len(current.positions))
        self.reading.published(current.positions)

    async def _publish_and_prepare(self, current: Prepared) -> None:
        preparing = asyncio.create_task(self._prepare_after(current), name="relay prepares")
        try:
            await self._publish(current)
            self._next = await preparing
        finally:
            preparing.cancel()
            await asyncio.wait([preparing])

    async def _prepare_after(self, current: Prepared) -> Prepared:
        following = await self._prepare(current.positions)
        await self.reading.move_cursor_when_due()
        return following

    async def _prepare(self, under_way: Sequence[int] = ()) -> Prepared:
        """Reads what comes after the positions ``under_way``, and sends it."""
        self._woken.clear()
        rows = await self.reading.next_rows(under_way)
        batch = Batch(self._bus, outgoing(rows), self._connection)
        await batch.send()
        return Prepared([row["position"] for row in rows], batch, is_full(rows))

    async def _look_back(self) -> None:
        """Once a connection: a server that forgot the end of its stream is told it again before
        anything newer, or a resource's events would change their order."""
        connection = self._bus.connection
        if connection == self._connection:
            return
        reading = self.reading
        if await has_forgotten(self._pool, self._bus, reading.cursor, list(reading.ahead)):
            reading.ahead.clear()  # they are read again
            async for rows in reading.passed_rows():
                await publish_again(self._bus, rows)
        self._connection = connection


async def relay_while_leading(pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
    """Relays whenever this process is the one to; comes back after every outage."""

    async def relay() -> None:
        while True:
            try:
                await Relay(pool, bus, confirm_in_events=confirm_in_events).run()
            except* (*AWAY, asyncpg.PostgresError) as away:  # or its table is not as it should be
                log.warning("relay: PostgreSQL is away: %s", _first(away.exceptions))
            await asyncio.sleep(RETRY_AFTER)

    await while_leading(pool, LEASE, relay)


def _first(errors: Sequence[BaseException]) -> BaseException:
    error = errors[0]
    return _first(error.exceptions) if isinstance(error, BaseExceptionGroup) else error
