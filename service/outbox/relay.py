"""The relay: publishes the rows of the outbox to NATS, in order.

The relay reads rows in order (``cursor.py``), publishes them in atomic batches (``publish.py``) and
deletes a row when its event has arrived (``confirm.py``). While NATS stores one batch, the relay
reads and sends the next. NATS holds that one until its commit, which the relay sends only after the
batch before it is stored.

After a reconnect, the relay checks whether NATS lost the end of its stream. If so, it publishes
those events again before any newer one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
from nats.errors import Error as NatsError

from mediabus.runtime import metrics, tracing
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.postgres.database import AWAY, Pool
from mediabus.runtime.postgres.lease import while_leading
from mediabus.schemas.subjects import RECORDED_SUBJECT
from mediabus.service.outbox.confirm import Confirmation, publish_again
from mediabus.service.outbox.cursor import Cursor, is_full
from mediabus.service.outbox.loss_check import has_lost_events
from mediabus.service.outbox.publish import Batch, outgoing
from mediabus.service.outbox.relay_state import RELAY

log: Final = logging.getLogger("mediabus.relay")

LEASE: Final = "relay"
READ_AT_MOST_EVERY: Final = 0.005
"""Seconds from one read to the next, so that operations under load share a batch."""
POLL_EVERY: Final = 1.0
"""Seconds after which the relay reads the outbox although nothing woke it."""
RETRY_AFTER: Final = 0.5
"""Seconds from a failure to the next attempt."""


class Prepared(NamedTuple):
    """A batch that is sent but not committed, and the positions of its rows."""

    positions: list[int]
    batch: Batch
    has_more: bool


class Relay:
    """A running relay. For ``confirm_in_events`` see ``Confirmation``."""

    def __init__(self, pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
        self._pool = pool
        self._bus = bus
        self.cursor = Cursor(pool)
        self.confirmation = Confirmation(
            pool, bus, self.cursor, confirm_in_events=confirm_in_events
        )
        self._next: Prepared | None = None
        self._is_behind = False
        self._woken = asyncio.Event()
        self._checked_connection = -1  # number of the connection that was checked for lost events

    async def run(self) -> None:
        """Relay until cancelled."""
        await self.cursor.load()
        subscription = await self._bus.nc.subscribe(RECORDED_SUBJECT, cb=self._wake)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._relay(), name="relay")
                tasks.create_task(self.confirmation.run(), name="relay confirms")
        finally:
            RELAY.succeeded()  # this process no longer relays
            for figure in (metrics.OUTBOX_WAITING, metrics.OUTBOX_OLDEST):
                figure.remove()
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _wake(self, _: object) -> None:
        self._woken.set()

    async def _relay(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            read_at = now()
            try:
                await self.relay_batch()
            except PublishFailed as error:
                RELAY.failed(str(error))
                log.warning("publish failed, retrying", extra={"error": str(error)})
                await asyncio.sleep(RETRY_AFTER)
                continue
            if not self._is_behind:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), timeout=POLL_EVERY)
                await asyncio.sleep(read_at + READ_AT_MOST_EVERY - now())

    async def relay_batch(self) -> int:
        """Publish one batch, and prepare the next meanwhile if more rows wait.

        Returns:
            The number of events published.

        Raises:
            PublishFailed: the batch may not be stored. No next batch is prepared.
        """
        await self._republish_lost()
        current = self._next or await self._prepare()
        self._next = None
        self._is_behind = current.has_more
        if current.has_more:
            await self._publish_and_prepare(current)
        else:
            if current.positions:
                await self._publish(current)
            await self.cursor.move_when_due()
        return len(current.positions)

    async def _publish(self, current: Prepared) -> None:
        with tracing.publish(current.batch.traces, len(current.positions)):
            await current.batch.commit()
        RELAY.succeeded()
        metrics.RELAYED.inc(len(current.positions))
        self.cursor.mark_published(current.positions)

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
        await self.cursor.move_when_due()
        return following

    async def _prepare(self, in_flight: Sequence[int] = ()) -> Prepared:
        """Read the rows after the positions ``in_flight``, and send them without the commit."""
        self._woken.clear()
        rows = await self.cursor.next_rows(in_flight)
        batch = Batch(self._bus, outgoing(rows), self._checked_connection)
        await batch.send()
        return Prepared([row["position"] for row in rows], batch, is_full(rows))

    async def _republish_lost(self) -> None:
        """Publish the events again that NATS lost, once per connection.

        Newer events wait for it: otherwise the events of one resource would change their order.
        """
        connection = self._bus.connection
        if connection == self._checked_connection:
            return
        cursor = self.cursor
        if await has_lost_events(self._pool, self._bus, cursor.position, list(cursor.ahead)):
            cursor.ahead.clear()  # these rows are read again
            async for rows in cursor.passed_rows():
                await publish_again(self._bus, rows)
        self._checked_connection = connection


async def relay_while_leading(pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
    """Relay while this process holds the lease; restart after every PostgreSQL outage."""

    async def relay() -> None:
        while True:
            try:
                await Relay(pool, bus, confirm_in_events=confirm_in_events).run()
            except* (*AWAY, asyncpg.PostgresError) as errors:  # such as a missing grant
                error = _first(errors.exceptions)
                log.warning("relay lost PostgreSQL, retrying", extra={"error": str(error)})
            await asyncio.sleep(RETRY_AFTER)

    await while_leading(pool, LEASE, relay)


def _first(errors: Sequence[BaseException]) -> BaseException:
    error = errors[0]
    return _first(error.exceptions) if isinstance(error, BaseExceptionGroup) else error
