"""Read the webhooks of Sonarr, Radarr, Lidarr and Prowlarr.

What most kinds report is in the history, the library or the health of the application, too: their
webhook only wakes the readers of these. The others become events at once.
"""

from typing import Any, Final

import msgspec

from mediabus.schemas.events import DownloadImportBlocked
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.apps.ids import client_item_of, download_id_of, download_story
from mediabus.service.apps.port import Fact, UnknownWebhook, Webhook

BLOCKED: Final = "ManualInteractionRequired"

MAX_REASONS: Final = 50
"""Reasons of a blocked import. A season pack has one for each file."""


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


def read_arr_webhook(app: str, body: dict[str, Any], waking: frozenset[str]) -> Webhook:
    """Return what a webhook says. ``waking`` are the kinds that only wake the readers.

    Raises:
        UnknownWebhook: the kind is unknown, or a field of it is missing or of a wrong type.
    """
    kind = body.get("eventType")
    if not isinstance(kind, str):
        raise UnknownWebhook(None, "eventType is missing")
    if kind == "Test" or kind in waking:
        return Webhook(kind)
    if kind != BLOCKED:
        raise UnknownWebhook(kind, f"eventType {kind!r} is unknown")
    try:
        return Webhook(kind, (_blocked(app, msgspec.convert(body, ManualInteraction)),))
    except msgspec.ValidationError as error:
        raise UnknownWebhook(kind, str(error)) from error


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
