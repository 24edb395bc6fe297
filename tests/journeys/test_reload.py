"""A running mediabus follows its settings file: clients, applications and targets change live."""

import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import MonitorSettings, NotifierSettings, Settings, WebSettings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.apps.settings import AppSettings
from mediabus.service.apps.sonarr import SonarrSettings
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.port import TorrentFile
from mediabus.service.downloads.bucket import client_names
from tests.support.aria2_daemon import Aria2
from tests.support.daemons import PASSWORD, Daemon, Transmission
from tests.support.eventually import eventually
from tests.support.library import Library, answers, with_clients
from tests.support.processes import Process, clients_toml, processes
from tests.support.receiver import Receiver, receiving
from tests.support.torrents import Shared, make_torrent

WITHIN: Final = 30.0
"""Seconds for a change of the file to show: it is polled every two."""

KEY: Final = "0123456789abcdef"
"""The API key of an application that never answers."""

REST: Final = """
[monitor]
discovered_after = 0.5
removed_after = 1
"""


@pytest.fixture
def transmission() -> Iterator[Daemon]:
    with Transmission.started() as running:
        yield running


@pytest.fixture
def aria2() -> Iterator[Daemon]:
    with Aria2.started() as running:
        yield running


@pytest.fixture
def both(transmission: Daemon, aria2: Daemon) -> tuple[Daemon, Daemon]:
    return transmission, aria2


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Servers, pages without a login, and webhooks to this machine."""
    return msgspec.structs.replace(
        settings,
        web=WebSettings(auth="none"),
        notifier=NotifierSettings(allowed_hosts=["127.0.0.1"]),
    )


@pytest.fixture
async def user(settings: Settings, pool: Pool) -> AsyncIterator[Library]:
    async with connect(settings.nats, name="user", wait=10) as bus:
        yield Library(bus.nc, pool)


def toml(settings: Settings, *clients: AnyClientSettings, more: str = "", rest: str = REST) -> str:
    """The settings file with these clients."""
    return f"{clients_toml(with_clients(settings, *clients))}\n{rest}\n{more}"


def target(name: str, url: str) -> str:
    return f'[[notify]]\nname = "{name}"\nwebhook = "{url}"\nevents = ["job.*"]\n'


@contextlib.contextmanager
def running(process: Process, text: str) -> Iterator[Process]:
    """Run a process with a settings file."""
    process.edit(text)
    process.start()
    try:
        yield process
    finally:
        process.kill()


async def put(daemon: Daemon, name: str) -> Shared:
    """Add a download to a client that never begins, because it has no peers."""
    shared = make_torrent(name, name.encode() * 5_000, "http://127.0.0.1:9/announce")
    async with daemon.settings().connect() as client:
        await client.add(TorrentFile(shared.content), title=name, category=None)
    return shared


async def discovered(user: Library) -> dict[str, str]:
    """The client of each discovered download, by title."""
    events = [event["data"] for event in await user.events() if event["type"] == DISCOVERED]
    assert len({event["client_item"] for event in events}) == len(events), "discovered twice"
    return {event["title"]: event["client"] for event in events}


DISCOVERED: Final = "download.discovered"


def is_discovered(user: Library, title: str, client: str) -> Callable[[], Any]:
    async def it_is() -> bool:
        return (await discovered(user)).get(title) == client

    return it_is


async def publish(bus: Bus, job: str) -> None:
    event = JobExecuted(job_name=job)
    await bus.publish(event, actor=Actor("job", "nightly"), resource=Resource("thing", "1"))


async def rows(user: Library, client: str) -> Sequence[Any]:
    return await user.pool.fetch("SELECT state FROM downloads WHERE client = $1", client)


async def test_up_follows_its_file_and_disturbs_nothing_else(
    settings: Settings,
    tmp_path: Path,
    user: Library,
    both: tuple[Daemon, Daemon],
    receiver: Receiver,
) -> None:
    transmission, aria2 = both
    first, second = transmission.settings(name="first"), aria2.settings(name="second")
    await put(transmission, "One")
    await put(aria2, "Two")
    with running(Process("up", settings, tmp_path), toml(settings, first)) as up:
        await eventually(is_discovered(user, "One", "first"), within=60)

        # A client and the first target are added.
        hook = target("hook", receiver.url)
        up.edit(toml(settings, first, second, more=hook))
        await eventually(is_discovered(user, "Two", "second"), within=WITHIN)
        assert up.says("settings reloaded", added="clients.second, notify.hook")
        async with connect(settings.nats, name="publisher", wait=10) as bus:
            await eventually(lambda: has_consumer(bus, "notify-hook"), within=WITHIN)
            await publish(bus, "wanted")
            await eventually(lambda: receiver.jobs == ["wanted"], within=WITHIN)

            # The service and the pages use the new client, too.
            assert 'value="second"' in await page(up, "add")
            three = make_torrent("Three", b"3" * 40_000, "http://127.0.0.1:9/announce")
            asked = {"title": "Three", "torrent": base64.b64encode(three.content).decode()}
            initiated = await user.ask("downloads.initiate", {**asked, "client": "second"})
            assert initiated["client_item"] == three.infohash

            # A file that is not valid changes nothing, and is reported once.
            up.edit(toml(settings, first, more=hook).replace('"transmission"', '"transmision"'))
            await eventually(lambda: up.says("settings not reloaded"), within=WITHIN)
            await put(aria2, "Four")
            await eventually(is_discovered(user, "Four", "second"), within=WITHIN)
            (line,) = up.lines("settings not reloaded")
            assert "clients[0].kind: there is no kind 'transmision'" in line["reason"]

            # A client and a target are removed; a key that needs a restart is named.
            rest = REST + "[persister]\nwriters = 3\n"
            up.edit(toml(settings, first, rest=rest))
            await eventually(lambda: up.says("settings need a restart"), within=WITHIN)
            assert up.says("settings reloaded", removed="clients.second, notify.hook")
            assert up.says("settings need a restart", keys="persister.writers")
            await eventually(lambda: is_forgotten(bus, "second"), within=WITHIN)
            await publish(bus, "unwanted")
        assert {row["state"] for row in await rows(user, "second")} == {"active"}

        # A renamed client keeps its downloads.
        up.edit(toml(settings, transmission.settings(name="renamed"), rest=rest))
        await eventually(lambda: rows(user, "renamed"), within=WITHIN)
        assert not await rows(user, "first")
        await put(transmission, "Five")
        await eventually(is_discovered(user, "Five", "renamed"), within=WITHIN)
        assert receiver.jobs == ["wanted"]
        acquired = [line["lease"] for line in up.lines("lease acquired")]
        assert up.stop() == 0
    told = await user.types()
    assert not {kind for kind in told if kind.startswith("download_client.")}, told
    assert "download.removed" not in told
    leases = ["monitor.first", "monitor.second", "monitor.renamed", "relay"]
    assert sorted(acquired) == sorted(leases), "nothing else was restarted"


async def has_consumer(bus: Bus, name: str) -> bool:
    return name in {info.name for info in await bus.js.consumers_info("EVENTS")}


async def is_forgotten(bus: Bus, client: str) -> bool:
    return client not in await client_names(bus)


async def test_sighup_reads_a_corrected_password_from_its_file(
    settings: Settings, tmp_path: Path, user: Library, transmission: Daemon
) -> None:
    settings = msgspec.structs.replace(settings, monitor=MonitorSettings(unreachable_after=1.0))
    password = tmp_path / "password"
    password.write_text("wrong")
    client = msgspec.structs.replace(transmission.settings(name="first"), password="")
    text = toml(settings, client, transmission.settings(name="untouched"))
    variables = {"MEDIABUS_CLIENTS_FIRST_PASSWORD_FILE": str(password)}
    with (
        processes(settings, tmp_path, "service", "persist"),
        running(Process("monitor", settings, tmp_path, **variables), text) as monitor,
    ):
        unreachable = await user.event("download_client.unreachable", within=60)
        assert unreachable["data"]["client"] == "first"
        password.write_text(PASSWORD)
        monitor.hang_up()
        recovered = await user.event("download_client.recovered", within=WITHIN)
        assert recovered["data"]["client"] == "first"
        leases = [line["lease"] for line in monitor.lines("lease acquired")]
        assert sorted(leases) == ["monitor.first", "monitor.first", "monitor.untouched"]
        monitor.hang_up()  # nothing has changed
        await eventually(lambda: len(monitor.lines("settings reloaded")) == 2)
        assert len(monitor.lines("lease acquired")) == 3


async def page(process: Process, path: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{process.port}/{path}") as reply,
    ):
        assert reply.status == 200
        return await reply.text()


async def webhook_status(process: Process, app: AppSettings) -> int:
    """The answer to a webhook that an application sends as a test."""
    url = f"http://127.0.0.1:{process.port}/hooks/{app.name}/{app.token}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"eventType": "Test"}) as reply,
    ):
        return reply.status


async def test_the_service_alone_follows_its_clients_and_applications(
    settings: Settings, tmp_path: Path, user: Library, aria2: Daemon
) -> None:
    app = SonarrSettings(name="tv", url="http://127.0.0.1:9", api_key=KEY)
    table = f'[[apps]]\nname = "tv"\nkind = "sonarr"\nurl = "{app.url}"\napi_key = "{KEY}"\n'
    shared = make_torrent("One", b"1" * 40_000, "http://127.0.0.1:9/announce")
    asked = {"title": "One", "torrent": base64.b64encode(shared.content).decode()}
    with running(Process("service", settings, tmp_path), toml(settings)) as service:
        await eventually(lambda: answers(user), within=60)
        assert await webhook_status(service, app) == 401
        service.edit(toml(settings, aria2.settings(name="new"), more=table))
        await eventually(lambda: service.says("lease acquired", lease="apps.tv"), within=WITHIN)
        assert (await user.ask("downloads.initiate", asked))["client"] == "new"
        assert await webhook_status(service, app) == 200
        assert [item["name"] for item in (await user.ask("apps.list"))["items"]] == ["tv"]
        service.edit(toml(settings))
        removed = {"removed": "apps.tv, clients.new"}
        await eventually(lambda: service.says("settings reloaded", **removed), within=WITHIN)
        await eventually(lambda: has_no_lease(user, "apps.tv"), within=WITHIN)
        assert await webhook_status(service, app) == 401


async def has_no_lease(user: Library, name: str) -> bool:
    return not await user.pool.fetchval("SELECT count(*) FROM leases WHERE name = $1", name)


async def test_the_notifier_alone_gives_a_new_target_the_next_event(
    settings: Settings, tmp_path: Path, bus: Bus, receiver: Receiver
) -> None:
    old, new = target("old", f"{receiver.url}/old"), target("new", f"{receiver.url}/new")
    with running(Process("notify", settings, tmp_path), REST + old) as notify:
        await eventually(lambda: has_consumer(bus, "notify-old"), within=60)
        await publish(bus, "before")
        await eventually(lambda: receiver.jobs == ["before"], within=WITHIN)
        notify.edit(REST + old + new)
        await eventually(lambda: has_consumer(bus, "notify-new"), within=WITHIN)
        await publish(bus, "after")
        await eventually(lambda: len(receiver.jobs) == 3, within=WITHIN)
        assert receiver.jobs == ["before", "after", "after"]
        notify.edit(REST + old + new.replace("job.*", "no such type"))
        await eventually(lambda: notify.says("settings not reloaded"), within=WITHIN)
        assert notify.stop() == 0
