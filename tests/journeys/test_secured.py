"""The whole of mediabus as `mediabus secure` wants it: each process with its own key, over TLS."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from service.cli.parts import monitor_part, operations_part, persister_part, working
from service.runtime.bus import connect
from service.runtime.database import open_pool
from service.runtime.settings import DatabaseSettings, HttpSettings, Settings
from tests.support import daemons, torrents
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.library import Library, answers, with_clients
from tests.support.secured import SecuredNats, secured_nats

STREAMS = ("events", "dead_letters", "replay", "kv_download_status")
PARTS = {"persister": persister_part, "monitor": monitor_part, "service": operations_part}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


@pytest.fixture
def daemon() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def everything(secured: SecuredNats, settings: Settings) -> AsyncIterator[None]:
    """All processes, each as its role. They start at once: whoever may not make the streams waits
    for the service."""

    async def run(role: str) -> None:
        own = msgspec.structs.replace(settings, nats=secured.settings(role))
        async with working(own, 0, (PARTS[role],)) as work:
            await work

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(run(role)) for role in PARTS]
        yield
        for task in running:
            task.cancel()


async def test_everything_works_with_the_least_of_rights(
    secured: SecuredNats,
    database_url: str,
    daemon: daemons.Daemon,
    swarm: torrents.Swarm,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = Settings(database=DatabaseSettings(url=database_url), http=HttpSettings(port=0))
    settings = with_clients(plain, daemon.settings())
    shared = swarm.share(size=1000)
    viewer, publisher = secured.variables("viewer"), secured.variables("publisher")
    async with (
        everything(secured, settings),
        connect(secured.settings("publisher"), name="publisher", wait=10) as bus,
        open_pool(settings.database, size=1) as pool,
    ):
        user = Library(bus.nc, pool)
        await eventually(lambda: answers(user), within=20)
        item = await user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})
        await user.event("media_item.added", item["id"])
        torrent = base64.b64encode(shared.content).decode()
        download = await user.ask("downloads.initiate", {"title": "It", "torrent": torrent})
        await user.event("download.completed", download["id"], within=60)

        said = ("publish", "job.executed", "--data", '{"job_name": "a"}')
        assert (await mediabus(*said, stdin=b"", **publisher)).code == 0
        for command, words in {
            ("tail", "--since", "1h", "--no-follow"): "media_item.added",
            ("history",): "download.completed",
            ("clients",): "transmission",
            ("top", "--once"): "under way",
            ("dead", "list"): "",
            ("doctor",): "stream EVENTS",
        }.items():
            outcome = await mediabus(*command, stdin=b"", **viewer)
            assert (outcome.code, outcome.err) == (0, ""), command
            assert words in outcome.out
        operator = {**secured.variables("service"), "MEDIABUS_DATABASE_URL": database_url}
        outcome = await mediabus("replay", "--since", "1h", "--dry-run", stdin=b"", **operator)
        assert (outcome.code, outcome.err) == (0, "")
        assert "0 of them missing" in outcome.out
    forbidden = set(re.findall(r'violation for \w+ to "([^"]*)"', caplog.text))
    # They look whether somebody has to make the streams; only the service may.
    assert forbidden <= {f"$js.api.stream.create.{name}" for name in STREAMS}
