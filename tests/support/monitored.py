"""A monitor of scripted clients in the process of the test, and its results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.status import ClientName, ItemId, Phase
from mediabus.service.downloads.bucket import read
from mediabus.service.monitor.monitor import monitor
from mediabus.service.outbox.outbox import open_outbox
from tests.support.scripted import ScriptedSettings

INSERT = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, media_item_id, asked,
                       asked_by_type, asked_by_id, asked_at, updated_at, created_at)
VALUES ($1, 'It', $2, 'script', $3, 'torrent', $4, $5,
        CASE WHEN $5::text IS NOT NULL THEN 'user' END,
        CASE WHEN $5::text IS NOT NULL THEN '42' END,
        CASE WHEN $5::text IS NOT NULL THEN now() - interval '3 minutes' END,
        now() - interval '3 minutes', now() - interval '3 minutes')
"""


@contextlib.asynccontextmanager
async def monitored(pool: Pool, bus: Bus, *clients: ScriptedSettings) -> AsyncIterator[None]:
    """A monitor of scripted clients, which must not end unexpectedly."""
    quick = MonitorSettings(unreachable_after=0.5, removed_after=0.5, discovered_after=0.3)
    async with open_outbox(pool, bus) as outbox:
        work = monitor(bus, pool, outbox, quick, Live(clients).values())
        working = asyncio.create_task(work)
        try:
            yield
            assert not working.done(), "the monitor has ended"
        finally:
            working.cancel()
            await asyncio.wait([working])


async def has(pool: Pool, state: str, item: str | None = None) -> object:
    """Whether there is such a download."""
    query = "SELECT id FROM downloads WHERE state = $1 AND ($2::text IS NULL OR client_item = $2)"
    return await pool.fetchval(query, state, item)


async def said(pool: Pool) -> list[tuple[str, str]]:
    """The types of the recorded events, and who did it."""
    rows = await pool.fetch("SELECT payload FROM outbox ORDER BY position")
    events = [msgspec.json.decode(row["payload"]) for row in rows]
    return [(event["type"], event["actorid"]) for event in events]


async def is_shown(bus: Bus, item: str, phase: Phase) -> bool:
    shown = await read(bus)
    status = shown.downloads.get((ClientName("script"), ItemId(item)))
    return status is not None and status.phase is phase
