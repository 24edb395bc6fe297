"""Watch whether NATS and the history answer, and show a line on every open page while not."""

import asyncio
from typing import Final

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import HistoryEvent, Page
from mediabus.web import sse
from mediabus.web.feed import Feed
from mediabus.web.reading import read

CHECK_EVERY: Final = 3.0
"""Seconds."""

NATS_AWAY: Final = "NATS does not answer. This page continues by itself when it is back."
HISTORY_AWAY: Final = (
    "The history does not answer: start `mediabus persist`, or check PostgreSQL. New events still "
    "appear here, and none is lost."
)


class Outages:
    """What is unreachable at the moment, as a message for pages."""

    def __init__(self, bus: Bus, feed: Feed) -> None:
        self._bus = bus
        self._feed = feed
        self.text = ""

    @property
    def frame(self) -> bytes:
        """The message for a page."""
        return sse.message("away", self.text)

    async def run(self) -> None:
        """Check until cancelled, while a page is open."""
        while True:
            text = await self._check() if self._feed.has_pages else ""
            if text != self.text:
                self.text = text
                self._feed.announce(self.frame)
            await asyncio.sleep(CHECK_EVERY)

    async def _check(self) -> str:
        if not self._bus.is_connected:
            return NATS_AWAY
        try:
            await read(self._bus, "history.list", {"limit": 1}, Page[HistoryEvent])
        except (NoAnswer, OperationFailed):
            return HISTORY_AWAY if self._bus.is_connected else NATS_AWAY
        return ""
