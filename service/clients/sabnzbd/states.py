"""What SABnzbd says of a download, and what that means here.

Its words are read off 5.0.0RC3's source (constants.py, api.py) and seen there.
"""

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Final

import msgspec

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.clients.nzb import usenet_reason

QUEUE: Final[dict[str, Phase]] = {
    "Checking": Phase.CHECKING,  # which articles are there, before the download
    "Downloading": Phase.DOWNLOADING,  # said of every entry that is not paused: see ``phase_of``
    "Fetching": Phase.DOWNLOADING,  # more recovery files
    "Grabbing": Phase.METADATA,  # the NZB itself, from a URL
    "Idle": Phase.QUEUED,
    "Paused": Phase.PAUSED,
    "Propagating": Phase.QUEUED,  # held back until it is old enough
    "Queued": Phase.QUEUED,
}
"""Status of a slot of mode=queue."""

DELETED: Final = "Deleted"  # and almost gone
FORCE: Final = "Force"  # the priority for which a pause of SABnzbd as a whole does not count

HISTORY: Final[dict[str, Phase]] = {
    "Completed": Phase.COMPLETED,
    "Extracting": Phase.PROCESSING,
    "Failed": Phase.FAILED,
    "Fetching": Phase.PROCESSING,
    "Moving": Phase.PROCESSING,
    "Queued": Phase.PROCESSING,  # downloaded, and waiting for its post-processing
    "QuickCheck": Phase.PROCESSING,
    "Repairing": Phase.PROCESSING,
    "Running": Phase.PROCESSING,  # a user's script
    "Verifying": Phase.PROCESSING,
}
"""Status of a slot of mode=history, where post-processing is too."""

MIB: Final = 1 << 20
KIB: Final = 1 << 10

MISSING: Final = re.compile(r"\d+ articles were (?:missing|malformed)")
REPAIRED: Final = re.compile(r"Repaired in|Quick Check OK|all files correct")


class Slot(msgspec.Struct, frozen=True):
    """An entry of the queue. Sizes in MiB, as text with two decimals."""

    nzo_id: str
    filename: str
    status: str
    mb: float = 0.0
    mbleft: float = 0.0
    mbmissing: float = 0.0
    cat: str = ""
    priority: str = ""
    timeleft: str = ""

    @property
    def size(self) -> int:
        return round(self.mb * MIB)

    @property
    def left(self) -> int:
        return round(self.mbleft * MIB)


class Queue(msgspec.Struct, frozen=True):
    """Of mode=queue, what matters here."""

    paused: bool
    slots: list[Slot] = []
    kbpersec: float = 0.0
    have_warnings: int = 0


class Stage(msgspec.Struct, frozen=True):
    """What one stage of a download's life came to."""

    name: str
    actions: list[str] = []


class Past(msgspec.Struct, frozen=True, rename={"size": "bytes"}):
    """An entry of the history. ``storage`` is the folder, or the only file in it."""

    nzo_id: str
    name: str
    status: str
    size: int = 0
    category: str | None = None
    storage: str | None = None
    fail_message: str | None = None
    completed: int = 0
    stage_log: list[Stage] = []


class History(msgspec.Struct, frozen=True):
    """Of mode=history, what matters here."""

    slots: list[Past]
    last_history_update: int = 0


def phase_of(slot: Slot, *, paused: bool, in_turn: bool) -> Phase:
    """What an entry of the queue does; ``paused`` is said of SABnzbd as a whole. It calls every
    entry Downloading, while it downloads them in their order: those whose turn it is not wait."""
    phase = QUEUE.get(slot.status, Phase.UNKNOWN)
    if phase not in (Phase.QUEUED, Phase.DOWNLOADING):
        return phase
    if paused and slot.priority != FORCE:
        return Phase.PAUSED
    return phase if in_turn else Phase.QUEUED


def queued(
    client: ClientName, slot: Slot, phase: Phase, *, rate: int = 0, trouble: str = ""
) -> DownloadStatus:
    """The status of an entry of the queue; ``rate`` in bytes a second, ``trouble`` is why nothing
    arrives."""
    missing = f"{slot.mbmissing:.2f} MiB are missing so far" if slot.mbmissing else None
    return DownloadStatus(
        client=client,
        item=ItemId(slot.nzo_id),
        title=slot.filename,
        phase=phase,
        progress=min(max(1 - slot.left / slot.size, 0.0), 1.0) if slot.size else 0.0,
        size=slot.size or None,
        downloaded=max(slot.size - slot.left, 0),
        download_rate=rate if phase is Phase.DOWNLOADING else 0,
        eta=(_seconds(slot.timeleft) or None) if phase is Phase.DOWNLOADING else None,
        category=_category(slot.cat),
        message=trouble or missing,
        client_state=slot.status,
    )


def past(client: ClientName, entry: Past, log: str = "") -> DownloadStatus:
    """The status of an entry of the history; ``log`` is what the warnings say of a failure."""
    phase = ended(entry)
    words = "; ".join(filter(None, (entry.fail_message, log)))
    return DownloadStatus(
        client=client,
        item=ItemId(entry.nzo_id),
        title=entry.name,
        phase=phase,
        progress=1.0 if phase in (Phase.COMPLETED, Phase.PROCESSING) else 0.0,
        size=entry.size or None,
        downloaded=entry.size,
        save_path=folder(entry),
        category=_category(entry.category),
        reason=usenet_reason(words) if phase is Phase.FAILED else None,
        message=(words or None) if phase is Phase.FAILED else None,
        warning=missing_in(entry) if phase is Phase.COMPLETED else None,
        client_state=entry.status,
    )


def ended(entry: Past) -> Phase:
    """What an entry of the history does. Completed without a place is not there yet: it is so for
    a moment at the end of its post-processing."""
    phase = HISTORY.get(entry.status, Phase.UNKNOWN)
    return Phase.PROCESSING if phase is Phase.COMPLETED and not entry.storage else phase


def folder(entry: Past) -> str | None:
    """Where the download is. SABnzbd names the file itself if there is but one."""
    if not entry.storage:
        return None
    flavour = PureWindowsPath if "\\" in entry.storage else PurePosixPath
    path: PurePath = flavour(entry.storage)
    numbered = re.escape(entry.name) + r"(\.\d+)?"  # a folder of that name was there already
    return str(path.parent) if re.fullmatch(numbered, path.parent.name) else entry.storage


def missing_in(entry: Past) -> str | None:
    """What a completed download lacks: SABnzbd completes what has no recovery files as it is. Only
    its log says so, in the language of its page; English is understood."""
    said = [action for stage in entry.stage_log for action in stage.actions]
    lost = next((found[0] for found in map(MISSING.search, said) if found), None)
    return None if any(map(REPAIRED.search, said)) else lost


def _seconds(timeleft: str) -> int:
    """``0:01:10`` or ``1:02:03:04`` (with days) in seconds; 0 is not known."""
    if not re.fullmatch(r"\d+(:\d+){2,3}", timeleft):
        return 0
    scale = (1, 60, 3600, 86400)
    return sum(
        int(part) * unit for part, unit in zip(timeleft.split(":")[::-1], scale, strict=False)
    )


def _category(name: str | None) -> str | None:
    return None if name in (None, "", "*", "None") else name
