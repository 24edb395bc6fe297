"""What becomes of real downloads from usenet becomes events in PostgreSQL, once each."""

import base64
from collections.abc import AsyncIterator, Iterator

import pytest

from mediabus.runtime.settings import Settings
from mediabus.service.clients.port import NzbFile
from tests.support import nntp, nzbget_daemon
from tests.support.library import library, with_clients
from tests.support.nntp import NewsServer

MONITOR = ("system", "download_monitor")


@pytest.fixture
def daemon() -> Iterator[nzbget_daemon.NzbGet]:
    with nzbget_daemon.NzbGet.started() as running:
        yield running


@pytest.fixture
async def news(daemon: nzbget_daemon.NzbGet) -> AsyncIterator[NewsServer]:
    async with nntp.news_server(daemon.news_port) as running:
        yield running


async def test_a_download_from_usenet_pauses_resumes_and_completes(
    settings: Settings, daemon: nzbget_daemon.NzbGet, news: NewsServer
) -> None:
    post = news.post("Arrival.2016.1080p", size=2 << 20)
    news.hold(after=2)
    asked = {"title": "Arrival", "nzb": base64.b64encode(post.nzb).decode()}
    async with library(with_clients(settings, daemon.settings())) as user:
        download = (await user.ask("downloads.initiate", asked))["id"]
        await user.event("download.initiated", download)
        await user.ask("downloads.pause", {"id": download})
        paused = await user.event("download.paused", download)
        await user.ask("downloads.resume", {"id": download})
        news.release()
        completed = await user.event("download.completed", download, within=60)
        types = await user.types(download)
    assert (paused["actor_type"], paused["actor_id"]) == ("user", "42")
    assert (completed["actor_type"], completed["actor_id"]) == MONITOR
    assert completed["data"]["protocol"] == "usenet"
    assert completed["data"]["size"] > 0
    assert types == [
        "download.initiated",
        "download.paused",
        "download.resumed",
        "download.completed",
    ]


async def test_missing_articles_fail_the_download_with_that_reason(
    settings: Settings, daemon: nzbget_daemon.NzbGet, news: NewsServer
) -> None:
    post = news.post("Arrival.2016.1080p", size=2 << 20)
    news.missing |= set(post.articles[5:20])
    asked = {"title": "Arrival", "nzb": base64.b64encode(post.nzb).decode()}
    async with library(with_clients(settings, daemon.settings())) as user:
        download = (await user.ask("downloads.initiate", asked))["id"]
        failed = await user.event("download.failed", download, within=60)
        types = await user.types(download)
    assert failed["data"]["reason"] == "missing_articles"
    assert failed["data"]["error_message"]
    assert types == ["download.initiated", "download.failed"]


async def test_only_downloads_added_in_the_usenet_client_are_discovered(
    settings: Settings, daemon: nzbget_daemon.NzbGet, news: NewsServer
) -> None:
    ours, theirs = news.post("Ours.2016.1080p"), news.post("Theirs.2017.1080p")
    watched = with_clients(settings, daemon.settings(), discovered_after=1.0)
    async with library(watched) as user, daemon.settings().connect() as client:
        asked = {"title": "Ours", "nzb": base64.b64encode(ours.nzb).decode()}
        download = (await user.ask("downloads.initiate", asked))["id"]
        source = NzbFile(theirs.nzb, "Theirs.2017.1080p")
        await client.add(source, title="Theirs.2017.1080p", category=None)
        discovered = await user.event("download.discovered", within=60)
        await user.event("download.completed", download, within=60)
    assert discovered["data"]["title"] == "Theirs.2017.1080p"
