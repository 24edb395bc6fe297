"""Tests of Deluge alone: pushed events, other programs, accounts and TLS."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from mediabus.schemas.status import DownloadStatus, Phase, UnreachableReason
from mediabus.service.clients.deluge import DelugeSettings
from mediabus.service.clients.deluge.session import Deluge
from mediabus.service.clients.deluge.wire import HEADER
from mediabus.service.clients.port import ClientUnavailable, Delta, DownloadClient, Magnet
from tests.clients.conftest import View, add, everything
from tests.support import deluge_daemon
from tests.support.daemons import HOST
from tests.support.deluge_daemon import PASSWORD
from tests.support.eventually import eventually
from tests.support.torrents import Swarm

Speaker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[deluge_daemon.Deluge]:
    with deluge_daemon.Deluge.started() as running:
        yield running


async def test_unchanging_torrents_are_polled_only_after_an_event(
    client: DownloadClient, daemon: deluge_daemon.Deluge, swarm: Swarm, view: View
) -> None:
    assert isinstance(client, Deluge)
    item = await add(client, swarm.share(rate=1))
    await client.pause(item)
    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    await view.until(item, lambda _: not client._touched)

    assert await client.observe() == Delta([], [])
    async with daemon.settings().connect() as another:
        await another.resume(item)

    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)


async def test_two_programs_that_ask_at_once_both_see_every_change(
    client: DownloadClient, daemon: deluge_daemon.Deluge, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(rate=1))
    async with daemon.settings().connect() as another:
        beside = View(another)
        for _ in range(3):
            await client.pause(item)
            await asyncio.gather(view.until(item, is_paused), beside.until(item, is_paused))
            await client.resume(item)
            await asyncio.gather(view.until(item, goes_on), beside.until(item, goes_on))


def is_paused(status: DownloadStatus) -> bool:
    return status.phase is Phase.PAUSED


def goes_on(status: DownloadStatus) -> bool:
    return status.phase is Phase.DOWNLOADING


async def test_a_full_poll_finds_changes_without_an_event(
    client: DownloadClient, swarm: Swarm
) -> None:
    assert isinstance(client, Deluge)
    gone, left = await add(client, swarm.share("a")), await add(client, swarm.share("b"))
    await everything(client)
    assert client._seen is not None
    del client._seen.statuses[left]
    client._touched.clear()
    await client._rpc.call("core.remove_torrent", gone, True)

    client._seen.at -= 31
    seen = await client.observe()

    assert isinstance(seen, Delta)
    assert [status.item for status in seen.changed] == [left]
    assert seen.removed == [gone]


async def test_an_account_that_may_only_read_is_refused_at_once(
    daemon: deluge_daemon.Deluge,
) -> None:
    with (daemon.home / "auth").open("a") as accounts:
        accounts.write("guest:guest:1\n")
    settings = DelugeSettings(name="a", url=daemon.url, username="guest", password="guest")

    async with settings.connect() as guest:
        with pytest.raises(ClientUnavailable, match="read-only") as refused:
            await guest.observe()

    assert refused.value.reason == "authentication"


async def test_an_account_sees_only_its_own_downloads(
    client: DownloadClient, daemon: deluge_daemon.Deluge, swarm: Swarm
) -> None:
    with (daemon.home / "auth").open("a") as accounts:
        accounts.write("lodger:lodger:5\n")
    settings = DelugeSettings(name="a", url=daemon.url, username="lodger", password="lodger")

    async with settings.connect() as lodger:
        assert await everything(lodger) == []
        view = View(lodger)
        await add(client, swarm.share("of another.bin", rate=1))
        own = await add(lodger, swarm.share("own.bin", rate=1))
        await view.until(own, lambda status: status.phase is Phase.DOWNLOADING)

        assert view.items.keys() == {own}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate in one file, signed by itself as Deluge's are."""
    path = tmp_path_factory.mktemp("tls") / "pem"
    signed = path.with_suffix(".crt")
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a"]
    command = ["openssl", "req", *options, "-keyout", str(path), "-out", str(signed)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + signed.read_bytes())
    return path


@contextlib.asynccontextmanager
async def speaking(speak: Speaker, certificate: Path | None) -> AsyncIterator[DelugeSettings]:
    """The settings for a server, with TLS if there is a certificate, that speaks so."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    speaking_now: set[object] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaking_now.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await speak(reader, writer)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        speaking_now.remove(writer)

    server = await asyncio.start_server(answer, HOST, 0, ssl=context)
    url = f"deluge://{HOST}:{server.sockets[0].getsockname()[1]}"
    yield DelugeSettings(name="a", url=url, username="a", password=PASSWORD, timeout=0.5)
    server.close()
    await eventually(lambda: not speaking_now)


def saying(words: bytes) -> Speaker:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(words)
        await reader.read()

    return speak


async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Says nothing and goes."""


ELSEWHERE: list[tuple[Speaker, UnreachableReason, str]] = [
    (
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "protocol",
        "not speak the protocol of Deluge 2",
    ),
    (saying(HEADER.pack(1, 1 << 31)), "protocol", "not speak the protocol of Deluge 2"),
    (saying(HEADER.pack(1, 4) + b"oops"), "protocol", "not speak the protocol of Deluge 2"),
    (saying(b""), "connection", "did not answer in time"),
    (hang_up, "connection", "closed the connection"),
]


@pytest.mark.parametrize(("speak", "reason", "words"), ELSEWHERE)
async def test_another_program_at_the_address_is_reported(
    speak: Speaker, reason: UnreachableReason, words: str, certificate: Path
) -> None:
    async with speaking(speak, certificate) as settings, settings.connect() as client:
        with pytest.raises(ClientUnavailable, match=words) as unavailable:
            await client.observe()

    assert unavailable.value.reason == reason


async def test_a_server_without_tls_differs_from_an_unreachable_one() -> None:
    async with (
        speaking(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None) as settings,
        settings.connect() as client,
    ):
        with pytest.raises(ClientUnavailable) as unavailable:
            await client.version()

    assert unavailable.value.reason == "tls"


async def test_a_hybrid_added_by_v1_completes_under_that_id(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    """Deluge does not notice that it has another id in libtorrent since it has its metadata."""
    shared = swarm.share_hybrid("both.bin")

    item = await client.add(Magnet(shared.magnet), title="", category=None)

    assert item == shared.infohash
    done = await view.until(item, lambda it: it.phase is Phase.COMPLETED, within=45)
    assert (done.size, done.downloaded, done.warning) == (shared.size, shared.size, None)
