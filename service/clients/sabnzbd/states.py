"""Map downloads of SABnzbd to the status that all clients share.

The status names come from the source of 5.0.0RC3 to 5.1.3 (constants.py, api.py), and were observed
there.
"""

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Final

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.clients.nzb import usenet_reason
from mediabus.service.clients.tolerant import size_of

QUEUE: Final[dict[str, Phase]] = {
    "Checking": Phase.CHECKING,  # checks for missing articles before the download
    "Downloading": Phase.DOWNLOADING,  # every entry that is not paused: see ``phase_of``
    "Fetching": Phase.DOWNLOADING,  # more recovery files
    "Grabbing": Phase.METADATA,  # the NZB itself, from a URL
    "Idle": Phase.QUEUED,
    "Paused": Phase.PAUSED,
    "Propagating": Phase.QUEUED,  # delayed until the post is old enough
    "Queued": Phase.QUEUED,
}
"""The phase of each status of mode=queue."""

DELETED: Final = "Deleted"  # about to disappear
FORCED: Final = frozenset({"Force", "2"})
"""Priorities that ignore a pause of all of SABnzbd: by name, or by number while fetching."""

HISTORY: Final[dict[str, Phase]] = {
    "Completed": Phase.COMPLETED,
    "Extracting": Phase.PROCESSING,
    "Failed": Phase.FAILED,
    "Fetching": Phase.PROCESSING,
    "Moving": Phase.PROCESSING,
    "Queued": Phase.PROCESSING,  # waiting for post-processing
    "QuickCheck": Phase.PROCESSING,
    "Repairing": Phase.PROCESSING,
    "Running": Phase.PROCESSING,  # a user's script
    "Verifying": Phase.PROCESSING,
}
"""The phase of each status of mode=history, which includes post-processing."""

MIB: Final = 1 << 20
KIB: Final = 1 << 10

MISSING: Final = re.compile(r"\d+ articles were (?:missing|malformed)")
REPAIRED: Final = re.compile(r"Repaired in|Quick Check OK|all files correct")


class Slot(msgspec.Struct, frozen=True):
    """A queue entry.

    Sizes are in MiB, as text with two decimals. ``labels`` are the reasons for a pause or a delay,
    in the language of SABnzbd's user interface.
    """

    nzo_id: str
    filename: str = ""
    status: str = ""
    mb: float = 0.0
    mbleft: float = 0.0
    mbmissing: float = 0.0
    cat: str = ""
    priority: str | int = ""
    timeleft: str = ""
    labels: list[str] = []

    @property
    def size(self) -> int:
        return size_of(self.mb, MIB)

    @property
    def left(self) -> int:
        return size_of(self.mbleft, MIB)

    @property
    def is_forced(self) -> bool:
        """Return whether it is downloaded even while all of SABnzbd is paused."""
        return str(self.priority) in FORCED


class Queue(msgspec.Struct, frozen=True):
    """The used part of the answer to mode=queue."""

    slots: list[Slot]
    paused: bool = False
    kbpersec: float = 0.0
    have_warnings: int = 0


class Stage(msgspec.Struct, frozen=True):
    """The log of one stage of a download."""

    name: str = ""
    actions: list[str] = []


class Past(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """A history entry. ``storage`` is the folder, or the only file in it."""

    nzo_id: str
    name: str = ""
    status: str = ""
    size: float = 0.0
    category: str | None = None
    storage: str | None = None
    fail_message: str | None = None
    completed: int = 0
    stage_log: list[Stage] = []


class History(msgspec.Struct, frozen=True):
    """The used part of the answer to mode=history."""

    slots: list[Past]
    last_history_update: int = 0


def phase_of(slot: Slot, *, paused: bool, in_turn: bool) -> Phase:
    """Return the phase of a queue entry.

    ``paused`` is whether all of SABnzbd is paused. SABnzbd downloads entries in order, but reports
    all of them as Downloading: those that are not ``in_turn`` are queued.
    """
    phase = QUEUE.get(slot.status, Phase.UNKNOWN)
    if phase not in (Phase.QUEUED, Phase.DOWNLOADING):
        return phase
    if paused and not slot.is_forced:
        return Phase.PAUSED
    return phase if in_turn else Phase.QUEUED


def queued(
    client: ClientName,
    slot: Slot,
    phase: Phase,
    *,
    rate: int = 0,
    trouble: str = "",
    by_client: bool = False,
) -> DownloadStatus:
    """Convert a queue entry to a status.

    ``rate`` is in bytes/s, ``trouble`` is why no data arrives. ``by_client`` is whether SABnzbd
    paused the entry, or itself, on its own.
    """
    missing = f"{slot.mbmissing:.2f} MiB are missing so far" if slot.mbmissing > 0 else None
    return DownloadStatus(
        client=client,
        item=ItemId(slot.nzo_id),
        title=slot.filename,
        phase=phase,
        progress=min(max(1 - slot.left / slot.size, 0.0), 1.0) if slot.size else 0.0,
        size=slot.size or None,
        downloaded=max(slot.size - slot.left, 0),
        download_rate=rate if phase is Phase.DOWNLOADING else 0,
        by_client=by_client and phase is Phase.PAUSED,
        eta=(_seconds(slot.timeleft) or None) if phase is Phase.DOWNLOADING else None,
        category=_category(slot.cat),
        message="; ".join(filter(None, (labeled(slot), trouble or missing))) or None,
        client_state=slot.status,
    )


def labeled(slot: Slot) -> str | None:
    """Return a message with the labels of an entry, such as for a duplicate."""
    return f"SABnzbd says: {', '.join(slot.labels)}" if slot.labels else None


def past(client: ClientName, entry: Past, log: str = "") -> DownloadStatus:
    """Convert a history entry to a status. ``log`` has the warnings about a failure."""
    phase = ended(entry)
    words = "; ".join(filter(None, (entry.fail_message, log)))
    return DownloadStatus(
        client=client,
        item=ItemId(entry.nzo_id),
        title=entry.name,
        phase=phase,
        progress=1.0 if phase in (Phase.COMPLETED, Phase.PROCESSING) else 0.0,
        size=size_of(entry.size) or None,
        downloaded=size_of(entry.size),
        save_path=folder(entry),
        category=_category(entry.category),
        reason=usenet_reason(words) if phase is Phase.FAILED else None,
        message=(words or None) if phase is Phase.FAILED else None,
        warning=missing_in(entry) if phase is Phase.COMPLETED else None,
        client_state=entry.status,
    )


def ended(entry: Past) -> Phase:
    """Return the phase of a history entry.

    Completed without ``storage`` still counts as processing: this occurs briefly at the end of
    post-processing.
    """
    phase = HISTORY.get(entry.status, Phase.UNKNOWN)
    return Phase.PROCESSING if phase is Phase.COMPLETED and not entry.storage else phase


def folder(entry: Past) -> str | None:
    """Return the folder of a download. If it has one file, SABnzbd reports that file instead."""
    if not entry.storage:
        return None
    flavour = PureWindowsPath if "\\" in entry.storage else PurePosixPath
    path: PurePath = flavour(entry.storage)
    numbered = re.escape(entry.name) + r"(\.\d+)?"  # a folder with that name existed
    return str(path.parent) if re.fullmatch(numbered, path.parent.name) else entry.storage


def missing_in(entry: Past) -> str | None:
    """Return a message about missing articles of a completed download.

    SABnzbd completes a damaged download without recovery files. Only the stage log reports this, in
    the language of the user interface. Only English is recognized.
    """
    actions = [action for stage in entry.stage_log for action in stage.actions]
    lost = next((found[0] for found in map(MISSING.search, actions) if found), None)
    return None if any(map(REPAIRED.search, actions)) else lost


def _seconds(timeleft: str) -> int:
    """Convert ``0:01:10`` or ``1:02:03:04`` (with days) to seconds; 0 if it is unknown."""
    if not re.fullmatch(r"\d{1,9}(:\d{1,9}){2,3}", timeleft):
        return 0
    scale = (1, 60, 3600, 86400)
    return sum(
        int(part) * unit for part, unit in zip(timeleft.split(":")[::-1], scale, strict=False)
    )


def _category(name: str | None) -> str | None:
    return None if name in (None, "", "*", "None") else name
