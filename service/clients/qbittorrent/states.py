"""Map torrents of qBittorrent to the status that all clients share."""

from typing import Final, Protocol

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.failure_reasons import failure_reason
from mediabus.service.clients.selection import NOTHING_WANTED

STATES: Final[dict[str, Phase]] = {
    "allocating": Phase.CHECKING,
    "checkingDL": Phase.CHECKING,
    "checkingResumeData": Phase.CHECKING,  # at every start and add, with progress 0
    "checkingUP": Phase.CHECKING,  # not completed until the check has passed
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
"""The eta, in seconds, that qBittorrent reports for an unknown one."""

MISSING_FILES: Final = "files are missing; put them back and recheck, or remove the download"
DISK_ERROR: Final = "the client stopped it after a disk error; the client's own log says more"


class Torrent(msgspec.Struct, frozen=True):
    """The fields of a torrent that mediabus uses, of about fifty."""

    name: str = ""
    state: str = ""
    progress: float = 0.0
    size: int = 0  # of the selected files; -1 or 0 without metadata
    total_size: int = 0  # of all files; -1 or 0 without metadata
    completed: int = 0
    uploaded: int = 0
    dlspeed: int = 0
    upspeed: int = 0
    eta: int = ENDLESS
    save_path: str = ""
    category: str = ""
    infohash_v1: str = ""  # since 4.4; empty if the torrent, or its magnet link, has none
    infohash_v2: str = ""


def status_of(client: ClientName, item: str, torrent: Torrent, why: str = "") -> DownloadStatus:
    """Convert a torrent to a status.

    ``why`` is the log line about a torrent in error, or the tracker message of a stalled torrent.
    """
    phase = STATES.get(torrent.state, Phase.UNKNOWN)
    reason, message = _failure(torrent.state, why) if phase is Phase.FAILED else (None, why or None)
    wants_nothing = phase is Phase.COMPLETED and not torrent.size and torrent.total_size > 0
    return DownloadStatus(
        client=client,
        item=ItemId(item.lower()),
        title=torrent.name,
        phase=phase,
        progress=min(max(torrent.progress, 0.0), 1.0),
        size=torrent.size if torrent.size > 0 or wants_nothing else None,
        downloaded=max(torrent.completed, 0),
        uploaded=torrent.uploaded,
        download_rate=torrent.dlspeed,
        upload_rate=torrent.upspeed,
        eta=torrent.eta if 0 <= torrent.eta < ENDLESS else None,
        save_path=torrent.save_path or None,
        category=torrent.category or None,
        reason=reason,
        message=message,
        warning=NOTHING_WANTED if wants_nothing else None,
        client_state=torrent.state,
        aliases=tuple(sorted(ids_of(torrent) - {item.lower()})),
    )


class HasInfohashes(Protocol):
    """An object with the infohashes of a torrent."""

    @property
    def infohash_v1(self) -> str: ...

    @property
    def infohash_v2(self) -> str: ...


def ids_of(torrent: HasInfohashes) -> set[ItemId]:
    """Return the ids under which qBittorrent can list a torrent.

    With libtorrent 2, a hybrid torrent is listed by its v2 infohash. If it was added by a magnet
    link with the v1 infohash, it is listed by that until its metadata has arrived.
    """
    ids = (torrent.infohash_v1.lower(), torrent.infohash_v2.lower()[:40])
    return {ItemId(text) for text in ids if text}


def _failure(state: str, why: str) -> tuple[FailureReason, str]:
    if state == "missingFiles":
        return "missing_files", MISSING_FILES
    return failure_reason(why), why or DISK_ERROR


def stands_still(state: object, rate: object) -> bool:
    """Return whether an active torrent receives no data. A forced one is never "stalled"."""
    return state in ("stalledDL", "metaDL", "forcedMetaDL") or (state == "forcedDL" and not rate)
