"""The arguments of the typed clients of the operations."""

import datetime
from collections.abc import Mapping
from typing import Any, Literal, Required, TypedDict
from uuid import UUID

from msgspec import UnsetType

from mediabus.schemas.events import MediaType, Severity
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import DownloadState


class Caller(TypedDict, total=False):
    """In whose name a change happens, by default the actor given to ``connect``.

    ``idempotency_key`` makes a repeated request safe: within a day it gets the same reply, and the
    change happens once.
    """

    actor: Actor | None
    idempotency_key: str | None


class NewMedia(Caller, total=False):
    """The fields of a new media item. A movie needs a year. ``type`` is ``movie`` by default."""

    title: Required[str]
    type: MediaType
    year: int | None
    original_title: str | None
    tmdb_id: int | None
    imdb_id: str | None
    metadata: Mapping[str, Any] | None
    monitored: bool


class MediaChanges(Caller, total=False):
    """The fields of a media item to change. None clears a field; UNSET leaves it as it is."""

    title: str | UnsetType
    year: int | UnsetType | None
    original_title: str | UnsetType | None
    tmdb_id: int | UnsetType | None
    imdb_id: str | UnsetType | None
    metadata: Mapping[str, Any] | UnsetType


class NewDownload(Caller, total=False):
    """A download to hand to a client. Give exactly one of magnet, torrent, nzb and url."""

    title: Required[str]
    magnet: str | None
    torrent: bytes | None
    nzb: bytes | None
    url: str | None
    client: str | None
    protocol: Literal["torrent", "usenet"] | None
    category: str | None
    indexer: str | None
    media_item_id: UUID | None


class MediaFilter(TypedDict, total=False):
    """Which media items to list."""

    type: MediaType | None
    monitored: bool | None
    search: str | None


class DownloadFilter(TypedDict, total=False):
    """Which downloads to list."""

    state: DownloadState | list[DownloadState] | None
    client: str | None
    media_item_id: UUID | None


class TimelineFilter(TypedDict, total=False):
    """Which events to count in steps. ``since`` and ``until`` need a time zone."""

    category: str | None
    type: str | None
    severity: Severity | None
    since: datetime.datetime | None
    until: datetime.datetime | None


class HistoryFilter(TimelineFilter, total=False):
    """Which events to list or count. ``title`` is a part of a title, in any case."""

    actor_type: str | None
    actor_id: str | None
    resource_type: str | None
    resource_id: str | None
    client: str | None
    title: str | None


class DeadLetterFilter(TypedDict, total=False):
    """Which dead letters to list. ``type`` may be a pattern such as ``download.*``."""

    consumer: str | None
    kind: str | None
    type: str | None
    reason: str | None
