"""A download as a row of a page: its state in words, its progress, and what a user may do."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from mediabus.schemas.events.base import Icon, Severity
from mediabus.schemas.operations.requests import Download, DownloadState
from mediabus.schemas.plain_text import plain
from mediabus.schemas.status import TRANSFERRING, DownloadStatus, Phase
from mediabus.schemas.wording import client_text, duration_text, reason_text, size_text

Action = Literal["pause", "resume", "cancel"]

UNDER_WAY: Final[tuple[DownloadState, ...]] = ("stalled", "active", "initiating", "paused")
"""The states of the downloads on the page Now, in the order of the page."""

ACTIONS: Final[dict[DownloadState, tuple[Action, ...]]] = {
    "initiating": ("cancel",),
    "active": ("pause", "cancel"),
    "stalled": ("pause", "cancel"),
    "paused": ("resume", "cancel"),
}
"""What the operations accept in each state; nothing in the others."""

STATES: Final[dict[DownloadState, tuple[str, Icon, Severity]]] = {
    "initiating": ("Starting", "download", "info"),
    "active": ("Under way", "download", "info"),
    "paused": ("Paused", "pause", "info"),
    "stalled": ("Stalled", "stall", "warning"),
    "completed": ("Complete", "check", "info"),
    "failed": ("Failed", "cross", "error"),
    "removed": ("Removed", "trash", "warning"),
    "cancelled": ("Cancelled", "trash", "info"),
}

PHASES: Final = {
    Phase.QUEUED: "Waiting in the queue",
    Phase.METADATA: "Fetching metadata",
    Phase.DOWNLOADING: "Downloading",
    Phase.PAUSED: "Paused",
    Phase.CHECKING: "Checking files",
    Phase.MOVING: "Moving files",
    Phase.PROCESSING: "Repairing and unpacking",
    Phase.COMPLETED: "Complete",
    Phase.FAILED: "Failed",
    Phase.UNKNOWN: "Under way",
}
"""The words for what a client does with a download."""

MAX_TITLE: Final = 300
"""Characters of a title on a page."""


class DownloadView(msgspec.Struct, frozen=True, kw_only=True):
    """A row. ``facts`` are short texts such as ``2.1 MB/s``; ``why`` explains a problem."""

    id: str
    title: str
    client: str
    state: str
    icon: Icon
    severity: Severity
    progress: float | None = None
    facts: tuple[str, ...] = ()
    why: str | None = None
    actions: tuple[Action, ...] = ()
    resource: tuple[str, str]
    """The kind and id of the item whose story the title leads to."""

    @property
    def percent(self) -> str:
        """The progress as text, never ``100 %`` before the end."""
        return "" if self.progress is None else f"{int(self.progress * 100)} %"


def download_view(download: Download, *, is_reachable: bool = True) -> DownloadView:
    """Return the row of a download. ``is_reachable`` is that of its client."""
    words, icon, severity = STATES[download.state]
    status = download.status
    if download.state == "active" and not is_reachable:
        words, icon = "Unknown, its client is unreachable", "unplug"
    elif download.state == "active" and status:
        words = PHASES[status.phase]
    return DownloadView(
        id=str(download.id),
        title=_cut(download.title),
        client=_cut(client_text(download.client)),
        state=words,
        icon=icon,
        severity=severity,
        progress=status.progress if status else None,
        facts=tuple(_facts(download, status, is_reachable=is_reachable)),
        why=_why(download, status),
        actions=ACTIONS.get(download.state, ()),
        resource=_resource(download),
    )


def _facts(
    download: Download, status: DownloadStatus | None, *, is_reachable: bool
) -> Iterable[str]:
    size = (status.size if status else None) or download.size
    if size and status and 0 < status.progress < 1:
        yield f"{size_text(status.progress * size)} of {size_text(size)}"
    elif size:
        yield size_text(size)
    if status is None or not is_reachable:
        return
    if download.state == "stalled" and status.idle_for:
        yield f"no data for {duration_text(status.idle_for)}"
    if download.state != "active":
        return
    if status.phase in TRANSFERRING or status.download_rate:
        yield f"{size_text(status.download_rate)}/s"
    if status.eta:
        yield f"{duration_text(status.eta)} left"


def _why(download: Download, status: DownloadStatus | None) -> str | None:
    """Return the problem of a download in words: the reason, then the client's message."""
    message = download.error_message or (status.message if status else None)
    reason = download.reason or (status.reason if status else None)
    parts = [reason_text(reason) if reason else None, message]
    return _cut(": ".join(part for part in parts if part)) or None


def _resource(download: Download) -> tuple[str, str]:
    if download.media_item_id:
        return "media_item", str(download.media_item_id)
    return "download", str(download.id)


def _cut(text: str) -> str:
    shown = plain(text[: MAX_TITLE + 1])
    return shown if len(shown) <= MAX_TITLE else f"{shown[: MAX_TITLE - 1]}…"
