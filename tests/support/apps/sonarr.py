"""A stand-in for Sonarr, version 4."""

from collections.abc import Sequence
from typing import Any

from tests.support.apps.arr import Fields
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
)
from tests.support.apps.sonarr_library import SeriesLibrary


class Sonarr(SeriesLibrary):
    """What Sonarr does: each method adds its rows and sends its webhooks."""

    app_name = "Sonarr"
    version = "4.0.15.2941"
    api = "/api/v3"
    health_has_url = False
    boxes = (
        "onGrab",
        "onDownload",
        "onUpgrade",
        "onImportComplete",
        "onRename",
        "onSeriesAdd",
        "onSeriesDelete",
        "onEpisodeFileDelete",
        "onEpisodeFileDeleteForUpgrade",
        "onHealthIssue",
        "includeHealthWarnings",
        "onHealthRestored",
        "onApplicationUpdate",
        "onManualInteractionRequired",
    )

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        self._asked_about: set[str] = set()

    async def restart(self) -> None:
        """Forget which downloads ManualInteractionRequired was sent for: that is in memory."""
        self._asked_about.clear()
        await super().restart()

    async def add_series(self, title: str, **options: Any) -> Fields:
        series = self.put_series(title, **options)
        await self.notify("SeriesAdd", "onSeriesAdd", {"series": self._told(series)})
        return series

    async def delete_series(self, series: Fields, *, files: bool = False) -> None:
        """Delete a series. Its rows of the history go with it."""
        del self.series[series["id"]]
        self.history.forget(series["id"])
        fields = {"series": self._told(series), "deletedFiles": files}
        await self.notify("SeriesDelete", "onSeriesDelete", fields)

    async def grab(
        self,
        series: Fields,
        numbers: Sequence[int],
        download_id: str,
        *,
        trigger: str = "Rss",
        client: str = "qBittorrent",
    ) -> list[Row]:
        """Grab a release: a row for each episode, and one webhook."""
        title = self._release_title(series, numbers)
        data = grabbed_data(trigger, download_id, client)
        rows = [
            self._row("grabbed", series, number, title, data, download_id) for number in numbers
        ]
        fields = {
            **self._subject(series, numbers),
            "release": grabbed_release(title),
            **client_fields(download_id, client),
            "customFormatInfo": CUSTOM_FORMATS,
        }
        await self.notify("Grab", "onGrab", fields)
        return rows

    async def import_files(
        self,
        series: Fields,
        numbers: Sequence[int],
        download_id: str | None,
        *,
        upgrade: bool = False,
    ) -> list[Row]:
        """Import a release: a row and a webhook for each file, then one more for the release."""
        title = self._release_title(series, numbers)
        rows = [
            await self._import_file(series, number, title, download_id, upgrade=upgrade)
            for number in numbers
        ]
        await self._complete(series, numbers, title, download_id)
        return rows

    async def _import_file(
        self, series: Fields, number: int, title: str, download_id: str | None, *, upgrade: bool
    ) -> Row:
        file = self._file(series, number)
        old = {**self._file(series, number), "recycleBinPath": None}
        data = imported_data(file["id"], file["sourcePath"], file["path"])
        row = self._row("downloadFolderImported", series, number, title, data, download_id)
        fields = {
            **self._subject(series, [number]),
            "episodeFile": file,
            "isUpgrade": upgrade,
            **client_fields(download_id),
            "release": imported_release(title),
            "deletedFiles": [old] if upgrade else None,
        }
        await self.notify("Download", "onUpgrade" if upgrade else "onDownload", fields)
        return row

    async def _complete(
        self, series: Fields, numbers: Sequence[int], title: str, download_id: str | None
    ) -> None:
        """Send the second Download of a release, which has ``episodeFiles`` instead."""
        fields = {
            **self._subject(series, numbers),
            "episodeFiles": [self._file(series, number) for number in numbers],
            "fileCount": len(numbers),
            "sourcePath": f"/downloads/{title}",
            "destinationPath": series["path"],
            **client_fields(download_id),
            "release": imported_release(title),
        }
        await self.notify("Download", "onImportComplete", fields)

    def fail(
        self,
        series: Fields,
        numbers: Sequence[int],
        download_id: str,
        message: str,
        *,
        event_type: str = "downloadFailed",
    ) -> list[Row]:
        """Fail or ignore a download. Sonarr has no webhook for either."""
        title = self._release_title(series, numbers)
        data = {"message": message, "downloadClient": "qBittorrent", "size": SIZE}
        return [
            self._row(event_type, series, number, title, data, download_id) for number in numbers
        ]

    async def delete_file(self, series: Fields, number: int, reason: str = "manual") -> None:
        """Delete a file. The webhook's reason is camelCase, the row's is TitleCase.

        The history has no row for some reasons.
        """
        file = self._file(series, number)
        data = {"reason": reason[0].upper() + reason[1:], "size": SIZE, "releaseGroup": GROUP}
        if reason not in {"noLinkedEpisodes", "manualOverride"}:
            self._row("episodeFileDeleted", series, number, file["path"], data)
        fields = {
            **self._subject(series, [number]),
            "episodeFile": file,
            "deleteReason": reason,
        }
        box = "onEpisodeFileDeleteForUpgrade" if reason == "upgrade" else "onEpisodeFileDelete"
        await self.notify("EpisodeFileDelete", box, fields)

    async def rename(self, series: Fields, number: int, name: str) -> Row:
        """Rename a file."""
        file = self._file(series, number)
        path = f"{series['path']}/{name}"
        data = {
            "sourcePath": file["path"],
            "sourceRelativePath": file["relativePath"],
            "path": path,
            "relativePath": name,
        }
        row = self._row("episodeFileRenamed", series, number, file["path"], data)
        renamed = {
            **file,
            "path": path,
            "relativePath": name,
            "previousPath": file["path"],
            "previousRelativePath": file["relativePath"],
        }
        fields = {"series": self._told(series), "renamedEpisodeFiles": [renamed]}
        await self.notify("Rename", "onRename", fields)
        return row

    async def require_interaction(
        self, series: Fields, numbers: Sequence[int], download_id: str, reasons: list[str]
    ) -> None:
        """An import needs a person. Sonarr reports it once for a download while it runs."""
        if download_id in self._asked_about:
            return
        self._asked_about.add(download_id)
        title = self._release_title(series, numbers)
        fields = {**self._subject(series, numbers), **blocked_fields(title, download_id, reasons)}
        await self.notify("ManualInteractionRequired", "onManualInteractionRequired", fields)

    def rebuild_database(self) -> None:
        """Lose the history. The ids of its rows begin at 1 again."""
        self.history.rebuild()
