"""No answer of an application stops mediabus, and none reaches a log with a secret in it."""

import asyncio
import datetime
import itertools
import resource
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from mediabus.runtime.settings import Settings
from mediabus.service.apps.connect import connect_app
from mediabus.service.apps.health import Problem
from mediabus.service.apps.history.pages import PAGE, rows_by_page
from mediabus.service.apps.history.rows import Row
from mediabus.service.apps.http import MAX_LIBRARY, MAX_LIBRARY_BYTES, AppHttp, app_http
from mediabus.service.apps.library.entry import Listed
from mediabus.service.apps.sonarr import SonarrSettings
from mediabus.service.clients.limits import MAX_MESSAGE_LENGTH
from mediabus.service.clients.port import ClientUnavailable
from tests.fuzz_clients import computes_little
from tests.support.apps import Radarr, Sonarr
from tests.support.apps.reading import reading, so_many, stored
from tests.support.hostile import OVER_HTTP, hostile

DEEP = b"[" * 100_000


class Hostile(Sonarr):
    """A Sonarr whose history can be replaced by anything."""

    answer: Callable[[web.Request], web.Response] | None = None

    async def _history_since(self, request: web.Request) -> web.Response:
        if self.answer is not None:
            return self.answer(request)
        return await super()._history_since(request)


def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


def row(**fields: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return {"id": 1, "date": now, "eventType": "grabbed", **fields}


def odd(**fields: Any) -> dict[str, Any]:
    """Return a row of a download whose every text is too long, or has what no database stores."""
    text = "\0\u202e\u2028" + "é" * 20_000
    names = ("indexer", "downloadClient", "message", "importedPath", "droppedPath", "path")
    return row(
        sourceTitle=text,
        downloadId="nzo_odd",
        seriesId=1,
        episodeId=1,
        quality={"quality": {"name": text}},
        data={**dict.fromkeys(names, text), "reason": "Upgrade", "size": str(2**63)},
        **fields,
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: web.Response(body=DEEP), id="deep"),
        pytest.param(lambda _: web.json_response({"not": "a list"}), id="not-a-list"),
        pytest.param(lambda _: web.json_response([{"eventType": "grabbed"}]), id="no-id"),
        pytest.param(lambda _: web.json_response([row(date="yesterday")]), id="no-date"),
        pytest.param(lambda _: web.Response(body=b"\xff\xfe"), id="not-utf-8"),
        pytest.param(lambda _: web.Response(status=500, text="no"), id="error"),
        pytest.param(redirect, id="redirect"),
    ],
)
async def test_unusable_history_is_an_outage_and_ends(
    settings: Settings, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    async with Hostile.running() as sonarr, reading(settings, sonarr) as user:
        sonarr.answer = answer
        (lost,) = await so_many(user, 1, "app.unreachable")
        assert lost["data"]["reason"] == "protocol"
        sonarr.answer = None
        await so_many(user, 1, "app.recovered")
        assert sonarr.api_key not in caplog.text
        assert sonarr.api_key not in str(await stored(user))


async def test_values_of_wrong_types_and_sizes_are_repaired(settings: Settings) -> None:
    async with Hostile.running() as sonarr, reading(settings, sonarr) as user:
        rows = [
            row(id=1, sourceTitle="a\0b", downloadId="x" * 5000, data=[1]),
            row(id=2, sourceTitle="c" * 1_000_000, quality={"quality": 7}),
            row(id=3, data={"size": "1e999", "indexer": {"a": 1}, "protocol": None}),
            row(id=4, eventType="unheard"),
            row(id=5, date="0001-01-01T00:00:00Z"),
            row(id=6, date="9999-12-31T23:59:59Z"),
            row(id=7, seriesId=2**63 - 1, episodeId=-5, sourceTitle="good"),
            row(id=2**62, sourceTitle="large"),
            row(id=9, seriesId=2**63, episodeId=2**63, sourceTitle="numbers"),
            row(id=10, date="0001-01-01T00:00:00+14:00"),
            row(id=11, date="9999-12-31T23:59:59-14:00"),
            row(id=12, data={"size": 10**400, "protocol": [[]]}),
            row(id=13, data={"protocol": 10**4000, "size": True}),
            odd(id=14, eventType="grabbed"),
            *(odd(id=15 + n, eventType="downloadFolderImported") for n in range(3)),
            odd(id=18, eventType="downloadFailed"),
            odd(id=19, eventType="episodeFileDeleted"),
            odd(id=20, eventType="episodeFileRenamed"),
        ]
        sonarr.answer = lambda _: web.json_response(rows)
        grabbed = await so_many(user, 9, "release.grabbed")
        assert {"a\N{REPLACEMENT CHARACTER}b", "good", "large"} <= {
            event["data"]["title"] for event in grabbed
        }


async def test_library_with_odd_entries_is_read(settings: Settings) -> None:
    async with Radarr.running() as radarr:
        radarr.put_movie("", tmdbId=1)
        radarr.put_movie("No ids", tmdbId=0)
        radarr.put_movie("Large", tmdbId=2**40, imdbId="t" * 500)
        radarr.put_movie("Twice", tmdbId=7)
        radarr.put_movie("Twice", tmdbId=7)
        radarr.put_movie("Old", year=-1)
        radarr.put_movie("Text", tmdbId="8")
        async with reading(settings, radarr) as user:
            added = await so_many(user, 4, "media_item.added")
            assert {event["data"]["title"] for event in added} == {
                "No ids",
                "Large",
                "Twice",
                "Text",
            }


async def test_item_whose_title_cannot_be_read_is_not_removed(settings: Settings) -> None:
    async with Radarr.running() as radarr:
        radarr.put_movie("Dune", tmdbId=1)
        radarr.put_movie("Arrival", tmdbId=2)
        async with reading(settings, radarr, sweep=0.5) as user:
            await so_many(user, 2, "media_item.added")
            radarr.movies[1]["title"] = {"odd": []}
            del radarr.movies[2]
            (removed,) = await so_many(user, 1, "media_item.removed")
            assert removed["data"]["title"] == "Arrival"
            assert await user.pool.fetchval("SELECT count(*) FROM media_items") == 1


async def test_texts_of_status_and_health_are_cut(settings: Settings) -> None:
    async with Hostile.running() as sonarr, reading(settings, sonarr) as user:
        sonarr.version = "5\0" + "x" * 5_000_000
        await sonarr.degrade("Check\0" + "y" * 5_000_000, "\0" + "z" * 5_000_000, "l" * 5_000_000)
        (degraded,) = await so_many(user, 1, "health.degraded")
        (updated,) = await so_many(user, 1, "application.updated")
        assert len(str(degraded["data"])) < 5_000
        assert len(updated["data"]["new_version"]) == 100


@pytest.mark.parametrize("totals", [itertools.count(10**6, -1), itertools.repeat(10**30)])
async def test_pages_that_never_end_are_an_error(totals: Iterator[int]) -> None:
    """The history becomes shorter with every answer, or is a page that repeats without end."""
    rows = [row(id=number) for number in range(PAGE)]

    class Endless(Sonarr):
        async def _history_page(self, _: web.Request) -> web.Response:
            return web.json_response({"totalRecords": next(totals), "records": rows})

    async with Endless.running() as sonarr:
        app = SonarrSettings(name="sonarr", url=sonarr.url, api_key=sonarr.api_key)
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        async with app_http(app) as http:
            with pytest.raises(ClientUnavailable, match="do not end") as ended:
                async for _ in rows_by_page(http, start):
                    pass
        assert ended.value.reason == "protocol"
        assert len(sonarr.requests) < 5_000


async def test_list_without_end_is_refused() -> None:
    class Large(Sonarr):
        async def _list(self, _: web.Request) -> web.Response:
            return web.Response(body=b"[" + b'{"id":1},' * (MAX_LIBRARY + 1) + b'{"id":1}]')

    async with Large.running() as sonarr:
        app = SonarrSettings(name="sonarr", url=sonarr.url, api_key=sonarr.api_key)
        async with app_http(app) as http:
            with pytest.raises(ClientUnavailable, match="more than 200000 entries"):
                await http.get_all("series", Listed)


APP = SonarrSettings(name="sonarr", url="http://127.0.0.1:1", api_key="x" * 32)
READS: dict[str, Callable[[AppHttp], Awaitable[object]]] = {
    "since": lambda http: http.get("history/since", list[Row]),
    "library": lambda http: http.get_all("series", Listed),
    "health": lambda http: http.get("health", list[Problem]),
    "connect": lambda http: connect_app(APP, http, "http://127.0.0.1:1"),
}


@pytest.mark.parametrize("attack", OVER_HTTP)
async def test_attack_of_an_application_is_an_outage_in_time_and_memory(attack: str) -> None:
    reads = READS if attack in {"deep objects", "endless chunks", "slow"} else ("since", "library")
    with hostile(OVER_HTTP[attack]) as server:
        url = f"http://127.0.0.1:{server.port}"
        app = msgspec.structs.replace(APP, url=url, timeout=0.6)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in reads:
            with pytest.raises(ClientUnavailable) as ended, computes_little():
                async with asyncio.timeout(30), app_http(app) as http:
                    await READS[name](http)
            assert ended.value.reason in {"protocol", "connection"}
            assert len(str(ended.value)) <= MAX_MESSAGE_LENGTH
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert kilobytes < 3 * MAX_LIBRARY_BYTES // 1024
