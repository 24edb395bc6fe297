"""What qBittorrent says of a torrent, and what that means here."""

from typing import Final

import msgspec

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.reasons import failure_reason

STATES: Final[dict[str, Phase]] = {
    "allocating": Phase.CHECKING,
    "checkingDL": Phase.CHECKING,
    "checkingResumeData": Phase.CHECKING,  # at every start and add, with progress 0
    "checkingUP": Phase.CHECKING,  # all is there, if the check says so: not completed yet
    "downloading": Phase.DOWNLOADING,
    "error": Phase.FAILED,
    "forcedDL": Phase.DOWNLOADING,
    "forcedMetaDL": Phase.METADATA,
    "forcedUP": Phase.COMPLETED,
    "metaDL": Phase.METADATA,
    "missingFiles": Phase.FAILED,
    "moving": Phase.MOVING,  # hides error and paused
    "pausedDL": Phase.PAUSED,
    "pausedUP": Phase.COMPLETED,
    "queuedDL": Phase.QUEUED,
    "queuedUP": Phase.COMPLETED,
    "stalledDL": Phase.DOWNLOADING,  # also normal between the start and the first data
    "stalledUP": Phase.COMPLETED,
    "stoppedDL": Phase.PAUSED,  # pausedDL since 5.0
    "stoppedUP": Phase.COMPLETED,  # pausedUP since 5.0; also when a share limit is reached
    "unknown": Phase.UNKNOWN,
    "uploading": Phase.COMPLETED,
}
"""TorrentState as the Web API spells it (serialize_torrent.cpp), 4.1 to 5.2."""

ENDLESS: Final = 8_640_000
"""The eta, in seconds, that stands for no end in sight."""

MISSING_FILES: Final = "files are missing; put them back and recheck, or remove the download"
DISK_ERROR: Final = "the client stopped it after a disk error; the client's own log says more"


class Torrent(msgspec.Struct, frozen=True):
    """What a torrent's whole record must have; the rest of its fifty fields is not for us."""

    name: str
    state: str
    progress: float = 0.0
    size: int = 0  # of the files that are wanted; -1 or 0 without metadata
    completed: int = 0
    uploaded: int = 0
    dlspeed: int = 0
    upspeed: int = 0
    eta: int = ENDLESS
    save_path: str = ""
    category: str = ""


def status_of(client: ClientName, item: str, torrent: Torrent, why: str = "") -> DownloadStatus:
    """The torrent's record in the vocabulary of all clients; ``why`` is what the log says of a
    torrent in error, or what its trackers say of one that stands still."""
    phase = STATES.get(torrent.state, Phase.UNKNOWN)
    reason, message = _failure(torrent.state, why) if phase is Phase.FAILED else (None, why or None)
    return DownloadStatus(
        client=client,
        item=ItemId(item.lower()),
        title=torrent.name,
        phase=phase,
        progress=min(max(torrent.progress, 0.0), 1.0),
        size=torrent.size if torrent.size > 0 else None,
        downloaded=max(torrent.completed, 0),
        uploaded=torrent.uploaded,
        download_rate=torrent.dlspeed,
        upload_rate=torrent.upspeed,
        eta=torrent.eta if 0 <= torrent.eta < ENDLESS else None,
        save_path=torrent.save_path or None,
        category=torrent.category or None,
        reason=reason,
        message=message,
        client_state=torrent.state,
    )


def _failure(state: str, why: str) -> tuple[FailureReason, str]:
    if state == "missingFiles":
        return "missing_files", MISSING_FILES
    return failure_reason(why), why or DISK_ERROR


def stands_still(state: object, rate: object) -> bool:
    """Whether a torrent that should receive data does not. A forced one is never called stalled."""
    return state in ("stalledDL", "metaDL", "forcedMetaDL") or (state == "forcedDL" and not rate)
