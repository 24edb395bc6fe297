"""The operations that mediabus serves over NATS, with their request and reply types."""

from typing import Final

from mediabus.schemas.operations.apps import AppList, AppState, ImportHistory, ListApps
from mediabus.schemas.operations.dead_letters import (
    DeadLetterByNumber,
    DeadLetterMessage,
    DeadLetterNumbers,
    DeadLetterPage,
    DeadLettersHandled,
    ListDeadLetters,
)
from mediabus.schemas.operations.requests import (
    CancelDownload,
    CountHistory,
    Counts,
    CreateMedia,
    Deleted,
    DeleteMedia,
    Download,
    DownloadById,
    GetById,
    HistoryEvent,
    HistoryTimeline,
    InitiateDownload,
    ListDownloads,
    ListHistory,
    ListMedia,
    MediaItem,
    Page,
    Request,
    SetMonitored,
    Timeline,
    UpdateMedia,
)

OPERATIONS: Final[dict[str, tuple[type[Request], object]]] = {
    "media.create": (CreateMedia, MediaItem),
    "media.update": (UpdateMedia, MediaItem),
    "media.delete": (DeleteMedia, Deleted),
    "media.set_monitored": (SetMonitored, Page[MediaItem]),
    "media.get": (GetById, MediaItem),
    "media.list": (ListMedia, Page[MediaItem]),
    "downloads.initiate": (InitiateDownload, Download),
    "downloads.cancel": (CancelDownload, Download),
    "downloads.pause": (DownloadById, Download),
    "downloads.resume": (DownloadById, Download),
    "downloads.get": (GetById, Download),
    "downloads.list": (ListDownloads, Page[Download]),
    "history.list": (ListHistory, Page[HistoryEvent]),
    "history.count": (CountHistory, Counts),
    "history.get": (GetById, HistoryEvent),
    "history.timeline": (HistoryTimeline, Timeline),
    "apps.list": (ListApps, AppList),
    "apps.import": (ImportHistory, AppState),
    "dead.list": (ListDeadLetters, DeadLetterPage),
    "dead.get": (DeadLetterByNumber, DeadLetterMessage),
    "dead.retry": (DeadLetterNumbers, DeadLettersHandled),
    "dead.discard": (DeadLetterNumbers, DeadLettersHandled),
}
"""The types of request and reply, by subject."""
