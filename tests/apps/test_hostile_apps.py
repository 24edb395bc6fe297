"""No answer of an application stops mediabus, and none reaches a log with a secret in it."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from mediabus.runtime.settings import Settings
from tests.support.apps import Radarr, Sonarr
from tests.support.apps.reading import reading, so_many, stored

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
        ]
        sonarr.answer = lambda _: web.json_response(rows)
        grabbed = await so_many(user, 5, "release.grabbed")
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
