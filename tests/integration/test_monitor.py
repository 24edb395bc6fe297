"""The monitor on real servers, beside a client that shows what no real one can be brought to."""

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from schemas.commands import CancelDownload, DownloadById
from schemas.identity import Actor, uuid7
from schemas.subjects import DOWNLOAD_STATUS_STREAM
from service.clients.sessions import Sessions
from service.downloads.status import Statuses
from service.monitor.monitor import monitor
from service.operations.downloads import Downloads
from service.outbox.outbox import open_outbox
from service.runtime.bus import Bus
from service.runtime.database import Pool, migrate, open_pool
from service.runtime.settings import DatabaseSettings, MonitorSettings, Settings
from service.runtime.streams import download_status
from tests.support.eventually import eventually
from tests.support.scripted import ScriptedSettings, scripted
from tests.support.servers import postgres_server

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
async def monitored(pool: Pool, bus: Bus, settings: ScriptedSettings) -> AsyncIterator[None]:
    """A monitor of one scripted client that must not end by itself."""
    quick = MonitorSettings(unreachable_after=0.5, removed_after=0.5, discovered_after=0.3)
    async with open_outbox(pool, bus) as outbox:
        work = monitor(bus, pool, outbox, Settings(monitor=quick), [settings])
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


async def test_a_download_that_may_not_go_on_stops_no_other(pool: Pool, bus: Bus) -> None:
    """Its media item is being downloaded anew: only one may be active."""
    script, settings = scripted()
    media_item = uuid7()
    create = "INSERT INTO media_items (id, type, title) VALUES ($1, 'tv_show', 'It')"
    await pool.execute(create, media_item)
    await pool.execute(INSERT, uuid7(), "failed", "old", media_item, None)
    await pool.execute(INSERT, uuid7(), "active", "new", media_item, None)
    await pool.execute(INSERT, uuid7(), "active", "other", None, None)
    for item in ("old", "new"):
        script.show(item, "downloading")
    script.show("other", "completed")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "completed", "other"))
        assert await has(pool, "failed", "old")
    assert await said(pool) == [("download.completed", "download_monitor")]


async def test_whatever_a_client_calls_its_downloads_they_are_discovered(
    pool: Pool, bus: Bus
) -> None:
    script, settings = scripted()
    for item, title in (("nul", "a\0b"), ("blank", " "), ("empty", ""), ("fine", "fine")):
        script.show(item, "downloading", title=title)
    async with monitored(pool, bus, settings):
        for item in script.items:
            await eventually(functools.partial(has, pool, "active", item))
    titles = await pool.fetch("SELECT client_item, title FROM downloads")
    assert {row["client_item"]: row["title"] for row in titles} == {
        "nul": "a\N{REPLACEMENT CHARACTER}b",
        "blank": "blank",
        "empty": "empty",
        "fine": "fine",
    }


async def test_garbage_in_the_bucket_stops_no_monitor_and_is_swept_away(
    pool: Pool, bus: Bus
) -> None:
    """Before it starts, and while it watches."""
    script, settings = scripted()
    script.show("mine", "downloading")
    garbage = (b"", b"{", b"\xff", b"[]", b'{"client": 1}', b"[" * 100_000, b'{"size": 1e999}')
    bucket = await download_status(bus)
    keys = ["script", "script.mine", *(f"script.{number}" for number in range(len(garbage)))]

    async def litter() -> None:
        for key, value in zip(keys, (b"null", b"5", *garbage), strict=True):
            await bus.js.publish(f"$KV.download_status.{key}", value)
        await bus.js.publish("$KV.download_status.script.=FF==", b"what")

    await litter()
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "active", "mine"))
        await eventually(lambda: is_gone(bucket, "script.0"))
        await litter()
        script.show("mine", "completed")
        await eventually(lambda: has(pool, "completed", "mine"))
        await eventually(lambda: all_is_settled(bus), within=20)
    assert [kind for kind, _ in await said(pool)] == ["download.discovered", "download.completed"]


async def all_is_settled(bus: Bus) -> bool:
    consumers = await bus.js.consumers_info(DOWNLOAD_STATUS_STREAM)
    return not any(one.num_ack_pending for one in consumers if one.config.durable_name)


async def is_gone(bucket: KeyValue, key: str) -> bool:
    try:
        await bucket.get(key)
    except KeyNotFoundError:
        return True
    return False


async def test_an_answer_that_fails_half_way_removes_nothing(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    script.version_fails = 2
    for item in ("a", "b"):
        await pool.execute(INSERT, uuid7(), "active", item, None, None)
        script.show(item, "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: pool.fetchval("SELECT 1 FROM download_clients WHERE reachable"))
        script.show("a", "completed")
        await eventually(lambda: has(pool, "completed", "a"))
        assert await has(pool, "active", "b")
    assert ("download.removed", "download_monitor") not in await said(pool)


async def test_what_was_cut_off_before_its_client_named_it_fails_after_a_while(
    pool: Pool, bus: Bus
) -> None:
    _, settings = scripted()
    await pool.execute(INSERT, uuid7(), "initiating", None, None, "initiate")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "failed"))
    assert await said(pool) == [("download.failed", "42")]


async def test_a_cancel_that_meets_another_change_is_still_told_in_its_asker_s_name(
    pool: Pool, bus: Bus
) -> None:
    script, settings = scripted()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "it", None, None)
    script.show("it", "downloading")
    removing, may_remove = asyncio.Event(), asyncio.Event()
    remove = script.remove

    async def slowly(item: Any, *, delete_files: bool) -> None:
        removing.set()
        await may_remove.wait()
        await remove(item, delete_files=delete_files)

    script.remove = slowly  # type: ignore[method-assign]
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, Sessions([(settings, script)]), Statuses(bus))
        canceller = asyncio.create_task(
            downloads.cancel(CancelDownload(id=download), Actor("user", "canceller"))
        )
        await removing.wait()
        await downloads.pause(DownloadById(id=download), Actor("user", "pauser"))
        may_remove.set()
        ended = await canceller
    assert ended.state == "cancelled"
    assert await said(pool) == [("download.paused", "pauser"), ("download.cancelled", "canceller")]


async def test_postgresql_may_go_away_under_the_monitor(bus: Bus) -> None:
    script, settings = scripted()
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-postgres-") as folder,
        postgres_server(Path(folder)) as server,
    ):
        async with open_pool(DatabaseSettings(url=server.url)) as pool:
            await migrate(pool)
            await pool.execute(INSERT, uuid7(), "active", "it", None, None)
            script.show("it", "downloading")
            async with monitored(pool, bus, settings):
                await eventually(lambda: pool.fetchval("SELECT 1 FROM download_clients"))
                await asyncio.to_thread(server.stop)
                script.show("it", "completed")
                await asyncio.sleep(5)  # longer than a lease lasts
                await asyncio.to_thread(server.start)
                await eventually(lambda: completed(pool), within=20)


async def completed(pool: Pool) -> object:
    try:
        return await has(pool, "completed", "it")
    except Exception:  # noqa: BLE001 - not back yet
        return None
