"""One odd value of one torrent hides neither that torrent nor all the others."""

from typing import Any

import msgspec
import pytest
from aiohttp import web

from mediabus.schemas.status import Phase
from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.deluge.rpc import understood
from mediabus.service.clients.deluge.states import Torrent, status_of
from mediabus.service.clients.transmission import TransmissionSettings
from tests.clients.conftest import everything
from tests.clients.test_dialects import qbittorrent as faked
from tests.clients.test_dialects import serving

ODD: list[Any] = [None, "a word", -7, 1.5, 10**40, [], {}, True]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("field", ["name", "state", "progress", "size", "eta", "infohash_v2"])
async def test_an_invalid_field_of_qbittorrent_hides_no_download(field: str, odd: Any) -> None:
    sound = {"name": "a", "state": "uploading", "progress": 1.0, "size": 5, "completed": 5}
    torrents = {"a" * 40: sound, "b" * 40: sound | {field: odd}}

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("sync/maindata"):
            return web.json_response({"rid": 1, "full_update": True, "torrents": torrents})
        return web.json_response([])

    async with serving(answer) as url, faked(url).connect() as client:
        seen = {status.item: status for status in await everything(client)}

    assert seen.keys() == torrents.keys()
    assert seen["a" * 40].phase is Phase.COMPLETED  # type: ignore[index]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("field", ["name", "status", "percentDone", "sizeWhenDone", "labels"])
async def test_an_invalid_field_of_transmission_hides_no_download(field: str, odd: Any) -> None:
    sound = {"id": 1, "hashString": "a" * 40, "name": "a", "status": 6, "percentDone": 1}
    other = sound | {"id": 2, "hashString": "b" * 40, field: odd}

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"result": "success", "arguments": {"torrents": [sound, other]}})

    settings = TransmissionSettings(name="t", url="http://127.0.0.1:9")
    async with serving(answer) as url, msgspec.structs.replace(settings, url=url).connect() as it:
        seen = [status.item for status in await everything(it)]

    assert seen == ["a" * 40, "b" * 40]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("field", ["status", "totalLength", "followedBy", "bittorrent", "seeder"])
async def test_an_invalid_field_of_aria2_hides_no_download(field: str, odd: Any) -> None:
    sound = {"gid": "1" * 16, "status": "active", "infoHash": "a" * 40, "totalLength": "5"}
    other = sound | {"gid": "2" * 16, "infoHash": "b" * 40, field: odd}
    stat = {"numActive": "2", "numWaiting": "0", "numStopped": "0"}

    async def answer(request: web.Request) -> web.Response:
        calls = (await request.json())["params"][0]
        results = {
            "aria2.getSessionInfo": {"sessionId": "1"},
            "aria2.getGlobalStat": stat,
            "aria2.tellActive": [sound, other],
            "aria2.getFiles": [{"path": "", "uris": [{"uri": "http://["}]}],
        }
        asked = [results.get(call["methodName"], []) for call in calls]
        return web.json_response({"result": [[result] for result in asked]})

    async with serving(answer) as url, Aria2Settings(name="a", url=url).connect() as client:
        seen = {status.item for status in await everything(client)}

    assert seen == {"a" * 40, "b" * 40}


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("field", ["name", "state", "is_finished", "total_size", "label"])
def test_an_invalid_field_of_deluge_hides_no_download(field: str, odd: Any) -> None:
    sound: dict[str, Any] = {"name": "a", "state": "Seeding", "is_finished": True, "total_size": 5}

    torrent = understood({**sound, field: odd}, Torrent)

    assert status_of("d", "a" * 40, torrent).item == "a" * 40  # type: ignore[arg-type]
