"""Map torrents of rTorrent to the status that all clients share."""

import posixpath
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.failure_reasons import failure_reason
from mediabus.service.clients.selection import NOTHING_WANTED

HARMLESS: Final = (
    "Tracker: [",  # the download continues
    "Cannot change the directory",  # a command failed, not the download
)
"""Prefixes of d.message that are not failures (download.cc, download_list.cc).

Any other message of an inactive download is a failure.
"""

NOT_OPENED: Final = "rTorrent cannot open the files of this download: see its log"


class Torrent(msgspec.Struct, frozen=True, rename="d.{}".format):
    """The fields requested of every torrent, under the names of rTorrent: texts, then numbers."""

    hash: str
    name: str
    message: str
    directory: str
    label: str = msgspec.field(name="d.custom1")  # the label of ruTorrent, percent-encoded
    state: int  # 1 is started, but perhaps paused (d.pause)
    is_active: int
    complete: int
    hashing: int  # 0 no, 1 initial, 2 final, 3 requested
    hashing_failed: int
    is_hash_checked: int
    is_partially_done: int  # no wanted chunk is missing
    size_chunks: int
    completed_chunks: int
    wanted_chunks: int  # missing chunks of selected files
    is_meta: int  # the metadata of a magnet link, not the download itself
    is_multi_file: int
    size: int = msgspec.field(name="d.size_bytes")
    done: int = msgspec.field(name="d.bytes_done")
    uploaded: int = msgspec.field(name="d.up.total")
    down_rate: int = msgspec.field(name="d.down.rate")
    up_rate: int = msgspec.field(name="d.up.rate")

    @property
    def has_all_wanted(self) -> bool:
        """Return whether all chunks of the selected files are present."""
        return bool(self.complete or (self.is_hash_checked and self.is_partially_done))

    @property
    def is_selective(self) -> bool:
        """Return whether chunks of deselected files are missing."""
        missing = self.size_chunks - self.completed_chunks
        return not self.is_meta and not self.complete and missing > self.wanted_chunks


FIELDS: Final = msgspec.structs.fields(Torrent)
TEXTS: Final = [field.encode_name for field in FIELDS if field.type is str]
NUMBERS: Final = [field.encode_name for field in FIELDS if field.type is int]
ROW: Final = (
    *(f"{name}=" for name in TEXTS),
    # One XML value for all numbers, because parsing values is most of the cost of a poll.
    "cat=" + ',"  ",'.join(f"${name}=" for name in NUMBERS),
)
"""The fields that d.multicall2 requests."""


class Selection(msgspec.Struct, frozen=True):
    """The sizes of a torrent with deselected files.

    ``wanted`` is the size of the selected files, ``unwanted_done`` how many bytes of the deselected
    files are present.
    """

    wanted: int
    unwanted_done: int


FILE: Final = ("f.size_bytes=", "f.completed_chunks=", "f.priority=")
"""The fields requested of each file of such a torrent. Priority 0 is deselected."""


def selection_of(files: Iterable[Sequence[int]], chunk: int) -> Selection:
    """Sum up the sizes of files. ``chunk`` is the size of a chunk in bytes."""
    wanted = unwanted_done = 0
    for size, completed_chunks, priority in files:
        if priority:
            wanted += size
        else:
            unwanted_done += min(size, completed_chunks * chunk)
    return Selection(wanted, unwanted_done)


def torrent_of(row: Sequence[str]) -> Torrent:
    """Parse a row. Raises ValueError, TypeError or AttributeError."""
    key, name, message, directory, label, numbers = row
    return Torrent(key, name, message, directory, label, *map(int, numbers.split()))


def phase_of(torrent: Torrent) -> Phase:
    """Return the phase of a torrent."""
    if failure_of(torrent):
        return Phase.FAILED
    if torrent.hashing:
        return Phase.CHECKING
    if torrent.has_all_wanted and not torrent.is_meta:
        return Phase.COMPLETED
    if not torrent.state or not torrent.is_active:
        return Phase.PAUSED
    return Phase.METADATA if torrent.is_meta else Phase.DOWNLOADING


def failure_of(torrent: Torrent) -> FailureReason | None:
    """Return why the torrent failed, or None.

    If rTorrent cannot open the files, the torrent waits for its hash check without end, and
    without a message.
    """
    if torrent.is_active:
        return None
    if torrent.message:
        harmless = torrent.message.startswith(HARMLESS)
        return None if harmless else failure_reason(torrent.message)
    return "not_writable" if torrent.hashing and torrent.hashing_failed else None


def status_of(
    client: ClientName, torrent: Torrent, selection: Selection | None = None
) -> DownloadStatus:
    """Convert a torrent to a status. ``selection`` is given if it has deselected files."""
    known = not torrent.is_meta
    phase = phase_of(torrent)
    size, done = _wanted_size_and_done(torrent, phase, selection)
    rate = torrent.down_rate
    return DownloadStatus(
        client=client,
        item=ItemId(torrent.hash.lower()),
        title=torrent.name if known else torrent.name.removesuffix(".meta"),
        phase=phase,
        progress=done / size if size else float(phase is Phase.COMPLETED),
        size=size if known else None,
        downloaded=done,
        uploaded=torrent.uploaded,
        download_rate=rate,
        upload_rate=torrent.up_rate,
        eta=(size - done) // rate if rate and phase is Phase.DOWNLOADING else None,
        save_path=_save_path(torrent),
        category=urllib.parse.unquote(torrent.label) or None,
        reason=failure_of(torrent),
        message=torrent.message or (NOT_OPENED if phase is Phase.FAILED else None),
        warning=NOTHING_WANTED if phase is Phase.COMPLETED and known and not size else None,
        client_state=_state(torrent),
    )


def _wanted_size_and_done(
    torrent: Torrent, phase: Phase, selection: Selection | None
) -> tuple[int, int]:
    """Return the bytes of the selected files, and how many of them are present."""
    if torrent.is_meta:
        return 0, 0
    size, unwanted_done = torrent.size, 0
    if selection is not None and torrent.is_selective:
        size, unwanted_done = selection.wanted, selection.unwanted_done
    done = torrent.done - unwanted_done
    if phase is Phase.COMPLETED and torrent.is_selective:
        done = size  # chunks at the edges belong to deselected files, too
    return size, min(max(done, 0), size)


def _save_path(torrent: Torrent) -> str | None:
    """Return the parent folder. d.directory of a multi-file torrent is its own folder."""
    head, tail = posixpath.split(torrent.directory.rstrip("/"))
    inside = torrent.is_multi_file and tail == torrent.name
    return (head if inside else torrent.directory) or None


def _state(torrent: Torrent) -> str:
    """Name the state as the user interface of rTorrent does. The API has no name for it."""
    if torrent.hashing:
        return "hashing"
    if not torrent.state:
        return "stopped"
    return "active" if torrent.is_active else "paused"
