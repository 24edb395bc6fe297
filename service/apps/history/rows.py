"""A row of an application's history, and what the types of rows mean."""

import datetime
import enum
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.schemas.events.media import DeletionReason
from mediabus.schemas.events.releases import Trigger
from mediabus.schemas.status import Protocol
from mediabus.service.apps.ids import client_item_of, row_event_id
from mediabus.service.clients.sane import is_item_id
from mediabus.service.clients.tolerant import size_of


class Meaning(enum.Enum):
    """What a row says, in one vocabulary for all applications."""

    GRABBED = enum.auto()
    IMPORTED_FILE = enum.auto()
    IMPORT_ENDED = enum.auto()  # only Lidarr reports it
    IMPORT_INCOMPLETE = enum.auto()
    FAILED = enum.auto()
    DELETED_FILE = enum.auto()
    RENAMED_FILE = enum.auto()


MEANINGS: Final = {
    "grabbed": Meaning.GRABBED,
    "releaseGrabbed": Meaning.GRABBED,  # Prowlarr
    "downloadFolderImported": Meaning.IMPORTED_FILE,
    "seriesFolderImported": Meaning.IMPORTED_FILE,
    "movieFolderImported": Meaning.IMPORTED_FILE,
    "trackFileImported": Meaning.IMPORTED_FILE,  # Lidarr
    "downloadImported": Meaning.IMPORT_ENDED,  # Lidarr
    "albumImportIncomplete": Meaning.IMPORT_INCOMPLETE,  # Lidarr
    "downloadFailed": Meaning.FAILED,
    "episodeFileDeleted": Meaning.DELETED_FILE,
    "movieFileDeleted": Meaning.DELETED_FILE,
    "trackFileDeleted": Meaning.DELETED_FILE,
    "episodeFileRenamed": Meaning.RENAMED_FILE,
    "movieFileRenamed": Meaning.RENAMED_FILE,
    "trackFileRenamed": Meaning.RENAMED_FILE,
}
"""The types of rows that are events. Others, such as a search or an ignored download, are not."""

TRIGGERS: Final[dict[str, Trigger]] = {
    "Rss": "rss",
    "Search": "search",
    "UserInvokedSearch": "user",
    "InteractiveSearch": "user",
    "ReleasePush": "api",
}
"""``releaseSource`` of a grabbed row."""

REASONS: Final[dict[str, DeletionReason]] = {
    "manual": "manual",
    "upgrade": "upgrade",
    "missingfromdisk": "missing",
    "nolinkedepisodes": "no_longer_linked",
    "manualoverride": "manual",
}
"""``reason`` of a deleted file, in lower case: its case differs between versions."""

PROTOCOLS: Final[dict[str, Protocol]] = {
    "1": "usenet",
    "2": "torrent",
    "usenet": "usenet",
    "torrent": "torrent",
}


class _Named(msgspec.Struct):
    name: str = ""


class _Quality(msgspec.Struct):
    quality: _Named = msgspec.field(default_factory=_Named)


class Row(msgspec.Struct, rename="camel", kw_only=True):
    """A row as the API returns it. ``data`` has other fields for each type of row."""

    id: int
    date: datetime.datetime
    event_type: str
    source_title: str = ""
    download_id: str | None = None
    quality: _Quality | None = None
    series_id: int = 0
    episode_id: int = 0
    movie_id: int = 0
    artist_id: int = 0
    album_id: int = 0
    data: dict[str, Any] = {}

    @property
    def meaning(self) -> Meaning | None:
        return MEANINGS.get(self.event_type)

    @property
    def at(self) -> datetime.datetime:
        """The date in UTC. A date without an offset is UTC."""
        if self.date.tzinfo is None:
            return self.date.replace(tzinfo=datetime.UTC)
        return self.date.astimezone(datetime.UTC)

    def event_id(self, app: str) -> UUID:
        return row_event_id(app, self.id, self.at)

    @property
    def owner(self) -> int:
        """The series, movie or artist, by its number in the application; 0 if there is none."""
        return self.series_id or self.movie_id or self.artist_id

    @property
    def part(self) -> int:
        """The episode, movie or album, by its number in the application; 0 if there is none."""
        return self.episode_id or self.movie_id or self.album_id

    @property
    def client_item(self) -> str | None:
        """The download in its client."""
        item = client_item_of(self.download_id)
        return item if is_item_id(item) else None

    @property
    def quality_name(self) -> str | None:
        return self.quality.quality.name or None if self.quality else None

    def text(self, *names: str) -> str | None:
        """Return the first of these fields of ``data`` that is a text with content."""
        for name in names:
            value = self.data.get(name)
            if isinstance(value, str) and value.strip():
                return value
        return None

    @property
    def size(self) -> int | None:
        """The size in bytes. ``data`` has it as text."""
        value = self.data.get("size")
        try:
            return size_of(float(value)) or None if isinstance(value, str | int | float) else None
        except ValueError:
            return None

    @property
    def trigger(self) -> Trigger | None:
        return TRIGGERS.get(self.text("releaseSource") or "")

    @property
    def is_interactive(self) -> bool:
        """Whether a person chose the release."""
        return self.text("releaseSource") == "InteractiveSearch"

    @property
    def deletion_reason(self) -> DeletionReason:
        return REASONS.get((self.text("reason") or "").lower(), "other")

    @property
    def protocol(self) -> Protocol | None:
        return PROTOCOLS.get(str(self.data.get("protocol")).lower())
