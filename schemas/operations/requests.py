"""Requests and replies of the operations, as JSON over NATS services."""

import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mediabus.schemas.events import MediaType, Severity
from mediabus.schemas.paths import unsafe_folder, unsafe_title
from mediabus.schemas.status import DownloadStatus, FailureReason, Protocol

ACTOR_TYPE_HEADER: Final = "Mediabus-Actor-Type"
ACTOR_ID_HEADER: Final = "Mediabus-Actor-Id"
CORRELATION_HEADER: Final = "Mediabus-Correlation-Id"
IDEMPOTENCY_HEADER: Final = "Mediabus-Idempotency-Key"
MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"
"""Used as the idempotency key if the request has none."""

SOURCES: Final = ("magnet", "torrent", "nzb", "url")

Title = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]
Year = Annotated[int, Meta(ge=1801, le=2199)]
TmdbId = Annotated[int, Meta(ge=1, le=2_147_483_647)]
ImdbId = Annotated[str, Meta(pattern=r"^tt\d{7,10}$")]
Limit = Annotated[int, Meta(ge=1, le=500)]
SomeIds = Annotated[list[UUID], Meta(min_length=1, max_length=1000)]
ClientNameText = Annotated[str, Meta(min_length=1, max_length=64)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all requests. Unknown fields are rejected: they are usually typos."""


class CreateMedia(Request, frozen=True, kw_only=True):
    """``media.create``: a movie needs a year, and a TMDB id is unique for each type."""

    type: MediaType
    title: Title
    original_title: Title | None = None
    year: Year | None = None
    tmdb_id: TmdbId | None = None
    imdb_id: ImdbId | None = None
    metadata: dict[str, Any] = {}
    monitored: bool = True

    def __post_init__(self) -> None:
        """Require the year of a movie, which distinguishes it from its remakes."""
        if self.type == "movie" and self.year is None:
            raise ValueError("a movie needs a year - at `$.year`")


class UpdateMedia(Request, frozen=True, kw_only=True):
    """``media.update``: change the given fields only; null clears a field."""

    id: UUID
    title: Title | UnsetType = UNSET
    original_title: Title | UnsetType | None = UNSET
    year: Year | UnsetType | None = UNSET
    tmdb_id: TmdbId | UnsetType | None = UNSET
    imdb_id: ImdbId | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class DeleteMedia(Request, frozen=True, kw_only=True):
    """``media.delete``: delete the items, with one event for each."""

    ids: SomeIds


class SetMonitored(Request, frozen=True, kw_only=True):
    """``media.set_monitored``: set the value, with one event for each item that changes."""

    ids: SomeIds
    monitored: bool


class GetById(Request, frozen=True, kw_only=True):
    """``media.get``, ``downloads.get``, ``history.get``: look up by id."""

    id: UUID


class ListMedia(Request, frozen=True, kw_only=True):
    """``media.list``: the oldest first; ``search`` matches a part of a title.

    ``after`` is the ``next`` of the previous page.
    """

    type: MediaType | None = None
    monitored: bool | None = None
    search: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    limit: Limit = 100
    after: UUID | None = None


class InitiateDownload(Request, frozen=True, kw_only=True):
    """``downloads.initiate``: start a download from one of the four sources.

    The sources are ``magnet``, ``torrent`` and ``nzb`` (the file in base64), and ``url``, which may
    lead to any of the others. ``protocol`` is what the sender expects. Without ``client``, mediabus
    chooses the enabled client of that protocol with the lowest priority number.
    """

    title: Title
    magnet: Annotated[str, Meta(pattern=r"^magnet:\?", max_length=16_384)] | None = None
    torrent: bytes | None = None
    nzb: bytes | None = None
    url: Annotated[str, Meta(pattern=r"^https?://", max_length=4096)] | None = None
    client: ClientNameText | None = None
    protocol: Protocol | None = None
    category: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    indexer: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    media_item_id: UUID | None = None

    def __post_init__(self) -> None:
        """Require exactly one source, and no text that leads a client out of its folders."""
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give one of {', '.join(SOURCES)}, not {found} - at `$.magnet`")
        if why := unsafe_title(self.title):
            raise ValueError(f"a title is not a path: {why} - at `$.title`")
        if self.category is not None and (why := unsafe_folder(self.category)):
            raise ValueError(f"a category is a folder's name: {why} - at `$.category`")


class CancelDownload(Request, frozen=True, kw_only=True):
    """``downloads.cancel``: remove a download from its client, with or without its files."""

    id: UUID
    delete_files: bool = False


class DownloadById(Request, frozen=True, kw_only=True):
    """``downloads.pause``, ``downloads.resume``: pause or resume a download."""

    id: UUID


DownloadState = Literal[
    "initiating",
    "active",
    "paused",
    "stalled",
    "completed",
    "failed",
    "removed",
    "cancelled",
]
"""The state of a download in mediabus. What its client reports is its status."""


SomeStates = Annotated[list[DownloadState], Meta(min_length=1)]


class ListDownloads(Request, frozen=True, kw_only=True):
    """``downloads.list``: the newest first. ``after`` is the ``next`` of the previous page.

    ``state`` is one state or several. A reply is one snapshot, so a download that changes between
    two of these states meanwhile is in it exactly once.
    """

    state: DownloadState | SomeStates | None = None
    client: ClientNameText | None = None
    media_item_id: UUID | None = None
    limit: Limit = 100
    after: UUID | None = None


Moment = Annotated[datetime.datetime, Meta(tz=True)]
"""A time with its UTC offset, which PostgreSQL would otherwise have to guess."""


class _HistoryFilter(Request, frozen=True, kw_only=True):
    category: str | None = None
    type: str | None = None
    severity: Severity | None = None
    actor_type: str | None = None
    actor_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    client: str | None = None
    title: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    extensions: dict[str, str | int] | None = None


class ListHistory(_HistoryFilter, frozen=True, kw_only=True):
    """``history.list``: the newest first. ``after`` is the ``next`` of the previous page.

    ``extensions`` are extension attributes that an event must have, with their values. ``client``
    is that of the data, and ``title`` a part of a title in the data, in any case. These have no
    index: a page ends after two seconds of searching, and its ``next`` continues there.
    """

    limit: Limit = 50
    after: str | None = None


class CountHistory(_HistoryFilter, frozen=True, kw_only=True):
    """``history.count``: count the events of each type."""


class HistoryTimeline(_HistoryFilter, frozen=True, kw_only=True):
    """``history.timeline``: count events in steps of time, such as the minutes of the last hour.

    ``until`` is now by default, ``since`` an hour before that, ``step`` is in seconds.
    """

    step: Annotated[int, Meta(ge=1, le=86_400)] = 60


class MediaItem(msgspec.Struct, frozen=True, kw_only=True):
    """A movie or a TV show in the library."""

    id: UUID
    type: MediaType
    title: str
    original_title: str | None
    year: int | None
    tmdb_id: int | None
    imdb_id: str | None
    metadata: dict[str, Any]
    monitored: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """A download and, while its client has it, the status that the client reports."""

    id: UUID
    title: str
    state: DownloadState
    client: str
    client_item: str | None
    protocol: Protocol
    category: str | None
    indexer: str | None
    media_item_id: UUID | None
    size: int | None
    save_path: str | None
    reason: FailureReason | None
    error_message: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    completed_at: datetime.datetime | None
    status: DownloadStatus | None = None


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A stored event.

    ``data`` is the published JSON, ``data_base64`` the published bytes; ``has_data`` distinguishes
    null from no data. ``content_type`` and ``data_schema`` describe the data. ``extensions`` are
    the attributes that have no field here.

    ``published_id`` is the published id if it is not a UUID, ``published_time`` a time finer than
    microseconds, and ``subject`` a subject that is not ``<kind>/<id>``. ``has_time`` is false if
    ``time`` is that of the message. ``actor_verified`` is true if a key proves the actor.
    ``stream_seq`` is the position in the stream: it orders events of the same time.
    """

    id: UUID
    time: datetime.datetime
    type: str
    category: str
    severity: Severity
    source: str
    actor_type: str | None
    actor_id: str | None
    resource_type: str | None
    resource_id: str | None
    correlation_id: str | None
    causation_id: str | None
    data: msgspec.Raw
    recorded_at: datetime.datetime
    actor_verified: bool = False
    has_data: bool = True
    data_base64: str | None = None
    content_type: str | None = "application/json"
    data_schema: str | None = None
    extensions: dict[str, Any] = {}
    published_id: str | None = None
    published_time: str | None = None
    subject: str | None = None
    has_time: bool = True
    stream_seq: int | None = None


Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list; ``next`` is the ``after`` of the next page, null on the last page."""

    items: list[Item]
    next: str | None = None


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """The items that were deleted by ``media.delete``."""

    ids: list[UUID]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of events, in total and of each type."""

    total: int
    by_type: dict[str, int]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for each step of ``step`` seconds, the first from ``since`` on.

    ``counts`` are the events, ``errors`` those of severity error. ``lags`` are the seconds until
    95 % of the events of a step were stored, null for a step without events.
    """

    since: datetime.datetime
    step: int
    counts: list[int]
    errors: list[int]
    lags: list[float | None]


ProblemCode = Literal[400, 404, 409, 500, 502, 503]
"""Codes with their meaning in HTTP."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an operation failed: ``reason`` for programs, ``message`` for people.

    ``field`` is the invalid field of the request, if there is one.
    """

    code: ProblemCode
    reason: str
    message: str
    field: str | None = None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply that carries the header ``Nats-Service-Error-Code``."""

    error: Problem
