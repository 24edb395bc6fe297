"""Measure how fast the relay of mediabus, and nats-outbox, publish waiting events."""

import asyncio
import datetime
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from bench import aims
from bench.peers import environment
from bench.report import Section
from bench.servers import Failed, Stack, event, mediabus, process, stack, until
from mediabus.schemas.subjects import EVENTS_STREAM

MINE: Final = "mediabus, atomic batches"
PEER: Final = "nats-outbox, one by one"
PEER_PACKAGE: Final = "nats-outbox[cli]"
SLOWER: Final = 20
"""The peer publishes one of this many events, because it is slow."""

# New ids, because JetStream drops an id that it has seen within its duplicate window.
FILL_PEER: Final = """
INSERT INTO outbox_events (event_id, subject, headers, payload, status, retry_count)
SELECT gen_random_uuid(), subject, '{}', convert_from(payload, 'UTF8')::jsonb, 'pending', 0
FROM outbox ORDER BY position LIMIT $1
"""


async def measure(events: int, runs: int) -> Section:
    """Measure both in turns, with ``events`` rows waiting at the start."""
    section = Section(aims.RELAY)
    missing = await environment.install((PEER_PACKAGE,))
    for reason in missing.values():
        section.note(f"nats-outbox could not be installed here, so it was not measured: {reason}")
    async with stack() as it:
        for _ in range(runs):
            await _fill(it, events)
            if not missing:
                section.add(PEER, "events/s", await _peer(it, events // SLOWER))
            await it.bus.js.purge_stream(EVENTS_STREAM)
            command = mediabus("service")
            section.add(MINE, "events/s", await _drain(it, command, events, it.environment))
            await it.bus.js.purge_stream(EVENTS_STREAM)
    section.note(
        f"{events:,} rows wait in the outbox, {runs} runs in turns; from the first event in the "
        "stream to the last. No persister runs."
    )
    if not missing:
        section.note(f"nats-outbox, with its own defaults and table: {events // SLOWER:,} of them.")
    return section


async def _fill(it: Stack, events: int) -> None:
    now = datetime.datetime.now(datetime.UTC)
    outgoing = (event() for _ in range(events))
    await it.pool.execute("TRUNCATE outbox")
    await it.pool.copy_records_to_table(
        "outbox",
        records=((one.id, now, one.subject, one.payload) for one in outgoing),
        columns=("id", "occurred_at", "subject", "payload"),
    )
    await it.pool.execute("VACUUM ANALYZE outbox")
    await it.pool.execute("CHECKPOINT")


async def _peer(it: Stack, events: int) -> float:
    variables = {
        **it.environment,
        "OUTBOX_DATABASE_URL": _sqlalchemy_url(it.database_url),
        "OUTBOX_NATS_URL": it.nats_url,
    }
    tables = (environment.PYTHON, "-m", "bench.peers.nats_outbox_tables")
    async with process(*tables, environment=variables) as making:
        if await making.wait():
            raise Failed("nats-outbox could not make its tables")
    await it.pool.execute(FILL_PEER, events)
    relay = ("-m", "nats_outbox.cli", "relay", "start", "--log-level", "ERROR")
    return await _drain(it, (environment.PYTHON, *relay), events, variables)


def _sqlalchemy_url(url: str) -> str:
    """Return the URL for SQLAlchemy, which does not know libpq's options for TLS."""
    parts = urlsplit(url)
    options = [(name, value) for name, value in parse_qsl(parts.query) if name[:3] != "ssl"]
    return parts._replace(scheme="postgresql+asyncpg", query=urlencode(options)).geturl()


async def _drain(
    it: Stack, command: tuple[str, ...], events: int, variables: Mapping[str, str]
) -> float:
    """Return events per second, from the first one in the stream."""

    async def stored() -> int:
        return (await it.bus.js.stream_info(EVENTS_STREAM)).state.messages

    async def is_done() -> bool:
        return await stored() >= events

    async with process(*command, environment=variables):
        started = await until(stored, every=0.005, within=60)
        already = await stored()
        took = await until(is_done, every=0.01) - started
        await asyncio.sleep(0.2)
        if await stored() != events:
            raise Failed(f"{command[0]}: {await stored()} messages of {events} events")
    return (events - already) / took
