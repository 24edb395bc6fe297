"""Follow the stream of events once, and send each event to every open page that shows it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
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
"""The latest events in memory."""

KEPT_AT_START: Final = 200
"""Events that are read when the process starts."""

CAUGHT_UP: Final = 500
"""The most events that a page receives when it catches up, as many as it shows at once. They are
the newest ones, so what it shows has no gap."""

MOST_BEHIND: Final = 20_000
"""Events of the stream that are searched for those. A page that is further behind loads again."""

MAX_UNSENT: Final = 500_000
"""Bytes that a slow page may leave unsent before its connection is closed. It resumes then."""

PING_EVERY: Final = 15.0
"""Seconds between two messages without an event, so that proxies keep a connection."""

RETRY_AFTER: Final = 1.0
"""Seconds."""

NATS_ERRORS: Final = (NatsError, APIError, TimeoutError, CannotConnect)


class TooFarBehind(Exception):
    """A page cannot catch up from the stream: too many events happened since."""


class Item(NamedTuple):
    """An event of the stream. ``frame`` is its message for a page."""

    sequence: int
    envelope: Envelope
    frame: bytes = b""
    """Empty if it is not made yet."""


class Feed:
    """The latest events, and the pages that wait for the next ones."""

    def __init__(self, bus: Bus, render: Callable[[Entry], str]) -> None:
        self._bus = bus
        self._render = render
        self._kept: deque[Item] = deque(maxlen=KEPT)
        self._pages: dict[Filters, set[asyncio.Transport]] = {}
        self.position = 0
        """The sequence number of the last event that pages received."""
        self.started = asyncio.Event()
        """Set once the position is that of the stream."""

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
            self.position = await self._remember_latest()
        self.started.set()
        async for stored in read_stream(
            self._bus, EVENTS_SUBJECTS, None, follow=True, after=self.position
        ):
            if (found := _item(stored)) is not None:
                item = found._replace(frame=self._frame(found))
                self._kept.append(item)
                self._send(item)
            self.position = stored.sequence

    async def _remember_latest(self) -> int:
        """Read the latest events of the stream, which pages show without the history."""
        last = (await self._bus.js.stream_info(EVENTS_STREAM)).state.last_seq
        self._kept.clear()
        self._kept.extend(await self._between(max(0, last - KEPT_AT_START), last))
        return last

    def _frame(self, item: Item) -> bytes:
        html = self._render(entry_of(item.envelope))
        return sse.message("entry", html, item.sequence)

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

    async def missed(self, filters: Filters, after: int, until: int) -> list[bytes]:
        """Return the newest messages that pass behind one sequence number, up to another.

        There are at most ``CAUGHT_UP``. Raises TooFarBehind, and one of ``NATS_ERRORS``.
        """
        found: deque[bytes] = deque()
        earliest = until - MOST_BEHIND
        while after < until and len(found) < CAUGHT_UP:
            if until <= earliest:
                raise TooFarBehind
            start = max(after, until - KEPT)
            for item in reversed(await self._between(start, until)):
                if len(found) < CAUGHT_UP and filters.matches(item.envelope):
                    found.appendleft(item.frame or self._frame(item))
            until = start
        return list(found)

    async def _between(self, after: int, until: int) -> list[Item]:
        """Return the events behind one sequence number, up to another: from memory, or read."""
        if self._kept and self._kept[0].sequence <= after + 1:
            return [item for item in self._kept if after < item.sequence <= until]
        read = [_item(stored) async for stored in read_stretch(self._bus, after + 1, until)]
        return [item for item in read if item is not None]

    async def is_mostly_stored(self) -> bool:
        """Return whether a page that is loaded now can catch up from the stream."""
        return self.position - await self.stored_until() <= MOST_BEHIND // 2

    def latest(self, filters: Filters) -> list[Entry]:
        """Return the latest events that pass, newest first, without the history."""
        return [
            entry_of(it.envelope) for it in reversed(self._kept) if filters.matches(it.envelope)
        ]

    async def stored_until(self) -> int:
        """Return a sequence number up to which every event is in the history."""
        floor = self.position
        try:
            info = await self._bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
        except NATS_ERRORS:
            return max(0, self.position - KEPT)
        if info.ack_floor is not None:
            floor = min(info.ack_floor.stream_seq, floor)
        return floor


def _item(stored: Stored) -> Item | None:
    try:
        envelope = codec.decode(stored.data, stored.headers)
    except codec.InvalidEvent:
        return None  # a dead letter, which the page of problems shows
    return Item(stored.sequence, envelope)


def _write(transports: set[asyncio.Transport], framed: bytes) -> None:
    for transport in transports:
        if transport.is_closing():
            continue
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
        else:
            transport.write(framed)
