"""Events for tests that check delivery and not content, and a view of the stream."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Connection, Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.subjects import EVENTS_STREAM
from mediabus.service.outbox.outbox import RECORD, with_events

JOB = Actor("job", "nightly")


def event(name: str, resource: str = "1") -> Envelope:
    """An event that happens now and is known by its name."""
    return Envelope.of(JobExecuted(job_name=name), actor=JOB, resource=Resource("job", resource))


async def record(connection: Connection | Pool, *names: str) -> bool:
    """Records events in the transaction that is under way, or in one of their own."""
    return await record_events(connection, [event(name) for name in names])


async def record_events(connection: Connection | Pool, events: Sequence[Envelope]) -> bool:
    """Record events; False if they were not."""
    statement, recorded = with_events(RECORD, events)
    return bool(await connection.fetchval(statement, *recorded))


async def is_handled(bus: Bus, durable: str) -> bool:
    """Return whether a durable was given all events that it selects, and nothing waits for its ack.

    NATS acknowledges a message before it counts it as pending, so that counts alone are too early.
    """
    info = await bus.js.consumer_info(EVENTS_STREAM, durable)
    filters = info.config.filter_subjects or [info.config.filter_subject or ">"]
    last = max([await _last_sequence(bus, subject) for subject in filters])
    is_delivered = info.delivered is not None and info.delivered.stream_seq >= last
    return is_delivered and not info.num_pending and not info.num_ack_pending


async def _last_sequence(bus: Bus, subject: str) -> int:
    with contextlib.suppress(NotFoundError):
        return (await bus.js.get_last_msg(EVENTS_STREAM, subject)).seq or 0
    return 0


async def messages(bus: Bus) -> list[RawStreamMsg]:
    """What the events stream holds, in its order."""
    state = (await bus.js.stream_info(EVENTS_STREAM)).state
    found = []
    for number in range(max(state.first_seq, 1), state.last_seq + 1):
        with contextlib.suppress(NotFoundError):
            found.append(await bus.js.get_msg(EVENTS_STREAM, number))
    return found


async def names(bus: Bus) -> list[str]:
    """The names of the events in the stream, in its order."""
    said = [msgspec.json.decode(message.data or b"") for message in await messages(bus)]
    return [one["data"]["job_name"] for one in said]


@contextlib.asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A transaction of another session, committed on exit."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection
