"""Every operation that can be asked for over NATS, with what it takes and what it answers."""

from typing import Final

from schemas.commands import (
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
    InitiateDownload,
    ListDownloads,
    ListHistory,
    ListMedia,
    MediaItem,
    Page,
    Request,
    SetMonitored,
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
}
"""Request and reply by subject."""
