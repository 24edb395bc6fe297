"""Operations succeed while NATS is down or the outbox fails, and their events arrive later."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import UUID

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import (
    CreateMedia,
    DeleteMedia,
    ListDownloads,
    MediaItem,
    SetMonitored,
    UpdateMedia,
)
from mediabus.service.operations.media import Media
from mediabus.service.operations.open import open_operations
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.eventually import eventually
from tests.support.library import Library, library
from tests.support.servers import NatsServer
from tests.support.stream import messages

USER = Actor("user", "42")
SHOWS = 20

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the outbox is broken'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox EXECUTE FUNCTION refuse();
"""
LOCK_TIMEOUT = 0.2
"""Seconds that recording an event waits for a lock."""

EVENT_TYPES = [
    "media_item.added",
    "media_item.updated",
    "media_item.monitoring_changed",
    "media_item.removed",
]


async def change_show(media: Media, title: str) -> UUID:
    """Add a show, rename it, stop monitoring it and delete it."""
    show = await media.create(CreateMedia(type="tv_show", title=title), USER)
    await media.update(UpdateMedia(id=show.id, title=f"{title}, again"), USER)
    await media.set_monitored(SetMonitored(ids=[show.id], monitored=False), USER)
    await media.delete(DeleteMedia(ids=[show.id]), USER)
    return show.id


async def change_shows(media: Media) -> list[UUID]:
    return await asyncio.gather(*(change_show(media, f"Show {number}") for number in range(SHOWS)))


async def assert_all_events_in_order(user: Library, shows: list[UUID]) -> None:
    async def are_stored() -> bool:
        return len(await user.events()) >= SHOWS * len(EVENT_TYPES)

    await eventually(are_stored, within=30)
    for show in shows:
        assert await user.types(str(show)) == EVENT_TYPES
    assert {(event["actor_type"], event["actor_id"]) for event in await user.events()} == {
        ("user", "42")
    }


async def test_operations_succeed_while_nats_is_down(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    nats.stop()
    async with open_operations(pool, bus) as operations:
        shows = await change_shows(operations.media)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == SHOWS * len(EVENT_TYPES)
    await asyncio.to_thread(nats.start)
    async with library(settings, (SERVICE, PERSIST)) as user:
        await assert_all_events_in_order(user, shows)
        await eventually(lambda: is_empty(pool))


async def is_empty(pool: Pool) -> bool:
    return not await pool.fetchval("SELECT count(*) FROM outbox")


async def test_operations_publish_directly_when_the_outbox_fails(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    await pool.execute(REFUSE)
    before = metrics.NOT_RECORDED._value.get()
    async with open_operations(pool, bus) as operations:
        shows = await change_shows(operations.media)
    assert metrics.NOT_RECORDED._value.get() == before + SHOWS * len(EVENT_TYPES)
    assert await is_empty(pool)
    assert len(await messages(bus)) == SHOWS * len(EVENT_TYPES)  # no relay is running
    async with library(settings, (PERSIST,)) as user:
        await assert_all_events_in_order(user, shows)


async def test_operations_do_not_wait_for_a_locked_outbox(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    async with open_operations(pool, bus) as operations:
        async with locked(pool):
            started_at = time.monotonic()
            show = await operations.media.create(CreateMedia(type="tv_show", title="Dark"), USER)
            renamed = UpdateMedia(id=show.id, title="Dark, again")
            await operations.media.update(renamed, USER)
            waited = time.monotonic() - started_at
            assert await stored(pool, show) == "Dark, again"
        assert waited < 2 * LOCK_TIMEOUT + 2
    async with library(settings, (PERSIST,)) as user:
        await user.event("media_item.updated", str(show.id))
        assert await user.types(str(show.id)) == EVENT_TYPES[:2]


@contextlib.asynccontextmanager
async def locked(pool: Pool) -> AsyncIterator[None]:
    """Lock the outbox from another session, as a repair would."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        yield


async def stored(pool: Pool, show: MediaItem) -> str:
    title: str = await pool.fetchval("SELECT title FROM media_items WHERE id = $1", show.id)
    return title


async def test_events_wait_in_memory_without_nats_and_outbox(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    await pool.execute(REFUSE)
    async with open_operations(pool, bus) as operations:
        nats.stop()
        shows = await change_shows(operations.media)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: has_all_events(bus), within=30)
    async with library(settings, (PERSIST,)) as user:
        await assert_all_events_in_order(user, shows)


async def has_all_events(bus: Bus) -> bool:
    return bus.is_connected and len(await messages(bus)) == SHOWS * len(EVENT_TYPES)


async def test_a_download_is_listed_without_nats(nats: NatsServer, bus: Bus, pool: Pool) -> None:
    """Only the live status is missing, and the request does not wait for it."""
    await pool.execute(
        "INSERT INTO downloads (id, title, state, client, client_item, protocol) "
        "VALUES (gen_random_uuid(), 'Dune', 'active', 'transmission', 'abc', 'torrent')"
    )
    nats.stop()
    await eventually(lambda: not bus.is_connected)
    async with open_operations(pool, bus) as operations:
        page = await operations.downloads.list(ListDownloads())
    assert [(item.title, item.status) for item in page.items] == [("Dune", None)]
