"""A stand-in for Lidarr, version 2."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.support.apps.arr import QUALITY, Arr, Fields
from tests.support.apps.history import Row
from tests.support.apps.releases import (
    CUSTOM_FORMATS,
    GROUP,
    SIZE,
    client_fields,
    grabbed_data,
    grabbed_release,
    imported_data,
)
from tests.support.apps.wire import date_text

BOXES = (
    "onGrab",
    "onReleaseImport",
    "onUpgrade",
    "onRename",
    "onArtistAdd",
    "onArtistDelete",
    "onAlbumDelete",
    "onHealthIssue",
    "includeHealthWarnings",
    "onHealthRestored",
    "onDownloadFailure",
    "onImportFailure",
    "onTrackRetag",
    "onApplicationUpdate",
)


class Lidarr(Arr):
    """A library of artists and albums. Unlike the others, it has webhooks for failures."""

    app_name = "Lidarr"
    version = "2.14.5.4836"
    api = "/api/v1"
    includes = ("includeArtist", "includeAlbum", "includeTrack")
    boxes = BOXES

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        self.artists: dict[int, Fields] = {}
        self.albums: dict[int, Fields] = {}
        self._files = 0
        self._tracks: dict[tuple[int, int], str] = {}

    def library_routes(self) -> list[web.RouteDef]:
        path = f"{self.api}/artist"
        return [web.get(path, self._list), web.get(f"{path}/{{id}}", self._get)]

    def put_artist(self, name: str, albums: Sequence[str] = ("Debut",)) -> Fields:
        """Add an artist and albums without a webhook."""
        number = len(self.artists) + 1
        artist = {
            "id": number,
            "name": name,
            "artistName": name,
            "disambiguation": "",
            "path": f"/music/{name}",
            "mbId": f"00000000-0000-0000-0000-{number:012}",
            "foreignArtistId": f"00000000-0000-0000-0000-{number:012}",
            "type": "Group",
            "overview": "",
            "genres": [],
            "tags": [],
            "monitored": True,
        }
        self.artists[number] = artist
        for title in albums:
            self._put_album(artist, title)
        return artist

    async def add_artist(self, name: str, albums: Sequence[str] = ("Debut",)) -> Fields:
        artist = self.put_artist(name, albums)
        await self.notify("ArtistAdd", "onArtistAdd", {"artist": self._told(artist)})
        return artist

    async def delete_artist(self, artist: Fields, *, files: bool = False) -> None:
        """Delete an artist. Its rows of the history go with it."""
        del self.artists[artist["id"]]
        self.history.forget(artist["id"])
        fields = {"artist": self._told(artist), "deletedFiles": files}
        await self.notify("ArtistDelete", "onArtistDelete", fields)

    async def delete_album(self, album: Fields, *, files: bool = False) -> None:
        del self.albums[album["id"]]
        artist = self.artists[album["artistId"]]
        fields = {"artist": self._told(artist), "albums": [album], "deletedFiles": files}
        await self.notify("AlbumDelete", "onAlbumDelete", fields)

    def album(self, artist: Fields) -> Fields:
        """Return the first album of an artist."""
        owned = (album for album in self.albums.values() if album["artistId"] == artist["id"])
        return next(owned)

    async def grab(self, album: Fields, download_id: str, *, trigger: str = "Rss") -> Row:
        title = self._release_title(album)
        data = grabbed_data(trigger, download_id)
        row = self._row("grabbed", album, title, download_id, data)
        fields = {
            "artist": self._artist(album),
            "albums": [album],
            "release": grabbed_release(title),
            **client_fields(download_id),
            "customFormatInfo": CUSTOM_FORMATS,
        }
        await self.notify("Grab", "onGrab", fields)
        return row

    async def import_album(
        self, album: Fields, download_id: str, *, tracks: int = 2, upgrade: bool = False
    ) -> list[Row]:
        """Import an album: a row for each track, one for the download, and one webhook.

        An upgrade deletes the file that a track has, right before it imports the new one.
        """
        title = self._release_title(album)
        files = [self._file(album, number) for number in range(1, tracks + 1)]
        rows = []
        for track, file in enumerate(files, start=1):
            old = self._tracks.get((album["id"], track))
            if upgrade and old:
                reason = {"reason": "Upgrade", "size": SIZE}
                self._row("trackFileDeleted", album, old, None, reason, track=track)
            data = imported_data(file["id"], f"/downloads/{title}", file["path"])
            rows.append(
                self._row("trackFileImported", album, title, download_id, data, track=track)
            )
            self._tracks[album["id"], track] = file["path"]
        rows.append(self._row("downloadImported", album, title, download_id, {}))
        fields = self._import_fields(album, download_id, files, upgrade=upgrade)
        await self.notify("Download", "onUpgrade" if upgrade else "onReleaseImport", fields)
        return rows

    async def fail_import(self, album: Fields, download_id: str, message: str) -> Row:
        """Import only a part of an album."""
        title = self._release_title(album)
        data = {"statusMessages": message}
        row = self._row("albumImportIncomplete", album, title, download_id, data)
        fields = self._import_fields(album, download_id, [])
        await self.notify("ImportFailure", "onImportFailure", fields)
        return row

    async def fail_download(self, album: Fields, download_id: str, message: str) -> Row:
        title = self._release_title(album)
        row = self._row("downloadFailed", album, title, download_id, {"message": message})
        fields = {
            "quality": "FLAC",
            "qualityVersion": 1,
            "releaseTitle": title,
            "downloadClient": "qBittorrent",
            "downloadId": download_id,
        }
        await self.notify("DownloadFailure", "onDownloadFailure", fields)
        return row

    async def rename(self, album: Fields) -> Row:
        file = self._file(album, 1)
        data = {"sourcePath": "/music/old.flac", "path": file["path"]}
        row = self._row("trackFileRenamed", album, "/music/old.flac", None, data)
        renamed = {**file, "previousPath": "/music/old.flac"}
        fields = {"artist": self._artist(album), "renamedTrackFiles": [renamed]}
        await self.notify("Rename", "onRename", fields)
        return row

    async def retag(self, album: Fields) -> Row:
        file = self._file(album, 1)
        data = {"diff": "[]", "tagsScrubbed": "False"}
        row = self._row("trackFileRetagged", album, file["path"], None, data)
        fields = {"artist": self._artist(album), "trackFile": file}
        await self.notify("Retag", "onTrackRetag", fields)
        return row

    def objects_of(self, row: Row) -> Fields:
        artist, album = self.artists.get(row["artistId"]), self.albums.get(row["albumId"])
        return {"artist": artist, "album": album}

    def test_fields(self) -> Fields:
        artist = {"id": 1, "name": "Test Name", "path": "C:\\testpath", "mbId": "aaaaa-aaa-aaaa"}
        album = {"id": 123, "title": "Test title"}
        return {"artist": artist, "albums": [album]}

    def _put_album(self, artist: Fields, title: str) -> None:
        number = len(self.albums) + 1
        self.albums[number] = {
            "id": number,
            "artistId": artist["id"],
            "mbId": f"10000000-0000-0000-0000-{number:012}",
            "title": title,
            "disambiguation": "",
            "albumType": "Album",
            "secondaryAlbumTypes": [],
            "releaseDate": "2020-01-01T00:00:00Z",
            "genres": [],
        }

    def _import_fields(
        self, album: Fields, download_id: str, files: list[Fields], *, upgrade: bool = False
    ) -> Fields:
        old = [self._file(album, 1)] if upgrade else None
        tracks = [
            {"id": file["id"], "title": f"Track {file['id']}", "trackNumber": str(position)}
            for position, file in enumerate(files, start=1)
        ]
        return {
            "artist": self._artist(album),
            "album": album,
            "tracks": tracks,
            "trackFiles": files,
            "deletedFiles": old,
            "isUpgrade": upgrade,
            **client_fields(download_id),
        }

    def _row(  # noqa: PLR0917 - what a row of the history has
        self,
        event_type: str,
        album: Fields,
        title: str,
        download_id: str | None,
        data: Fields,
        track: int = 0,
    ) -> Row:
        return self.record(
            event_type,
            owner=album["artistId"],
            artistId=album["artistId"],
            albumId=album["id"],
            trackId=10 * album["id"] + track if track else 0,
            sourceTitle=title,
            quality=QUALITY,
            qualityCutoffNotMet=False,
            downloadId=download_id,
            data=data,
        )

    def _artist(self, album: Fields) -> Fields:
        return self._told(self.artists[album["artistId"]])

    def _told(self, artist: Fields) -> Fields:
        hidden = {"artistName", "foreignArtistId", "monitored"}
        return {key: value for key, value in artist.items() if key not in hidden}

    def _release_title(self, album: Fields) -> str:
        return f"{self._artist(album)['name']}-{album['title']}-WEB-FLAC-2020-{GROUP}"

    def _file(self, album: Fields, number: int) -> Fields:
        self._files += 1
        return {
            "id": self._files,
            "path": f"{self._artist(album)['path']}/{album['title']}/{number:02}.flac",
            "quality": "FLAC",
            "qualityVersion": 1,
            "releaseGroup": GROUP,
            "sceneName": self._release_title(album),
            "size": SIZE,
            "dateAdded": date_text(self.clock.now()),
        }

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.artists.values()))

    async def _get(self, request: web.Request) -> web.Response:
        artist: Any = self.artists.get(int(request.match_info["id"]))
        return web.json_response(artist or {"message": "NotFound"}, status=200 if artist else 404)
