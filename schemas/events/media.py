"""What happens to the media library's items, files and episodes."""

from typing import Any, ClassVar, Literal

from schemas.events.base import Category, Event

MediaType = Literal["movie", "tv_show"]


class _MediaEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    category: ClassVar[Category] = "media"


class _MediaItemEvent(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    title: str
    media_type: MediaType
    monitored: bool
    year: int | None = None
    tmdb_id: int | None = None
    imdb_id: str | None = None


class MediaItemAdded(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A movie or a TV show was added to the library."""

    type = "media_item.added"


class MediaItemUpdated(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A media item's description changed: ``changes`` maps each field to its old and new value."""

    type = "media_item.updated"

    changes: dict[str, tuple[Any, Any]]


class MediaItemRemoved(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A media item was removed from the library."""

    type = "media_item.removed"


class MediaItemMonitoringChanged(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A media item is now monitored, or no longer is: ``monitored`` holds the new value."""

    type = "media_item.monitoring_changed"


class MediaItemEpisodesRefreshed(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An importer looked up a TV show's episodes again."""

    type = "media_item.episodes_refreshed"

    title: str
    episode_count: int


class MediaFileImported(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An importer put a file into the library. ``size`` in bytes."""

    type = "media_file.imported"

    path: str
    size: int | None = None
    resolution: str | None = None
    codec: str | None = None
    media_title: str | None = None


MediaEvent = (
    MediaItemAdded
    | MediaItemUpdated
    | MediaItemRemoved
    | MediaItemMonitoringChanged
    | MediaItemEpisodesRefreshed
    | MediaFileImported
)
