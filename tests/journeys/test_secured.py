"""All processes of mediabus, each with its own key of `mediabus secure`, over TLS."""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, Settings
from mediabus.wiring.registry import MONITOR, PERSIST, SERVICE
from tests.support import daemons, torrents
from tests.support.commands import Outcome, mediabus
from tests.support.eventually import eventually
from tests.support.library import Library, answers, with_clients
from tests.support.secured import SecuredNats, nats_errors, running, secured_nats

STREAMS = ("events", "dead_letters", "replay", "kv_download_status")
BY = "SELECT actor_type, actor_id, actor_verified FROM events WHERE id = $1"
READING = {
    ("tail", "--since", "1h", "--no-follow"): "media_item.added",
    ("history",): "media_item.added",
    ("clients",): "transmission",
    ("apps",): "",
    ("top", "--once"): "in progress",
    ("dead", "list"): "",
    ("doctor",): "stream EVENTS",
}
"""Commands that read, and words of their output."""

PROCESSES = (PERSIST, MONITOR, SERVICE)


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


class Secured:
    """All processes of mediabus, each with its own key, and a user with the publisher's key."""

    def __init__(self, server: SecuredNats, database_url: str, user: Library) -> None:
        self.server = server
        self.user = user
        self._database = database_url

    async def run(self, key: str, *command: str) -> Outcome:
        """Run a command with a key. Only the service has a login for PostgreSQL."""
        variables = self.server.variables(key)
        if key == "service":
            variables = {**variables, "MEDIABUS_DATABASE_URL": self._database}
        return await mediabus(*command, stdin=b"", **variables)

    async def item(self) -> Any:
        """Create a media item."""
        movie = {"type": "movie", "title": "Dune", "year": 2021}
        return await self.user.ask("media.create", movie)


@pytest.fixture
async def whole(
    secured: SecuredNats,
    database_url: str,
    daemon: daemons.Daemon,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Secured]:
    """Everything runs. At the end, no process may have needed a right that it does not have."""
    plain = Settings(database=DatabaseSettings(url=database_url), http=HttpSettings(port=0))
    settings = with_clients(plain, daemon.settings())
    async with (
        running(secured, settings, PROCESSES),
        connect(secured.settings("publisher"), name="publisher", wait=10) as bus,
        open_pool(settings.database, size=1) as pool,
    ):
        user = Library(bus.nc, pool)
        await eventually(lambda: answers(user), within=30)
        yield Secured(secured, database_url, user)
    forbidden = set(re.findall(r'violation for \w+ to "([^"]*)"', nats_errors(caplog)))
    # Each process tries to create missing streams; only the service may.
    assert forbidden <= {f"$js.mediabus.api.stream.create.{name}" for name in STREAMS}


async def test_an_event_names_the_owner_of_the_key(whole: Secured) -> None:
    item = await whole.item()
    added = await whole.user.event("media_item.added", item["id"])
    row = await whole.user.pool.fetchrow(BY, added["id"])
    assert row
    assert tuple(row) == ("job", "publisher", True)


async def test_a_download_runs_to_its_end_in_the_name_of_the_key(
    whole: Secured, swarm: torrents.Swarm
) -> None:
    torrent = base64.b64encode(swarm.share(size=1000).content).decode()
    request = {"title": "It", "torrent": torrent}
    download = await whole.user.ask("downloads.initiate", request)
    started = await whole.user.event("download.initiated", download["id"])
    row = await whole.user.pool.fetchrow(BY, started["id"])
    assert row
    assert tuple(row) == ("job", "publisher", True)
    asked = await whole.user.pool.fetchval("SELECT asked_proven FROM downloads")
    assert asked == "job:publisher"
    await whole.user.event("download.completed", download["id"], within=60)


async def test_the_publisher_publishes(whole: Secured) -> None:
    command = ("publish", "job.executed", "--data", '{"job_name": "a"}')
    assert (await whole.run("publisher", *command)).code == 0


@pytest.mark.parametrize("key", ["viewer", "user-42"])
async def test_a_viewer_and_a_person_read_everything(whole: Secured, key: str) -> None:
    item = await whole.item()
    await whole.user.event("media_item.added", item["id"])
    for command, words in READING.items():
        outcome = await whole.run(key, *command)
        assert (outcome.code, outcome.err) == (0, ""), command
        assert words in outcome.out


async def test_the_service_key_replays(whole: Secured) -> None:
    item = await whole.item()
    await whole.user.event("media_item.added", item["id"])
    outcome = await whole.run("service", "replay", "--since", "1h", "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "0 of them missing" in outcome.out
