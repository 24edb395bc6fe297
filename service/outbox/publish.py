"""Publishing many events at once: as one atomic batch, or side by side where that is refused."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from nats.errors import Error as NatsError

from schemas import codec
from schemas.identity import uuid7
from service.runtime.bus import Bus, PublishFailed

log: Final = logging.getLogger("mediabus.relay")

MOST: Final = 1000
"""Messages in one atomic batch (ADR-50)."""

SIDE_BY_SIDE: Final = 64
TIMEOUT: Final = 5.0


class Outgoing(NamedTuple):
    """An event on its way: its id, its NATS subject and its bytes."""

    id: UUID
    subject: str
    payload: bytes


def outgoing(rows: Iterable[asyncpg.Record]) -> list[Outgoing]:
    """The events of rows of the outbox."""
    return [Outgoing(row["id"], row["subject"], row["payload"]) for row in rows]


class _ServerError(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct):
    error: _ServerError | None = None
    count: int = 0


class BatchRefused(Exception):
    """The server took none of the batch: it has seen one of its ids, or cannot do batches."""


class Batch:
    """Events that are stored together, in their order. NATS keeps aside what was sent of them until
    the commit, and drops it where that does not come: its order is that of the commits."""

    def __init__(self, bus: Bus, events: Sequence[Outgoing], connection: int) -> None:
        self._bus = bus
        self._events = events
        self._connection = connection
        self._id = str(uuid7())

    async def send(self) -> None:
        """Sends all but the last of the events. Raises PublishFailed."""
        self._check_connection()
        try:
            for number, event in enumerate(self._events[:-1], start=1):
                headers = _headers(event, self._id, number)
                await self._bus.nc.publish(event.subject, event.payload, headers=headers)
        except NatsError as error:
            raise self._failed(error) from error

    async def commit(self) -> None:
        """Sends the last one too and waits until all are stored; one by one where they are refused
        together. Raises PublishFailed where that is not sure: publish all of them again then."""
        self._check_connection()
        if len(self._events) > 1:
            try:
                await self._commit()
            except BatchRefused as refusal:
                log.debug("batch refused, publishing one by one: %s", refusal)
                self._check_connection()
            else:
                return
        await _publish_each(self._bus, self._events)

    async def _commit(self) -> None:
        last, count = self._events[-1], len(self._events)
        headers = _headers(last, self._id, count) | {"Nats-Batch-Commit": "1"}
        try:
            reply = await self._bus.nc.request(
                last.subject, last.payload, timeout=TIMEOUT, headers=headers
            )
            answer = msgspec.json.decode(reply.data, type=_Answer)
        except (NatsError, TimeoutError, msgspec.DecodeError) as error:
            raise self._failed(error) from error
        if answer.error:
            raise BatchRefused(answer.error.description)
        if answer.count != count:
            raise BatchRefused(f"{answer.count} of {count} stored")

    def _check_connection(self) -> None:
        """Nothing is published but over the connection that the batch is for. What is given to a
        lost one would be sent, unasked, after the reconnect; and the server that is there then may
        have forgotten what came before."""
        if not self._bus.is_connected:
            raise PublishFailed("NATS is not connected")
        if self._bus.connection != self._connection:
            raise PublishFailed("NATS was away meanwhile")

    def _failed(self, error: Exception) -> PublishFailed:
        return PublishFailed(f"batch of {len(self._events)}: {error or type(error).__name__}")


async def publish_all(bus: Bus, events: Sequence[Outgoing]) -> None:
    """Stores the events in their order. Raises PublishFailed where it is
    not sure that all are stored: publish all of them again then."""
    batch = Batch(bus, events, bus.connection)
    await batch.send()
    await batch.commit()


def _headers(event: Outgoing, batch_id: str, number: int) -> dict[str, str]:
    return {
        "Nats-Msg-Id": str(event.id),
        "Content-Type": codec.CONTENT_TYPE,
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(number),
    }


async def _publish_each(bus: Bus, events: Sequence[Outgoing]) -> None:
    """Those of one resource one after the other: the server may refuse one and take the next."""
    for window in _side_by_side(events):
        stores = (bus.store(event.subject, event.payload, str(event.id)) for event in window)
        for outcome in await asyncio.gather(*stores, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


def _side_by_side(events: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Neighbours of which no two are of one resource, which is how a subject ends."""
    window: dict[str, Outgoing] = {}
    for event in events:
        resource = event.subject.rpartition(".")[2]
        if resource in window or len(window) == SIDE_BY_SIDE:
            yield [*window.values()]
            window = {}
        window[resource] = event
    yield [*window.values()]
