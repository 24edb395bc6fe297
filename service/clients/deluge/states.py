"""What Deluge says of its torrents, in the vocabulary of all clients."""

import re
from typing import Final

import msgspec

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.reasons import failure_reason

STATES: Final[dict[str, Phase]] = {
    "Allocating": Phase.CHECKING,
    "Checking": Phase.CHECKING,
    "Downloading": Phase.DOWNLOADING,
    "Error": Phase.FAILED,
    "Moving": Phase.MOVING,
    "Paused": Phase.PAUSED,
    "Queued": Phase.QUEUED,
    "Seeding": Phase.COMPLETED,
}
"""TORRENT_STATE (deluge/common.py); ``phase_of`` knows what overrules it."""

REASONS: Final[tuple[tuple[str, FailureReason], ...]] = (
    ("bad address", "disk_full"),  # EFAULT is what libtorrent makes of a full disk
    ("missing or invalid torrent data", "missing_files"),
    ("unable to locate download folder", "missing_files"),
    ("failed to move download folder", "not_writable"),
)
"""Deluge's own words for failures, in lower case; the rest is in the table of all clients."""

FINE: Final = "OK"
"""The message of a torrent without an error."""

CRAWLING: Final = 1_000
"""Bytes a second under which a torrent stands still; the rate takes its time to reach nothing."""

MEGABYTE: Final = 1_000_000

TRACKER_TROUBLE: Final = ("Error: ", "Warning: ")
"""How a tracker status begins that is worth a word; the download goes on."""


class Torrent(msgspec.Struct, frozen=True):
    """The status keys that are asked for: these and no more. ``progress`` is none of them: it is
    100 in an error."""

    name: str
    state: str
    message: str = FINE
    is_finished: bool = False
    total_size: int = 0  # 0 without metadata
    total_wanted: int = 0
    total_remaining: int = 0
    total_uploaded: int = 0
    download_payload_rate: int = 0
    upload_payload_rate: int = 0
    eta: int = 0  # 0 and -1 for no end in sight
    download_location: str = ""
    tracker_status: str = ""
    label: str = ""  # of the plugin Label, if that is enabled


KEYS: Final = [field.name for field in msgspec.structs.fields(Torrent)]


def phase_of(torrent: Torrent) -> Phase:
    """What the torrent does. A complete one may be paused or queued too; a moment after the last
    byte it is not yet called finished."""
    phase = STATES.get(torrent.state, Phase.UNKNOWN)
    complete = torrent.is_finished or (torrent.total_wanted and not torrent.total_remaining)
    if phase in (Phase.PAUSED, Phase.QUEUED) and complete:
        return Phase.COMPLETED
    if phase is Phase.DOWNLOADING and not torrent.total_size:
        return Phase.METADATA
    return phase


def status_of(
    client: ClientName, item: str, torrent: Torrent, free: int | None = None
) -> DownloadStatus:
    """The torrent's record in the vocabulary of all clients; ``free`` is the room, in bytes, that
    was last seen where it is stored."""
    phase = phase_of(torrent)
    complete = phase is Phase.COMPLETED
    size = torrent.total_wanted or torrent.total_size
    # The counters are up to 1.5 s older than the state: what is complete has all of its bytes.
    downloaded = size if complete else max(torrent.total_wanted - torrent.total_remaining, 0)
    failed = phase is Phase.FAILED
    return DownloadStatus(
        client=client,
        item=ItemId(item.lower()),
        title=torrent.name,
        phase=phase,
        progress=downloaded / size if size else float(complete),
        size=size or None,
        downloaded=downloaded,
        uploaded=torrent.total_uploaded,
        download_rate=torrent.download_payload_rate,
        upload_rate=torrent.upload_payload_rate,
        eta=torrent.eta if torrent.eta > 0 else None,
        save_path=torrent.download_location or None,
        category=torrent.label or None,
        reason=_reason(torrent.message) if failed else None,
        message=torrent.message
        if failed
        else _lack_of_room(torrent, free) or _tracker_trouble(torrent.tracker_status),
        client_state=torrent.state,
    )


def _reason(message: str) -> FailureReason:
    lowered = message.lower()
    own = (reason for text, reason in REASONS if text in lowered)
    return next(own, None) or failure_reason(message)


def _lack_of_room(torrent: Torrent, free: int | None) -> str | None:
    """What Deluge does not tell: where a file cannot grow, libtorrent may leave the torrent without
    an error and ask for no more pieces until it tries again, ten minutes later."""
    if free is None or torrent.state != "Downloading" or torrent.download_payload_rate > CRAWLING:
        return None
    if free >= torrent.total_remaining:
        return None
    room, missing = free / MEGABYTE, torrent.total_remaining / MEGABYTE
    return f"stands still: {room:.1f} MB are free on its disk, and {missing:.1f} MB are missing"


def _tracker_trouble(words: str) -> str | None:
    return words if words.startswith(TRACKER_TROUBLE) else None


def label_of(category: str) -> str:
    """The category as the plugin Label takes it: small letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^a-z0-9_.-]", "_", category.lower())
