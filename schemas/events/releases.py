"""Events about releases that applications choose."""

from typing import ClassVar, Literal
from uuid import UUID

from mediabus.schemas.events.base import Category, Event, Icon
from mediabus.schemas.status import Protocol

Trigger = Literal["rss", "search", "user", "api"]


class ReleaseGrabbed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An application chose a release and sent it to a download client.

    ``client`` is the name that the application has for the client. ``trigger`` is what made it
    search: its RSS feed, an automatic search, a user, or the API. ``items`` is how many episodes,
    movies or albums the release has.
    """

    category: ClassVar[Category] = "downloads"
    type = "release.grabbed"
    icon: ClassVar[Icon] = "download"
    sentence: ClassVar[str] = "{app} grabbed {name}[ from {indexer}]"
    sentence_by: ClassVar[str] = "{actor} grabbed {name}[ from {indexer}] with {app}"

    title: str
    app: str
    indexer: str | None = None
    client: str | None = None
    client_item: str | None = None
    download_id: UUID | None = None
    protocol: Protocol | None = None
    size: int | None = None
    quality: str | None = None
    release_group: str | None = None
    trigger: Trigger | None = None
    items: int | None = None
    media_item_id: UUID | None = None
    media_title: str | None = None


ReleaseEvent = ReleaseGrabbed
