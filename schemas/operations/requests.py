"""Requests and replies of the operations: JSON in, JSON out, over the NATS micro API."""

import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.events import MediaType, Severity
from schemas.status import DownloadStatus, FailureReason, Protocol

ACTOR_TYPE_HEADER: Final = "Mediabus-Actor-Type"
ACTOR_ID_HEADER: Final = "Mediabus-Actor-Id"
CORRELATION_HEADER: Final = "Mediabus-Correlation-Id"

SOURCES: Final = ("magnet", "torrent", "nzb", "url")

Title = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]
Year = Annotated[int, Meta(ge=1801, le=2199)]
TmdbId = Annotated[int, Meta(ge=1, le=2_147_483_647)]
ImdbId = Annotated[str, Meta(pattern=r"^tt\d{7,10}$")]
Limit = Annotated[int, Meta(ge=1, le=500)]
SomeIds = Annotated[list[UUID], Meta(min_length=1, max_length=1000)]
ClientNameText = Annotated[str, Meta(min_length=1, max_length=64)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operation is asked. An unknown field is refused: it is a slip more often than a
    wish."""


class CreateMedia(Request, frozen=True, kw_only=True):
    """``media.create``. A movie needs a year; an id at TMDB is taken once for each type."""

    type: MediaType
    title: Title
    original_title: Title | None = None
    year: Year | None = None
    tmdb_id: TmdbId | None = None
    imdb_id: ImdbId | None = None
    metadata: dict[str, Any] = {}
    monitored: bool = True

    def __post_init__(self) -> None:
        """A movie is told from its remakes by its year."""
        if self.type == "movie" and self.year is None:
            raise ValueError("a movie needs a year - at `$.year`")


class UpdateMedia(Request, frozen=True, kw_only=True):
    """``media.update``: only the fields that are given change; null empties one."""

    id: UUID
    title: Title | UnsetType = UNSET
    original_title: Title | UnsetType | None = UNSET
    year: Year | UnsetType | None = UNSET
    tmdb_id: TmdbId | UnsetType | None = UNSET
    imdb_id: ImdbId | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class DeleteMedia(Request, frozen=True, kw_only=True):
    """``media.delete``: one event for each item."""

    ids: SomeIds


class SetMonitored(Request, frozen=True, kw_only=True):
    """``media.set_monitored``: one event for each item whose value changes."""

    ids: SomeIds
    monitored: bool


class GetById(Request, frozen=True, kw_only=True):
    """``media.get``, ``downloads.get``, ``history.get``."""

    id: UUID


class ListMedia(Request, frozen=True, kw_only=True):
    """``media.list``: in the order of being added. ``after`` is the ``next`` of the page before;
    ``search`` finds part of a title."""

    type: MediaType | None = None
    monitored: bool | None = None
    search: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    limit: Limit = 100
    after: UUID | None = None


class InitiateDownload(Request, frozen=True, kw_only=True):
    """``downloads.initiate``: exactly one of ``magnet``, ``torrent`` and ``nzb`` (base64 of the
    file) and ``url``, which may lead to any of them; ``protocol`` only says what the sender
    takes it to be. Without ``client`` the enabled client of that protocol with the lowest priority
    number takes it."""

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
        """There is one thing to download."""
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"give one of {', '.join(SOURCES)}, not {said} - at `$.magnet`")


class CancelDownload(Request, frozen=True, kw_only=True):
    """``downloads.cancel``: takes it out of its client, with or without what arrived."""

    id: UUID
    delete_files: bool = False


class DownloadById(Request, frozen=True, kw_only=True):
    """``downloads.pause``, ``downloads.resume``."""

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
"""Where a download stands in its life; what its client does with it is its status."""


class ListDownloads(Request, frozen=True, kw_only=True):
    """``downloads.list``: newest first. ``after`` is the ``next`` of the page before."""

    state: DownloadState | None = None
    client: ClientNameText | None = None
    media_item_id: UUID | None = None
    limit: Limit = 100
    after: UUID | None = None


Moment = Annotated[datetime.datetime, Meta(tz=True)]
"""With its offset from UTC: PostgreSQL would have to guess it."""


class _HistoryFilter(Request, frozen=True, kw_only=True):
    category: str | None = None
    type: str | None = None
    severity: Severity | None = None
    actor_type: str | None = None
    actor_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    since: Moment | None = None
    until: Moment | None = None


class ListHistory(_HistoryFilter, frozen=True, kw_only=True):
    """``history.list``: newest first. ``after`` is the ``next`` of the page before."""

    limit: Limit = 50
    after: str | None = None


class CountHistory(_HistoryFilter, frozen=True, kw_only=True):
    """``history.count``: events of each type."""


class MediaItem(msgspec.Struct, frozen=True, kw_only=True):
    """A movie or a TV show of the library."""

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
    """A download and, while its client has it, what the client says of it (``status``)."""

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
    """A stored event. ``data`` is what was published."""

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


Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Part of a list; ``next`` is the ``after`` of the page that follows, null on the last."""

    items: list[Item]
    next: str | None = None


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """The items that were deleted by ``media.delete``."""

    ids: list[UUID]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events there are, in all and of each type."""

    total: int
    by_type: dict[str, int]


ProblemCode = Literal[400, 404, 409, 500, 502, 503]
"""As in HTTP."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an operation did nothing. ``reason`` is for programs, ``message`` says to people what to
    do."""

    code: ProblemCode
    reason: str
    message: str
    field: str | None = None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply that carries the header ``Nats-Service-Error-Code``."""

    error: Problem
