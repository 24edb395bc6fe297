"""What can be handed over for download, and what is refused before any client is asked."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from mediabus.runtime.settings import DownloadsSettings, Settings
from tests.support import daemons, torrents
from tests.support.library import Refused, library, with_clients

UNKNOWN = "01a20362-8ad5-7edb-ab30-b204b10c0f03"


@pytest.fixture
def daemon() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


@pytest.fixture
async def indexer() -> AsyncIterator[tuple[dict[str, bytes], str]]:
    """An indexer's web server: what its pages hold is the test's to say."""
    pages: dict[str, bytes] = {}

    async def page(request: web.Request) -> web.Response:
        content = pages.get(request.match_info["name"])
        return web.Response(body=content) if content else web.Response(status=404)

    application = web.Application()
    application.router.add_get("/{name}", page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield pages, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def at_home(settings: Settings) -> Settings:
    """Settings that allow an indexer on this machine."""
    return msgspec.structs.replace(
        settings, downloads=DownloadsSettings(allowed_hosts=["127.0.0.1"])
    )


async def test_a_url_a_torrent_and_a_magnet_lead_to_downloads(
    settings: Settings,
    daemon: daemons.Daemon,
    swarm: torrents.Swarm,
    indexer: tuple[dict[str, bytes], str],
) -> None:
    pages, url = indexer
    by_url, by_file = swarm.share("by url", size=1000), swarm.share("by file", size=1000)
    by_magnet = swarm.share("by magnet", size=1000, private=False)
    pages["it.torrent"] = by_url.content
    asked: dict[str, dict[str, Any]] = {
        by_url.infohash: {"url": f"{url}/it.torrent"},
        by_file.infohash: {"torrent": base64.b64encode(by_file.content).decode()},
        by_magnet.infohash: {"magnet": by_magnet.magnet},
    }
    async with library(with_clients(at_home(settings), daemon.settings())) as user:
        replies = []
        for infohash, source in asked.items():
            reply = await user.ask("downloads.initiate", {"title": "It", **source})
            assert (reply["client_item"], reply["state"]) == (infohash, "active")
            replies.append(reply)
        for reply in replies:
            await user.event("download.completed", reply["id"], within=90)


async def test_an_invalid_source_is_refused_without_traces(
    settings: Settings,
    daemon: daemons.Daemon,
    swarm: torrents.Swarm,
    indexer: tuple[dict[str, bytes], str],
) -> None:
    pages, url = indexer
    shared = swarm.share(size=1000)
    good = base64.b64encode(shared.content).decode()
    pages["page.html"] = b"<html>log in first</html>"
    cases: list[tuple[dict[str, Any], int, str | None]] = [
        ({}, 400, "magnet"),
        ({"torrent": good, "magnet": shared.magnet}, 400, "magnet"),
        ({"torrent": "not base64!"}, 400, "torrent"),
        ({"torrent": base64.b64encode(b"garbage").decode()}, 400, "torrent"),
        ({"torrent": base64.b64encode(b"x" * 5_000_001).decode()}, 400, "torrent"),
        ({"magnet": "magnet:?dn=no+infohash"}, 400, "magnet"),
        ({"magnet": "http://not.a.magnet"}, 400, "magnet"),
        ({"url": "file:///etc/passwd"}, 400, "url"),
        ({"url": f"{url.replace('127.0.0.1', '127.0.0.2')}/it.torrent"}, 400, "url"),
        ({"url": f"{url}/missing.torrent"}, 502, "url"),
        ({"url": f"{url}/page.html"}, 502, "url"),
        ({"torrent": good, "client": "nobody"}, 400, "client"),
        ({"torrent": good, "protocol": "usenet"}, 400, "protocol"),
        ({"nzb": good}, 400, "client"),
        ({"torrent": good, "media_item_id": UNKNOWN}, 404, "media_item_id"),
    ]
    async with library(with_clients(at_home(settings), daemon.settings())) as user:
        for request, code, field in cases:
            with pytest.raises(Refused) as refused:
                await user.ask("downloads.initiate", {"title": "It", **request})
            assert (refused.value.code, refused.value.field) == (code, field), request
        for operation in ("pause", "resume", "cancel", "get"):
            with pytest.raises(Refused) as refused:
                await user.ask(f"downloads.{operation}", {"id": UNKNOWN})
            assert (refused.value.code, refused.value.field) == (404, "id")
        assert (await user.ask("downloads.list"))["items"] == []
        assert await user.events() == []


async def test_a_download_that_is_there_already_is_a_duplicate(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=1000)
    request = {"title": "It", "torrent": base64.b64encode(shared.content).decode()}
    async with library(with_clients(settings, daemon.settings())) as user:
        await user.ask("downloads.initiate", request)
        with pytest.raises(Refused) as refused:
            await user.ask("downloads.initiate", request)
    assert (refused.value.code, refused.value.reason) == (409, "duplicate_download")


async def test_a_download_of_a_removed_client_can_only_be_cancelled(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    """Or its media item could never be downloaded again."""
    shared = swarm.share(size=1000)
    content = base64.b64encode(shared.content).decode()
    async with library(with_clients(settings, daemon.settings())) as user:
        item = (await user.ask("media.create", {"type": "tv_show", "title": "It"}))["id"]
        request = {"title": "It", "torrent": content, "media_item_id": item}
        download = (await user.ask("downloads.initiate", request))["id"]
    async with library(settings) as user:
        for operation, more in (("pause", {}), ("cancel", {"delete_files": True})):
            with pytest.raises(Refused) as refused:
                await user.ask(f"downloads.{operation}", {"id": download, **more})
            assert refused.value.code == 502
        given_up = await user.ask("downloads.cancel", {"id": download})
        assert given_up["state"] == "cancelled"
        assert (await user.event("download.cancelled", item))["data"]["files_deleted"] is False
