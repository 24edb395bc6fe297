"""Publish events that could not be recorded in the outbox directly to NATS."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.schemas.codec import InvalidEvent
from mediabus.schemas.envelope import Envelope

log: Final = logging.getLogger("mediabus.outbox")

MAX_HELD_EVENTS: Final = 100_000
"""Events held in memory while NATS is unreachable too. Any further event is logged in full, counted
and dropped: the process would run out of memory otherwise."""

RETRY_AFTER: Final = 0.5
"""Seconds from a failed publish to the next attempt."""


class DirectPublisher:
    """Publishes events in the background and in order; retries each until NATS stores it."""

    def __init__(self) -> None:
        self._queue: deque[Envelope] = deque()
        self._queued = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def publish_soon(self, events: Iterable[Envelope]) -> None:
        """Queue events and return at once; never raises."""
        for envelope in events:
            if len(self._queue) >= MAX_HELD_EVENTS:
                metrics.NOT_MADE.inc()
                log.error("event dropped", extra={"event": str(envelope)})
            else:
                self._queue.append(envelope)
                self._empty.clear()
        self._queued.set()

    async def run(self, bus: Bus) -> None:
        """Publish queued events until cancelled."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                await self._publish_first(bus)
            self._empty.set()

    async def _publish_first(self, bus: Bus) -> None:
        envelope = self._queue[0]
        try:
            await bus.publish_envelope(envelope)
        except PublishFailed:
            await asyncio.sleep(RETRY_AFTER)
            return
        except InvalidEvent as error:
            metrics.NOT_MADE.inc()
            log.error("invalid event dropped", extra={"type": envelope.type, "reason": str(error)})
        self._queue.popleft()

    async def drain(self, within: float) -> None:
        """Wait until the queue is empty, for at most ``within`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
