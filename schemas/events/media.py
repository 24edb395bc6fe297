"""Events about the library's media items, files and episodes."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from mediabus.schemas.events.base import Category, Event, Icon

MediaType = Literal["movie", "tv_show"]

DeletionReason = Literal["manual", "upgrade", "missing", "no_longer_linked", "other"]


class _MediaEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    category: ClassVar[Category] = "media"


class _MediaItemEvent(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    title: str
    media_type: MediaType
    monitored: bool
    year: int | None = None
    tmdb_id: int | None = None
    imdb_id: str | None = None
    tvdb_id: int | None = None


class MediaItemAdded(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A movie or a TV show was added to the library."""

    type = "media_item.added"
    icon: ClassVar[Icon] = "add"
    sentence: ClassVar[str] = "{title}[ ({year})] was added to the library"
    sentence_by: ClassVar[str] = "{actor} added {title}[ ({year})] to the library"


class MediaItemUpdated(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Fields of a media item changed; ``changes`` maps each field to its old and new value."""

    type = "media_item.updated"
    icon: ClassVar[Icon] = "edit"
    sentence: ClassVar[str] = "{title} was updated[: {changes}]"
    sentence_by: ClassVar[str] = "{actor} updated {title}[: {changes}]"

    changes: dict[str, tuple[Any, Any]]


class MediaItemRemoved(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A media item was removed from the library.

    ``files_deleted`` is whether an application deleted its files too. It is missing if the
    application did not say so.
    """

    type = "media_item.removed"
    icon: ClassVar[Icon] = "trash"
    sentence: ClassVar[str] = (
        "{title}[ ({year})] was removed from the library[{files_deleted} with its files]"
    )
    sentence_by: ClassVar[str] = (
        "{actor} removed {title}[ ({year})] from the library[{files_deleted} with its files]"
    )

    files_deleted: bool | None = None


class MediaItemMonitoringChanged(_MediaItemEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Monitoring of a media item was turned on or off; ``monitored`` is the new value."""

    type = "media_item.monitoring_changed"
    icon: ClassVar[Icon] = "eye"
    sentence: ClassVar[str] = "Monitoring of {title} was turned [{monitored}on][{!monitored}off]"
    sentence_by: ClassVar[str] = (
        "{actor} turned monitoring of {title} [{monitored}on][{!monitored}off]"
    )


class MediaItemEpisodesRefreshed(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An importer refreshed the episodes of a TV show."""

    type = "media_item.episodes_refreshed"
    icon: ClassVar[Icon] = "refresh"
    sentence: ClassVar[str] = "The episodes of {title} were refreshed[: {episode_count}]"
    sentence_by: ClassVar[str] = "{actor} refreshed the episodes of {title}[: {episode_count}]"

    title: str
    episode_count: int


class MediaFileImported(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An importer added a file to the library; ``size`` is in bytes.

    ``source_path`` is where the file came from, ``client_item`` the download it belongs to, and
    ``app`` the application that imported it. ``replaced`` are the paths of the worse files that it
    replaces; ``upgrade`` is true if there are any.
    """

    type = "media_file.imported"
    icon: ClassVar[Icon] = "file"
    sentence: ClassVar[str] = (
        "[{media_title}: ]{path} was imported[{upgrade} as an upgrade][, {size}]"
    )

    path: str
    size: int | None = None
    resolution: str | None = None
    codec: str | None = None
    media_title: str | None = None
    app: str | None = None
    quality: str | None = None
    source_path: str | None = None
    client_item: str | None = None
    media_item_id: UUID | None = None
    upgrade: bool | None = None
    replaced: list[str] | None = None


class MediaFileDeleted(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A file was deleted from the library.

    ``reason`` is ``upgrade`` if a better file replaced it, ``missing`` if it had disappeared from
    the disk, and ``manual`` if a person deleted it.
    """

    type = "media_file.deleted"
    icon: ClassVar[Icon] = "trash"
    sentence: ClassVar[str] = "[{media_title}: ]{path} was deleted[: {why}]"

    path: str
    reason: DeletionReason
    size: int | None = None
    media_title: str | None = None
    app: str | None = None
    media_item_id: UUID | None = None


class MediaFileRenamed(_MediaEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A file of the library was renamed or moved."""

    type = "media_file.renamed"
    icon: ClassVar[Icon] = "edit"
    sentence: ClassVar[str] = "[{media_title}: ]{previous_path} was renamed to {path}"

    path: str
    previous_path: str
    media_title: str | None = None
    app: str | None = None
    media_item_id: UUID | None = None


MediaEvent = (
    MediaItemAdded
    | MediaItemUpdated
    | MediaItemRemoved
    | MediaItemMonitoringChanged
    | MediaItemEpisodesRefreshed
    | MediaFileImported
    | MediaFileDeleted
    | MediaFileRenamed
)
