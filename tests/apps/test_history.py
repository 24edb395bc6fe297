"""What the history of an application says becomes events, each once."""

import asyncio
import datetime
from collections import Counter

import pytest
from aiohttp import web

import mediabus
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.service.apps.history.reader import HistoryReader
from mediabus.service.apps.http import AppHttp, app_http
from mediabus.service.apps.sonarr import SonarrSettings
from mediabus.service.apps.state import list_apps, meet
from mediabus.service.outbox.outbox import open_outbox
from tests.support.apps import Lidarr, Prowlarr, Radarr, Sonarr
from tests.support.apps.acting import ACTS, APPS
from tests.support.apps.reading import reading, so_many, stored
from tests.support.eventually import eventually

HASH = "A" * 40
OTHER = "B" * 40


async def test_season_pack_is_one_grab_and_one_import(settings: Settings) -> None:
    async with Sonarr.running() as sonarr, reading(settings, sonarr) as user:
        series = sonarr.put_series("Severance", episodes=24, tvdbId=371980)
        episodes = range(1, 25)
        await sonarr.grab(series, episodes, HASH, trigger="InteractiveSearch")
        await sonarr.import_files(series, episodes, HASH)
        (imported,) = await so_many(user, 1, "download.imported")
        assert imported["data"]["files"] == 24
        assert imported["data"]["client_item"] == HASH.lower()
        assert imported["data"]["media_title"] == "Severance"
        (grabbed,) = await stored(user, "release.grabbed")
        assert grabbed["data"]["trigger"] == "user"
        assert grabbed["data"]["items"] == 24
        assert (grabbed["actor_type"], grabbed["actor_id"]) == ("user", "sonarr")
        assert grabbed["resource_type"] == "media_item"
        files = await stored(user, "media_file.imported")
        assert len(files) == 24
        assert {row["correlation_id"] for row in (grabbed, imported, *files)} == {
            grabbed["correlation_id"]
        }
        assert grabbed["source"] == "mediabus/sonarr"


async def test_import_of_a_part_ends_after_the_quiet_period(settings: Settings) -> None:
    async with Sonarr.running() as sonarr, reading(settings, sonarr) as user:
        series = sonarr.put_series("Severance", episodes=9)
        await sonarr.grab(series, range(1, 10), HASH)
        await sonarr.import_files(series, [1, 2], HASH)
        await so_many(user, 2, "media_file.imported")
        assert await stored(user, "download.imported") == []
        await sonarr.import_files(series, [3], HASH)
        (imported,) = await so_many(user, 1, "download.imported")
        assert imported["data"]["files"] == 3


async def test_failed_pack_is_one_failure(settings: Settings) -> None:
    async with Sonarr.running() as sonarr, reading(settings, sonarr) as user:
        series = sonarr.put_series("Severance", episodes=9)
        await sonarr.grab(series, range(1, 10), HASH)
        sonarr.fail(series, range(1, 10), HASH, "no peers")
        (failed,) = await so_many(user, 1, "download.failed")
        assert failed["data"]["error_message"] == "no peers"
        assert failed["data"]["app"] == "sonarr"
        (grabbed,) = await stored(user, "release.grabbed")
        assert failed["correlation_id"] == grabbed["correlation_id"]


async def test_upgrade_and_deleted_file_continue_the_story(settings: Settings) -> None:
    async with Radarr.running() as radarr, reading(settings, radarr) as user:
        movie = radarr.put_movie("Dune", tmdbId=438631)
        await radarr.grab(movie, HASH)
        await radarr.import_file(movie, HASH)
        await so_many(user, 1, "download.imported")
        radarr.clock.advance(seconds=2)
        await radarr.grab(movie, OTHER)
        await radarr.delete_file(movie, "upgrade")
        (deleted,) = await so_many(user, 1, "media_file.deleted")  # the import is read later
        await radarr.import_file(movie, OTHER, upgrade=True)
        _, upgrade = await so_many(user, 2, "download.imported")
        assert upgrade["data"]["upgrade"] is True
        first, better = await so_many(user, 2, "media_file.imported")
        assert better["data"]["replaced"] == [deleted["data"]["path"]]
        assert better["data"]["upgrade"] is True
        assert not {"upgrade", "replaced"} & set(first["data"])
        rows = [row for row in await stored(user) if row["source"] == "mediabus/radarr"]
        story = [row for row in rows if row["correlation_id"]]
        assert [row["type"] for row in story] == [
            "release.grabbed",
            "media_file.imported",
            "download.imported",
            "release.grabbed",
            "media_file.deleted",
            "media_file.imported",
            "download.imported",
        ]
        assert len({row["correlation_id"] for row in story}) == 1
        assert len({row["resource_id"] for row in story}) == 1


async def test_rows_are_read_once_and_rows_of_the_past_are_not_read(settings: Settings) -> None:
    async with Prowlarr.running() as prowlarr:
        prowlarr.clock.advance(hours=-2)
        await prowlarr.grab("Old")
        prowlarr.clock.advance(hours=2)
        async with reading(settings, prowlarr, poll=0.2) as user:
            await prowlarr.grab("New")
            prowlarr.search("unrelated")
            (grabbed,) = await so_many(user, 1, "release.grabbed")
            assert grabbed["data"]["title"] == "New"
            before = len(prowlarr.requests)
            await eventually(lambda: len(prowlarr.requests) > before + 9, within=30)
            assert len(await stored(user, "release.grabbed")) == 1
        async with reading(settings, prowlarr) as user:
            await prowlarr.grab("Newer")
            rows = await so_many(user, 2, "release.grabbed")
            assert [row["data"]["title"] for row in rows] == ["New", "Newer"]


async def test_import_of_the_past_is_in_order_and_marked(settings: Settings) -> None:
    async with Sonarr.running() as sonarr:
        series = sonarr.put_series("Severance", episodes=9)
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        for number in range(2500):
            date = start + datetime.timedelta(minutes=20 * number)
            sonarr.record(
                "grabbed",
                owner=series["id"],
                date=date,
                seriesId=series["id"],
                episodeId=1,
                sourceTitle=f"Release {number}",
                downloadId=f"{number:040X}",
            )
        async with reading(settings, sonarr, import_since="2020-01-02") as user:
            rows = await so_many(user, 2500 - 72, "release.grabbed")
            titles = [row["data"]["title"] for row in rows]
            assert titles == [f"Release {number}" for number in range(72, 2500)]
            marks = await user.pool.fetch(
                "SELECT DISTINCT extensions ->> 'imported' AS mark FROM events"
            )
            assert [row["mark"] for row in marks] == ["true"]
            (progress,) = await user.pool.fetch("SELECT * FROM apps")
            assert progress["backfill_since"] is None
            assert progress["backfill_rows"] == 2500 - 72


async def test_a_program_lists_applications_and_imports_their_past(settings: Settings) -> None:
    async with Prowlarr.running() as prowlarr:
        prowlarr.clock.advance(hours=-2)
        await prowlarr.grab("Old")
        prowlarr.clock.advance(hours=2)
        async with (
            reading(settings, prowlarr) as user,
            mediabus.connect(settings.nats.url) as program,
        ):
            [app] = (await program.apps.list()).items
            assert (app.name, app.reachable) == ("prowlarr", True)
            yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
            await program.apps.import_history("prowlarr", yesterday)
            (grabbed,) = await so_many(user, 1, "release.grabbed")
            assert grabbed["data"]["title"] == "Old"


async def test_lidarr_ends_imports_itself_and_reports_incomplete_ones(settings: Settings) -> None:
    async with Lidarr.running() as lidarr, reading(settings, lidarr, import_quiet=600) as user:
        artist = lidarr.put_artist("Portishead", ["Dummy"])
        await lidarr.import_album(lidarr.album(artist), HASH, tracks=3)
        (imported,) = await so_many(user, 1, "download.imported")
        assert imported["data"]["files"] == 3
        await lidarr.fail_import(lidarr.album(artist), OTHER, "Has missing tracks")
        (blocked,) = await so_many(user, 1, "download.import_blocked")
        assert blocked["data"]["reasons"] == ["Has missing tracks"]


async def test_each_track_replaces_its_own_file(settings: Settings) -> None:
    async with Lidarr.running() as lidarr, reading(settings, lidarr) as user:
        album = lidarr.album(lidarr.put_artist("Portishead", ["Dummy"]))
        await lidarr.import_album(album, HASH, tracks=2)
        await so_many(user, 2, "media_file.imported")
        await lidarr.import_album(album, OTHER, tracks=3, upgrade=True)
        rows = (await so_many(user, 5, "media_file.imported"))[2:]
        deleted = [row["data"]["path"] for row in await stored(user, "media_file.deleted")]
        assert len(deleted) == 2
        replaced = [row["data"].get("replaced") for row in rows]
        assert replaced == [[deleted[0]], [deleted[1]], None]
        _, upgrade = await so_many(user, 2, "download.imported")
        assert upgrade["data"]["upgrade"] is True


COMMON = {"health.degraded": 1, "application.updated": 1}
OF_ACTS: dict[str, dict[str, int]] = {
    "sonarr": COMMON
    | {"media_item.added": 1, "release.grabbed": 2, "media_file.imported": 3}
    | {"download.imported": 2, "media_file.renamed": 1, "media_file.deleted": 3}
    | {"download.failed": 1},
    "radarr": COMMON
    | {"media_item.added": 1, "release.grabbed": 2, "media_file.imported": 2}
    | {"download.imported": 2, "media_file.renamed": 1, "media_file.deleted": 4}
    | {"download.failed": 1},
    "lidarr": COMMON
    | {"release.grabbed": 1, "media_file.imported": 4, "media_file.deleted": 2}
    | {"download.imported": 1, "media_file.renamed": 1, "download.import_blocked": 1}
    | {"download.failed": 1},
    "prowlarr": COMMON | {"release.grabbed": 2},
}
"""How many events of each type the rows, the library and the health of an application become."""


@pytest.mark.parametrize("kind", OF_ACTS)
async def test_every_type_of_row_becomes_its_event(settings: Settings, kind: str) -> None:
    """Without a webhook: the history, the library and the health show all of it."""
    async with APPS[kind].running() as app, reading(settings, app) as user:
        await ACTS[kind](app)

        async def seen() -> Counter[str]:
            rows = await stored(user)
            return Counter(row["type"] for row in rows if row["source"] == f"mediabus/{kind}")

        async def is_all_seen() -> bool:
            return (await seen()).total() >= sum(OF_ACTS[kind].values())

        await eventually(is_all_seen, within=30)
        assert await seen() == OF_ACTS[kind]
        (state,) = await list_apps(user.pool)
        assert state.grabbed_at is not None


class Shrinking(Sonarr):
    """A Sonarr in which a series is deleted, with its rows, while the history is read."""

    pages_left = 5

    async def _history_page(self, request: web.Request) -> web.Response:
        self.pages_left -= 1
        if self.pages_left == 0:
            self.history.forget(2)
        return await super()._history_page(request)


async def test_rows_that_move_to_earlier_pages_are_not_missed(settings: Settings) -> None:
    async with Shrinking.running() as sonarr:
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        for number in range(4000):
            sonarr.record(
                "grabbed",
                owner=1 + number % 2,
                date=start + datetime.timedelta(minutes=number),
                seriesId=0,
                episodeId=0,
                sourceTitle=f"Release {number}",
            )
        async with reading(settings, sonarr, import_since="2020-01-01") as user:

            async def is_imported() -> bool:
                return bool(await user.pool.fetchval("SELECT backfill_since IS NULL FROM apps"))

            await eventually(is_imported, within=60)
            assert sonarr.pages_left < 0

            async def of_the_series_that_stayed() -> list[str]:
                rows = await stored(user, "release.grabbed")
                numbers = [int(row["data"]["title"].split()[1]) for row in rows]
                assert len(set(numbers)) == len(numbers)
                kept = [number for number in numbers if number % 2 == 0]
                return [str(number) for number in kept] if len(kept) >= 2000 else []

            kept = await eventually(of_the_series_that_stayed, within=30)
            assert kept == [str(number) for number in range(0, 4000, 2)]


async def test_two_readers_of_one_history_record_each_row_once(pool: Pool, bus: Bus) -> None:
    async with Sonarr.running() as sonarr, open_outbox(pool, bus) as outbox:
        app = SonarrSettings(name="sonarr", url=sonarr.url, api_key=sonarr.api_key)
        await meet(pool, app)
        series = sonarr.put_series("Severance", episodes=99)
        for number in range(1, 100):
            await sonarr.grab(series, [number], f"{number:040X}")

        async def learn(_: AppHttp) -> None:
            return None

        readers = [HistoryReader(pool, outbox, app, learn) for _ in range(3)]
        async with app_http(app) as http:
            found = await asyncio.gather(*(reader.read_new(http) for reader in readers))
            assert sum(found) == 99
            assert sum([await reader.read_new(http) for reader in readers]) == 0
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 99
