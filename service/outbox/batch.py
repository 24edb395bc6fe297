"""Publishing many events at once: as one atomic batch, or side by side where that is refused."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

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


class _ServerError(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct):
    error: _ServerError | None = None
    count: int = 0


class BatchRefused(Exception):
    """The server took none of the batch: it has seen one of its ids, or cannot do batches."""


async def publish_all(bus: Bus, events: Sequence[Outgoing]) -> None:
    """Stores the events in their order. Raises PublishFailed where it is
    not sure that all are stored: publish all of them again then."""
    if not bus.is_connected:  # or it would be sent, unasked, after the reconnect
        raise PublishFailed("NATS is not connected")
    if len(events) > 1:
        try:
            await _publish_batch(bus, events)
        except BatchRefused as refusal:
            log.debug("batch refused, publishing one by one: %s", refusal)
        else:
            return
    await _publish_each(bus, events)


async def _publish_batch(bus: Bus, events: Sequence[Outgoing]) -> None:
    batch_id = str(uuid7())
    last = events[-1]
    headers = _headers(last, batch_id, len(events)) | {"Nats-Batch-Commit": "1"}
    try:
        for number, event in enumerate(events[:-1], start=1):
            await bus.nc.publish(
                event.subject, event.payload, headers=_headers(event, batch_id, number)
            )
        reply = await bus.nc.request(last.subject, last.payload, timeout=TIMEOUT, headers=headers)
        answer = msgspec.json.decode(reply.data, type=_Answer)
    except (NatsError, TimeoutError, msgspec.DecodeError) as error:
        raise PublishFailed(f"batch of {len(events)}: {error or type(error).__name__}") from error
    if answer.error:
        raise BatchRefused(answer.error.description)
    if answer.count != len(events):
        raise BatchRefused(f"{answer.count} of {len(events)} stored")


def _headers(event: Outgoing, batch_id: str, number: int) -> dict[str, str]:
    return {
        "Nats-Msg-Id": str(event.id),
        "Content-Type": codec.CONTENT_TYPE,
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(number),
    }


async def _publish_each(bus: Bus, events: Sequence[Outgoing]) -> None:
    """Side by side on one connection: the server keeps the order in which they were written."""
    for start in range(0, len(events), SIDE_BY_SIDE):
        window = events[start : start + SIDE_BY_SIDE]
        stores = (bus.store(event.subject, event.payload, str(event.id)) for event in window)
        for outcome in await asyncio.gather(*stores, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
