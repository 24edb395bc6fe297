"""Follow the stream of events once, and send each event to every open page that shows it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.api.stream import read_stream, read_stretch
from mediabus.runtime.nats.bus import Bus, CannotConnect
from mediabus.runtime.nats.stream_reader import Stored
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import EVENTS_STREAM, EVENTS_SUBJECTS, PERSISTER
from mediabus.web import sse
from mediabus.web.entries import Entry, entry_of
from mediabus.web.filters import Filters

log: Final = logging.getLogger("mediabus.web")

KEPT: Final = 1000
"""The latest events in memory. Also the most events that a page that was away catches up on; a page
that misses more loads again."""

MAX_UNSENT: Final = 500_000
"""Bytes that a slow page may leave unsent before its connection is closed. It resumes then."""

PING_EVERY: Final = 15.0
"""Seconds between two messages without an event, so that proxies keep a connection."""

RETRY_AFTER: Final = 1.0
"""Seconds."""

NATS_ERRORS: Final = (NatsError, APIError, TimeoutError, CannotConnect)


class Item(NamedTuple):
    """An event of the stream. ``frame`` is its message for a page."""

    sequence: int
    envelope: Envelope
    frame: bytes


class Feed:
    """The latest events, and the pages that wait for the next ones."""

    def __init__(self, bus: Bus, render: Callable[[Entry], str]) -> None:
        self._bus = bus
        self._render = render
        self._kept: deque[Item] = deque(maxlen=KEPT)
        self._pages: dict[Filters, set[asyncio.Transport]] = {}
        self.position = 0
        """The sequence number of the last event that pages received."""

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ping(), name="ping")
            while True:
                try:
                    await self._follow()
                except NATS_ERRORS as error:
                    log.info("following the stream was interrupted", extra={"error": str(error)})
                await asyncio.sleep(RETRY_AFTER)

    async def _follow(self) -> None:
        if not self.position:
            self.position = (await self._bus.js.stream_info(EVENTS_STREAM)).state.last_seq
        async for stored in read_stream(
            self._bus, EVENTS_SUBJECTS, None, follow=True, after=self.position
        ):
            if (item := self._item(stored)) is not None:
                self._kept.append(item)
                self._send(item)
            self.position = stored.sequence

    def _item(self, stored: Stored) -> Item | None:
        try:
            envelope = codec.decode(stored.data, stored.headers)
        except codec.InvalidEvent:
            return None  # a dead letter, which the page of problems shows
        html = self._render(entry_of(envelope))
        return Item(stored.sequence, envelope, sse.message("entry", html, stored.sequence))

    def _send(self, item: Item) -> None:
        framed = sse.chunk(item.frame)
        for filters, transports in self._pages.items():
            if filters.matches(item.envelope):
                _write(transports, framed)

    @property
    def has_pages(self) -> bool:
        """Whether a page is open."""
        return bool(self._pages)

    async def reached(self, position: int) -> None:
        """Wait until the feed is at a position, or beyond it."""
        while self.position < position:  # noqa: ASYNC110 - rare, and no event per position
            await asyncio.sleep(0.05)

    def announce(self, frame: bytes) -> None:
        """Send a message to every open page."""
        framed = sse.chunk(frame)
        for transports in self._pages.values():
            _write(transports, framed)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY)
            self.announce(sse.position(self.position))

    @contextlib.contextmanager
    def sending(self, filters: Filters, transport: asyncio.Transport) -> Iterator[None]:
        """Send the events that pass to a chunked response while the context is open."""
        self._pages.setdefault(filters, set()).add(transport)
        try:
            yield
        finally:
            self._pages[filters].discard(transport)
            if not self._pages[filters]:
                del self._pages[filters]

    async def missed(self, filters: Filters, after: int, until: int) -> AsyncIterator[bytes]:
        """Yield the messages that pass behind one sequence number, up to another."""
        if after >= until:
            return
        if self._kept and self._kept[0].sequence <= after + 1:
            items = [item for item in self._kept if after < item.sequence <= until]
        else:
            read = [self._item(it) async for it in read_stretch(self._bus, after + 1, until)]
            items = [item for item in read if item is not None]
        for item in items:
            if filters.matches(item.envelope):
                yield item.frame

    def latest(self, filters: Filters) -> list[Entry]:
        """Return the latest events that pass, newest first, without the history."""
        return [
            entry_of(it.envelope) for it in reversed(self._kept) if filters.matches(it.envelope)
        ]

    async def stored_until(self) -> int:
        """Return a sequence number up to which every event is in the history.

        The number is not more than ``KEPT`` behind the position: a page shows that the history is
        late, and a page is not a place to catch up on days.
        """
        floor = self.position
        try:
            info = await self._bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
        except NATS_ERRORS:
            return max(0, self.position - KEPT)
        if info.ack_floor is not None:
            floor = min(info.ack_floor.stream_seq, floor)
        return max(floor, self.position - KEPT)


def _write(transports: set[asyncio.Transport], framed: bytes) -> None:
    for transport in transports:
        if transport.is_closing():
            continue
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
        else:
            transport.write(framed)
