"""A stand-in for Radarr, version 5."""

from typing import Any

from aiohttp import web

from tests.support.apps.arr import LANGUAGES, QUALITY, Arr, Fields
from tests.support.apps.history import Row
from tests.support.apps.releases import (
    CUSTOM_FORMATS,
    GROUP,
    SIZE,
    blocked_fields,
    client_fields,
    grabbed_data,
    grabbed_release,
    imported_data,
    imported_release,
    media_info,
)
from tests.support.apps.wire import date_text


class Radarr(Arr):
    """A library of movies. Each method adds its rows and sends its webhooks."""

    app_name = "Radarr"
    version = "5.28.0.10274"
    api = "/api/v3"
    includes = ("includeMovie",)
    boxes = (
        "onGrab",
        "onDownload",
        "onUpgrade",
        "onRename",
        "onMovieAdded",
        "onMovieDelete",
        "onMovieFileDelete",
        "onMovieFileDeleteForUpgrade",
        "onHealthIssue",
        "includeHealthWarnings",
        "onHealthRestored",
        "onApplicationUpdate",
        "onManualInteractionRequired",
    )

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        self.movies: dict[int, Fields] = {}
        self._files = 0
        self._asked_about: set[str] = set()

    def library_routes(self) -> list[web.RouteDef]:
        path = f"{self.api}/movie"
        return [web.get(path, self._list), web.get(f"{path}/{{id}}", self._get)]

    async def restart(self) -> None:
        """Forget which downloads ManualInteractionRequired was sent for: that is in memory."""
        self._asked_about.clear()
        await super().restart()

    def put_movie(self, title: str, *, year: int = 2021, **ids: Any) -> Fields:
        """Add a movie without a webhook."""
        number = len(self.movies) + 1
        movie = {
            "id": number,
            "title": title,
            "year": year,
            "folderPath": f"/movies/{title} ({year})",
            "path": f"/movies/{title} ({year})",
            "tmdbId": 0,
            "imdbId": None,
            "genres": ["Drama"],
            "tags": [],
            "monitored": True,
            "hasFile": False,
            **ids,
        }
        self.movies[number] = movie
        return movie

    async def add_movie(self, title: str, *, how: str = "manual", **options: Any) -> Fields:
        movie = self.put_movie(title, **options)
        fields = {"movie": self._told(movie), "addMethod": how}
        await self.notify("MovieAdded", "onMovieAdded", fields)
        return movie

    async def delete_movie(self, movie: Fields, *, files: bool = False) -> None:
        """Delete a movie. Its rows of the history go with it."""
        del self.movies[movie["id"]]
        self.history.forget(movie["id"])
        size = SIZE if files else 0
        fields = {"movie": self._told(movie), "deletedFiles": files, "movieFolderSize": size}
        await self.notify("MovieDelete", "onMovieDelete", fields)

    async def grab(self, movie: Fields, download_id: str, *, trigger: str = "Rss") -> Row:
        """Grab a release."""
        title = self._release_title(movie)
        data = grabbed_data(trigger, download_id)
        row = self._row("grabbed", movie, title, download_id, data)
        fields = {
            **self._subject(movie),
            "release": grabbed_release(title),
            **client_fields(download_id),
            "customFormatInfo": CUSTOM_FORMATS,
        }
        await self.notify("Grab", "onGrab", fields)
        return row

    async def import_file(
        self, movie: Fields, download_id: str | None, *, upgrade: bool = False
    ) -> Row:
        """Import a file. Radarr sends one Download."""
        file, title = self._file(movie), self._release_title(movie)
        old = {**self._file(movie), "recycleBinPath": None}
        data = imported_data(file["id"], file["sourcePath"], file["path"])
        row = self._row("downloadFolderImported", movie, title, download_id, data)
        fields = {
            **self._subject(movie),
            "movieFile": file,
            "isUpgrade": upgrade,
            **client_fields(download_id),
            "release": imported_release(title),
            "deletedFiles": [old] if upgrade else None,
        }
        await self.notify("Download", "onUpgrade" if upgrade else "onDownload", fields)
        return row

    def fail(
        self, movie: Fields, download_id: str, message: str, *, event_type: str = "downloadFailed"
    ) -> Row:
        """Fail or ignore a download. Radarr has no webhook for either."""
        data = {"message": message, "downloadClient": "qBittorrent", "size": SIZE}
        return self._row(event_type, movie, self._release_title(movie), download_id, data)

    async def delete_file(self, movie: Fields, reason: str = "manual") -> None:
        """Delete a file. The webhook's reason is camelCase, the row's is TitleCase.

        The history has no row for a file without a movie.
        """
        file = self._file(movie)
        data = {"reason": reason[0].upper() + reason[1:], "size": SIZE, "releaseGroup": GROUP}
        if reason != "noLinkedEpisodes":
            self._row("movieFileDeleted", movie, file["path"], None, data)
        fields = {**self._subject(movie), "movieFile": file, "deleteReason": reason}
        box = "onMovieFileDeleteForUpgrade" if reason == "upgrade" else "onMovieFileDelete"
        await self.notify("MovieFileDelete", box, fields)

    async def rename(self, movie: Fields, name: str) -> Row:
        """Rename a file."""
        file, path = self._file(movie), f"{movie['folderPath']}/{name}"
        data = {
            "sourcePath": file["path"],
            "sourceRelativePath": file["relativePath"],
            "path": path,
            "relativePath": name,
        }
        row = self._row("movieFileRenamed", movie, file["path"], None, data)
        renamed = {
            **file,
            "path": path,
            "relativePath": name,
            "previousPath": file["path"],
            "previousRelativePath": file["relativePath"],
        }
        await self.notify(
            "Rename", "onRename", {"movie": self._told(movie), "renamedMovieFiles": [renamed]}
        )
        return row

    async def require_interaction(
        self, movie: Fields, download_id: str, reasons: list[str]
    ) -> None:
        """An import needs a person. Radarr reports it once for a download while it runs."""
        if download_id in self._asked_about:
            return
        self._asked_about.add(download_id)
        title = self._release_title(movie)
        fields = {"movie": self._told(movie), **blocked_fields(title, download_id, reasons)}
        await self.notify("ManualInteractionRequired", "onManualInteractionRequired", fields)

    def objects_of(self, row: Row) -> Fields:
        return {"movie": self.movies.get(row["movieId"])}

    def test_fields(self) -> Fields:
        movie = {"id": 1, "title": "Test Title", "year": 1970, "folderPath": "C:\\testpath"}
        remote = {"tmdbId": 1234, "imdbId": "5678", "title": "Test title", "year": 1970}
        release = {
            "quality": "Test Quality",
            "qualityVersion": 1,
            "releaseGroup": "Test Group",
            "releaseTitle": "Test Title",
            "indexer": "Test Indexer",
            "size": 9999999,
            **CUSTOM_FORMATS,
        }
        return {"movie": {**movie, "tmdbId": 0}, "remoteMovie": remote, "release": release}

    def _row(
        self,
        event_type: str,
        movie: Fields,
        source_title: str,
        download_id: str | None,
        data: Fields,
    ) -> Row:
        return self.record(
            event_type,
            owner=movie["id"],
            movieId=movie["id"],
            sourceTitle=source_title,
            languages=LANGUAGES,
            quality=QUALITY,
            qualityCutoffNotMet=False,
            downloadId=download_id,
            data=data,
            **CUSTOM_FORMATS,
        )

    def _subject(self, movie: Fields) -> Fields:
        keys = ("tmdbId", "imdbId", "title", "year")
        return {"movie": self._told(movie), "remoteMovie": {key: movie[key] for key in keys}}

    def _told(self, movie: Fields) -> Fields:
        """Return a movie as webhooks have it: without what the API adds."""
        hidden = {"monitored", "hasFile", "path"}
        return {key: value for key, value in movie.items() if key not in hidden}

    def _release_title(self, movie: Fields) -> str:
        return f"{movie['title'].replace(' ', '.')}.{movie['year']}.1080p.WEB-DL.H264-{GROUP}"

    def _file(self, movie: Fields) -> Fields:
        self._files += 1
        name = f"{movie['title']} ({movie['year']}).mkv"
        return {
            "id": self._files,
            "relativePath": name,
            "path": f"{movie['folderPath']}/{name}",
            "quality": "WEBDL-1080p",
            "qualityVersion": 1,
            "releaseGroup": GROUP,
            "sceneName": self._release_title(movie),
            "indexerFlags": "0",
            "size": SIZE,
            "dateAdded": date_text(self.clock.now()),
            "languages": LANGUAGES,
            "mediaInfo": media_info(),
            "sourcePath": f"/downloads/{self._release_title(movie)}.mkv",
        }

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.movies.values()))

    async def _get(self, request: web.Request) -> web.Response:
        movie = self.movies.get(int(request.match_info["id"]))
        return web.json_response(movie or {"message": "NotFound"}, status=200 if movie else 404)
