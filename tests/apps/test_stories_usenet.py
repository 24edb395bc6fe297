"""Applications know a download of NZBGet by an id of their own: it is one story all the same."""

import base64
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from mediabus.runtime.settings import Settings
from mediabus.service.clients.nzbget.session import NzbGet as Session
from mediabus.wiring.registry import MONITOR, PERSIST, SERVICE
from tests.support import nntp
from tests.support.apps import Sonarr
from tests.support.apps.reading import reading, so_many
from tests.support.eventually import eventually
from tests.support.library import with_clients
from tests.support.nntp import NewsServer, Post
from tests.support.nzbget_daemon import NzbGet

PROCESSES = (SERVICE, MONITOR, PERSIST)


@pytest.fixture
def daemon() -> Iterator[NzbGet]:
    with NzbGet.started() as running:
        yield running


@pytest.fixture
async def news(daemon: NzbGet) -> AsyncIterator[NewsServer]:
    async with nntp.news_server(daemon.news_port) as running:
        yield running


async def append(daemon: NzbGet, post: Post, drone: str) -> None:
    """Add a download as Sonarr does: with its own id as a parameter."""
    content = base64.b64encode(post.nzb).decode()
    terms = ("tv", 0, False, False, "", 0, "all", ["drone", drone])
    async with daemon.settings().connect() as client:
        assert isinstance(client, Session)
        assert await client._rpc.ask(int, "append", f"{post.name}.nzb", content, *terms) > 0


async def test_grab_download_and_import_are_one_story(
    settings: Settings, daemon: NzbGet, news: NewsServer
) -> None:
    drone, post = uuid.uuid4().hex, news.post("Severance.S01E01.1080p", size=1 << 20)
    news.hold(after=2)
    watched = with_clients(settings, daemon.settings(), discovered_after=1.0)
    async with (
        Sonarr.running() as sonarr,
        reading(watched, sonarr, processes=PROCESSES) as user,
    ):
        series = sonarr.put_series("Severance", tvdbId=371980)
        await sonarr.grab(series, [1], drone, client="NZBGet")
        (grabbed,) = await so_many(user, 1, "release.grabbed")
        await append(daemon, post, drone)
        (found,) = await so_many(user, 1, "download.discovered")
        news.release()
        (completed,) = await so_many(user, 1, "download.completed")
        await sonarr.import_files(series, [1], drone)
        (imported,) = await so_many(user, 1, "download.imported")
    story = (grabbed, found, completed, imported)
    assert len({event["correlation_id"] for event in story}) == 1
    assert {event["resource_type"] for event in story} == {"media_item"}
    assert found["data"]["app"] == "sonarr"
    assert found["data"]["client_item"] != drone
    assert imported["data"]["client_item"] == drone
    assert imported["data"]["download_id"] == found["data"]["download_id"]


async def test_grab_and_failure_that_are_read_late_belong_to_the_download(
    settings: Settings, daemon: NzbGet, news: NewsServer
) -> None:
    drone, post = uuid.uuid4().hex, news.post("Severance.S01E01.1080p", size=1 << 20)
    news.hold(after=2)
    watched = with_clients(settings, daemon.settings(), discovered_after=0.5)
    async with (
        Sonarr.running() as sonarr,
        reading(watched, sonarr, processes=PROCESSES) as user,
    ):
        series = sonarr.put_series("Severance", tvdbId=371980)
        await append(daemon, post, drone)
        (found,) = await so_many(user, 1, "download.discovered")
        assert "app" not in found["data"]
        await sonarr.grab(series, [1], drone, client="NZBGet")
        await eventually(lambda: user.pool.fetchval("SELECT app FROM downloads"), within=30)
        sonarr.fail(series, [1], drone, "it stalled")
        (failed,) = await so_many(user, 1, "download.failed")
        (grabbed,) = await so_many(user, 1, "release.grabbed")
        row = await user.pool.fetchrow("SELECT correlation_id, failed_at FROM downloads")
        assert row
        assert row["failed_at"] is not None
        news.release()
    assert failed["data"]["download_id"] == found["data"]["download_id"]
    assert failed["data"]["client"] == "nzbget"
    assert failed["correlation_id"] == grabbed["correlation_id"] == row["correlation_id"]
