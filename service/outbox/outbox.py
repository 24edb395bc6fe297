"""Record events in the same transaction as the change they describe.

An operation never fails or waits because its event cannot be recorded: the event is then published
directly to NATS after the commit. An event that cannot be encoded, such as one that is too large,
is rejected before the change is made.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Connection, Pool
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import RECORDED_SUBJECT, subject_of
from mediabus.service.outbox.fallback import DirectPublisher

log: Final = logging.getLogger("mediabus.outbox")

WAKE_EVERY: Final = 0.002
"""Seconds between two wake-ups: all commits in between share the second one."""

DRAIN_WITHIN: Final = 3.0
"""Seconds that the direct publisher gets for its remaining events at shutdown."""

RECORD_SEVERAL: Final = "record_events($1, $2, $3, $4)"
"""The SQL function that records events: their ids, times, subjects and payloads, as arrays."""

RECORD_ONE: Final = "record_event($1, $2, $3, $4)"
"""The same for one event, without arrays, at two thirds of the cost."""

RECORD: Final = f"SELECT {RECORD_SEVERAL}"


class Outbox:
    """Records the events of operations and of the monitor."""

    def __init__(self, pool: Pool, bus: Bus, direct: DirectPublisher) -> None:
        self._pool = pool
        self._bus = bus
        self._direct = direct
        self._wake_timer: asyncio.TimerHandle | None = None
        self._wake_again = False
        self._wake_task: asyncio.Task[None] | None = None

    async def perform(
        self, statement: str, *args: object, events: Iterable[Envelope]
    ) -> list[asyncpg.Record]:
        """Run one statement that makes a change and records its events, in one round trip.

        The statement contains ``RECORD_SEVERAL`` and returns its result as the column ``recorded``.
        If it returns no row, nothing changed and no event is recorded.

        Raises:
            InvalidEvent: an event is too large to be stored; the statement was not run.
        """
        envelopes = list(events)
        recording, recorded = with_events(statement, envelopes)
        rows = await self._pool.fetch(recording, *recorded, *args)
        if rows:
            self.committed([] if rows[0]["recorded"] else envelopes)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Recorder"]:
        """Open a transaction for a change that needs more than one statement."""
        async with self._pool.acquire() as connection:
            recorder = Recorder(connection)
            async with connection.transaction():
                yield recorder
        if recorder.has_events:
            self.committed(recorder.unrecorded)

    def committed(self, unrecorded: list[Envelope]) -> None:
        """Wake the relay, and publish directly the events that were not recorded."""
        if unrecorded:
            log.error("events not recorded, publishing directly", extra={"count": len(unrecorded)})
            metrics.NOT_RECORDED.inc(len(unrecorded))
            self._direct.publish_soon(unrecorded)
        elif self._wake_timer:
            self._wake_again = True
        else:
            self._wake_relay()

    def _wake_relay(self) -> None:
        loop = asyncio.get_running_loop()
        self._wake_timer = loop.call_later(WAKE_EVERY, self._on_wake_timer)
        if self._bus.is_connected:
            self._wake_task = loop.create_task(self._bus.nc.publish(RECORDED_SUBJECT))

    def _on_wake_timer(self) -> None:
        self._wake_timer = None
        if self._wake_again:
            self._wake_again = False
            self._wake_relay()


@contextlib.asynccontextmanager
async def open_outbox(pool: Pool, bus: Bus) -> AsyncIterator[Outbox]:
    """Open an outbox, with the direct publisher as its fallback in the background."""
    direct = DirectPublisher()
    publishing = asyncio.create_task(direct.run(bus), name="direct publisher")
    try:
        yield Outbox(pool, bus, direct)
    finally:
        await direct.drain(DRAIN_WITHIN)
        publishing.cancel()


class Recorder:
    """An open transaction: its connection, and the events that could not be recorded in it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.has_events = False
        self.unrecorded: list[Envelope] = []

    async def record(self, *events: Envelope) -> None:
        """Record events in the transaction.

        Raises:
            InvalidEvent: an event is too large to be stored; roll the transaction back.
        """
        if not events:
            return
        self.has_events = True
        statement, recorded = with_events(RECORD, events)
        if not await self.connection.fetchval(statement, *recorded):
            self.unrecorded.extend(events)


def with_events(statement: str, events: Sequence[Envelope]) -> tuple[str, Sequence[object]]:
    """Return a statement with ``RECORD_SEVERAL`` for these events, and its first four arguments.

    Raises:
        InvalidEvent: an event cannot be encoded.
    """
    rows = [_outbox_row(envelope) for envelope in events]
    if len(rows) == 1:
        return statement.replace(RECORD_SEVERAL, RECORD_ONE), rows[0]
    return statement, [[row[place] for row in rows] for place in range(4)]


def _outbox_row(envelope: Envelope) -> tuple[UUID, datetime.datetime, str, bytes]:
    return envelope.id, envelope.time, subject_of(envelope), codec.encode(envelope)
