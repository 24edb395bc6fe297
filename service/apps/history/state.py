"""What mediabus knows of an application's releases. Plain data, changed by ``story``."""

import dataclasses
import datetime
from typing import Any
from uuid import UUID


@dataclasses.dataclass
class Release:
    """A row of the table ``releases``: a download as an application sees it."""

    app: str
    client_item: str
    correlation_id: str
    title: str
    indexer: str | None = None
    client: str | None = None
    quality: str | None = None
    media_item_id: UUID | None = None
    grabbed_at: datetime.datetime | None = None
    grabbed_rows: int = 0
    failed_at: datetime.datetime | None = None
    imported_rows: int = 0
    imported_files: int = 0
    imported_size: int = 0
    first_import_at: datetime.datetime | None = None
    last_import_at: datetime.datetime | None = None
    destination: str | None = None
    last_file: str | None = None
    upgrade: bool = False
    imported_at: datetime.datetime | None = None

    @property
    def is_importing(self) -> bool:
        return self.imported_rows > 0 and self.imported_at is None

    @property
    def is_complete(self) -> bool:
        """Whether each episode, movie or album that was grabbed was imported."""
        return self.is_importing and 0 < self.grabbed_rows <= self.imported_rows

    def restart(self, at: datetime.datetime) -> None:
        """Begin a new life: the application grabbed the same release again."""
        fresh = Release(self.app, self.client_item, self.correlation_id, self.title)
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(fresh, field.name))
        self.grabbed_at = at


COLUMNS = tuple(field.name for field in dataclasses.fields(Release))
"""The columns of the table that are read and written."""


@dataclasses.dataclass(frozen=True)
class Item:
    """A media item, as events name it."""

    id: UUID
    title: str


@dataclasses.dataclass(frozen=True)
class Replaced:
    """A file that an application deleted to import a better one."""

    path: str
    deleted_at: datetime.datetime


@dataclasses.dataclass
class Known:
    """What is known when a page of the history is read, and what its rows changed.

    ``items`` are the media items by the application's number, ``stories`` the correlation ids by
    episode, movie or album, and ``downloads`` the newest download of each item in a client.
    ``replaced`` are files whose better ones were not imported yet, by episode, movie or track.
    ``changed``, ``new_stories`` and ``failed`` are the releases, stories and downloads to write.
    """

    releases: dict[str, Release] = dataclasses.field(default_factory=dict)
    items: dict[int, Item] = dataclasses.field(default_factory=dict)
    stories: dict[int, str] = dataclasses.field(default_factory=dict)
    downloads: dict[str, Any] = dataclasses.field(default_factory=dict)
    replaced: dict[int, list[Replaced]] = dataclasses.field(default_factory=dict)
    changed: set[str] = dataclasses.field(default_factory=set)
    new_stories: dict[int, str] = dataclasses.field(default_factory=dict)
    failed: set[UUID] = dataclasses.field(default_factory=set)
