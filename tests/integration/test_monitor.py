"""The monitor on real servers, with a client that shows what no real one can be brought to."""

import asyncio
import datetime
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.api import ConsumerInfo
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.streams import download_status
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings
from mediabus.runtime.url_policy import allowed_hosts
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import CancelDownload, DownloadById, InitiateDownload
from mediabus.schemas.status import ClientName, ItemId, Phase
from mediabus.schemas.subjects import DOWNLOAD_STATUS_STREAM
from mediabus.service.clients.port import Magnet, Source
from mediabus.service.clients.sessions import Sessions
from mediabus.service.downloads import table
from mediabus.service.downloads.bucket import Statuses, read
from mediabus.service.downloads.row import Transition
from mediabus.service.monitor.follow import discovery
from mediabus.service.monitor.follow.lifecycle import SETTLES_WITHIN, next_step
from mediabus.service.monitor.watch import watcher
from mediabus.service.operations.downloads import Downloads
from mediabus.service.operations.fetching import Fetches
from mediabus.service.operations.initiate import Initiate, Urls
from mediabus.service.outbox.outbox import open_outbox
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, is_shown, monitored, said
from tests.support.scripted import scripted
from tests.support.servers import postgres_server


async def test_download_that_cannot_resume_does_not_block_others(pool: Pool, bus: Bus) -> None:
    """Another download of its media item is active, and only one may be."""
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


async def test_downloads_with_any_title_are_discovered(pool: Pool, bus: Bus) -> None:
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


async def test_invalid_values_in_the_bucket_are_replaced(pool: Pool, bus: Bus) -> None:
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
    """The one monitor that NATS knows of has taken in what the bucket shows of its one client."""
    following = await followers(bus)
    left = [one.num_pending or one.num_ack_pending for one in following]
    return len(left) == 2 and not any(left)


async def followers(bus: Bus) -> list[ConsumerInfo]:
    consumers = await bus.js.consumers_info(DOWNLOAD_STATUS_STREAM)
    return [one for one in consumers if one.config.durable_name]


async def forget_followers(bus: Bus) -> None:
    """What a minute without a monitor does."""
    for one in await followers(bus):
        await bus.js.delete_consumer(DOWNLOAD_STATUS_STREAM, one.name)


async def is_gone(bucket: KeyValue, key: str) -> bool:
    try:
        await bucket.get(key)
    except KeyNotFoundError:
        return True
    return False


async def test_incomplete_reply_removes_no_download(pool: Pool, bus: Bus) -> None:
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


async def test_interrupted_initiation_fails_after_timeout(pool: Pool, bus: Bus) -> None:
    _, settings = scripted()
    await pool.execute(INSERT, uuid7(), "initiating", None, None, "initiate")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "failed"))
    assert await said(pool) == [("download.failed", "42")]


async def test_concurrent_cancel_is_attributed_to_its_requester(pool: Pool, bus: Bus) -> None:
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


async def test_only_a_change_by_a_user_emits_an_event_not_by_a_restart(
    pool: Pool, bus: Bus
) -> None:
    script, settings = scripted()
    for item, state, phase in (("ran", "active", "downloading"), ("rested", "paused", "paused")):
        await pool.execute(INSERT, uuid7(), state, item, None, None)
        script.show(item, phase)
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "ran", Phase.DOWNLOADING))
        await eventually(lambda: is_shown(bus, "rested", Phase.PAUSED))
        script.show("ran", "paused")
        script.show("rested", "downloading")
        script.restart()
        await eventually(lambda: has(pool, "paused", "ran"))
        await eventually(lambda: has(pool, "active", "rested"))
    # Another monitor takes over, and does not tell it either: what it tells is a person's doing.
    async with monitored(pool, bus, settings):
        await eventually(lambda: pool.fetchval("SELECT 1 FROM download_clients WHERE reachable"))
        await pool.execute("UPDATE downloads SET updated_at = now() - interval '1 minute'")
        script.show("ran", "downloading")
        await eventually(lambda: has(pool, "active", "ran"))
        assert await said(pool) == [("download.resumed", "download_monitor")]
    # Changes while no monitor ran are reported, because the client was not restarted.
    await pool.execute("UPDATE downloads SET updated_at = now() - interval '1 minute'")
    script.show("rested", "paused")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "paused", "rested"))
    assert [kind for kind, _ in await said(pool)] == ["download.resumed", "download.paused"]


async def test_completed_download_stays_completed(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    await pool.execute(INSERT, uuid7(), "completed", "it", None, None)
    await pool.execute("UPDATE downloads SET completed_at = '2026-01-01Z'")
    trouble = "SELECT reason, error_message, state, completed_at::date::text FROM downloads"
    script.show("it", "failed", reason="missing_files", message="No data found")
    async with monitored(pool, bus, settings):
        await eventually(lambda: pool.fetchval("SELECT reason FROM downloads"))
        found = tuple(await pool.fetchrow(trouble) or ())
        assert found == ("missing_files", "No data found", "completed", "2026-01-01")
        script.show("it", "downloading", progress=0.5)
        await eventually(lambda: is_shown(bus, "it", Phase.DOWNLOADING))
        script.show("it", "completed")
        await eventually(lambda: pool.fetchval("SELECT reason IS NULL FROM downloads"))
        found = tuple(await pool.fetchrow(trouble) or ())
        assert found == (None, None, "completed", "2026-01-01")
    assert await said(pool) == []


async def test_stale_step_is_refused_although_the_state_is_the_same(pool: Pool, bus: Bus) -> None:
    """The monitor is about to report a requested pause.

    In the meantime, it was reported and the download was resumed.
    """
    script, settings = scripted()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "it", None, None)
    script.show("it", "downloading")
    user = Actor("user", "42")
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, Sessions([(settings, script)]), Statuses(bus))
        row = await table.by_id(pool, download)
        assert row
        stale = await table.ask(pool, row, "pause", user, None)
        shown = msgspec.structs.replace(script.items[ItemId("it")], phase=Phase.PAUSED)
        paused = next_step(msgspec.structs.replace(stale, asked_for=0.1), shown, 60)
        assert isinstance(paused, Transition)
        await downloads.pause(DownloadById(id=download), user)
        await downloads.resume(DownloadById(id=download), user)
        assert not await table.step(outbox, stale, paused)
    assert await said(pool) == [("download.paused", "42"), ("download.resumed", "42")]


async def test_monitor_survives_postgresql_restart(bus: Bus) -> None:
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


async def test_operations_without_monitor_emit_no_further_event(pool: Pool, bus: Bus) -> None:
    """The bucket has older statuses, and the client is slow to reply."""
    script, settings = scripted()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "it", None, None)
    script.show("it", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "it", Phase.DOWNLOADING))
    await forget_followers(bus)
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, Sessions([(settings, script)]), Statuses(bus))
        await downloads.pause(DownloadById(id=download), Actor("user", "42"))
    await pool.execute("UPDATE downloads SET updated_at = now() - interval '1 minute'")
    script.answers_after = 1.0
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "it", Phase.PAUSED))
        await eventually(lambda: all_is_settled(bus))
    assert await said(pool) == [("download.paused", "42")]


async def test_cancelled_download_still_in_bucket_is_not_discovered(pool: Pool, bus: Bus) -> None:
    """A monitor that starts sees it there until the client has been missing it for long enough."""
    script, settings = scripted()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "it", None, None)
    script.show("it", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: is_shown(bus, "it", Phase.DOWNLOADING))
    await forget_followers(bus)
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, Sessions([(settings, script)]), Statuses(bus))
        await downloads.cancel(CancelDownload(id=download), Actor("user", "42"))
    await asyncio.sleep(SETTLES_WITHIN)
    async with monitored(pool, bus, settings):
        await eventually(functools.partial(is_gone, await download_status(bus), "script.it"))
        await eventually(lambda: all_is_settled(bus))
    assert await said(pool) == [("download.cancelled", "42")]


async def test_download_cancelled_while_added_is_removed_from_client(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, settings = scripted()
    item, user = ItemId("0" * 40), Actor("user", "42")

    async def add(source: Source, *, title: str, category: str | None) -> ItemId:
        download = await pool.fetchval("SELECT id FROM downloads")
        ended = await downloads.cancel(CancelDownload(id=download), user)
        assert (ended.state, isinstance(source, Magnet), category) == ("cancelled", True, None)
        script.show(item, "downloading", title=title)
        return item

    monkeypatch.setattr(script, "add", add)
    magnet, nowhere = (
        f"magnet:?xt=urn:btih:{item}",
        Urls(Fetches(asyncio.get_running_loop()), allowed_hosts([])),
    )
    sessions = Sessions([(settings, script)])
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, sessions, Statuses(bus))
        initiate = Initiate(pool, outbox, sessions, Statuses(bus), nowhere)
        download = await initiate.initiate(InitiateDownload(title="It", magnet=magnet), user)
    assert download.state == "cancelled"
    assert not script.items
    assert await said(pool) == [("download.cancelled", "42")]


async def test_client_version_is_updated_after_a_short_outage(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short outage emits no event, even if the clock is set by a day during it."""
    script, settings = scripted()

    async def tells(version: str) -> bool:
        client = (await read(bus)).clients.get(ClientName("script"))
        return client is not None and client.version == version

    async with monitored(pool, bus, settings):
        await eventually(lambda: tells("1.0"))
        script.away_for = 2
        script.running = "2.0"
        await eventually(lambda: script.away_for == 1)
        tomorrow = watcher._now() + datetime.timedelta(days=1)
        monkeypatch.setattr(watcher, "_now", lambda: tomorrow)
        await eventually(lambda: tells("2.0"))
        assert metrics.CLIENT_REACHABLE.get("script") == 1
    assert await said(pool) == []


async def test_download_completed_before_first_poll_is_only_discovered(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of names take minutes to be read."""
    script, settings = scripted()
    monkeypatch.setattr(discovery, "FIRST_CONTACT_LASTS", 2.0)
    monkeypatch.setattr(discovery, "release_of", lambda _: time.sleep(0.1))
    for number in range(50):
        script.show(f"old{number}", "completed")
    async with monitored(pool, bus, settings):
        await eventually(
            lambda: pool.fetchval("SELECT count(*) = 50 FROM downloads WHERE state = 'completed'"),
            within=30,
        )
        script.show("new", "completed")
        await eventually(lambda: has(pool, "completed", "new"))
    kinds = [kind for kind, _ in await said(pool)]
    assert kinds == ["download.discovered"] * 51 + ["download.completed"]


async def completed(pool: Pool) -> object:
    try:
        return await has(pool, "completed", "it")
    except Exception:  # noqa: BLE001 - not back yet
        return None


async def test_initiation_succeeds_after_it_was_given_up_too_early(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's clock jumps by an hour while the client is being asked."""
    script, settings = scripted()

    async def add(source: Source, *, title: str, category: str | None) -> ItemId:
        await pool.execute("UPDATE downloads SET asked_at = asked_at - interval '1 hour'")
        await eventually(lambda: has(pool, "failed"))
        assert (isinstance(source, Magnet), title, category) == (True, "It", None)
        return ItemId("0" * 40)

    monkeypatch.setattr(script, "add", add)
    magnet, nowhere = (
        f"magnet:?xt=urn:btih:{'0' * 40}",
        Urls(Fetches(asyncio.get_running_loop()), allowed_hosts([])),
    )
    async with monitored(pool, bus, settings), open_outbox(pool, bus) as outbox:
        initiate = Initiate(pool, outbox, Sessions([(settings, script)]), Statuses(bus), nowhere)
        request = InitiateDownload(title="It", magnet=magnet)
        download = await initiate.initiate(request, Actor("user", "42"), "request 7")
    assert download.state == "active"
    assert await said(pool) == [("download.failed", "42"), ("download.initiated", "42")]
