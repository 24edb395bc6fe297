"""Checks in PostgreSQL: lock waits, and events that the table lacks."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.api import StreamState
from nats.js.errors import APIError

from mediabus.api.stream import read_stretch
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister.store import NEWEST_ACCEPTED, EventStore
from mediabus.doctor.finding import Finding
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.stream_reader import Stored
from mediabus.runtime.postgres.database import AWAY, Pool, open_pool
from mediabus.runtime.postgres.locks import blocked_by, lock_holders
from mediabus.runtime.settings import DatabaseSettings, SettingsError
from mediabus.schemas import codec
from mediabus.schemas.subjects import EVENTS_STREAM, PERSISTER

CONNECT_WITHIN: Final = 5.0
ASK_WITHIN: Final = 20.0
HELD_FOR: Final = 60.0
"""Seconds after which a transaction that holds locks is reported."""

EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)
BUCKET: Final = 1000
"""Sequence numbers of the stream that are counted together."""

MOST_READ: Final = 20
"""Maximum of buckets that are read message by message; each takes up to a second."""

STORED: Final = """
SELECT stream_seq / $1 AS bucket, count(DISTINCT stream_seq) AS stored FROM events
WHERE stream_seq BETWEEN $2 AND $3 AND occurred_at >= $4 GROUP BY 1
"""


async def examine_database(bus: Bus, database: DatabaseSettings) -> AsyncIterator[Finding]:
    """Check the database of the events, if the settings name one."""
    url = database.events_url or database.url
    if url is None:
        return
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                opened = open_pool(database, url=url, size=2)
                pool = await stack.enter_async_context(opened)
        except (*AWAY, asyncpg.PostgresError, SettingsError) as error:
            message = str(error) or f"no answer within {CONNECT_WITHIN:.0f} s"
            advice = "locks and stored events are not checked: check MEDIABUS_DATABASE_URL"
            yield Finding(name="PostgreSQL itself", ok=False, found=message, advice=advice)
            return
        for name, check in (("locks", _locks(pool)), ("stored events", _missing(bus, pool))):
            try:
                async with asyncio.timeout(ASK_WITHIN):
                    yield await check
            except (*AWAY, asyncpg.PostgresError, NatsError, APIError) as error:
                message = str(error) or f"no answer within {ASK_WITHIN:.0f} s"
                yield Finding(name=name, ok=False, found=message, advice="see PostgreSQL above")


async def _locks(pool: Pool) -> Finding:
    """Report sessions that block others, or that have held locks for a long time."""
    async with pool.acquire() as connection:
        waiting = await blocked_by(connection)
        held = await lock_holders(connection, older_than=HELD_FOR)
    advice = "to end a session that should not: SELECT pg_terminate_backend(<pid>)"
    if waiting:
        return Finding(name="locks", ok=False, found=waiting, advice=advice)
    if held:
        found = f"held for a long time by {'; '.join(held)}"
        return Finding(name="locks", ok=False, found=found, advice=advice)
    return Finding(name="locks", ok=True, found="no session waits for a lock")


async def _missing(bus: Bus, pool: Pool) -> Finding:
    """Find events that the persister has acknowledged and the table lacks.

    This happens when PostgreSQL was restored from a backup. Rows are counted by thousands first;
    only the gaps are read one by one, as `mediabus replay --dry-run` does for all.
    """
    state = (await bus.js.stream_info(EVENTS_STREAM)).state
    info = await bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
    done = info.ack_floor.stream_seq if info.ack_floor else 0
    suspects = await _suspects(bus, pool, state, done)
    missing, oldest = 0, None
    for start, end in suspects[:MOST_READ]:
        batch = await _events(bus, start, end)
        count = await EventStore(pool).missing(batch)
        if count:
            missing += count
            oldest = min(row.occurred_at for row in batch)
    if not missing or oldest is None:
        count = max(done - state.first_seq + 1, 0)
        found = f"all events of the {count} messages in the stream"
        return Finding(name="stored events", ok=True, found=found)
    more = " or more" if len(suspects) > MOST_READ else ""
    since = (oldest - datetime.timedelta(seconds=1)).astimezone(datetime.UTC)
    return Finding(
        name="stored events",
        ok=False,
        found=f"{missing}{more} events of the stream are missing in PostgreSQL",
        advice=f"run `mediabus replay --since {since:%Y-%m-%dT%H:%M:%SZ}`",
    )


async def _suspects(
    bus: Bus, pool: Pool, state: StreamState, done: int
) -> Sequence[tuple[int, int]]:
    """Return the ranges of the stream with fewer rows than messages, the newest first.

    Some of their messages may be invalid events or duplicates.
    """
    first = max(state.first_seq, 1)
    if done < first:
        return []
    oldest = (await bus.js.get_msg(EVENTS_STREAM, first)).time or EPOCH
    rows = await pool.fetch(STORED, BUCKET, first, done, oldest - NEWEST_ACCEPTED)
    stored = {row["bucket"]: row["stored"] for row in rows}
    found = []
    for bucket in range(done // BUCKET, first // BUCKET - 1, -1):
        start, end = max(bucket * BUCKET, first), min(bucket * BUCKET + BUCKET - 1, done)
        if stored.get(bucket, 0) < end - start + 1:
            found.append((start, end))
    return found


async def _events(bus: Bus, start: int, end: int) -> list[EventRow]:
    """Read the valid events in a range of the stream."""
    found = []
    async with contextlib.aclosing(read_stretch(bus, start, end)) as messages:
        async for message in messages:
            with contextlib.suppress(codec.InvalidEvent):
                found.append(_row_of(message))
    return found


def _row_of(message: Stored) -> EventRow:
    return EventRow.decode(
        message.data,
        message.headers,
        message.sequence,
        published_at=lambda: message.time,
        trust_actor=False,
    )
