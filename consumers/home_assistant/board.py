"""What is to be published: the retained messages, and the events that wait for the broker."""

import asyncio
import collections
import contextlib
import dataclasses
import time
from typing import Final

from mediabus.consumers.home_assistant.states import Figures
from mediabus.runtime import metrics

MAX_EVENTS: Final = 1_000
EVENT_AGE: Final = 60.0
"""Seconds. An older event does not trigger an automation any more."""


@dataclasses.dataclass
class Board:
    """What the parts that read NATS know, for the part that publishes to the broker."""

    figures: Figures = dataclasses.field(default_factory=Figures)
    is_complete: bool = False
    """Whether the statuses have been read once."""

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self._events: collections.deque[tuple[float, bytes]] = collections.deque()
        self._event_added = asyncio.Event()

    def change(self) -> None:
        """Wake the publisher."""
        self._changed.set()

    async def changed(self, within: float) -> None:
        """Wait for a change, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), within)
        self._changed.clear()

    def add_event(self, message: bytes) -> None:
        """Queue a message of the event entity. A full queue drops its oldest."""
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            metrics.MQTT_EVENTS_DROPPED.inc()
        self._events.append((time.monotonic(), message))
        self._event_added.set()

    async def next_event(self) -> bytes:
        """Wait for the oldest message that is not too old. It stays until ``event_sent``."""
        while True:
            while self._events:
                added, message = self._events[0]
                if time.monotonic() - added <= EVENT_AGE:
                    return message
                self._events.popleft()
                metrics.MQTT_EVENTS_DROPPED.inc()
            self._event_added.clear()
            await self._event_added.wait()

    def event_sent(self, message: bytes) -> None:
        """Remove the message of ``next_event``, which the broker has confirmed."""
        if self._events and self._events[0][1] is message:
            self._events.popleft()
