"""Discovery of downloads that were added outside mediabus."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.url_policy import allowed_hosts
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import InitiateDownload
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase, Protocol
from mediabus.service.clients.port import Magnet, NzbFile, Source
from mediabus.service.clients.sessions import Sessions
from mediabus.service.downloads.bucket import Statuses
from mediabus.service.monitor.follow.discovery import ADDING_LASTS, Discovery
from mediabus.service.monitor.follow.lifecycle import Hold
from mediabus.service.operations.fetching import Fetches
from mediabus.service.operations.initiate import Initiate, Urls
from mediabus.service.outbox.outbox import Outbox, open_outbox
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, monitored, said
from tests.support.scripted import AlwaysListed, ScriptedSettings, scripted

CREATE = "INSERT INTO media_items (id, type, title, year) VALUES ($1, $2, $3, $4)"
OF_WHAT = """
SELECT d.client_item, m.type || ' ' || m.title || ' ' || m.year
FROM downloads AS d LEFT JOIN media_items AS m ON m.id = d.media_item_id
"""
LIBRARY = [
    ("movie", "Dune", 1984),
    ("movie", "Dune", 2021),
    ("movie", "Solaris", 1972),
    ("movie", "Solaris", 1972),
    ("tv_show", "Battlestar Galactica", 1978),
    ("tv_show", "Battlestar Galactica", 2004),
    ("movie", "Fargo", 1996),
    ("tv_show", "Fargo", 2014),
]
NAMES = {
    "Dune.1984.1080p.BluRay.x264-GRP": "movie Dune 1984",
    "dune (2021) [2160p]": "movie Dune 2021",
    "Dune.2000.1080p.BluRay.x264-GRP": None,
    "Dune.Part.Two.2021.1080p.WEB-DL": None,
    "Dune.1080p.BluRay.x264-GRP": None,
    "Solaris.1972.1080p.BluRay.x264-GRP": None,
    "Battlestar.Galactica.S01E01.720p.HDTV": None,
    "Battlestar.Galactica.2004.S01E02.720p.HDTV": "tv_show Battlestar Galactica 2004",
    "Fargo.1996.1080p.BluRay.x264-GRP": "movie Fargo 1996",
    "Fargo.S01E01.1080p.WEB-DL": "tv_show Fargo 2014",
}


class UsenetSettings(ScriptedSettings, frozen=True, kw_only=True, tag="scripted_usenet"):
    """A client that gives its own numbers to what is added."""

    protocol: ClassVar[Protocol] = "usenet"


@contextlib.asynccontextmanager
async def discovering(
    pool: Pool, bus: Bus, protocol: Protocol = "torrent"
) -> AsyncIterator[tuple[Outbox, Discovery]]:
    """Discover untracked downloads without delay."""
    async with open_outbox(pool, bus) as outbox:
        yield (
            outbox,
            Discovery(pool, outbox, AlwaysListed(), protocol=protocol, after=0.0, names=["script"]),
        )


async def meet(discovery: Discovery, name: str) -> Hold | None:
    """Show an untracked download."""
    seen = DownloadStatus(
        client=ClientName("script"), item=ItemId(name), title=name, phase=Phase.DOWNLOADING
    )
    return await discovery.consider(seen, datetime.datetime.now(datetime.UTC))


async def test_untracked_download_is_linked_only_if_unambiguous(pool: Pool, bus: Bus) -> None:
    """Neither of another year, nor of one of two that it may be, nor of another kind."""
    for media_item in LIBRARY:
        await pool.execute(CREATE, uuid7(), *media_item)
    async with discovering(pool, bus) as (_, discovery):
        for name in NAMES:
            await meet(discovery, name)
    assert {row[0]: row[1] for row in await pool.fetch(OF_WHAT)} == NAMES
    assert await said(pool) == [("download.discovered", "download_monitor")] * len(NAMES)


async def test_download_being_added_by_mediabus_is_not_discovered(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client lists the download before it replies with its id."""
    script, _ = scripted()
    settings = UsenetSettings(name="script", url="")
    async with discovering(pool, bus, "usenet") as (outbox, discovery):

        async def add(source: Source, *, title: str, category: str | None) -> ItemId:
            assert (source, category) == (NzbFile(b"<nzb/>", title), None)
            assert await meet(discovery, "new") == Hold(ADDING_LASTS)
            return ItemId("new")

        monkeypatch.setattr(script, "add", add)
        sessions, nowhere = (
            Sessions([(settings, script)]),
            Urls(Fetches(asyncio.get_running_loop()), allowed_hosts([])),
        )
        initiate = Initiate(pool, outbox, sessions, Statuses(bus), nowhere)
        request = InitiateDownload(title="It", nzb=b"<nzb/>")
        await initiate.initiate(request, Actor("user", "42"))
        assert await said(pool) == [("download.initiated", "42")]
        # It has its id: nothing else in the client can be it.
        await meet(discovery, "other")
    types = [kind for kind, _ in await said(pool)]
    assert types == ["download.initiated", "download.discovered"]


async def test_id_that_changes_while_adding_is_followed(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client answers with the id that the download had before."""
    before, after = ItemId("1" * 40), ItemId("2" * 40)
    script, settings = scripted()
    async with discovering(pool, bus) as (outbox, discovery):

        async def add(source: Source, *, title: str, category: str | None) -> ItemId:
            assert (source, title, category) == (Magnet(link), "It", None)
            seen = DownloadStatus(
                client=ClientName("script"),
                item=after,
                title=title,
                phase=Phase.DOWNLOADING,
                aliases=(before,),
            )
            await discovery.consider(seen, datetime.datetime.now(datetime.UTC))
            return before

        monkeypatch.setattr(script, "add", add)
        link = f"magnet:?xt=urn:btih:{before}"
        nowhere = Urls(Fetches(asyncio.get_running_loop()), allowed_hosts([]))
        sessions = Sessions([(settings, script)])
        initiate = Initiate(pool, outbox, sessions, Statuses(bus), nowhere)

        shown = await initiate.initiate(
            InitiateDownload(title="It", magnet=link), Actor("user", "42")
        )

    assert shown.client_item == after
    assert await said(pool) == [("download.initiated", "42")]


async def test_old_interrupted_initiation_does_not_prevent_discovery(pool: Pool, bus: Bus) -> None:
    await pool.execute(INSERT, uuid7(), "initiating", None, None, "initiate")
    async with discovering(pool, bus) as (_, discovery):
        await meet(discovery, "other")
    assert await said(pool) == [("download.discovered", "download_monitor")]


async def test_download_complete_at_first_poll_is_not_completed_again(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    script.show("old", "completed")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "completed", "old"))
        assert [kind for kind, _ in await said(pool)] == ["download.discovered"]
        await pool.execute("UPDATE download_clients SET met_at = now() - interval '1 hour'")
        script.show("new", "completed")
        await eventually(lambda: has(pool, "completed", "new"))
    types = [kind for kind, _ in await said(pool)]
    assert types == ["download.discovered", "download.discovered", "download.completed"]
