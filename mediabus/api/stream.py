"""Read the stream of events from a point in time: in order, each event once, despite outages."""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import StreamState
from nats.js.errors import APIError, NotFoundError

from mediabus.runtime.nats.bus import Bus, CannotConnect
from mediabus.runtime.nats.client import NotAllowed
from mediabus.runtime.nats.stream_reader import Stored, stored_messages, waking
from mediabus.schemas.subjects import EVENTS_STREAM

log: Final = logging.getLogger("mediabus.api")

Note = Callable[[str], object]
"""Receives a line about an outage, for the log or the terminal."""

READ_EVERY: Final = 0.5
"""Seconds after which the stream is read again, even without a new message."""

MAX_EMPTY_READS: Final = 10
"""Reads without a message after which the reader checks that the stream did not lose its end."""

A_MOMENT: Final = datetime.timedelta(milliseconds=1)
REMEMBERED: Final = 20_000
"""Events whose ids are kept to skip duplicates."""


async def read_stream(
    bus: Bus,
    subjects: str,
    since: datetime.datetime | None,
    *,
    follow: bool,
    after: int | None = None,
    note: Note = log.info,
) -> AsyncIterator[Stored]:
    """Yield the messages from ``since``, behind the sequence number ``after``, or from now on.

    Without ``follow`` it ends at the present end of the stream. Outages go to ``note``.

    Raises:
        CannotConnect: The stream does not exist.
    """
    end = (await _state(bus)).last_seq
    begin = after if after is not None else 0 if since else end
    reader = _Reader(bus, subjects, since, begin, note)
    async with waking(bus, subjects) as woken:
        while True:
            try:
                async for message in reader.read():
                    if not follow and message.sequence > end:
                        return
                    yield message
                if not follow:
                    return
                await woken(READ_EVERY)
            except NotAllowed:
                raise
            except (NatsError, APIError, TimeoutError, CannotConnect):
                reader.was_interrupted = True
                await asyncio.sleep(READ_EVERY)
                await _until_connected(bus, note)


class _Reader:
    """Reads on from the last message, and checks that the stream still has it."""

    def __init__(
        self, bus: Bus, subjects: str, since: datetime.datetime | None, after: int, note: Note
    ) -> None:
        self.was_interrupted = False
        self._bus = bus
        self._note = note
        self._subjects = subjects
        self._since = since
        self._after = after
        self._stored_at: datetime.datetime | None = None
        self._shown = _Shown()
        self._empty_reads = 0
        self._connection = bus.connection

    async def read(self) -> AsyncIterator[Stored]:
        """Yield the messages after the last one."""
        is_another = self._connection != self._bus.connection
        if is_another or self.was_interrupted or self._empty_reads >= MAX_EMPTY_READS:
            await self._check_end()
        self._empty_reads += 1
        messages = stored_messages(
            self._bus, EVENTS_STREAM, subjects=self._subjects, after=self._after, since=self._since
        )
        async for message in messages:
            self._after, self._stored_at = message.sequence, message.time
            self._since, self._empty_reads = None, 0
            if self._shown.is_new(message):
                yield message
            if self._connection != self._bus.connection:
                return

    async def _check_end(self) -> None:
        """If the stream lost its end, continue with its new messages, and note that."""
        connection = self._bus.connection
        if await self._has_lost_its_end():
            self._note("NATS lost the end of its stream, continuing with the new messages in it")
            self._after = 0
            self._since = self._stored_at + A_MOMENT if self._stored_at else None
        self._connection, self._empty_reads, self.was_interrupted = connection, 0, False

    async def _has_lost_its_end(self) -> bool:
        """Return whether the stream ends before the last message, or has another in its place.

        This happens if NATS comes back with an older store, or an empty one.
        """
        state = await _state(self._bus)
        if state.last_seq < self._after:
            return True
        if self._stored_at is None or state.first_seq > self._after:
            return False
        stored_at = await _stored_at(self._bus, self._after)
        return stored_at is not None and abs(stored_at - self._stored_at) > A_MOMENT


class _Shown:
    """The ids of the latest events. The relay publishes some again if the stream lost its end."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def is_new(self, message: Stored) -> bool:
        message_id = message.headers.get("Nats-Msg-Id")
        if message_id is None:
            return True
        if message_id in self._ids:
            return False
        self._ids[message_id] = None
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return True


async def _stored_at(bus: Bus, number: int) -> datetime.datetime | None:
    """Return when the stream stored a message, or None if the message cannot be read."""
    try:
        return (await bus.js.get_msg(EVENTS_STREAM, number)).time
    except (NotFoundError, NotAllowed):
        return None


async def read_stretch(bus: Bus, start: int, end: int) -> AsyncGenerator[Stored, None]:
    """Yield the messages from one sequence number to another.

    Raises:
        CannotConnect: The connection was lost.
        nats.errors.Error: As raised by nats-py.
    """
    try:
        reading = stored_messages(bus, EVENTS_STREAM, after=start - 1)
        async with contextlib.aclosing(reading):
            async for message in reading:
                if message.sequence > end:
                    return
                yield message
    except TimeoutError as error:
        raise CannotConnect("the connection to NATS was lost: try again") from error


async def _until_connected(bus: Bus, note: Note) -> None:
    is_noted = False
    while not bus.is_connected:
        if not is_noted:
            note("connection to NATS lost, reconnecting")
            is_noted = True
        await asyncio.sleep(0.1)
    if is_noted:
        note("connected to NATS again")


async def _state(bus: Bus) -> StreamState:
    try:
        return (await bus.js.stream_info(EVENTS_STREAM)).state
    except NotFoundError as error:
        raise CannotConnect(
            f"NATS has no stream {EVENTS_STREAM} yet: start mediabus, which creates it"
        ) from error
