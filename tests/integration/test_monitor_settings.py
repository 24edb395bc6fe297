"""Clients that are renamed, disabled, removed from the settings or wiped."""

import datetime
import functools

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import uuid7
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.downloads.bucket import read
from mediabus.service.monitor.follow.discovery import Discovery
from mediabus.service.outbox.outbox import open_outbox
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, is_shown, monitored, said
from tests.support.scripted import AlwaysListed, scripted

RENAME = "UPDATE downloads SET client = $2 WHERE client_item = $1"
MEET = "INSERT INTO download_clients (name, kind, reachable, since) VALUES ($1, 'x', true, now())"


async def test_downloads_of_a_renamed_client_move_to_its_new_name(pool: Pool, bus: Bus) -> None:
    """Those of a client that is in the settings, though it is disabled, stay where they are."""
    script, settings = scripted()
    _, disabled = scripted("disabled")
    disabled = msgspec.structs.replace(disabled, enabled=False)
    for item, state in (("runs", "active"), ("gone", "active"), ("shared", "active")):
        await pool.execute(INSERT, uuid7(), state, item, None, None)
        await pool.execute(RENAME, item, "old_name" if item != "shared" else "disabled")
    for name in ("old_name", "disabled"):
        await pool.execute(MEET, name)
    script.show("runs", "paused")
    script.show("shared", "downloading")
    async with monitored(pool, bus, settings, disabled):
        await eventually(lambda: has(pool, "paused", "runs"))
        await eventually(lambda: pool.fetchval("SELECT count(*) = 4 FROM downloads"))
    rows = await pool.fetch("SELECT client, client_item, state FROM downloads ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        ("disabled", "shared", "active"),
        ("old_name", "gone", "active"),
        ("script", "runs", "paused"),
        ("script", "shared", "active"),
    ]
    types = sorted(kind for kind, _ in await said(pool))
    assert types == ["download.discovered", "download.paused"]


async def test_same_id_in_another_usenet_client_is_another_download(pool: Pool, bus: Bus) -> None:
    await pool.execute(INSERT, uuid7(), "active", "5", None, None)
    await pool.execute("UPDATE downloads SET client = 'old_name', protocol = 'usenet', size = 7")
    await pool.execute(MEET, "old_name")
    other = DownloadStatus(
        client=ClientName("new"), item=ItemId("5"), title="It", phase=Phase.QUEUED, size=8
    )
    same = msgspec.structs.replace(other, size=7)
    async with open_outbox(pool, bus) as outbox:
        for seen, client in ((other, "old_name"), (same, "new")):
            discovery = Discovery(
                pool, outbox, AlwaysListed(), protocol="usenet", after=60, names=["new"]
            )
            await discovery.consider(seen, datetime.datetime.now(datetime.UTC))
            assert await pool.fetchval("SELECT client FROM downloads") == client


async def test_unwatched_client_is_purged_and_reports_later_changes(pool: Pool, bus: Bus) -> None:
    """Disabled, or taken out of the settings for a while."""
    script, settings = scripted()
    for item in ("a", "b"):
        await pool.execute(INSERT, uuid7(), "active", item, None, None)
        script.show(item, "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "b", Phase.DOWNLOADING))
    _, other = scripted("other")
    async with monitored(pool, bus, msgspec.structs.replace(settings, enabled=False), other):
        await eventually(functools.partial(shows_only, bus, "other"))
    assert await said(pool) == []
    script.show("a", "completed")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "completed", "a"))
        await eventually(lambda: is_shown(bus, "b", Phase.DOWNLOADING))
        assert await has(pool, "active", "b")
    assert await said(pool) == [("download.completed", "download_monitor")]


async def shows_only(bus: Bus, client: str) -> bool:
    shown = await read(bus)
    return list(shown.clients) == [client] and not shown.downloads


async def test_wiped_client_removes_only_its_own_downloads(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    for item in ("a", "b"):
        await pool.execute(INSERT, uuid7(), "active", item, None, None)
        script.show(item, "downloading")
    await pool.execute(INSERT, uuid7(), "failed", "c", None, None)
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "b", Phase.DOWNLOADING))
        script.items.clear()
        script.restart()
        await eventually(lambda: has(pool, "removed", "a"))
        await eventually(lambda: has(pool, "removed", "b"))
    assert await said(pool) == [("download.removed", "download_monitor")] * 2
