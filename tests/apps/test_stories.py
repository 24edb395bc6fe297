"""The application, the download client and mediabus tell one story of a download."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import Settings
from mediabus.service.apps.run import read_apps
from mediabus.service.apps.sonarr import SonarrSettings
from mediabus.service.clients.port import TorrentFile
from mediabus.service.outbox.outbox import open_outbox
from mediabus.wiring.registry import MONITOR, PERSIST, SERVICE
from tests.support import torrents
from tests.support.apps import Sonarr
from tests.support.apps.reading import reading, so_many, stored
from tests.support.daemons import QBittorrent
from tests.support.eventually import eventually
from tests.support.library import with_clients
from tests.support.monitored import has, monitored
from tests.support.scripted import scripted

HASH = "A" * 40
OTHER = "B" * 40


async def test_story_of_an_episode_has_one_correlation(settings: Settings, tmp_path: Path) -> None:
    with QBittorrent.started() as daemon:
        async with torrents.swarm(tmp_path) as swarm, Sonarr.running() as sonarr:
            shared = swarm.share(size=4_000_000, rate=150_000)
            configured = with_clients(settings, daemon.settings(), discovered_after=3.0)
            series = sonarr.put_series("Severance", tvdbId=371980)
            everything = (SERVICE, MONITOR, PERSIST)
            async with reading(configured, sonarr, processes=everything) as user:
                item = shared.infohash.upper()
                await sonarr.grab(series, [1], item, trigger="InteractiveSearch")
                await so_many(user, 1, "release.grabbed")
                async with daemon.settings().connect() as client:
                    await client.add(TorrentFile(shared.content), title="It", category=None)
                await so_many(user, 1, "download.discovered")
                swarm.limit(shared, 0)
                await so_many(user, 1, "download.completed")
                await sonarr.import_files(series, [1], item)
                await so_many(user, 1, "download.imported")
                sonarr.clock.advance(seconds=2)
                await sonarr.grab(series, [1], OTHER)
                await sonarr.delete_file(series, 1, "upgrade")
                await sonarr.import_files(series, [1], OTHER, upgrade=True)
                await so_many(user, 2, "download.imported")
                events = await stored(user)
                story = await user.ask(
                    "history.list", {"resource_id": events[1]["resource_id"], "limit": 50}
                )
    assert [event["type"] for event in events] == [
        "media_item.added",
        "release.grabbed",
        "download.discovered",
        "download.completed",
        "media_file.imported",
        "download.imported",
        "release.grabbed",
        "media_file.deleted",
        "media_file.imported",
        "download.imported",
    ]
    assert len({event["correlation_id"] for event in events[1:]}) == 1
    assert {event["resource_id"] for event in events} == {events[0]["resource_id"]}
    assert events[2]["data"]["app"] == "sonarr"
    assert events[5]["data"]["download_id"] == events[2]["data"]["download_id"]
    told = [item["type"] for item in reversed(story["items"])]
    assert sorted(told) == sorted(event["type"] for event in events)


@contextlib.asynccontextmanager
async def watched(pool: Pool, bus: Bus, sonarr: Sonarr, *clients: Any) -> AsyncIterator[None]:
    """Run a monitor, and a reader that polls only when it is asked to."""
    app = SonarrSettings(name="sonarr", url=sonarr.url, api_key=sonarr.api_key, poll=0.3)
    async with open_outbox(pool, bus) as outbox, monitored(pool, bus, *clients):
        reader = asyncio.create_task(read_apps(bus, pool, outbox, Live((app,)).values(), 30.0))
        try:
            await eventually(lambda: pool.fetchval("SELECT max(read_at) FROM apps"), within=30)
            yield
            assert not reader.done()
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def has_grab(pool: Pool) -> bool:
    return bool(await recorded(pool, "release.grabbed"))


async def recorded(pool: Pool, event_type: str) -> list[Any]:
    rows = await pool.fetch("SELECT payload FROM outbox ORDER BY position")
    events = [msgspec.json.decode(row["payload"]) for row in rows]
    return [event for event in events if event["type"] == event_type]


async def test_failure_that_the_monitor_saw_first_is_reported_once(pool: Pool, bus: Bus) -> None:
    script, client = scripted()
    async with Sonarr.running() as sonarr, watched(pool, bus, sonarr, client):
        series = sonarr.put_series("Severance")
        await sonarr.grab(series, [1, 2], HASH)
        await eventually(lambda: has_grab(pool), within=30)
        script.show(HASH.lower(), "downloading")
        await eventually(lambda: has(pool, "active"), within=30)
        script.show(HASH.lower(), "failed", message="no space left on device")
        await eventually(lambda: has(pool, "failed"), within=30)
        await script.remove(HASH.lower(), delete_files=True)  # type: ignore[arg-type] # an id
        await eventually(lambda: has(pool, "removed"), within=30)
        sonarr.fail(series, [1, 2], HASH, "no space left on device")
        await eventually(lambda: pool.fetchval("SELECT failed_at FROM releases"), within=30)
        (failed,) = await recorded(pool, "download.failed")
        (grabbed,) = await recorded(pool, "release.grabbed")
        assert "app" not in failed["data"]
        assert failed["correlationid"] == grabbed["correlationid"]


async def test_failure_that_the_application_saw_first_is_reported_once(
    pool: Pool, bus: Bus
) -> None:
    script, client = scripted()
    async with Sonarr.running() as sonarr, watched(pool, bus, sonarr, client):
        series = sonarr.put_series("Severance")
        script.show(HASH.lower(), "downloading")
        await eventually(lambda: has(pool, "active"), within=30)
        await sonarr.grab(series, [1, 2], HASH)
        sonarr.fail(series, [1, 2], HASH, "stalled for too long")
        await eventually(lambda: pool.fetchval("SELECT failed_at FROM downloads"), within=30)
        script.show(HASH.lower(), "failed", message="missing files")
        await eventually(lambda: has(pool, "failed"), within=30)
        (failed,) = await recorded(pool, "download.failed")
        download = await pool.fetchval("SELECT id FROM downloads")
        assert failed["data"]["app"] == "sonarr"
        assert UUID(failed["data"]["download_id"]) == download
        script.show(HASH.lower(), "downloading")
        await eventually(lambda: has(pool, "active"), within=30)
        script.show(HASH.lower(), "failed", message="missing files")

        async def twice() -> bool:
            return len(await recorded(pool, "download.failed")) == 2

        await eventually(twice, within=40)
