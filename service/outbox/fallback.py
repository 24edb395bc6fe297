"""Publishing straight to NATS, for events that the outbox could not take."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from schemas.codec import InvalidEvent
from schemas.envelope import Envelope
from service.runtime import metrics
from service.runtime.bus import Bus, PublishFailed

log: Final = logging.getLogger("mediabus.outbox")

MOST_HELD: Final = 100_000
"""Events held in memory while NATS is away as well; one more is logged whole and counted."""

RETRY_AFTER: Final = 0.5


class DirectPublisher:
    """Publishes in the background, in order, again and again until each is stored."""

    def __init__(self) -> None:
        self._waiting: deque[Envelope] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def publish_soon(self, events: Iterable[Envelope]) -> None:
        """Takes events and returns at once; never raises."""
        for envelope in events:
            if len(self._waiting) >= MOST_HELD:
                metrics.NOT_MADE.inc()
                log.error("event dropped", extra={"event": str(envelope)})
            else:
                self._waiting.append(envelope)
                self._empty.clear()
        self._arrived.set()

    async def run(self, bus: Bus) -> None:
        """Publishes what comes, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._publish_first(bus)
            self._empty.set()

    async def _publish_first(self, bus: Bus) -> None:
        envelope = self._waiting[0]
        try:
            await bus.publish_envelope(envelope)
        except PublishFailed:
            await asyncio.sleep(RETRY_AFTER)
            return
        except InvalidEvent as error:
            metrics.NOT_MADE.inc()
            log.error("event not made", extra={"type": envelope.type, "reason": str(error)})
        self._waiting.popleft()

    async def drain(self, within: float) -> None:
        """Waits until nothing is left, ``within`` seconds at the most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
