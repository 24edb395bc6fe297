"""A series or a movie in the library of an application, and how it differs from what was known."""

import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.schemas.events.media import MediaType
from mediabus.service.clients.limits import cut

MAX_TITLE: Final = 500
"""Characters of a title."""
MAX_INT: Final = 2**31 - 1
"""The largest ``integer`` of PostgreSQL."""

ITEM_FIELDS: Final = ("title", "year", "tmdb_id", "imdb_id")
"""The columns of a media item that an application knows, but for ``monitored``."""

FIELDS: Final = (*ITEM_FIELDS, "tvdb_id")
"""What an application says of an entry. ``media_items`` has no TVDB id: release 0.1.0 selects all
its columns in prepared statements, so it cannot get a new one while that runs."""


class Listed(msgspec.Struct, rename="camel"):
    """An entry as the API lists it. Absent ids are 0."""

    id: int
    title: str = ""
    year: int = 0
    tmdb_id: int = 0
    tvdb_id: int = 0
    imdb_id: str | None = None
    monitored: bool = True

    def key(self, media_type: MediaType) -> str | None:
        """Return what identifies the entry; None without a usable id."""
        if not 0 < self.id < 2**63:
            return None
        first, second = ("tvdb", _id(self.tvdb_id)), ("tmdb", _id(self.tmdb_id))
        if media_type == "movie":
            first, second = second, first
        named = next((f"{name}:{value}" for name, value in (first, second) if value), None)
        return named or f"id:{self.id}"

    def entry(self, media_type: MediaType) -> "Entry | None":
        """Return the entry within the limits of the database; None without a title or an id."""
        title, key = cut(self.title.strip(), MAX_TITLE), self.key(media_type)
        if not title or key is None:
            return None
        return Entry(
            key=key,
            app_item=self.id,
            title=title,
            year=self.year if 1801 <= self.year <= 2199 else None,
            tmdb_id=_id(self.tmdb_id),
            imdb_id=cut(self.imdb_id.strip(), 32) or None if self.imdb_id else None,
            tvdb_id=_id(self.tvdb_id),
            monitored=self.monitored,
        )


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a library. ``key`` stays the same if the application's database is rebuilt."""

    key: str
    app_item: int
    title: str
    year: int | None
    tmdb_id: int | None
    imdb_id: str | None
    tvdb_id: int | None
    monitored: bool

    def can_be_item(self, media_type: MediaType) -> bool:
        """Whether the database takes it: a movie needs a year."""
        return media_type != "movie" or self.year is not None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``media_sources``: what an application last said of a media item."""

    app: str
    key: str
    app_item: int
    media_item_id: UUID | None
    owns: bool
    title: str
    year: int | None
    tmdb_id: int | None
    imdb_id: str | None
    tvdb_id: int | None
    monitored: bool
    missing_since: datetime.datetime | None = None

    def changes(self, entry: Entry) -> dict[str, Any]:
        """Return the fields that the application has changed, with their new values.

        An id that the application no longer has stays.
        """
        new = {name: getattr(entry, name) for name in FIELDS}
        return {
            name: value
            for name, value in new.items()
            if value is not None and value != getattr(self, name)
        }

    def is_same(self, entry: Entry) -> bool:
        """Whether nothing is to be written."""
        return (
            not self.changes(entry)
            and self.app_item == entry.app_item
            and self.monitored == entry.monitored
            and self.missing_since is None
        )


def _id(number: int) -> int | None:
    return number if 0 < number <= MAX_INT else None
