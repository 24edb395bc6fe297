"""The life of a download, from being asked for to its end."""

from typing import ClassVar
from uuid import UUID

from schemas.events.base import Category, Event, Severity
from schemas.status import FailureReason, Fraction, Protocol


class _DownloadEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """``client_item`` is the client's own id: infohash, gid or nzo_id; ``size`` in bytes."""

    category: ClassVar[Category] = "downloads"

    download_id: UUID
    title: str
    client: str
    client_item: str | None = None
    indexer: str | None = None
    protocol: Protocol | None = None
    size: int | None = None
    media_item_id: UUID | None = None
    media_title: str | None = None


class _InterruptedEvent(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """``progress`` is the part that had arrived, from 0 to 1."""

    progress: Fraction | None = None


class DownloadInitiated(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was asked for and its client took it."""

    type = "download.initiated"


class DownloadDiscovered(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download turned up that was added in the client itself."""

    type = "download.discovered"


class DownloadPaused(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was paused, through mediabus or in its client."""

    type = "download.paused"


class DownloadResumed(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A paused or failed download goes on."""

    type = "download.resumed"


class DownloadStalled(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download has received nothing for a long time."""

    type = "download.stalled"
    severity: ClassVar[Severity] = "warning"


class DownloadRecovered(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A stalled download receives data again."""

    type = "download.recovered"


class DownloadCompleted(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """All wanted data is there. ``duration`` is the seconds since it was initiated."""

    type = "download.completed"

    duration: float | None = None
    save_path: str | None = None
    warning: str | None = None


class DownloadFailed(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download ended without its data; ``error_message`` holds the client's own words."""

    type = "download.failed"
    severity: ClassVar[Severity] = "error"

    reason: FailureReason
    error_message: str


class DownloadCancelled(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody cancelled a download through mediabus."""

    type = "download.cancelled"

    files_deleted: bool | None = None


class DownloadRemoved(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download is gone from its client, and mediabus was not asked to remove it."""

    type = "download.removed"
    severity: ClassVar[Severity] = "warning"


DownloadEvent = (
    DownloadInitiated
    | DownloadDiscovered
    | DownloadPaused
    | DownloadResumed
    | DownloadStalled
    | DownloadRecovered
    | DownloadCompleted
    | DownloadFailed
    | DownloadCancelled
    | DownloadRemoved
)
