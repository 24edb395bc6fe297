"""What rTorrent says of a torrent, and what that means here.

Seen on 0.9.8, or read in its source.
"""

import posixpath
import urllib.parse
from collections.abc import Sequence
from typing import Final, NamedTuple

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase

MESSAGES: Final[tuple[tuple[str, FailureReason | None], ...]] = (
    ("Tracker: [", None),  # the download goes on
    ("Cannot change the directory", None),  # what was asked of it, not what became of it
    ("Download registered as completed, but", "missing_files"),
    ("Low diskspace", "disk_full"),
    ("", "client_error"),
)
"""How d.message begins (download.cc, download_list.cc, command_events.cc) and, for a download that
is not active, the failure that it tells of; the first one counts."""

NOT_OPENED: Final = "rTorrent cannot open the files of this download; only its own log says why"

NUMBERS: Final = (
    "d.state",
    "d.is_active",
    "d.complete",
    "d.hashing",
    "d.hashing_failed",
    "d.is_meta",
    "d.is_multi_file",
    "d.size_bytes",
    "d.bytes_done",
    "d.up.total",
    "d.down.rate",
    "d.up.rate",
)
ROW: Final = (
    "d.hash=",
    "d.name=",
    "d.message=",
    "d.directory=",
    "d.custom1=",
    # One value in XML in place of twelve: reading them is most of the work of an observation.
    "cat=" + ',"  ",'.join(f"${name}=" for name in NUMBERS),
)
"""What is asked of every torrent, by d.multicall2."""


class Torrent(NamedTuple):
    """A row: ROW's fields, the last one taken apart into NUMBERS."""

    hash: str
    name: str
    message: str
    directory: str
    label: str  # as ruTorrent keeps it: percent-encoded
    state: int  # 1 is started, though it may rest (d.pause)
    is_active: int
    complete: int
    hashing: int  # 0 no, 1 at first, 2 at the end, 3 asked for
    hashing_failed: int
    is_meta: int  # not the download yet, but its metadata
    is_multi_file: int
    size: int
    done: int
    uploaded: int
    down_rate: int
    up_rate: int


def torrent_of(row: Sequence[str]) -> Torrent:
    """ValueError, or TypeError, for what is no row."""
    key, name, message, directory, label, numbers = row
    return Torrent(key, name, message, directory, label, *map(int, numbers.split()))


def phase_of(torrent: Torrent) -> Phase:
    """What the torrent does."""
    if failure_of(torrent):
        return Phase.FAILED
    if torrent.hashing:
        return Phase.CHECKING
    if torrent.complete and not torrent.is_meta:
        return Phase.COMPLETED
    if not torrent.state or not torrent.is_active:
        return Phase.PAUSED
    return Phase.METADATA if torrent.is_meta else Phase.DOWNLOADING


def failure_of(torrent: Torrent) -> FailureReason | None:
    """Why the torrent failed, if it did. Files that it cannot open leave it waiting for its check
    for ever, without a word."""
    if torrent.is_active:
        return None
    if torrent.message:
        return next(reason for start, reason in MESSAGES if torrent.message.startswith(start))
    return "not_writable" if torrent.hashing and torrent.hashing_failed else None


def status_of(client: ClientName, torrent: Torrent) -> DownloadStatus:
    """The row in the vocabulary of all clients."""
    known = not torrent.is_meta
    phase = phase_of(torrent)
    done = min(torrent.done, torrent.size) if known else 0
    left, rate = torrent.size - done, torrent.down_rate
    downloading = phase is Phase.DOWNLOADING
    return DownloadStatus(
        client=client,
        item=ItemId(torrent.hash.lower()),
        title=torrent.name if known else torrent.name.removesuffix(".meta"),
        phase=phase,
        progress=done / torrent.size if known and torrent.size else 0.0,
        size=torrent.size if known else None,
        downloaded=done,
        uploaded=torrent.uploaded,
        download_rate=rate,
        upload_rate=torrent.up_rate,
        eta=left // rate if downloading and rate else None,
        save_path=_save_path(torrent),
        category=urllib.parse.unquote(torrent.label) or None,
        reason=failure_of(torrent),
        message=torrent.message or (NOT_OPENED if phase is Phase.FAILED else None),
        client_state=_state(torrent),
    )


def _save_path(torrent: Torrent) -> str | None:
    """Where the torrent's file or folder is: d.directory is that folder itself."""
    head, tail = posixpath.split(torrent.directory.rstrip("/"))
    inside = torrent.is_multi_file and tail == torrent.name
    return (head if inside else torrent.directory) or None


def _state(torrent: Torrent) -> str:
    """rTorrent has no word for it: these are its page's."""
    if torrent.hashing:
        return "hashing"
    if not torrent.state:
        return "stopped"
    return "active" if torrent.is_active else "paused"
