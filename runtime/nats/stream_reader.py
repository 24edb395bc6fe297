"""Read the messages of a stream in order with direct gets (ADR-31).

A direct get needs no consumer and changes nothing on the server, so read-only users can use it.
"""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.js.errors import ServiceUnavailableError

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.headers import RawHeaders

MAX_MESSAGES: Final = 500
MAX_BYTES: Final = 4_000_000
"""Limits of one batch."""

MESSAGE_TIMEOUT: Final = 5.0
"""Seconds to wait for the next message of a batch."""

SUBJECT: Final = "Nats-Subject"
SEQUENCE: Final = "Nats-Sequence"
LAST_SEQUENCE: Final = "Nats-Last-Sequence"
TIME: Final = "Nats-Time-Stamp"
PENDING: Final = "Nats-Num-Pending"
ADDED: Final = ("Nats-Stream", SUBJECT, SEQUENCE, TIME, PENDING, LAST_SEQUENCE)
ENDS: Final = {204, 404}


class Stored(NamedTuple):
    """A message in a stream."""

    subject: str
    sequence: int
    time: datetime.datetime
    headers: dict[str, str]
    data: bytes


async def stored_messages(
    bus: Bus,
    stream: str,
    *,
    subjects: str = ">",
    after: int = 0,
    since: datetime.datetime | None = None,
) -> AsyncGenerator[Stored, None]:
    """Yield the messages in a stream whose subject matches ``subjects``, oldest first.

    Starts behind the sequence number ``after`` and skips messages stored before ``since``.
    Raises TimeoutError and nats-py's errors.
    """
    start: dict[str, object] = {"start_time": since} if since and not after else {"seq": after + 1}
    reader = _Reader(bus, stream, subjects)
    async with bus.nc.receiving(f"{reader.inbox}.*", reader.receive, raw=True):
        while True:
            async for message in reader.batch(start):
                start = {"seq": message.sequence + 1}
                if since is None or message.time >= since:
                    yield message
            if not reader.is_more:
                return


@contextlib.asynccontextmanager
async def waking(
    bus: Bus, subjects: str
) -> AsyncIterator[Callable[[float], Coroutine[Any, Any, None]]]:
    """Yield a function that waits for a message on ``subjects``, at most the given seconds."""
    woken = asyncio.Event()

    async def wait(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), timeout=seconds)
        woken.clear()

    async with bus.nc.receiving(subjects, lambda _: woken.set()):
        yield wait


class _Reader:
    """Requests one batch after another. Each batch has an inbox of its own."""

    def __init__(self, bus: Bus, stream: str, subjects: str) -> None:
        self.inbox = bus.nc.new_inbox()
        self.is_more = True
        self._bus = bus
        self._stream = stream
        self._subjects = subjects
        self._batch = 0
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    def receive(self, message: Msg) -> None:
        """Queue a message from the server."""
        self._arrived.put_nowait(message)

    async def batch(self, start: dict[str, object]) -> AsyncIterator[Stored]:
        """Yield the messages of one batch. If a message is missing, end the batch before it."""
        self._batch += 1
        self.is_more = True
        inbox = f"{self.inbox}.{self._batch}"
        refused = await self._ask(start, inbox)
        before = 0
        while True:
            message = await asyncio.wait_for(self._arrived.get(), timeout=MESSAGE_TIMEOUT)
            if message is None:
                await refused
            if message is None or message.subject != inbox:
                continue
            headers: Any = message.headers
            if SEQUENCE not in headers:
                self.is_more = _is_more(headers)
                return
            if int(headers[LAST_SEQUENCE]) != before:
                return
            stored = _stored(message)
            before = stored.sequence
            yield stored

    async def _ask(self, start: dict[str, object], inbox: str) -> "asyncio.Future[None]":
        """Request a batch. The returned future fails if this user may not ask for it."""
        nc, subject = self._bus.nc, f"{self._bus.api}.DIRECT.GET.{self._stream}"
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.add_done_callback(lambda _: self._arrived.put_nowait(None))
        nc.fails_when_refused(refused, subject)
        limits = {"next_by_subj": self._subjects, "batch": MAX_MESSAGES, "max_bytes": MAX_BYTES}
        await nc.publish(subject, msgspec.json.encode({**start, **limits}), reply=inbox)
        return refused


def _is_more(headers: RawHeaders) -> bool:
    """Return whether the stream has more messages after a batch.

    Raises ServiceUnavailableError if the stream is unavailable.
    """
    if headers.status not in ENDS:  # 503: the stream has no leader
        raise ServiceUnavailableError(code=headers.status, description="the stream does not answer")
    return int(headers.get(PENDING, "0")) > 0


def _stored(message: Msg) -> Stored:
    """Parse a message. The server's headers come last, so they override the message's own."""
    headers = dict(message.headers or {})
    added = {name: headers.pop(name, "") for name in ADDED}
    return Stored(
        subject=added[SUBJECT],
        sequence=int(added[SEQUENCE]),
        time=msgspec.convert(added[TIME], datetime.datetime),
        headers=headers,
        data=message.data,
    )
