"""Events about a download, from its initiation to its end."""

from typing import ClassVar
from uuid import UUID

from mediabus.schemas.events.base import Category, Event, Icon, Severity
from mediabus.schemas.status import FailureReason, Fraction, Protocol


class _DownloadEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A download: ``client_item`` is its id in the client, ``size`` is in bytes."""

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
    """A download with its ``progress``, from 0 to 1."""

    progress: Fraction | None = None


class DownloadInitiated(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was requested, and its client accepted it."""

    type = "download.initiated"
    icon: ClassVar[Icon] = "download"
    sentence: ClassVar[str] = "{name} was sent to {client}"
    sentence_by: ClassVar[str] = "{actor} sent {name} to {client}"


class DownloadDiscovered(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download that was added outside mediabus was found in a client.

    ``app`` is the application that grabbed it, if one did.
    """

    type = "download.discovered"
    icon: ClassVar[Icon] = "search"
    sentence: ClassVar[str] = "{name} was found in {client}[, sent by {app}]"

    app: str | None = None


class DownloadPaused(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was paused, by a user or by its client; ``message`` is the client's reason.

    If the client paused it, the actor is the client.
    """

    type = "download.paused"
    icon: ClassVar[Icon] = "pause"
    sentence: ClassVar[str] = "{name} was paused in {client}[: {message}]"
    sentence_by: ClassVar[str] = "{actor} paused {name}"

    message: str | None = None


class DownloadResumed(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A paused or failed download was resumed."""

    type = "download.resumed"
    icon: ClassVar[Icon] = "play"
    sentence: ClassVar[str] = "{name} was resumed in {client}"
    sentence_by: ClassVar[str] = "{actor} resumed {name}"


class DownloadStalled(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download has received no data for longer than the stall timeout."""

    type = "download.stalled"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "stall"
    sentence: ClassVar[str] = "{name} has stalled[ at {progress}] in {client}"


class DownloadRecovered(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A stalled download received data again."""

    type = "download.recovered"
    icon: ClassVar[Icon] = "play"
    sentence: ClassVar[str] = "{name} receives data again"


class DownloadCompleted(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """All wanted data of a download has arrived, ``duration`` seconds after its initiation."""

    type = "download.completed"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "{name} is complete[ after {duration}][, {size}][: {warning}]"

    duration: float | None = None
    save_path: str | None = None
    warning: str | None = None


class DownloadFailed(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download failed; ``error_message`` is the client's error message.

    ``app`` is the application that reported it, if that was not the client itself.
    """

    type = "download.failed"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "cross"
    sentence: ClassVar[str] = "{name} failed in {client}[: {why}]"

    reason: FailureReason
    error_message: str
    app: str | None = None


class DownloadCancelled(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was cancelled through mediabus."""

    type = "download.cancelled"
    icon: ClassVar[Icon] = "trash"
    sentence: ClassVar[str] = "{name} was cancelled[{files_deleted} and its files were deleted]"
    sentence_by: ClassVar[str] = "{actor} cancelled {name}[{files_deleted} and deleted its files]"

    files_deleted: bool | None = None


class DownloadRemoved(_InterruptedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download was removed from its client outside mediabus."""

    type = "download.removed"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "trash"
    sentence: ClassVar[str] = "{name} was removed from {client}[ at {progress}]"
    sentence_by: ClassVar[str] = "{actor} removed {name} from {client}"


class DownloadDestabilized(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download changes its state too often in its client; its current state is ``state``.

    No further changes are published until it is stable or has ended.
    """

    type = "download.destabilized"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "unstable"
    sentence: ClassVar[str] = "{name} keeps changing its state in {client}, now {state}"

    state: str


class DownloadStabilized(_DownloadEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An unstable download has kept its ``state`` for a while, or has ended.

    ``reason`` and ``error_message`` belong to a failed download.
    """

    type = "download.stabilized"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "{name} is stable again in {client}: {state}"

    state: str
    reason: FailureReason | None = None
    error_message: str | None = None


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
    | DownloadDestabilized
    | DownloadStabilized
)
