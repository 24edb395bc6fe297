"""Read the webhooks of Sonarr, Radarr, Lidarr and Prowlarr.

What most kinds report is in the history, the library or the health of the application, too: their
webhook only wakes the readers of these. The others become events at once: an import that needs a
person, and a file that is deleted for a reason that the history does not record.
"""

from typing import Annotated, Any, Final

import msgspec

from mediabus.schemas.events import DownloadImportBlocked, MediaFileDeleted
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.apps.history.rows import REASONS
from mediabus.service.apps.ids import client_item_of, download_id_of, download_story
from mediabus.service.apps.port import Fact, Removal, UnknownWebhook, Webhook
from mediabus.service.clients.tolerant import MAX_BIGINT

BLOCKED: Final = "ManualInteractionRequired"

MAX_REASONS: Final = 50
"""Reasons of a blocked import. A season pack has one for each file."""


FILE_DELETED: Final = frozenset({"EpisodeFileDelete", "MovieFileDelete"})
ITEM_DELETED: Final = frozenset({"SeriesDelete", "MovieDelete"})


class Titled(msgspec.Struct):
    """A series or a movie."""

    title: str | None = None


class DownloadInfo(msgspec.Struct, rename="camel"):
    """The download of a blocked import."""

    title: str | None = None
    quality: str | None = None
    size: int | None = None


class StatusMessage(msgspec.Struct):
    """What prevents the import of one file."""

    title: str = ""
    messages: list[str] = []


class ManualInteraction(msgspec.Struct, rename="camel"):
    """The webhook about a blocked import."""

    download_info: DownloadInfo = msgspec.field(default_factory=DownloadInfo)
    download_client: str | None = None
    download_id: str | None = None
    download_status_messages: list[StatusMessage] = []
    series: Titled | None = None
    movie: Titled | None = None


class File(msgspec.Struct):
    """A file of the library."""

    path: str
    size: int | None = None


class FileDeleted(msgspec.Struct, rename="camel"):
    """The webhook about a deleted file."""

    delete_reason: str
    episode_file: File | None = None
    movie_file: File | None = None
    series: Titled | None = None
    movie: Titled | None = None


class Numbered(msgspec.Struct):
    """A series or a movie."""

    id: Annotated[int, msgspec.Meta(gt=0, le=MAX_BIGINT)]


class ItemDeleted(msgspec.Struct, rename="camel"):
    """The webhook about a removed series or movie."""

    deleted_files: bool
    series: Numbered | None = None
    movie: Numbered | None = None


def read_arr_webhook(
    app: str,
    body: dict[str, Any],
    waking: frozenset[str],
    unrecorded: frozenset[str] = frozenset(),
) -> Webhook:
    """Return what a webhook says.

    ``waking`` are the kinds that only wake the readers. ``unrecorded`` are the reasons for which a
    file is deleted without a row in the history.

    Raises:
        UnknownWebhook: the kind is unknown, or a field of it is missing or of a wrong type.
    """
    kind = body.get("eventType")
    if not isinstance(kind, str):
        raise UnknownWebhook(None, "eventType is missing")
    try:
        if kind in FILE_DELETED and body.get("deleteReason") in tuple(unrecorded):
            return Webhook(kind, (_deleted(app, msgspec.convert(body, FileDeleted)),))
        if kind in ITEM_DELETED:
            return Webhook(kind, removal=_removal(body))
        if kind == "Test" or kind in waking:
            return Webhook(kind)
        if kind == BLOCKED:
            return Webhook(kind, (_blocked(app, msgspec.convert(body, ManualInteraction)),))
    except msgspec.ValidationError as error:
        raise UnknownWebhook(kind, str(error)) from error
    raise UnknownWebhook(kind, f"eventType {kind!r} is unknown")


def _removal(body: dict[str, Any]) -> Removal | None:
    """Return what a webhook says of a removed item. One that cannot be read only wakes."""
    try:
        removed = msgspec.convert(body, ItemDeleted)
    except msgspec.ValidationError:
        return None
    item = removed.series or removed.movie
    return Removal(item.id, removed.deleted_files) if item else None


def _deleted(app: str, webhook: FileDeleted) -> Fact:
    file, subject = webhook.episode_file or webhook.movie_file, webhook.series or webhook.movie
    if file is None:
        raise msgspec.ValidationError("Object missing required field `episodeFile` or `movieFile`")
    event = MediaFileDeleted(
        path=file.path,
        reason=REASONS.get(webhook.delete_reason.lower(), "other"),
        size=file.size or None,
        media_title=subject.title if subject else None,
        app=app,
    )
    return Fact(event, Resource("app", app), Actor("system", app))


def _blocked(app: str, webhook: ManualInteraction) -> Fact:
    subject, info = webhook.series or webhook.movie, webhook.download_info
    media_title = subject.title if subject else None
    item = client_item_of(webhook.download_id)
    reasons = [text for entry in webhook.download_status_messages for text in entry.messages]
    event = DownloadImportBlocked(
        title=info.title or media_title or "an unnamed download",
        app=app,
        reasons=list(dict.fromkeys(reasons))[:MAX_REASONS],
        client=webhook.download_client,
        client_item=item,
        media_title=media_title,
        size=info.size or None,
        quality=info.quality,
    )
    resource = Resource("download", str(download_id_of(item))) if item else Resource("app", app)
    story = download_story(item) if item else None
    return Fact(event, resource, Actor("system", app), correlation_id=story)
