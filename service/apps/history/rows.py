"""A row of an application's history, and what the types of rows mean."""

import datetime
import enum
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.schemas.events.media import DeletionReason
from mediabus.schemas.events.releases import Trigger
from mediabus.schemas.fitting import LONGEST_TEXT
from mediabus.schemas.status import Protocol
from mediabus.service.apps.ids import client_item_of, row_event_id
from mediabus.service.clients.limits import cut
from mediabus.service.clients.sane import is_item_id
from mediabus.service.clients.tolerant import MAX_BIGINT, size_of

MAX_NAME: Final = 255
"""Characters of a name, such as that of a quality."""


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
    "artistFolderImported": Meaning.IMPORTED_FILE,
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
    track_id: int = 0
    data: dict[str, Any] = {}

    @property
    def meaning(self) -> Meaning | None:
        return MEANINGS.get(self.event_type)

    @property
    def at(self) -> datetime.datetime:
        """The date in UTC. A date without an offset is UTC."""
        try:
            return self.date.astimezone(datetime.UTC) if self.date.tzinfo else self._without_offset
        except OverflowError:  # in the first or the last hours that a date can have
            return self._without_offset

    @property
    def _without_offset(self) -> datetime.datetime:
        return self.date.replace(tzinfo=datetime.UTC)

    def event_id(self, app: str) -> UUID:
        return row_event_id(app, self.id, self.at)

    @property
    def owner(self) -> int:
        """The series, movie or artist, by its number in the application; 0 if there is none."""
        return _number(self.series_id) or _number(self.movie_id) or _number(self.artist_id)

    @property
    def part(self) -> int:
        """The episode, movie or album, by its number in the application; 0 if there is none."""
        return _number(self.episode_id) or _number(self.movie_id) or _number(self.album_id)

    @property
    def piece(self) -> int:
        """What one file has: the episode, movie or track; 0 if there is none."""
        return _number(self.track_id) or self.part

    @property
    def title(self) -> str:
        """The name of the release, or the path of the file."""
        return cut(self.source_title.strip(), LONGEST_TEXT) or self.event_type

    @property
    def client_item(self) -> str | None:
        """The download in its client."""
        item = client_item_of(self.download_id)
        return item if is_item_id(item) else None

    @property
    def quality_name(self) -> str | None:
        return cut(self.quality.quality.name, MAX_NAME) or None if self.quality else None

    def text(self, *names: str) -> str | None:
        """Return the first of these fields of ``data`` that is a text with content."""
        for name in names:
            value = self.data.get(name)
            if isinstance(value, str) and value.strip():
                return cut(value, LONGEST_TEXT)
        return None

    @property
    def size(self) -> int | None:
        """The size in bytes. ``data`` has it as text."""
        value = self.data.get("size")
        try:
            return size_of(float(value)) or None if isinstance(value, str | int | float) else None
        except (ValueError, OverflowError):
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
        value = self.data.get("protocol")
        name = (
            str(value)
            if isinstance(value, int) and value in {1, 2}
            else self.text("protocol") or ""
        )
        return PROTOCOLS.get(name.lower())


def _number(value: int) -> int:
    """Return a number of the application if PostgreSQL can store it, else 0."""
    return value if 0 < value <= MAX_BIGINT else 0
