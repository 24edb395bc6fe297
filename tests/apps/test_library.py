"""The libraries of applications become media items."""

import time
from typing import Any

from mediabus.runtime.settings import Settings
from mediabus.schemas.subjects import WAKE_SUBJECT
from mediabus.service.apps.port import Removal, Webhook
from mediabus.service.apps.wake import encode_wake
from tests.support.apps import Radarr, Sonarr
from tests.support.apps.reading import reading, so_many, stored
from tests.support.eventually import eventually
from tests.support.library import Library

QUICK: dict[str, Any] = {"sweep": 0.5}


async def items(user: Library) -> list[Any]:
    found: list[Any] = await user.pool.fetch("SELECT * FROM media_items ORDER BY id")
    return found


async def test_two_applications_with_the_same_movie_make_one_item(settings: Settings) -> None:
    async with Radarr.running() as radarr, Radarr.running(instance_name="Radarr4K") as other:
        radarr.put_movie("Dune", tmdbId=438631, monitored=False)
        other.put_movie("Dune: Part One", tmdbId=438631, imdbId="tt1160419", monitored=True)
        movie = other.put_movie("Arrival", tmdbId=329865)
        async with reading(settings, radarr, other, **QUICK) as user:
            await so_many(user, 2, "media_item.added")

            async def merged() -> bool:
                found = {row["tmdb_id"]: row for row in await items(user)}
                dune = found[438631]
                return bool(dune["monitored"] and dune["imdb_id"] == "tt1160419")

            await eventually(merged, within=30)
            await other.delete_movie(movie)
            del other.movies[1]
            (removed,) = await so_many(user, 1, "media_item.removed")
            assert removed["data"]["title"] == "Arrival"
            (left,) = await items(user)
            assert left["tmdb_id"] == 438631
            radarr.movies.clear()
            await so_many(user, 2, "media_item.removed")
            assert await items(user) == []


async def test_changes_of_an_application_are_applied_and_those_of_users_stay(
    settings: Settings,
) -> None:
    async with Sonarr.running() as sonarr:
        series = sonarr.put_series("Severance", tvdbId=371980)
        async with reading(settings, sonarr, **QUICK) as user:
            (added,) = await so_many(user, 1, "media_item.added")
            assert added["data"]["tvdb_id"] == 371980
            item = added["resource_id"]
            await user.ask("media.update", {"id": item, "year": 2020})
            series["title"] = "Severance (US)"
            _, updated = await so_many(user, 2, "media_item.updated")
            assert updated["data"]["changes"] == {"title": ["Severance", "Severance (US)"]}
            assert updated["data"]["year"] == 2020
            series["monitored"] = False
            (changed,) = await so_many(user, 1, "media_item.monitoring_changed")
            assert changed["data"]["monitored"] is False
            sonarr.series = {7: {**series, "id": 7}}
            await user.ask("media.delete", {"ids": [item]})

            async def renumbered() -> bool:
                return bool(await user.pool.fetchval("SELECT app_item = 7 FROM media_sources"))

            await eventually(renumbered, within=30)
            assert await items(user) == []
            assert len(await stored(user, "media_item.added")) == 1


async def test_webhook_about_the_library_reads_it_at_once(settings: Settings) -> None:
    async with Radarr.running() as radarr, reading(settings, radarr, poll=600) as user:
        radarr.put_movie("Unannounced", year=0, tmdbId=1)
        radarr.put_movie("Dune", tmdbId=438631)
        await user.nats.publish(f"{WAKE_SUBJECT}.radarr", encode_wake(Webhook("MovieAdded")))
        (added,) = await so_many(user, 1, "media_item.added")
        assert added["data"]["title"] == "Dune"


async def test_removed_item_says_whether_its_files_were_deleted(settings: Settings) -> None:
    async with Radarr.running() as radarr:
        told, silent = radarr.put_movie("Dune", tmdbId=1), radarr.put_movie("Arrival", tmdbId=2)
        async with reading(settings, radarr, poll=600) as user:
            await so_many(user, 2, "media_item.added")
            await radarr.delete_movie(told, files=True)
            await radarr.delete_movie(silent, files=True)
            wake = encode_wake(Webhook("MovieDelete", removal=Removal(told["id"], True)))
            await user.nats.publish(f"{WAKE_SUBJECT}.radarr", wake)
            removed = await so_many(user, 2, "media_item.removed")
            said = {row["data"]["title"]: row["data"].get("files_deleted") for row in removed}
            assert said == {"Dune": True, "Arrival": None}


async def test_ten_thousand_series_become_items_in_a_minute(settings: Settings) -> None:
    async with Sonarr.running() as sonarr:
        for number in range(1, 10_001):
            sonarr.series[number] = {
                "id": number,
                "title": f"Series {number}",
                "tvdbId": number,
                "year": 2000,
                "monitored": True,
                "overview": "x" * 500,
                "images": [{"coverType": "poster", "url": "/poster.jpg"}] * 3,
            }
        started = time.monotonic()
        async with reading(settings, sonarr, timeout=60) as user:

            async def known() -> bool:
                return bool(await user.pool.fetchval("SELECT count(*) = 10000 FROM media_items"))

            await eventually(known, within=60)
            assert time.monotonic() - started < 60
            await so_many(user, 10_000, "media_item.added")
