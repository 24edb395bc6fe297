"""What qBittorrent's trackers say, and what it costs to ask."""

import pytest
from aiohttp import web

from mediabus.service.clients.port import Delta, Snapshot
from mediabus.service.clients.qbittorrent import trackers as trouble
from mediabus.service.clients.qbittorrent.trackers import ASKED_AT_ONCE, Tracker, trackers_words
from tests.clients.test_dialects import qbittorrent, serving

DHT = Tracker("** [DHT] **", 2, "")
WORKING = Tracker("http://a/announce", 2, "")
REFUSING = Tracker("http://b/announce", 4, "unregistered torrent")
AWAY = Tracker("http://c/announce", 6, "")
ASKING = Tracker("http://d/announce", 3, "")


@pytest.mark.parametrize(
    ("trackers", "words"),
    [
        ([], ""),
        ([DHT], ""),
        ([DHT, REFUSING], "tracker: unregistered torrent"),
        ([AWAY, REFUSING], "tracker: does not work"),
        ([REFUSING, WORKING], ""),
        ([REFUSING, ASKING], "tracker: unregistered torrent"),
        ([ASKING], "what was said before"),
        ([Tracker("http://a/announce", 1, "")], ""),
        ([Tracker("http://a/announce", "Not working", "as before 4.1.5")], ""),
    ],
)
def test_trackers_have_a_message_if_none_works(trackers: list[Tracker], words: str) -> None:
    assert trackers_words(trackers, "what was said before") == words


class Standing:
    """A qBittorrent with many torrents; ``said`` is what the trackers of each say."""

    def __init__(self, **states: str) -> None:
        self.torrents = {name: {"name": name, "state": state} for name, state in states.items()}
        self.said: dict[str, str] = {}
        self.gone: set[str] = set()
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("sync/maindata"):
            whole = request.query["rid"] == "0"
            torrents = self.torrents if whole else {}
            return web.json_response({"rid": 1, "full_update": whole, "torrents": torrents})
        assert request.path.endswith("torrents/trackers")
        item = request.query["hash"]
        self.asked.append(item)
        if item in self.gone:
            return web.Response(status=404)
        said = self.said.get(item)
        return web.json_response(
            [{"url": "http://a", "status": 4 if said else 2, "msg": said or ""}]
        )


async def test_trackers_of_few_stalled_torrents_are_requested_per_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    still = {f"still{number}": "stalledDL" for number in range(2 * ASKED_AT_ONCE - 1)}
    others = {"a": "downloading", "b": "pausedDL", "c": "stalledUP", "d": "queuedDL"}
    server = Standing(**others, **still, forced="forcedDL")
    async with serving(server.answer) as url, qbittorrent(url).connect() as client:
        await client.observe()
        await client.observe()
        assert len(server.asked) == ASKED_AT_ONCE

        monkeypatch.setattr(trouble, "TRACKERS_EVERY", 0.0)
        await client.observe()
        assert sorted(server.asked) == sorted([*still, "forced"])

        await client.observe()
        assert server.asked[2 * ASKED_AT_ONCE :] == server.asked[:ASKED_AT_ONCE]


async def test_tracker_messages_appear_and_disappear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trouble, "TRACKERS_EVERY", 0.0)
    server = Standing(here="stalledDL", gone="metaDL")
    server.said = {"here": "unregistered"}
    server.gone = {"gone"}
    async with serving(server.answer) as url, qbittorrent(url).connect() as client:
        seen = [await client.observe(), await client.observe()]
        server.said = {}
        seen += [await client.observe(), await client.observe()]

    first, *later = seen
    assert isinstance(first, Snapshot)
    assert [it.message for it in first.items if it.item == "here"] == ["tracker: unregistered"]
    assert [it.message for it in first.items if it.item == "gone"] == [None]
    changes = [[it.message for it in one.changed] for one in later if isinstance(one, Delta)]
    assert changes == [[], [None], []]
