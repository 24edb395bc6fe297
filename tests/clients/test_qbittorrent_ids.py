"""Hybrid torrents in qBittorrent, which calls them by another id once it has their metadata."""

from collections.abc import Iterator

import pytest
from aiohttp import web

from mediabus.schemas.status import Phase
from mediabus.service.clients.port import ClientRefused, Delta, DownloadClient, Magnet, TorrentFile
from mediabus.service.clients.qbittorrent import session as qbittorrent
from mediabus.service.clients.sources import infohashes
from tests.clients.conftest import View, everything
from tests.clients.test_dialects import qbittorrent as faked
from tests.clients.test_dialects import serving
from tests.support.daemons import QBittorrent
from tests.support.eventually import eventually
from tests.support.torrents import Swarm


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[QBittorrent]:
    with QBittorrent.started() as running:
        yield running


async def test_a_hybrid_added_by_v1_is_found_by_its_v2_id(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    shared = swarm.share_hybrid("both.bin", rate=1 << 14)
    version_1, version_2 = infohashes(TorrentFile(shared.content))
    item = await client.add(Magnet(shared.magnet), title="", category=None)
    assert item == version_1

    found = await view.until(version_2, lambda it: it.phase is Phase.DOWNLOADING, within=45)

    assert found.aliases == (version_1,)
    assert version_1 not in view.items
    await client.pause(version_1)  # by the id that it had before
    await view.until(version_2, lambda status: status.phase is Phase.PAUSED)
    with pytest.raises(ClientRefused, match=r"already has this download, as 'both\.bin'"):
        await client.add(Magnet(shared.magnet), title="", category=None)
    await client.remove(version_1, delete_files=True)
    await eventually(lambda: _has_nothing(view))


async def test_everything_is_asked_for_now_and_then(
    client: DownloadClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await everything(client)
    assert isinstance(await client.observe(), Delta)

    monkeypatch.setattr(qbittorrent, "FULL_POLL_EVERY", 0.0)

    assert await everything(client) == []


async def _has_nothing(view: View) -> bool:
    await view.refresh()
    return not view.items


OLD = {"name": "both", "state": "metaDL", "infohash_v1": "1" * 40, "infohash_v2": ""}
NEW = {"name": "both", "state": "downloading", "infohash_v1": "1" * 40, "infohash_v2": "2" * 64}


async def test_a_row_with_the_old_id_counts_as_removed() -> None:
    """5.3.0 does not say that it is gone."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("torrents/trackers"):
            return web.json_response([])
        if request.query["rid"] == "0":
            whole = {"rid": 1, "full_update": True, "torrents": {"1" * 40: OLD}}
            return web.json_response(whole)
        return web.json_response({"rid": 2, "torrents": {"2" * 40: NEW}})

    async with serving(answer) as url, faked(url).connect() as client:
        await everything(client)
        seen = await client.observe()

    assert isinstance(seen, Delta)
    assert [(status.item, status.aliases) for status in seen.changed] == [("2" * 40, ("1" * 40,))]
    assert seen.removed == ["1" * 40]
