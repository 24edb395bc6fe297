"""What only aria2 does: gids that change, files that it leaves behind, plain downloads."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.aria2.session import Aria2
from mediabus.service.clients.http import basic_auth
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Magnet,
    TorrentFile,
)
from tests.clients.conftest import View, add, everything
from tests.support import aria2_daemon
from tests.support.daemons import HOST, PASSWORD
from tests.support.eventually import eventually
from tests.support.torrents import Swarm


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[aria2_daemon.Aria2]:
    with aria2_daemon.Aria2.started() as running:
        yield running


@pytest.fixture
async def session(client: DownloadClient) -> Aria2:
    """The client as what it is."""
    assert isinstance(client, Aria2)
    return client


@pytest.fixture
async def one_at_a_time(session: Aria2) -> AsyncIterator[None]:
    await session._rpc.ask(str, "changeGlobalOption", {"max-concurrent-downloads": "1"})
    yield
    await session._rpc.ask(str, "changeGlobalOption", {"max-concurrent-downloads": "5"})


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_pause_of_a_waiting_download_is_detected(
    session: Aria2, daemon: aria2_daemon.Aria2, swarm: Swarm, view: View
) -> None:
    first, second = [await add(session, swarm.share(name, rate=1)) for name in "ab"]
    await view.until(first, lambda status: status.phase is Phase.DOWNLOADING)
    await view.until(second, lambda status: status.phase is Phase.QUEUED)
    assert await session.observe() == Delta([], [])

    async with daemon.settings().connect() as another:
        await another.pause(second)  # as many wait as before, and the same one is active

    await view.until(second, lambda status: status.phase is Phase.PAUSED)


async def test_adding_twice_leaves_one_download(session: Aria2, swarm: Swarm) -> None:
    shared = swarm.share(rate=1)
    item = await add(session, shared)

    gid = await session._hand_over(TorrentFile(shared.content))  # past our own look
    with pytest.raises(ClientRefused, match="already registered"):
        await session._accepted(gid)

    assert [download.item for download in await session._listed(item)] == [item]


async def test_a_failed_download_cannot_resume_but_can_be_added_again(
    session: Aria2, daemon: aria2_daemon.Aria2, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("again.bin")
    (daemon.downloads / shared.name).mkdir()
    item = await add(session, shared)
    failed = await view.until(item, lambda status: status.phase is Phase.FAILED)
    assert failed.reason == "not_writable"

    with pytest.raises(ClientRefused, match="cannot pause"):
        await session.pause(item)
    with pytest.raises(ClientRefused, match="Add it again"):
        await session.resume(item)
    (daemon.downloads / shared.name).rmdir()

    assert await add(session, shared) == item
    await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=30)
    assert len(await session._listed(item)) == 1


async def test_files_are_deleted_only_if_they_are_on_this_machine(
    session: Aria2, daemon: aria2_daemon.Aria2, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("kept.bin")
    item = await add(session, shared, present_in=daemon.downloads)
    await view.until(item, lambda status: status.phase is Phase.COMPLETED)
    elsewhere = Aria2Settings(name="a", url=daemon.url, password=PASSWORD)

    async with elsewhere.connect() as remote:
        with pytest.raises(ClientRefused, match="sees_files"):
            await remote.remove(item, delete_files=True)
        assert [status.item for status in await everything(remote)] == [item]
        await remote.remove(item, delete_files=False)

    assert (daemon.downloads / shared.name).exists()


async def test_files_outside_downloads_dir_are_not_deleted(
    session: Aria2, daemon: aria2_daemon.Aria2, swarm: Swarm, view: View, tmp_path: Path
) -> None:
    shared = swarm.share("inside.bin")
    item = await add(session, shared, present_in=daemon.downloads)
    await view.until(item, lambda status: status.phase is Phase.COMPLETED)
    elsewhere = msgspec.structs.replace(daemon.settings(), downloads_dir=str(tmp_path))

    async with elsewhere.connect() as strict:
        with pytest.raises(ClientRefused, match=r"may not be deleted: .* is not below"):
            await strict.remove(item, delete_files=True)
        assert [status.item for status in await everything(strict)] == [item]

    assert (daemon.downloads / shared.name).exists()


@contextlib.asynccontextmanager
async def files(**contents: bytes) -> AsyncIterator[str]:
    """The address of a web server that has these files."""

    async def answer(request: web.Request) -> web.Response:
        content = contents.get(request.path.strip("/"))
        return web.Response(body=content) if content else web.Response(status=404)

    async with serving(answer) as url:
        yield url


@contextlib.asynccontextmanager
async def serving(handler: web.RequestHandler | object) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_download_that_is_not_a_torrent_is_shown_by_its_gid(
    session: Aria2, view: View
) -> None:
    async with files(film=b"x" * 5000) as url:
        good = ItemId(await session._rpc.ask(str, "addUri", [f"{url}/film"]))
        bad = ItemId(await session._rpc.ask(str, "addUri", [f"{url}/no%20film"]))
        done = await view.until(good, lambda status: status.phase is Phase.COMPLETED)
        failed = await view.until(bad, lambda status: status.phase is Phase.FAILED)

    assert (done.title, done.size) == ("film", 5000)
    assert (failed.title, failed.reason) == ("no film", "no_sources")
    await session.remove(good, delete_files=True)
    assert not (Path(done.save_path or "") / "film").exists()


async def test_a_torrent_fetched_by_aria2_is_one_download(
    session: Aria2, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(rate=1)
    async with files(**{"a.torrent": shared.content}) as url:
        gid = await session._rpc.ask(str, "addUri", [f"{url}/a.torrent"])
        found = await view.until(shared.infohash, lambda it: it.phase is Phase.DOWNLOADING)

    assert gid not in view.items
    assert found.aliases == (gid,)
    await session.pause(ItemId(gid))  # by the id that it had before
    await view.until(shared.infohash, lambda status: status.phase is Phase.PAUSED)
    await session.remove(ItemId(gid), delete_files=True)
    assert await session._listed(shared.infohash) == []


async def test_a_metalink_continues_as_its_first_download(session: Aria2, view: View) -> None:
    async with files(one=b"x" * 5000, two=b"y" * 5000) as url:
        content = METALINK.format(url=url).encode()
        async with files(**{"a.meta4": content}) as its_url:
            gid = await session._rpc.ask(str, "addUri", [f"{its_url}/a.meta4"])
            await eventually(functools.partial(_both, view))

    assert gid not in view.items
    assert {it.title: it.aliases for it in view.items.values()} == {"one": (gid,), "two": ()}


METALINK = """\
<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
<file name="one"><url>{url}/one</url></file>
<file name="two"><url>{url}/two</url></file>
</metalink>
"""


async def _both(view: View) -> bool:
    await view.refresh()
    return [it.phase for it in view.items.values()] == [Phase.COMPLETED] * 2


async def test_a_magnet_keeps_its_id_when_its_gid_changes(
    session: Aria2, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(private=False, rate=1 << 14)
    item = await session.add(Magnet(shared.magnet), title="", category=None)
    seeking = await session._must_have(item)
    phases: list[Phase] = []

    def is_found(status: DownloadStatus) -> bool:
        phases.append(status.phase)
        return status.phase is Phase.DOWNLOADING

    await view.until(item, is_found, within=30, every=0)

    assert (await session._must_have(item)).gid != seeking.gid
    assert set(phases) - {Phase.CHECKING} == {Phase.METADATA, Phase.DOWNLOADING}
    assert view.items.keys() == {item}


@dataclasses.dataclass
class Proxy:
    """A reverse proxy with a path and a password of its own."""

    behind: str
    session: aiohttp.ClientSession

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != basic_auth("a", "b c"):
            return web.Response(status=401)
        if request.path != "/torrents/jsonrpc":
            return web.Response(status=404)
        async with self.session.post(f"{self.behind}/jsonrpc", data=await request.read()) as passed:
            return web.Response(status=passed.status, body=await passed.read())


@contextlib.asynccontextmanager
async def proxied(daemon: aria2_daemon.Aria2) -> AsyncIterator[str]:
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(daemon.url, session)
        async with serving(proxy.answer) as url:
            yield url


async def test_it_works_behind_a_proxy(daemon: aria2_daemon.Aria2, swarm: Swarm) -> None:
    async with proxied(daemon) as url:
        inside = url.replace("//", "//a:b%20c@") + "/torrents"
        settings = msgspec.structs.replace(daemon.settings(), url=inside)
        async with settings.connect() as client:
            view = View(client)
            await view.refresh()
            item = await add(client, swarm.share(rate=1))
            await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)
            await client.pause(item)
            await view.until(item, lambda status: status.phase is Phase.PAUSED)
            await client.remove(item, delete_files=True)
            await eventually(lambda: gone(view, item))


async def gone(view: View, item: ItemId) -> bool:
    await view.refresh()
    return item not in view.items


async def test_a_password_required_by_the_proxy_is_reported(daemon: aria2_daemon.Aria2) -> None:
    async with proxied(daemon) as url:
        settings = Aria2Settings(name="a", url=f"{url}/torrents", password=PASSWORD)
        async with settings.connect() as client:
            with pytest.raises(ClientUnavailable, match="in front of aria2") as refused:
                await client.observe()

    assert refused.value.reason == "authentication"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"result": "one"},
        {"result": [[[]]]},
        {"result": [[{"sessionId": "a"}], [{"numActive": "x"}], [[]], [[]], [[]]]},
        {"result": [{"code": 1, "message": "No such method"}] * 5},
    ],
)
async def test_an_invalid_answer_is_never_an_empty_list(answer: dict[str, object]) -> None:
    async def speak(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(answer))

    async with serving(speak) as url, Aria2Settings(name="a", url=url).connect() as client:
        with pytest.raises(ClientUnavailable) as unavailable:
            await client.observe()

    assert unavailable.value.reason == "protocol"


async def test_one_that_hangs_is_given_up_in_time() -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    settings = Aria2Settings(name="a", url="http://placeholder", timeout=0.2)
    async with (
        serving(hang) as url,
        msgspec.structs.replace(settings, url=url).connect() as client,
        asyncio.timeout(5),
    ):
        with pytest.raises(ClientUnavailable, match="did not answer in time"):
            await client.observe()
