"""What is peculiar to rTorrent, asked of the real one: its ways in, its pauses, its files."""

import asyncio
import contextlib
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import bencode2
import pytest
from aiohttp import web

from schemas.status import ItemId, Phase
from service.clients.http import basic_auth
from service.clients.port import ClientRefused, ClientUnavailable, Magnet, TorrentFile
from service.clients.rtorrent import RTorrent, RTorrentSettings
from service.clients.scgi import request
from tests.clients.conftest import View, add
from tests.support import rtorrent_daemon
from tests.support.torrents import Swarm, make_torrent

PIECE = 16384
NOBODY = "http://127.0.0.1:9/announce"


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[rtorrent_daemon.RTorrent]:
    with rtorrent_daemon.RTorrent.started() as running:
        yield running


@pytest.fixture
def rtorrent(client: RTorrent) -> RTorrent:
    """The session, to ask rTorrent itself by."""
    return client


@contextlib.asynccontextmanager
async def web_server_before(daemon: rtorrent_daemon.RTorrent) -> AsyncIterator[str]:
    """The address of a web server that passes XML-RPC on to rTorrent, for who has the password."""

    async def pass_on(asked: web.Request) -> web.Response:
        if asked.headers.get("Authorization") != basic_auth("ann", "sesame"):
            return web.Response(status=401)
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(request(await asked.read()))
        answer = await reader.read()
        writer.close()
        return web.Response(body=answer.partition(b"\r\n\r\n")[2], content_type="text/xml")

    application = web.Application()
    application.router.add_post("/rtorrent/RPC2", pass_on)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/rtorrent/RPC2"
    await runner.cleanup()


async def test_a_web_server_before_it_may_want_a_password(daemon: rtorrent_daemon.RTorrent) -> None:
    async with web_server_before(daemon) as url:
        settings = RTorrentSettings(name="rt", url=url, username="ann", password="sesame")
        async with settings.connect() as known:
            assert (await known.version()).startswith("0.")

        async with RTorrentSettings(name="rt", url=url).connect() as stranger:
            for words in ("refused username or password", "not tried again for"):
                with pytest.raises(ClientUnavailable, match=words) as refused:
                    await stranger.observe()
                assert refused.value.reason == "authentication"


async def test_it_is_reached_by_a_socket_of_this_machine(
    rtorrent: RTorrent, daemon: rtorrent_daemon.RTorrent
) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", daemon.port)
        back.write(await reader.readuntil(b"</methodCall>\n"))
        writer.write(await there.read())
        writer.close()
        back.close()

    path = daemon.home / "rpc socket"
    async with await asyncio.start_unix_server(pass_on, path):
        settings = RTorrentSettings(name="rt", url=f"scgi://{path.as_posix()}")
        async with settings.connect() as local:
            assert await local.version() == await rtorrent.version()


async def test_what_answers_otherwise_is_not_rtorrent() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = RTorrentSettings(name="rt", url=f"scgi://127.0.0.1:{port}")
        async with settings.connect() as client:
            with pytest.raises(ClientUnavailable, match="does not answer as rTorrent") as wrong:
                await client.observe()
    assert wrong.value.reason == "protocol"


@pytest.mark.parametrize("url", ["scgi://nas", "scgi://", "scgi://nas:x", "ftp://nas", "nas:5000"])
def test_an_address_must_be_one_of_rtorrent(url: str) -> None:
    with pytest.raises(ValueError, match=r"url must look like|Port could not"):
        RTorrentSettings(name="rt", url=url)


async def test_its_two_kinds_of_pause_are_both_seen_and_ended(
    rtorrent: RTorrent, swarm: Swarm, view: View
) -> None:
    item = await add(rtorrent, swarm.share(rate=1))
    for command in ("d.pause", "d.stop", "d.close"):
        await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

        await rtorrent._call(command, item.upper())

        await view.until(item, lambda status: status.phase is Phase.PAUSED)
        await rtorrent.resume(item)


async def test_a_pause_outlives_a_restart(swarm: Swarm) -> None:
    with rtorrent_daemon.RTorrent.started() as own:
        async with own.settings().connect() as session:
            view = View(session)
            item = await add(session, swarm.share(rate=1))
            await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)
            await session.pause(item)

            own.restart()

            assert (await view.until(item, lambda _: True)).phase is Phase.PAUSED


def torrent(info: dict[bytes, object]) -> TorrentFile:
    return TorrentFile(bencode2.bencode({b"announce": NOBODY.encode(), b"info": info}))


async def test_a_torrent_file_larger_than_its_limit_is_taken(rtorrent: RTorrent) -> None:
    info = {
        b"length": PIECE * 40_000,
        b"name": b"large.bin",
        b"piece length": PIECE,
        b"pieces": bytes(20 * 40_000),
    }

    item = await rtorrent.add(torrent(info), title="", category=None)

    await rtorrent.pause(item)


def a_folder(name: str, *files: str) -> TorrentFile:
    """A torrent of files in a folder, 100 zeros each."""
    listed = [{b"length": 100, b"path": [part.encode() for part in it.split("/")]} for it in files]
    info = {
        b"files": listed,
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": bytes(20),
    }
    return torrent(info)


async def test_a_folder_is_removed_with_its_files_and_with_nothing_else(
    rtorrent: RTorrent, daemon: rtorrent_daemon.RTorrent, view: View
) -> None:
    name = "a 🎬, \"b\" $d.name= 'c'"
    folder = daemon.downloads / name
    files = ("one.mkv", "sub/two.mkv", "sub/deeper/three, four.mkv", "extra/five.mkv")
    for file in (*files, "extra/not of the torrent.txt"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(bytes(100))
    item = await rtorrent.add(a_folder(name, *files), title="", category=None)
    status = await view.until(item, lambda status: status.phase is not Phase.CHECKING)
    assert Path(status.save_path or "") == daemon.downloads

    await rtorrent.remove(item, delete_files=True)

    left = [path for path in daemon.downloads.rglob("*") if path.is_file()]
    assert left == [folder / "extra" / "not of the torrent.txt"]


async def test_a_folder_of_its_own_is_removed_whole(
    rtorrent: RTorrent, daemon: rtorrent_daemon.RTorrent, view: View
) -> None:
    files = ("one.mkv", "sub/two.mkv", "sub/deeper/three.mkv")
    for file in files:
        (daemon.downloads / "whole" / file).parent.mkdir(parents=True, exist_ok=True)
        (daemon.downloads / "whole" / file).write_bytes(bytes(100))
    item = await rtorrent.add(a_folder("whole", *files), title="", category=None)
    await view.until(item, lambda status: status.phase is not Phase.CHECKING)

    await rtorrent.remove(item, delete_files=True)

    assert not (daemon.downloads / "whole").exists()


class Grudging:
    """A way to an rTorrent that has one torrent, and runs no program or whose rm achieves nothing;
    0.16 does so for whom it does not trust, by this fault."""

    def __init__(self, *, runs: bool) -> None:
        self.runs = runs
        self.erased = False

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:  # noqa: ARG002 - all are
        params, method = xmlrpc.client.loads(body)
        match method, params:
            case "system.multicall", _:
                answer: Any = [["/films"], ["a"], [0], [[["a"]]]]
            case "f.multicall", [*_, "f.is_created="]:
                answer = [[1]]
            case "f.multicall", _ if not self.runs:
                refusal = xmlrpc.client.Fault(-506, "Command 'execute' is not allowed")
                return xmlrpc.client.dumps(refusal).encode()
            case _:
                answer = "a"
        self.erased = self.erased or method == "d.erase"
        return xmlrpc.client.dumps((answer,), methodresponse=True).encode()


@pytest.mark.parametrize(
    ("runs", "why"), [(False, "may not run programs"), (True, "could not delete the files")]
)
async def test_where_files_cannot_be_deleted_the_download_stays_unless_without_them(
    why: str, *, runs: bool
) -> None:
    way = Grudging(runs=runs)
    client = RTorrent(way, RTorrentSettings(name="rt", url="scgi://127.0.0.1:9"))

    with pytest.raises(ClientRefused, match=why):
        await client.remove(ItemId("ab" * 20), delete_files=True)
    assert not way.erased

    await client.remove(ItemId("ab" * 20), delete_files=False)
    assert way.erased


async def test_a_magnet_link_keeps_its_category_and_leaves_no_file_of_its_own(
    rtorrent: RTorrent, daemon: rtorrent_daemon.RTorrent, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("named.mkv", private=False)
    item = await rtorrent.add(Magnet(shared.magnet), title="", category="tv, più")
    done = await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=30)
    assert done.category == "tv, più"

    await rtorrent.remove(item, delete_files=True)

    left = [path.name for path in daemon.downloads.iterdir()]
    assert not [name for name in left if name.startswith((item.upper(), "named"))]


async def test_trouble_with_its_tracker_is_shown_and_no_failure(
    rtorrent: RTorrent, view: View
) -> None:
    shared = make_torrent("lonely.bin", bytes(PIECE), NOBODY)

    item = await rtorrent.add(TorrentFile(shared.content), title="", category=None)

    status = await view.until(item, lambda status: status.message)
    assert (status.phase, status.reason) == (Phase.DOWNLOADING, None)
    assert "Tracker: [" in (status.message or "")
    await rtorrent.pause(item)
    stopped = await view.until(item, lambda status: status.phase is not Phase.DOWNLOADING)
    assert (stopped.phase, stopped.reason) == (Phase.PAUSED, None)


async def test_an_unknown_item_is_not_there_to_remove(rtorrent: RTorrent) -> None:
    await rtorrent.remove(ItemId("0" * 40), delete_files=True)  # no error
