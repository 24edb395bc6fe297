"""What becomes of real downloads in real clients becomes events in PostgreSQL, once each."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import Actor
from mediabus.service.clients.port import Delta, TorrentFile
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.clients.conftest import KINDS
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import Library, Refused, library, with_clients

SLOW = 150_000
MONITOR = ("system", "download_monitor")


@pytest.fixture(params=sorted(KINDS))
def daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with KINDS[request.param].started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


def request_for(shared: torrents.Shared, **more: Any) -> dict[str, Any]:
    return {"title": "Dune", "torrent": base64.b64encode(shared.content).decode(), **more}


async def arriving(user: Library, download_id: str) -> None:
    """Waits until the first bytes are there."""

    async def has_some() -> bool:
        status = (await user.ask("downloads.get", {"id": download_id}))["status"]
        return bool(status) and status.get("progress", 0) > 0

    await eventually(has_some, within=40)


async def test_a_download_is_initiated_and_completes(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=600_000)
    async with library(with_clients(settings, daemon.settings())) as user:
        dune = await user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})
        asked = request_for(shared, media_item_id=dune["id"], indexer="An Indexer")
        download = await user.ask("downloads.initiate", asked)
        initiated = await user.event("download.initiated", dune["id"])
        completed = await user.event("download.completed", dune["id"], within=60)
        ended = await user.ask("downloads.get", {"id": download["id"]})
    assert (initiated["actor_type"], initiated["actor_id"]) == ("user", "42")
    assert (initiated["resource_type"], initiated["resource_id"]) == ("media_item", dune["id"])
    facts = {
        "download_id": download["id"],
        "title": "Dune",
        "client": daemon.settings().name,
        "client_item": shared.infohash,
        "indexer": "An Indexer",
        "protocol": "torrent",
        "media_item_id": dune["id"],
        "media_title": "Dune",
    }
    # Only known if the monitor was quicker than the reply of the client.
    assert initiated["data"].pop("size", 600_000) == 600_000
    assert initiated["data"] == facts
    assert (completed["actor_type"], completed["actor_id"]) == MONITOR
    duration = completed["data"].pop("duration")
    assert 0 < duration < 60
    assert completed["data"] == {
        **facts,
        "size": 600_000,
        "save_path": str(daemon.downloads),
    }
    assert ended["state"] == "completed"
    assert (daemon.downloads / shared.name).read_bytes() == shared.payload


async def test_pause_and_resume_emit_one_event_each_with_their_actor(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=4_000_000, rate=SLOW)
    async with library(with_clients(settings, daemon.settings())) as user:
        download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
        await arriving(user, download)
        await user.ask("downloads.pause", {"id": download}, actor=Actor("user", "7"))
        paused = await user.event("download.paused", download)
        await user.ask("downloads.pause", {"id": download})  # paused already: nothing to tell
        await user.ask("downloads.resume", {"id": download}, actor=Actor("job", "night"))
        resumed = await user.event("download.resumed", download)
        swarm.limit(shared, 0)
        await user.event("download.completed", download, within=60)
        types = await user.types(download)
    assert (paused["actor_type"], paused["actor_id"]) == ("user", "7")
    assert 0 < paused["data"]["progress"] < 1
    assert (resumed["actor_type"], resumed["actor_id"]) == ("job", "night")
    assert types == [
        "download.initiated",
        "download.paused",
        "download.resumed",
        "download.completed",
    ]


async def test_changes_in_the_client_are_reported_by_the_monitor(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=4_000_000, rate=SLOW)
    async with (
        library(with_clients(settings, daemon.settings())) as user,
        daemon.settings().connect() as client,
    ):
        initiated = await user.ask("downloads.initiate", request_for(shared))
        download, item = initiated["id"], initiated["client_item"]
        await arriving(user, download)
        await client.pause(item)
        paused = await user.event("download.paused", download)
        await client.resume(item)
        resumed = await user.event("download.resumed", download)
        await client.remove(item, delete_files=True)
        removed = await user.event("download.removed", download)
        state = (await user.ask("downloads.get", {"id": download}))["state"]
    for event in (paused, resumed, removed):
        assert (event["actor_type"], event["actor_id"]) == MONITOR
    assert removed["severity"] == "warning"
    assert 0 < removed["data"]["progress"] < 1
    assert state == "removed"


async def test_cancelling_removes_the_download_from_the_client(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=4_000_000, rate=SLOW)
    async with (
        library(with_clients(settings, daemon.settings())) as user,
        daemon.settings().connect() as client,
    ):
        download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
        await arriving(user, download)
        ended = await user.ask("downloads.cancel", {"id": download, "delete_files": True})
        cancelled = await user.event("download.cancelled", download)

        async def is_gone() -> bool:
            return (await user.ask("downloads.get", {"id": download}))["status"] is None

        await eventually(is_gone, within=20)
        seen = await client.observe()
        types = await user.types(download)
        with pytest.raises(Refused, match="cancelled"):
            await user.ask("downloads.resume", {"id": download})
    assert ended["state"] == "cancelled"
    assert (cancelled["actor_type"], cancelled["actor_id"]) == ("user", "42")
    assert cancelled["data"]["files_deleted"] is True
    assert list(seen.changed if isinstance(seen, Delta) else seen.items) == []
    assert types == ["download.initiated", "download.cancelled"]


async def test_a_client_that_cannot_write_fails_the_download(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    # A file where the payload's folder would be: no client, not even root's, can write below it.
    shared = swarm.share(size=600_000)
    daemon.downloads.rmdir()
    daemon.downloads.write_text("in the way")
    async with library(with_clients(settings, daemon.settings())) as user:
        download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
        failed = await user.event("download.failed", download, within=60)
        state = (await user.ask("downloads.get", {"id": download}))["state"]
    assert (failed["actor_type"], failed["actor_id"]) == MONITOR
    assert failed["severity"] == "error"
    assert failed["data"]["reason"] in {"not_writable", "client_error"}
    assert failed["data"]["error_message"]
    assert state == "failed"


async def test_a_client_that_refuses_leaves_a_failed_download(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=100_000)
    async with (
        library(with_clients(settings, daemon.settings())) as user,
        daemon.settings().connect() as client,
    ):
        await client.add(TorrentFile(shared.content), title="x", category=None)
        with pytest.raises(Refused) as refused:
            await user.ask("downloads.initiate", request_for(shared))
        listed = await user.ask("downloads.list", {})
        failed = await user.event("download.failed", listed["items"][0]["id"])
    assert (refused.value.code, refused.value.reason) == (502, "client_refused")
    assert (failed["actor_type"], failed["actor_id"]) == ("user", "42")
    assert failed["data"]["reason"] == "rejected"
    assert failed["data"]["error_message"] in refused.value.message


async def test_an_outage_emits_one_event_and_loses_no_download(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=300_000)
    name = daemon.settings().name
    async with library(with_clients(settings, daemon.settings())) as user:
        download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
        await user.event("download.completed", download, within=60)
        daemon.stop()
        other = swarm.share("other.bin", size=1000)
        with pytest.raises(Refused) as refused:
            await user.ask("downloads.initiate", request_for(other))
        away = await user.event("download_client.unreachable", name)
        daemon.start()
        back = await user.event("download_client.recovered", name)
        types = await user.types(download)
    assert (refused.value.code, refused.value.reason) == (502, "client_unavailable")
    assert away["data"]["reason"] == "connection"
    assert away["data"]["kind"] == name
    assert back["data"]["away_seconds"] >= 1
    assert types == ["download.initiated", "download.completed"]


async def test_changes_while_no_monitor_ran_are_reported(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    watched = with_clients(settings, daemon.settings())
    shared = swarm.share(size=300_000)
    gone = swarm.share("gone.bin", size=2_000_000, rate=SLOW)
    async with daemon.settings().connect() as client:
        async with library(watched, (SERVICE, PERSIST)) as user:
            download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
            lost = await user.ask("downloads.initiate", request_for(gone))
            await eventually((daemon.downloads / shared.name).exists, within=40)
            await client.remove(lost["client_item"], delete_files=True)
        async with library(watched) as user:
            # If the first persister was stopped before it stored this, JetStream waits for 10 s.
            await user.event("download.initiated", download, within=60)
            await user.event("download.completed", download, within=60)
            await user.event("download.removed", lost["id"], within=60)
            types = await user.types(download)
    assert types == ["download.initiated", "download.completed"]


async def test_the_same_media_item_is_downloaded_once_at_a_time(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    first = swarm.share("first.bin", size=4_000_000, rate=SLOW)
    second = swarm.share("second.bin", size=1000)
    async with library(with_clients(settings, daemon.settings())) as user:
        dune = await user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})
        download = await user.ask(
            "downloads.initiate", request_for(first, media_item_id=dune["id"])
        )
        with pytest.raises(Refused) as refused:
            await user.ask("downloads.initiate", request_for(second, media_item_id=dune["id"]))
        await user.ask("downloads.cancel", {"id": download["id"], "delete_files": True})
        await user.ask("downloads.initiate", request_for(second, media_item_id=dune["id"]))
    assert (refused.value.code, refused.value.reason) == (409, "duplicate_download")
    assert refused.value.field == "media_item_id"


async def test_a_download_added_in_the_client_is_discovered(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share("Arrival.2016.1080p.WEB-DL", size=2_000_000, rate=SLOW)
    plain = swarm.share("holiday.bin", size=1000, rate=SLOW)
    watched = with_clients(settings, daemon.settings(), discovered_after=1.0)
    async with library(watched) as user, daemon.settings().connect() as client:
        arrival = await user.ask(
            "media.create", {"type": "movie", "title": "Arrival", "year": 2016}
        )
        other = {"type": "tv_show", "title": "Arrival"}
        await user.ask("media.create", other)
        for each in (shared, plain):
            await client.add(TorrentFile(each.content), title="", category=None)
        discovered = await user.event("download.discovered", arrival["id"])
        swarm.limit(shared, 0)
        completed = await user.event("download.completed", arrival["id"], within=60)
        listed = (await user.ask("downloads.list", {}))["items"]
        stranger = next(item for item in listed if item["client_item"] == plain.infohash)
        unmatched = await user.event("download.discovered", stranger["id"])
    assert (discovered["actor_type"], discovered["actor_id"]) == MONITOR
    assert discovered["data"]["client_item"] == shared.infohash
    assert discovered["data"]["media_title"] == "Arrival"
    assert completed["data"]["download_id"] == discovered["data"]["download_id"]
    assert "media_item_id" not in unmatched["data"]


async def test_a_download_without_a_byte_has_stalled_until_one_comes(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=4_000_000, rate=SLOW)
    watched = with_clients(settings, daemon.settings(), stalled_after=4.0)
    async with library(watched) as user:
        download = (await user.ask("downloads.initiate", request_for(shared)))["id"]
        await arriving(user, download)
        swarm.limit(shared, 1)
        stalled = await user.event("download.stalled", download, within=60)
        swarm.limit(shared, 4 * SLOW)
        await user.event("download.completed", download, within=90)
        types = await user.types(download)
    assert stalled["severity"] == "warning"
    assert stalled["data"]["progress"] < 1
    assert types == [
        "download.initiated",
        *types[1:-1],
        "download.completed",
    ]
    assert set(types[1:-1]) == {"download.stalled", "download.recovered"}


async def test_changes_by_a_client_crash_emit_no_event(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    """As it was last saved: that may be before the resume."""
    shared = swarm.share(size=4_000_000, rate=SLOW)
    async with library(with_clients(settings, daemon.settings())) as user:
        initiated = await user.ask("downloads.initiate", request_for(shared))
        download = initiated["id"]
        await arriving(user, download)
        await user.ask("downloads.pause", {"id": download})
        await eventually(lambda: daemon.keeps(initiated["client_item"]))
        await user.ask("downloads.resume", {"id": download})
        await eventually(lambda: shown(user, download, "downloading"), within=20)
        daemon.kill()
        await user.event("download_client.unreachable", daemon.settings().name)
        daemon.start()
        await user.event("download_client.recovered", daemon.settings().name)
        back = await eventually(lambda: settled(user, download), within=40)
        if back == "paused":
            await user.ask("downloads.resume", {"id": download})
        swarm.limit(shared, 0)
        await user.event("download.completed", download, within=60)
        types = await user.types(download)
    resumed = ["download.resumed"] if back == "paused" else []
    assert types == [
        "download.initiated",
        "download.paused",
        "download.resumed",
        *resumed,
        "download.completed",
    ]


async def shown(user: Library, download: str, *phases: str) -> Any:
    """The download, if its client shows it in one of the phases."""
    now = await user.ask("downloads.get", {"id": download})
    return now if now["status"]["phase"] in phases else None


async def settled(user: Library, download: str) -> str | None:
    """The download's state, once its client shows the same."""
    now = await shown(user, download, "downloading", "paused")
    if now is None or (now["state"] == "paused") != (now["status"]["phase"] == "paused"):
        return None
    return str(now["state"])


async def test_a_completed_download_with_missing_files_stays_completed(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=300_000)
    async with library(with_clients(settings, daemon.settings())) as user:
        initiated = await user.ask("downloads.initiate", request_for(shared))
        download = initiated["id"]
        await user.event("download.completed", download, within=60)
        await eventually(lambda: daemon.keeps_completion(initiated["client_item"]))
        daemon.stop()
        (daemon.downloads / shared.name).unlink()
        swarm.limit(shared, 1)
        daemon.start()
        await eventually(lambda: shown(user, download, daemon.vanished), within=30)

        async def is_written_down() -> Any:
            return (await user.ask("downloads.get", {"id": download}))["reason"]

        if daemon.vanished == "failed":
            assert await eventually(is_written_down) == "missing_files"
        row = await user.ask("downloads.get", {"id": download})
        types = await user.types(download)
    assert row["state"] == "completed"
    assert bool(row["error_message"]) is (daemon.vanished == "failed")
    assert types == ["download.initiated", "download.completed"]
