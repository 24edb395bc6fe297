"""What is peculiar to rTorrent, asked of the real one: its ways in, its pauses, its files."""

import asyncio
import contextlib
import hashlib
import re
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import bencode2
import pytest
from aiohttp import web

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.http import basic_auth
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, Magnet, TorrentFile
from mediabus.service.clients.rtorrent import RTorrentSettings
from mediabus.service.clients.rtorrent.session import RTorrent
from mediabus.service.clients.scgi import Transport, open_transport, request
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
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/rtorrent/RPC2"
    finally:
        await runner.cleanup()


async def test_a_web_server_in_front_can_require_a_password(
    daemon: rtorrent_daemon.RTorrent,
) -> None:
    async with web_server_before(daemon) as url:
        settings = RTorrentSettings(name="rt", url=url, username="ann", password="sesame")
        async with settings.connect() as known:
            assert (await known.version()).startswith("0.")

        async with RTorrentSettings(name="rt", url=url).connect() as stranger:
            for words in ("refused username or password", "not tried again for"):
                with pytest.raises(ClientUnavailable, match=words) as refused:
                    await stranger.observe()
                assert refused.value.reason == "authentication"


async def test_rtorrent_is_reached_by_a_unix_socket(
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


async def test_another_program_is_a_protocol_error() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = RTorrentSettings(name="rt", url=f"scgi://127.0.0.1:{port}")
        async with settings.connect() as client:
            with pytest.raises(ClientUnavailable, match="does not answer like rTorrent") as wrong:
                await client.observe()
    assert wrong.value.reason == "protocol"


@pytest.mark.parametrize("url", ["scgi://nas", "scgi://", "scgi://nas:x", "ftp://nas", "nas:5000"])
def test_an_address_must_be_one_of_rtorrent(url: str) -> None:
    with pytest.raises(ValueError, match="url must look like"):
        RTorrentSettings(name="rt", url=url)


async def test_its_two_kinds_of_pause_are_both_seen_and_ended(
    rtorrent: RTorrent, swarm: Swarm, view: View
) -> None:
    item = await add(rtorrent, swarm.share(rate=1))
    for command in ("d.pause", "d.stop", "d.close"):
        await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

        await rtorrent._rpc.call(command, item.upper())

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


async def test_a_torrent_file_larger_than_the_limit_is_added(rtorrent: RTorrent) -> None:
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


async def test_a_removal_deletes_only_the_files_of_the_torrent(
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
    """A transport to an rTorrent with one torrent that runs no program, or whose rm does nothing.

    0.16 raises this fault for callers that it does not trust.
    """

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
async def test_a_download_with_undeletable_files_is_kept(why: str, *, runs: bool) -> None:
    transport = Grudging(runs=runs)
    client = RTorrent(transport, RTorrentSettings(name="rt", url="scgi://127.0.0.1:9"))

    with pytest.raises(ClientRefused, match=why):
        await client.remove(ItemId("ab" * 20), delete_files=True)
    assert not transport.erased

    await client.remove(ItemId("ab" * 20), delete_files=False)
    assert transport.erased


async def test_a_magnet_link_keeps_its_category_and_leaves_no_file(
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


class Reworded:
    """A transport to a real rTorrent.

    Its fault for an unknown torrent is that of another version.
    """

    def __init__(self, transport: Transport, code: int, words: str) -> None:
        self._transport = transport
        self._fault = xmlrpc.client.dumps(xmlrpc.client.Fault(code, words)).encode()

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        answer = await self._transport.post(body, repeatable=repeatable)
        return self._fault if b"Could not find info-hash" in answer else answer


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-500, "info-hash not found"),  # 0.16.10
        (-503, "invalid parameters: info-hash not found"),  # 0.16.17
        (-1, "words of next year"),
    ],
)
async def test_an_unknown_torrent_is_known_by_the_meaning_of_the_fault(
    daemon: rtorrent_daemon.RTorrent, swarm: Swarm, code: int, words: str
) -> None:
    async with open_transport(daemon.settings(), "rTorrent") as transport:
        session = RTorrent(Reworded(transport, code, words), daemon.settings())

        item = await add(session, swarm.share(rate=1))

        await session.remove(item, delete_files=True)
        await session.remove(item, delete_files=True)  # gone already
        with pytest.raises(ClientRefused, match="has no download"):
            await session.pause(item)


class TooEarly:
    """A transport to a real rTorrent that answers the first question for a name with a fault."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._fault = xmlrpc.client.dumps(xmlrpc.client.Fault(-1, "words of next year")).encode()
        self.faults = 0

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        if b"d.name" in body and not self.faults:
            self.faults += 1
            return self._fault
        return await self._transport.post(body, repeatable=repeatable)


async def test_a_torrent_that_is_listed_right_after_a_fault_is_known(
    daemon: rtorrent_daemon.RTorrent, rtorrent: RTorrent, swarm: Swarm
) -> None:
    shared = swarm.share(rate=1)
    item = await add(rtorrent, shared)
    async with open_transport(daemon.settings(), "rTorrent") as transport:
        early = TooEarly(transport)
        session = RTorrent(early, daemon.settings())

        with pytest.raises(ClientRefused, match=re.escape(shared.name)):  # it is there already
            await session.add(TorrentFile(shared.content), title=shared.name, category=None)

    assert early.faults == 1
    await rtorrent.remove(item, delete_files=True)


async def test_a_torrent_that_rtorrent_lists_by_another_id_is_found(
    rtorrent: RTorrent, view: View
) -> None:
    """It decodes and encodes ``info``: a leading zero is lost, and the id with it."""
    usual = b"6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:" + bytes(20)
    odd = usual.replace(b"i16384e", b"i016384e")
    content = b"d8:announce%d:%b4:infod%bee" % (len(NOBODY), NOBODY.encode(), odd)

    item = await rtorrent.add(TorrentFile(content), title="", category="tv")

    assert item == hashlib.sha1(b"d" + usual + b"e").hexdigest()
    assert (await view.until(item, lambda status: status.category == "tv")).title == "a"
