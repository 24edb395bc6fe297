"""The library of the stand-in for Sonarr: series, episodes and files."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.support.apps.arr import LANGUAGES, QUALITY, Arr, Fields
from tests.support.apps.history import Row
from tests.support.apps.releases import CUSTOM_FORMATS, GROUP, SIZE, media_info
from tests.support.apps.wire import date_text


class SeriesLibrary(Arr):
    """Series with episodes. A row of the history is about one episode."""

    includes = ("includeSeries", "includeEpisode")

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        self.series: dict[int, Fields] = {}
        self.episodes: dict[int, Fields] = {}
        self._files = 0

    def library_routes(self) -> list[web.RouteDef]:
        path = f"{self.api}/series"
        return [web.get(path, self._list), web.get(f"{path}/{{id}}", self._get)]

    def put_series(self, title: str, *, episodes: int = 10, season: int = 1, **ids: Any) -> Fields:
        """Add a series and its episodes without a webhook."""
        number = len(self.series) + 1
        series = {
            "id": number,
            "title": title,
            "titleSlug": title.lower().replace(" ", "-"),
            "path": f"/tv/{title}",
            "tvdbId": 0,
            "tvMazeId": 0,
            "tmdbId": 0,
            "imdbId": None,
            "type": "standard",
            "seriesType": "standard",
            "year": 2022,
            "monitored": True,
            "status": "continuing",
            "genres": ["Drama"],
            "tags": [],
            **ids,
        }
        self.series[number] = series
        for episode in range(1, episodes + 1):
            self._put_episode(series, season, episode)
        return series

    def objects_of(self, row: Row) -> Fields:
        series = self.series.get(row["seriesId"])
        return {"series": series, "episode": self.episodes.get(row["episodeId"])}

    def test_fields(self) -> Fields:
        tags = ["test-tag"]
        series = {"id": 1, "title": "Test Title", "path": "C:\\testpath", "tvdbId": 1234}
        zeros = {"tvMazeId": 0, "tmdbId": 0, "type": "standard", "year": 0}
        episode = {"id": 123, "episodeNumber": 1, "seasonNumber": 1, "title": "Test title"}
        return {
            "series": {**series, **zeros, "tags": tags},
            "episodes": [{**episode, "seriesId": 0, "tvdbId": 0}],
        }

    def _put_episode(self, series: Fields, season: int, number: int) -> None:
        episode_id = len(self.episodes) + 1
        self.episodes[episode_id] = {
            "id": episode_id,
            "seriesId": series["id"],
            "tvdbId": 0,
            "seasonNumber": season,
            "episodeNumber": number,
            "title": f"Episode {number}",
            "airDate": "2022-02-18",
            "airDateUtc": "2022-02-18T05:00:00Z",
        }

    def episode(self, series: Fields, number: int) -> Fields:
        """Return an episode by its number in the first season that has it."""
        return next(
            episode
            for episode in self.episodes.values()
            if (episode["seriesId"], episode["episodeNumber"]) == (series["id"], number)
        )

    def _row(  # noqa: PLR0917 - what a row of the history has
        self,
        event_type: str,
        series: Fields,
        number: int,
        source_title: str,
        data: Fields,
        download_id: str | None = None,
    ) -> Row:
        return self.record(
            event_type,
            owner=series["id"],
            seriesId=series["id"],
            episodeId=self.episode(series, number)["id"],
            sourceTitle=source_title,
            languages=LANGUAGES,
            quality=QUALITY,
            qualityCutoffNotMet=False,
            downloadId=download_id,
            data=data,
            **CUSTOM_FORMATS,
        )

    def _subject(self, series: Fields, numbers: Sequence[int]) -> Fields:
        episodes = [self.episode(series, number) for number in numbers]
        return {"series": self._told(series), "episodes": episodes}

    def _told(self, series: Fields) -> Fields:
        """Return a series as webhooks have it: without what the API adds."""
        return {
            key: value
            for key, value in series.items()
            if key not in {"monitored", "seriesType", "status"}
        }

    def _release_title(self, series: Fields, numbers: Sequence[int]) -> str:
        season = self.episode(series, numbers[0])["seasonNumber"]
        episode = f"E{numbers[0]:02}" if len(numbers) == 1 else ""
        name = series["title"].replace(" ", ".")
        return f"{name}.S{season:02}{episode}.1080p.WEB-DL.H264-{GROUP}"

    def _file(self, series: Fields, number: int) -> Fields:
        self._files += 1
        season = self.episode(series, number)["seasonNumber"]
        name = f"Season {season}/{series['title']} - S{season:02}E{number:02}.mkv"
        return {
            "id": self._files,
            "relativePath": name,
            "path": f"{series['path']}/{name}",
            "quality": "WEBDL-1080p",
            "qualityVersion": 1,
            "releaseGroup": GROUP,
            "sceneName": self._release_title(series, [number]),
            "size": SIZE,
            "dateAdded": date_text(self.clock.now()),
            "languages": LANGUAGES,
            "mediaInfo": media_info(),
            "sourcePath": f"/downloads/{self._release_title(series, [number])}.mkv",
        }

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.series.values()))

    async def _get(self, request: web.Request) -> web.Response:
        series = self.series.get(int(request.match_info["id"]))
        return web.json_response(series or {"message": "NotFound"}, status=200 if series else 404)
