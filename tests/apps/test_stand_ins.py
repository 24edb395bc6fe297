"""The stand-ins for the applications behave as the sources of the applications do."""

from typing import Any

import aiohttp
import pytest

from tests.support.apps import Lidarr, Prowlarr, Radarr, Seerr, Sonarr
from tests.support.apps.receiver import receiver

HASH = "A" * 40


async def get(app: Any, path: str, **query: str) -> Any:
    async with (
        aiohttp.ClientSession(headers={"X-Api-Key": app.api_key}) as session,
        session.get(f"{app.url}{path}", params=query) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json()


async def send(app: Any, method: str, path: str, body: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(headers={"X-Api-Key": app.api_key}) as session,
        session.request(method, f"{app.url}{path}", json=body) as response,
    ):
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Sonarr, "/api/v3/system/status"),
        (Radarr, "/api/v3/system/status"),
        (Lidarr, "/api/v1/system/status"),
        (Prowlarr, "/api/v1/system/status"),
        (Seerr, "/api/v1/status"),
    ],
)
async def test_app_requires_its_api_key(kind: Any, path: str) -> None:
    async with kind.running() as app:
        assert (await get(app, path))["version"] == app.version
        async with aiohttp.ClientSession() as session, session.get(app.url + path) as response:
            assert response.status == 401


async def test_failing_connection_is_disabled_and_drops_what_happens_meanwhile() -> None:
    async with receiver() as hook, Sonarr.running() as sonarr:
        sonarr.connections.add(hook.url)
        sonarr.clock.advance(hours=1)
        hook.status = 503
        await sonarr.degrade("IndexerStatusCheck", "down")
        sonarr.clock.advance(minutes=6)
        await sonarr.recover("IndexerStatusCheck")
        hook.status = 200
        await sonarr.degrade("IndexerStatusCheck", "down")
        assert sonarr.connections.dropped == ["Health"]
        sonarr.clock.advance(minutes=5)
        await sonarr.update("4.0.16.0")
        assert hook.kinds == ["Health", "HealthRestored", "ApplicationUpdate"]


async def test_webhooks_omit_nulls_and_write_defaults() -> None:
    async with receiver() as hook, Sonarr.running() as sonarr:
        sonarr.connections.add(hook.url, username="u", password="p")
        series = await sonarr.add_series("Severance", tvdbId=371980)
        await sonarr.delete_series(series)
        added, deleted = hook.bodies
        assert "imdbId" not in added["series"]
        assert added["series"]["tmdbId"] == 0
        assert added["series"]["tvdbId"] == 371980
        assert deleted["deletedFiles"] is False
        assert "monitored" not in added["series"]
        assert hook.headers[0]["Authorization"].startswith("Basic ")


async def test_import_sends_download_per_file_and_one_more() -> None:
    async with receiver() as hook, Sonarr.running() as sonarr:
        sonarr.connections.add(hook.url)
        series = sonarr.put_series("Severance", episodes=9)
        await sonarr.import_files(series, range(1, 4), HASH)
        assert hook.kinds == ["Download"] * 4
        assert ["episodeFile" in body for body in hook.bodies] == [True, True, True, False]
        assert hook.bodies[3]["fileCount"] == 3


async def test_history_reads_since_a_date_and_by_pages() -> None:
    async with Sonarr.running() as sonarr:
        series = sonarr.put_series("Severance")
        await sonarr.grab(series, [1, 2], HASH, trigger="InteractiveSearch")
        sonarr.clock.advance(hours=1)
        later = sonarr.clock.now().isoformat()
        sonarr.fail(series, [1], HASH, "no peers")
        rows = await get(sonarr, "/api/v3/history/since", date=later, includeSeries="true")
        assert [row["eventType"] for row in rows] == ["downloadFailed"]
        assert rows[0]["series"]["title"] == "Severance"
        assert "episode" not in rows[0]
        page = await get(sonarr, "/api/v3/history", page="1", pageSize="2")
        assert (page["totalRecords"], [row["id"] for row in page["records"]]) == (3, [3, 2])
        await sonarr.import_files(series, [1], HASH)
        shifted = await get(sonarr, "/api/v3/history", page="2", pageSize="2")
        assert [row["id"] for row in shifted["records"]] == [2, 1]


async def test_rows_of_a_deleted_series_are_gone_and_a_new_database_counts_from_one() -> None:
    async with Sonarr.running() as sonarr:
        series, other = sonarr.put_series("Severance"), sonarr.put_series("Silo")
        await sonarr.grab(series, [1], HASH)
        await sonarr.grab(other, [1], HASH)
        await sonarr.delete_series(series)
        assert [row["id"] for row in sonarr.history.page(1, 9, ascending=True)] == [2]
        sonarr.rebuild_database()
        rows = await sonarr.grab(other, [1], HASH)
        assert rows[0]["id"] == 1


async def test_manual_interaction_is_sent_once_per_life_of_the_process() -> None:
    async with receiver() as hook, Radarr.running() as radarr:
        radarr.connections.add(hook.url)
        movie = radarr.put_movie("Dune", tmdbId=438631)
        for _ in range(2):
            await radarr.require_interaction(movie, HASH, ["sample"])
        await radarr.restart()
        await radarr.require_interaction(movie, HASH, ["sample"])
        assert hook.kinds == ["ManualInteractionRequired"] * 2
        assert hook.bodies[0]["downloadStatus"] == "Warning"


async def test_webhook_that_does_not_answer_its_test_cannot_be_saved() -> None:
    async with receiver() as hook, Lidarr.running() as lidarr:
        schemas = await get(lidarr, "/api/v1/notification/schema")
        schema = next(item for item in schemas if item["implementation"] == "Webhook")
        assert schema["supportsOnDownloadFailure"]
        fields = [{"name": "url", "value": hook.url}, {"name": "method", "value": 2}]
        resource = {**schema, "name": "mediabus", "fields": fields}
        hook.status = 401
        status, problems = await send(lidarr, "POST", "/api/v1/notification", resource)
        assert (status, problems[0]["propertyName"]) == (400, "Url")
        hook.status = 200
        status, saved = await send(lidarr, "POST", "/api/v1/notification", resource)
        assert (status, saved["id"], hook.kinds) == (201, 1, ["Test", "Test"])
        renamed = {**saved, "name": "other"}
        status, _ = await send(lidarr, "PUT", "/api/v1/notification/1", renamed)
        assert status == 202
        assert [item["name"] for item in await get(lidarr, "/api/v1/notification")] == ["other"]


async def test_seerr_writes_numbers_as_strings_and_absent_sections_as_null() -> None:
    async with receiver() as hook, Seerr.running() as seerr:
        seerr.add_webhook(hook.url, authorization="Bearer x")
        await seerr.request("Dune")
        body = hook.bodies[0]
        assert body["media"]["tmdbId"] == "438631"
        assert body["request"]["request_id"] == "1"
        assert (body["issue"], body["comment"]) == (None, None)
        assert hook.headers[0]["Authorization"] == "Bearer x"


async def test_lost_webhook_is_not_sent_again() -> None:
    async with receiver() as hook, Prowlarr.running() as prowlarr:
        prowlarr.connections.add(hook.url)
        prowlarr.connections.drop = lambda number: number % 2 == 0
        for number in range(4):
            await prowlarr.grab(f"Release {number}")
        assert [body["release"]["releaseTitle"] for body in hook.bodies] == [
            "Release 0",
            "Release 2",
        ]
        assert prowlarr.connections.attempts == [("Grab", 200), ("Grab", 0)] * 2
