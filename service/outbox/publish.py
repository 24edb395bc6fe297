"""Publish many events at once: as one atomic batch, or concurrently if the batch is rejected."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypedDict
from uuid import UUID

import asyncpg
import msgspec
from nats.errors import Error as NatsError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.schemas import codec
from mediabus.schemas.identity import uuid7

log: Final = logging.getLogger("mediabus.relay")

MAX_BATCH_MESSAGES: Final = 1000
"""Messages in one atomic batch, the limit of nats-server (ADR-50)."""

MAX_CONCURRENT: Final = 64
"""Events published concurrently, each with its own acknowledgement, when a batch is rejected."""

COMMIT_TIMEOUT: Final = 5.0
"""Seconds to wait until NATS has stored a batch."""


class Outgoing(NamedTuple):
    """An encoded event to publish. ``headers`` is set in CloudEvents binary mode only."""

    id: UUID
    subject: str
    payload: bytes
    headers: Mapping[str, str] | None = None


def outgoing(rows: Iterable[asyncpg.Record]) -> list[Outgoing]:
    """Convert rows of the outbox."""
    return [Outgoing(row["id"], row["subject"], row["payload"]) for row in rows]


class _Trace(TypedDict, total=False):
    """The attributes of an event that name its trace."""

    traceparent: str
    tracestate: str


_decode_trace: Final = msgspec.json.Decoder(_Trace).decode


class _ServerError(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct):
    error: _ServerError | None = None
    count: int = 0


class BatchRefused(Exception):
    """NATS stored nothing of the batch: it has seen one of its ids, or does not support batches."""


class Batch:
    """Events that NATS stores together and in order.

    NATS holds the messages of a batch until the commit, and discards them if the commit does not
    come. Batches are stored in the order of their commits, not in the order they were sent.
    """

    def __init__(self, bus: Bus, events: Sequence[Outgoing], connection: int) -> None:
        self._bus = bus
        self._events = events
        self._connection = connection
        self._id = str(uuid7())

    async def send(self) -> None:
        """Send all events but the last.

        Raises:
            PublishFailed: NATS is not connected, or was reconnected since the batch was made.
        """
        self._check_connection()
        try:
            for number, event in enumerate(self._events[:-1], start=1):
                headers = _headers(event, self._id, number)
                await self._bus.nc.publish(event.subject, event.payload, headers=headers)
        except NatsError as error:
            raise self._failed(error) from error

    async def commit(self) -> list[Outgoing]:
        """Send the last event and wait until all are stored; one by one if NATS rejects the batch.

        Returns:
            The events that the stream had already.

        Raises:
            PublishFailed: the events may not be stored; publish all of them again.
        """
        self._check_connection()
        if len(self._events) > 1:
            try:
                await self._commit()
            except BatchRefused as refusal:
                log.debug("batch rejected, publishing one by one: %s", refusal)
                self._check_connection()
            else:
                return []
        return await _publish_each(self._bus, self._events)

    async def _commit(self) -> None:
        last, count = self._events[-1], len(self._events)
        headers = _headers(last, self._id, count) | {"Nats-Batch-Commit": "1"}
        try:
            reply = await self._bus.nc.request(
                last.subject, last.payload, timeout=COMMIT_TIMEOUT, headers=headers
            )
            answer = msgspec.json.decode(reply.data, type=_Answer)
        except (NatsError, TimeoutError, msgspec.DecodeError) as error:
            raise self._failed(error) from error
        if answer.error:
            raise BatchRefused(answer.error.description)
        if answer.count != count:
            raise BatchRefused(f"NATS stored {answer.count} of {count} events")

    def traces(self) -> Iterator[Mapping[str, object]]:
        """Yield the ``traceparent`` and ``tracestate`` of each event."""
        for event in self._events:
            with contextlib.suppress(msgspec.DecodeError):
                yield _decode_trace(event.payload)

    def _check_connection(self) -> None:
        """Raise PublishFailed unless the connection is the one that the batch was made for.

        nats-py buffers messages of a lost connection and sends them after the reconnect. The server
        may then lack the events before them.
        """
        if not self._bus.is_connected:
            raise PublishFailed("NATS is not connected")
        if self._bus.connection != self._connection:
            raise PublishFailed("NATS reconnected before the batch was stored")

    def _failed(self, error: Exception) -> PublishFailed:
        return PublishFailed(f"batch of {len(self._events)} events: {error_text(error)}")


async def publish_all(bus: Bus, events: Sequence[Outgoing]) -> list[Outgoing]:
    """Store events in order. See ``Batch.commit`` for what it returns and raises."""
    batch = Batch(bus, events, bus.connection)
    await batch.send()
    return await batch.commit()


def _headers(event: Outgoing, batch_id: str, number: int) -> dict[str, str]:
    return {
        **_own_headers(event),
        "Nats-Msg-Id": str(event.id),
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(number),
    }


def _own_headers(event: Outgoing) -> Mapping[str, str]:
    """Return the headers that belong to the event, without those of its batch."""
    return {"Content-Type": codec.CONTENT_TYPE} if event.headers is None else event.headers


async def _publish_each(bus: Bus, events: Sequence[Outgoing]) -> list[Outgoing]:
    """Publish events concurrently, but those of one resource one after the other.

    NATS can reject one event and store the next, which would change the order of a resource.
    """
    duplicates: list[Outgoing] = []
    for window in _windows(events):
        stores = (
            bus.store(event.subject, event.payload, str(event.id), _own_headers(event))
            for event in window
        )
        outcomes = await asyncio.gather(*stores, return_exceptions=True)
        for event, outcome in zip(window, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome:
                duplicates.append(event)
    return duplicates


def _windows(events: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Split events into runs in which each resource occurs once.

    The last token of a subject is the resource.
    """
    window: dict[str, Outgoing] = {}
    for event in events:
        resource = event.subject.rpartition(".")[2]
        if resource in window or len(window) == MAX_CONCURRENT:
            yield [*window.values()]
            window = {}
        window[resource] = event
    yield [*window.values()]
