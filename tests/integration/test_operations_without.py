"""Operations succeed without NATS, without an outbox that works and without waiting for its lock,
and their events arrive all the same."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import UUID

from schemas.commands import (
    CreateMedia,
    DeleteMedia,
    ListDownloads,
    MediaItem,
    SetMonitored,
    UpdateMedia,
)
from schemas.identity import Actor
from service.cli.parts import operations_part, persister_part
from service.operations.media import Media
from service.operations.open import open_operations
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import Settings
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
WAITS_FOR = 0.2
"""Seconds that recording waits for a lock."""

LIFE = [
    "media_item.added",
    "media_item.updated",
    "media_item.monitoring_changed",
    "media_item.removed",
]


async def live(media: Media, title: str) -> UUID:
    """The whole life of a show: added, renamed, no longer monitored, removed."""
    show = await media.create(CreateMedia(type="tv_show", title=title), USER)
    await media.update(UpdateMedia(id=show.id, title=f"{title}, again"), USER)
    await media.set_monitored(SetMonitored(ids=[show.id], monitored=False), USER)
    await media.delete(DeleteMedia(ids=[show.id]), USER)
    return show.id


async def many(media: Media) -> list[UUID]:
    return await asyncio.gather(*(live(media, f"Show {number}") for number in range(SHOWS)))


async def each_is_told_in_order(user: Library, shows: list[UUID]) -> None:
    async def all_there() -> bool:
        return len(await user.events()) >= SHOWS * len(LIFE)

    await eventually(all_there, within=30)
    for show in shows:
        assert await user.types(str(show)) == LIFE
    assert {(event["actor_type"], event["actor_id"]) for event in await user.events()} == {
        ("user", "42")
    }


async def test_with_nats_stopped_they_succeed_and_their_events_arrive_later_in_order(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    nats.stop()
    async with open_operations(pool, bus) as operations:
        shows = await many(operations.media)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == SHOWS * len(LIFE)
    await asyncio.to_thread(nats.start)
    async with library(settings, (operations_part, persister_part)) as user:
        await each_is_told_in_order(user, shows)
        await eventually(lambda: is_empty(pool))


async def is_empty(pool: Pool) -> bool:
    return not await pool.fetchval("SELECT count(*) FROM outbox")


async def test_with_an_outbox_that_refuses_they_succeed_and_their_events_go_directly(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    await pool.execute(REFUSE)
    before = metrics.NOT_RECORDED._value.get()
    async with open_operations(pool, bus) as operations:
        shows = await many(operations.media)
    assert metrics.NOT_RECORDED._value.get() == before + SHOWS * len(LIFE)
    assert await is_empty(pool)
    assert len(await messages(bus)) == SHOWS * len(LIFE)  # with no relay anywhere
    async with library(settings, (persister_part,)) as user:
        await each_is_told_in_order(user, shows)


async def test_with_the_outbox_locked_they_do_not_wait_for_it(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    async with open_operations(pool, bus) as operations:
        async with locked(pool):
            began = time.monotonic()
            show = await operations.media.create(CreateMedia(type="tv_show", title="Dark"), USER)
            renamed = UpdateMedia(id=show.id, title="Dark, again")
            await operations.media.update(renamed, USER)
            waited = time.monotonic() - began
            assert await stored(pool, show) == "Dark, again"
        assert waited < 2 * WAITS_FOR + 2
    async with library(settings, (persister_part,)) as user:
        await user.event("media_item.updated", str(show.id))
        assert await user.types(str(show.id)) == LIFE[:2]


@contextlib.asynccontextmanager
async def locked(pool: Pool) -> AsyncIterator[None]:
    """The outbox in the hands of another session, which reads it into a dump or repairs it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        yield


async def stored(pool: Pool, show: MediaItem) -> str:
    title: str = await pool.fetchval("SELECT title FROM media_items WHERE id = $1", show.id)
    return title


async def test_with_neither_nats_nor_outbox_they_succeed_and_the_events_wait_in_memory(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    await pool.execute(REFUSE)
    async with open_operations(pool, bus) as operations:
        nats.stop()
        shows = await many(operations.media)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: has_all(bus), within=30)
    async with library(settings, (persister_part,)) as user:
        await each_is_told_in_order(user, shows)


async def has_all(bus: Bus) -> bool:
    return bus.is_connected and len(await messages(bus)) == SHOWS * len(LIFE)


async def test_a_download_is_listed_without_nats(nats: NatsServer, bus: Bus, pool: Pool) -> None:
    """Only the live status is missing, and nobody waits for it."""
    await pool.execute(
        "INSERT INTO downloads (id, title, state, client, client_item, protocol) "
        "VALUES (gen_random_uuid(), 'Dune', 'active', 'transmission', 'abc', 'torrent')"
    )
    nats.stop()
    await eventually(lambda: not bus.is_connected)
    async with open_operations(pool, bus) as operations:
        page = await operations.downloads.list(ListDownloads())
    assert [(item.title, item.status) for item in page.items] == [("Dune", None)]
