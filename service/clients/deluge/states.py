"""Map torrents of Deluge to the status that all clients share."""

import re
from typing import Final

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.failure_reasons import Words, failure_reason
from mediabus.service.clients.selection import NOTHING_WANTED

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
"""TORRENT_STATE (deluge/common.py). ``phase_of`` handles the exceptions."""

WORDS: Final[Words] = (("bad address", "disk_full"),)
"""libtorrent reports a full disk as EFAULT. The table of all clients has the other messages."""

MAYBE_FULL: Final[Words] = (*WORDS, ("input/output error", "disk_full"))
"""Deluge 2.2.1 can report a full disk as EIO, too. With free space, EIO means a broken disk."""

FINE: Final = "OK"
"""The message of a torrent without an error."""

CRAWLING: Final = 1_000
"""Bytes per second below which a torrent makes no progress. The rate falls to 0 only slowly."""

MEGABYTE: Final = 1_000_000

TRACKER_TROUBLE: Final = ("Error: ", "Warning: ")
"""Prefixes of a tracker status worth reporting. The download continues in spite of it."""


class Torrent(msgspec.Struct, frozen=True):
    """The status keys that mediabus requests.

    ``progress`` is not used, because it is 100 for a torrent in error.
    """

    name: str = ""
    state: str = ""
    paused: bool = True  # in libtorrent; False while Deluge's whole session is paused
    message: str = FINE
    is_finished: bool = False
    total_size: int = 0  # 0 without metadata
    total_wanted: int = 0
    total_remaining: int = 0
    total_uploaded: int = 0
    download_payload_rate: int = 0
    upload_payload_rate: int = 0
    eta: int = 0  # 0 and -1: unknown
    download_location: str = ""
    tracker_status: str = ""
    label: str = ""  # from the Label plugin, if it is enabled


KEYS: Final = [field.name for field in msgspec.structs.fields(Torrent)]


def phase_of(torrent: Torrent) -> Phase:
    """Return the phase of a torrent.

    A complete torrent can be paused or queued, too. Just after its last byte, Deluge does not
    report it as finished yet.
    """
    phase = STATES.get(torrent.state, Phase.UNKNOWN)
    complete = torrent.is_finished or (torrent.total_wanted and not torrent.total_remaining)
    if phase in (Phase.PAUSED, Phase.QUEUED) and complete:
        return Phase.COMPLETED
    if phase is Phase.PAUSED and not torrent.paused and is_unnoticed(torrent):
        return Phase.DOWNLOADING  # Deluge did not notice its start either
    if phase is Phase.DOWNLOADING and not torrent.total_size:
        # Deluge does not notice the metadata of a hybrid torrent added by its v1 infohash.
        if not torrent.total_wanted:
            return Phase.METADATA
        return Phase.COMPLETED if complete else phase
    return phase


def is_unnoticed(torrent: Torrent) -> bool:
    """Return whether the torrent has metadata that Deluge has not noticed.

    This happens to a hybrid torrent added by its v1 infohash: libtorrent then reports it under
    another id, and Deluge keeps the state from before.
    """
    return not torrent.total_size and torrent.total_wanted > 0


def status_of(
    client: ClientName, item: str, torrent: Torrent, free: int | None = None
) -> DownloadStatus:
    """Convert a torrent to a status. ``free`` is the last known free space of its disk in bytes."""
    phase = phase_of(torrent)
    complete = phase is Phase.COMPLETED
    wants_nothing = complete and torrent.total_size > 0 and not torrent.total_wanted
    size = 0 if wants_nothing else torrent.total_wanted or torrent.total_size
    # The counters lag behind the state by up to 1.5 s: a complete torrent has all its bytes.
    downloaded = size if complete else max(torrent.total_wanted - torrent.total_remaining, 0)
    failed = phase is Phase.FAILED
    return DownloadStatus(
        client=client,
        item=ItemId(item.lower()),
        title=torrent.name,
        phase=phase,
        progress=downloaded / size if size else float(complete),
        size=size if size or wants_nothing else None,
        downloaded=downloaded,
        uploaded=torrent.total_uploaded,
        download_rate=torrent.download_payload_rate,
        upload_rate=torrent.upload_payload_rate,
        eta=torrent.eta if torrent.eta > 0 else None,
        save_path=torrent.download_location or None,
        category=torrent.label or None,
        reason=_reason(torrent, free) if failed else None,
        message=torrent.message
        if failed
        else _lack_of_room(torrent, free) or _tracker_trouble(torrent.tracker_status),
        warning=NOTHING_WANTED if wants_nothing else None,
        client_state=torrent.state,
    )


def _reason(torrent: Torrent, free: int | None) -> FailureReason:
    has_room = free is not None and free >= torrent.total_remaining
    return failure_reason(torrent.message, WORDS if has_room else MAYBE_FULL)


def _lack_of_room(torrent: Torrent, free: int | None) -> str | None:
    """Return a message about a full disk that Deluge does not report.

    If a file cannot grow, libtorrent can leave the torrent without an error and request no pieces
    until it retries ten minutes later.
    """
    if free is None or torrent.state != "Downloading" or torrent.download_payload_rate > CRAWLING:
        return None
    if free >= torrent.total_remaining:
        return None
    room, missing = free / MEGABYTE, torrent.total_remaining / MEGABYTE
    return f"stands still: {room:.1f} MB are free on its disk, and {missing:.1f} MB are missing"


def _tracker_trouble(words: str) -> str | None:
    return words if words.startswith(TRACKER_TROUBLE) else None


def label_of(category: str) -> str:
    """Return the category as a label: lower-case letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^a-z0-9_.-]", "_", category.lower())
