"""Turn rows of a history into events, joined into stories. Pure.

A story is what happens to an episode, a movie or an album: its release is grabbed, downloaded and
imported, later upgraded, and the old file deleted. All these events have one correlation id. A
release continues the story of the first of its parts that has one.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import (
    DownloadFailed,
    DownloadImportBlocked,
    DownloadImported,
    Event,
    MediaFileDeleted,
    MediaFileImported,
    MediaFileRenamed,
    ReleaseGrabbed,
)
from mediabus.schemas.fitting import fitted, fitted_text
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.apps.envelope import IMPORTED
from mediabus.service.apps.history.imports import count_import, keep_replaced, take_replaced
from mediabus.service.apps.history.rows import Meaning, Row
from mediabus.service.apps.history.state import Item, Known, Release
from mediabus.service.apps.ids import download_id_of, download_story, import_event_id

ONE_GRAB: Final = datetime.timedelta(minutes=1)
"""Rows of one download this close to each other belong to one grab."""


class Story:
    """Reads the rows of one application, in their order.

    ``met_at`` is the first contact: events before it are marked as imported.
    """

    def __init__(self, app: str, met_at: datetime.datetime, known: Known) -> None:
        self._app = app
        self._met_at = met_at
        self._known = known
        self._grabbed_parts = Counter[str]()
        self.events: list[Envelope] = []
        self._read: dict[Meaning, Callable[[Row], None]] = {
            Meaning.GRABBED: self._grabbed,
            Meaning.IMPORTED_FILE: self._imported_file,
            Meaning.IMPORT_ENDED: self._import_ended,
            Meaning.IMPORT_INCOMPLETE: self._import_incomplete,
            Meaning.FAILED: self._failed,
            Meaning.DELETED_FILE: self._deleted_file,
            Meaning.RENAMED_FILE: self._renamed_file,
        }

    def read(self, rows: Sequence[Row]) -> None:
        """Add the events of rows, and change the releases that they are about."""
        self._grabbed_parts.update(
            row.client_item for row in rows if row.meaning is Meaning.GRABBED and row.client_item
        )
        for row in rows:
            if row.meaning is not None:
                self._read[row.meaning](row)

    def end_import(self, release: Release) -> None:
        """Add the ``download.imported`` of a download whose files have all been imported."""
        first, last = release.first_import_at, release.last_import_at
        if not release.is_importing or first is None or last is None:
            return
        release.imported_at = last
        self._known.changed.add(release.client_item)
        item = self._item_of(release)
        event = DownloadImported(
            title=release.title,
            app=self._app,
            files=release.imported_files,
            destination=release.destination,
            client=release.client,
            client_item=release.client_item,
            download_id=self._download_id(release.client_item),
            media_item_id=item.id if item else None,
            media_title=item.title if item else None,
            size=release.imported_size or None,
            quality=release.quality,
            upgrade=True if release.upgrade else None,
        )
        event_id = import_event_id(self._app, release.client_item, first)
        self._add(event, event_id, last, release=release, item=item)

    def _grabbed(self, row: Row) -> None:
        item, client_item = self._known.items.get(row.owner), row.client_item
        release = self._grab(row, client_item) if client_item else None
        if release is not None and release.grabbed_rows > 1:
            return  # another episode of the same grab
        event = ReleaseGrabbed(
            title=row.text("grabTitle") or row.title,
            app=self._app,
            indexer=row.text("indexer"),
            client=row.text("downloadClientName", "downloadClient"),
            client_item=client_item,
            download_id=self._download_id(client_item) if client_item else None,
            protocol=row.protocol,
            size=row.size,
            quality=row.quality_name,
            release_group=row.text("releaseGroup"),
            trigger=row.trigger,
            items=self._grabbed_parts[client_item] if client_item else None,
            media_item_id=item.id if item else None,
            media_title=item.title if item else None,
        )
        actor = Actor("user", self._app) if row.is_interactive else None
        self._add_row(row, event, release=release, item=item, actor=actor)

    def _grab(self, row: Row, client_item: str) -> Release:
        release = self._release(row, client_item)
        if release.grabbed_at is None or abs(row.at - release.grabbed_at) > ONE_GRAB:
            if release.grabbed_at is not None and row.at > release.grabbed_at:
                release.restart(row.at)
            release.grabbed_at = release.grabbed_at or row.at
        release.grabbed_rows += 1
        release.title = row.title
        release.indexer = row.text("indexer")
        release.client = row.text("downloadClientName", "downloadClient")
        self._describe(release, row)
        return release

    def _imported_file(self, row: Row) -> None:
        item = self._known.items.get(row.owner)
        release = self._release(row, row.client_item) if row.client_item else None
        path = row.text("importedPath") or row.title
        replaced = take_replaced(self._known, row)
        event = MediaFileImported(
            path=path,
            size=row.size,
            media_title=item.title if item else None,
            app=self._app,
            quality=row.quality_name,
            source_path=row.text("droppedPath"),
            client_item=row.client_item,
            media_item_id=item.id if item else None,
            upgrade=True if replaced else None,
            replaced=replaced or None,
        )
        self._add_row(row, event, release=release, item=item)
        if release is not None:
            self._describe(release, row)
            count_import(release, row, path, is_upgrade=bool(replaced))
            if release.is_complete:
                self.end_import(release)

    def _import_ended(self, row: Row) -> None:
        if row.client_item:
            self.end_import(self._release(row, row.client_item))

    def _import_incomplete(self, row: Row) -> None:
        item = self._known.items.get(row.owner)
        release = self._release(row, row.client_item) if row.client_item else None
        event = DownloadImportBlocked(
            title=row.title,
            app=self._app,
            reasons=[fitted_text(row.text("statusMessages") or "the import is incomplete")],
            client=release.client if release else None,
            client_item=row.client_item,
            download_id=self._download_id(row.client_item) if row.client_item else None,
            media_item_id=item.id if item else None,
            media_title=item.title if item else None,
            quality=row.quality_name,
        )
        self._add_row(row, event, release=release, item=item)

    def _failed(self, row: Row) -> None:
        if not row.client_item:
            return
        release = self._release(row, row.client_item)
        if release.failed_at is not None:
            return  # another episode of the same download
        release.failed_at = row.at
        download = self._known.downloads.get(row.client_item)
        if download is not None and _has_failed(download):
            return  # the monitor has reported it
        if download is not None:
            self._known.failed.add(download["id"])
        item = self._known.items.get(row.owner)
        event = DownloadFailed(
            download_id=self._download_id(row.client_item),
            title=row.title,
            client=(download["client"] if download else release.client) or self._app,
            client_item=row.client_item,
            indexer=release.indexer,
            size=row.size,
            media_item_id=item.id if item else None,
            media_title=item.title if item else None,
            reason="rejected",
            error_message=row.text("message") or f"{self._app} reports that it failed",
            app=self._app,
        )
        self._add_row(row, event, release=release, item=item)

    def _deleted_file(self, row: Row) -> None:
        item = self._known.items.get(row.owner)
        reason = row.deletion_reason
        event = MediaFileDeleted(
            path=row.title,
            reason=reason,
            size=row.size,
            media_title=item.title if item else None,
            app=self._app,
            media_item_id=item.id if item else None,
        )
        if reason == "upgrade":
            keep_replaced(self._known, row)
        self._add_row(row, event, item=item)

    def _renamed_file(self, row: Row) -> None:
        item = self._known.items.get(row.owner)
        event = MediaFileRenamed(
            path=row.text("path", "relativePath") or row.title,
            previous_path=row.text("sourcePath", "sourceRelativePath") or row.title,
            media_title=item.title if item else None,
            app=self._app,
            media_item_id=item.id if item else None,
        )
        self._add_row(row, event, item=item)

    def _release(self, row: Row, client_item: str) -> Release:
        """Return the release that a row is about. A new one continues the story of its part."""
        release = self._known.releases.get(client_item)
        if release is None:
            story = self._known.stories.get(row.part) or download_story(client_item)
            release = Release(self._app, client_item, story, row.title)
            self._known.releases[client_item] = release
        self._known.changed.add(client_item)
        if row.part:
            self._known.stories[row.part] = release.correlation_id
            self._known.new_stories[row.part] = release.correlation_id
        return release

    def _describe(self, release: Release, row: Row) -> None:
        item = self._known.items.get(row.owner)
        release.quality = row.quality_name or release.quality
        release.media_item_id = item.id if item else release.media_item_id

    def _item_of(self, release: Release) -> Item | None:
        items = self._known.items.values()
        return next((item for item in items if item.id == release.media_item_id), None)

    def _download_id(self, client_item: str) -> UUID:
        download = self._known.downloads.get(client_item)
        return download["id"] if download else download_id_of(client_item)

    def _add_row(
        self,
        row: Row,
        event: Event,
        *,
        release: Release | None = None,
        item: Item | None,
        actor: Actor | None = None,
    ) -> None:
        story = release.correlation_id if release else self._known.stories.get(row.part)
        self._add(
            event,
            row.event_id(self._app),
            row.at,
            release=release,
            item=item,
            actor=actor,
            story=story,
        )

    def _add(
        self,
        event: Event,
        event_id: UUID,
        at: datetime.datetime,
        *,
        release: Release | None,
        item: Item | None,
        **given: Any,  # noqa: ANN401 - the actor and the story, if they differ
    ) -> None:
        story = given.get("story") or (release.correlation_id if release else None)
        envelope = Envelope.of(
            fitted(event),
            actor=given.get("actor") or Actor("system", self._app),
            resource=self._resource(release, item),
            correlation_id=story,
        )
        self.events.append(
            msgspec.structs.replace(
                envelope,
                id=event_id,
                time=at,
                source=f"mediabus/{self._app}",
                extensions=IMPORTED if at < self._met_at else {},
            )
        )

    def _resource(self, release: Release | None, item: Item | None) -> Resource:
        if item is not None:
            return Resource("media_item", str(item.id))
        if release is not None:
            return Resource("download", str(self._download_id(release.client_item)))
        return Resource("app", self._app)


def _has_failed(download: Mapping[str, Any]) -> bool:
    return download["state"] == "failed" or download["failed_at"] is not None
