"""Serve the accounts that `mediabus secure` creates."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from mediabus.runtime import metrics
from mediabus.runtime.api.desk import FINISH_WITHIN, Desk
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.subjects import (
    EVENTS_SUBJECTS,
    asked_by_anybody,
    consumer_requested,
    letter_requested,
)
from mediabus.service.ingest.consumers import make_consumer
from mediabus.service.ingest.dead_letters import write_dead_letter
from mediabus.service.ingest.events import ingest_event
from mediabus.service.ingest.refusal import Refused

QUEUE: Final = "mediabus-ingest"
"""Queue group: one of the services handles each message."""

Answer = Callable[[Bus, Msg], Awaitable[bytes]]
"""Performs the request in a message and returns the body of the reply, in the format of JetStream.
Raises Refused."""


@contextlib.asynccontextmanager
async def serve_keys(bus: Bus) -> AsyncIterator[None]:
    """Serve events, consumers and dead letters of keys.

    Does nothing on a server without accounts of keys.
    """
    if not bus.holds_streams:
        yield
        return
    for outcome in ("stored", "invalid", "unavailable"):
        metrics.INGESTED.labels(outcome)  # from 0, so that the first one is an increase
    desk = Desk()
    served: dict[str, Answer] = {
        asked_by_anybody(EVENTS_SUBJECTS): ingest_event,
        consumer_requested("*", "*", "*"): make_consumer,
        letter_requested("*", "*"): write_dead_letter,
    }
    subscriptions = [
        await bus.nc.subscribe(
            subject, queue=QUEUE, cb=desk.working(subject, _answering(bus, answer))
        )
        for subject, answer in served.items()
    ]
    try:
        yield
    finally:
        for subscription in subscriptions:
            with contextlib.suppress(NatsError):
                await subscription.drain()  # type: ignore[no-untyped-call] # nats-py's
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN):
                await desk.finish()
        desk.give_up()


def _answering(bus: Bus, answer: Answer) -> Callable[[Msg], Coroutine[Any, Any, None]]:
    async def work(message: Msg) -> None:
        try:
            body = await answer(bus, message)
        except Refused as refused:
            body = msgspec.json.encode(refused.reply())
        if message.reply:
            with contextlib.suppress(NatsError):
                await message.respond(body)

    return work
