"""Recording events in the transaction of the change that they tell of.

An operation never fails, nor waits, because of its event: what cannot be recorded is published
directly, after the commit, and what cannot even be encoded is logged and counted.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Final
from uuid import UUID

import asyncpg

from schemas import codec
from schemas.envelope import Envelope
from schemas.subjects import subject_of
from service.outbox.direct import DirectPublisher
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import Connection, Pool

log: Final = logging.getLogger("mediabus.outbox")

RECORDED_SUBJECT: Final = "mediabus.outbox.recorded"
"""Core NATS: something waits in the outbox. Losing one costs the relay a poll, no more."""

WAKE_EVERY: Final = 0.002
"""Seconds after a wake-up in which many operations become one more."""

DRAIN_WITHIN: Final = 3.0
"""Seconds that the direct publisher has for its last events when the process leaves."""

RECORD: Final = "SELECT record_events($1, $2, $3, $4)"

Arguments = tuple[list[UUID], list[datetime.datetime], list[str], list[bytes]]
"""What ``record_events`` takes."""


class Outbox:
    """Where operations and the monitor leave their events."""

    def __init__(self, pool: Pool, bus: Bus, direct: DirectPublisher) -> None:
        self._pool = pool
        self._bus = bus
        self._direct = direct
        self._resting: asyncio.TimerHandle | None = None
        self._wake_again = False
        self._waking: asyncio.Task[None] | None = None

    async def perform(
        self, statement: str, *args: object, events: Iterable[Envelope]
    ) -> list[asyncpg.Record]:
        """Runs one statement that makes a change and records its events, in one round trip.

        The statement hands ``$1`` to ``$4`` to ``record_events`` and returns its answer as the
        column ``recorded``; no row returned means that nothing changed and nothing happened.
        """
        made = list(events)
        rows = await self._pool.fetch(statement, *arguments(made), *args)
        if rows:
            self.committed([] if rows[0]["recorded"] else made)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Recorder"]:
        """A transaction for changes that need more than one statement."""
        async with self._pool.acquire() as connection:
            recorder = Recorder(connection)
            async with connection.transaction():
                yield recorder
        if recorder.happened:
            self.committed(recorder.unrecorded)

    def committed(self, unrecorded: list[Envelope]) -> None:
        """Wakes the relay, and sees to the events that the outbox did not take."""
        if unrecorded:
            log.error(
                "outbox refused events: publishing directly", extra={"count": len(unrecorded)}
            )
            metrics.NOT_RECORDED.inc(len(unrecorded))
            self._direct.publish_soon(unrecorded)
        elif self._resting:
            self._wake_again = True
        else:
            self._wake_relay()

    def _wake_relay(self) -> None:
        loop = asyncio.get_running_loop()
        self._resting = loop.call_later(WAKE_EVERY, self._rested)
        if self._bus.is_connected:
            self._waking = loop.create_task(self._bus.nc.publish(RECORDED_SUBJECT))

    def _rested(self) -> None:
        self._resting = None
        if self._wake_again:
            self._wake_again = False
            self._wake_relay()


@contextlib.asynccontextmanager
async def open_outbox(pool: Pool, bus: Bus) -> AsyncIterator[Outbox]:
    """An outbox, and in the background the direct publisher for what it cannot take."""
    direct = DirectPublisher()
    publishing = asyncio.create_task(direct.run(bus), name="direct publisher")
    try:
        yield Outbox(pool, bus, direct)
    finally:
        await direct.drain(DRAIN_WITHIN)
        publishing.cancel()


class Recorder:
    """A transaction under way: its connection, and the events that tell of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.happened = False
        self.unrecorded: list[Envelope] = []

    async def record(self, *events: Envelope) -> None:
        """Records events with the changes made so far; never raises because of them."""
        if not events:
            return
        self.happened = True
        if not await self.connection.fetchval(RECORD, *arguments(events)):
            self.unrecorded.extend(events)


def arguments(events: Iterable[Envelope]) -> Arguments:
    """The events as ``record_events`` takes them; one that cannot be encoded is left out."""
    ids, times, subjects, payloads = [], [], [], []
    for envelope in events:
        try:
            payload = codec.encode(envelope)
        except codec.InvalidEvent as error:
            log.exception("event not made", extra={"type": envelope.type, "reason": str(error)})
            metrics.NOT_MADE.inc()
            continue
        ids.append(envelope.id)
        times.append(envelope.time)
        subjects.append(subject_of(envelope))
        payloads.append(payload)
    return ids, times, subjects, payloads
