"""Map downloads of NZBGet to the status that all clients share.

The status names come from the source of 21.0 and 26. Their behavior was observed on 21.0.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.nzb import usenet_reason
from mediabus.service.clients.sane import is_item_id
from mediabus.service.clients.tolerant import size_of

QUEUE: Final[dict[str, Phase]] = {
    "QUEUED": Phase.QUEUED,
    "PAUSED": Phase.PAUSED,
    "DOWNLOADING": Phase.DOWNLOADING,
    "FETCHING": Phase.METADATA,  # the NZB itself, from a URL
    "QS_QUEUED": Phase.PROCESSING,  # a user's script between download and post-processing
    "QS_EXECUTING": Phase.PROCESSING,
    "PP_QUEUED": Phase.PROCESSING,
    "LOADING_PARS": Phase.PROCESSING,
    "VERIFYING_SOURCES": Phase.PROCESSING,
    "REPAIRING": Phase.PROCESSING,
    "VERIFYING_REPAIRED": Phase.PROCESSING,
    "RENAMING": Phase.PROCESSING,
    "UNPACKING": Phase.PROCESSING,
    "MOVING": Phase.PROCESSING,
    "POST_UNPACK_RENAMING": Phase.PROCESSING,  # since 24
    "EXECUTING_SCRIPT": Phase.PROCESSING,
    "PP_FINISHED": Phase.PROCESSING,  # about to move to the history, which has the result
}
"""Status of an entry of listgroups (ListGroupsXmlCommand::DetectStatus), 13 to 26."""

HISTORY: Final[dict[str, FailureReason | None]] = {
    "SUCCESS/ALL": None,
    "SUCCESS/GOOD": None,  # marked so by the user
    "SUCCESS/HEALTH": None,
    "SUCCESS/MARK": None,
    "SUCCESS/PAR": None,
    "SUCCESS/UNPACK": None,
    "WARNING/DAMAGED": "missing_articles",  # the user has to repair it
    "WARNING/HEALTH": None,  # a few articles are missing
    "WARNING/PASSWORD": "password",
    "WARNING/REPAIRABLE": None,
    "WARNING/SCRIPT": None,
    "WARNING/SKIPPED": "rejected",  # the URL led to no NZB
    "WARNING/SPACE": "disk_full",
    "FAILURE/BAD": "rejected",  # marked so by the user or a script
    "FAILURE/FETCH": "client_error",  # the NZB could not be fetched
    "FAILURE/HEALTH": "missing_articles",
    "FAILURE/INTERNAL_ERROR": "client_error",
    "FAILURE/MOVE": "client_error",
    "FAILURE/PAR": "missing_articles",  # too few recovery blocks
    "FAILURE/SCAN": "rejected",  # the NZB could not be read
    "FAILURE/UNPACK": "unpack",
    "DELETED/COPY": "rejected",
    "DELETED/DUPE": "rejected",
    "DELETED/GOOD": "rejected",
}
"""Status of a history entry (NzbInfo::MakeTextStatus): the failure reason; None is completed.

DELETED/MANUAL is not listed, because the user deleted the download.
"""

GONE: Final = "DELETED/MANUAL"
VAGUE: Final = ("client_error", "unpack")
"""Reasons for which NZBGet's log can have a more precise one."""

FORCED: Final = 900
"""The lowest priority that ignores a pause of all of NZBGet."""


class LogLine(msgspec.Struct, frozen=True, rename="pascal"):
    """A line of the log, either of NZBGet or of one download."""

    kind: str = ""
    time: int = 0
    text: str = ""


class Option(msgspec.Struct, frozen=True, rename="pascal"):
    """A setting of NZBGet."""

    name: str = ""
    value: str = ""


class Parameter(msgspec.Struct, frozen=True, rename="pascal"):
    """A parameter of a download, which a program or a post-processing script set."""

    name: str = ""
    value: str = ""


APP_ID: Final = "drone"
"""The parameter in which Sonarr and its kin keep the id by which they know the download."""


def _spelled(field: str) -> str:
    """Spell a name like NZBGet: ``nzb_id`` is NZBID, ``nzb_name`` NZBName, ``dest_dir`` DestDir."""
    name = "".join(part.capitalize() for part in field.split("_"))
    return name.replace("NzbId", "NZBID").replace("Nzb", "NZB")


def _joined(high: int, low: int) -> int:
    """Join a size from two halves of 32 bits. NZBGet can write a half as a negative number."""
    half = (1 << 32) - 1
    return size_of(((high & half) << 32) + (low & half))


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename=_spelled):
    """The fields of entries of both queue and history. Sizes are in two halves of 32 bits."""

    nzb_id: int
    status: str = ""
    category: str = ""
    file_size_lo: int = 0
    file_size_hi: int = 0
    downloaded_size_lo: int = 0
    downloaded_size_hi: int = 0
    total_articles: int = 0
    failed_articles: int = 0
    parameters: list[Parameter] = []

    @property
    def aliases(self) -> tuple[ItemId, ...]:
        """The id by which the application that added the download knows it."""
        found = (it.value for it in self.parameters if it.name.lower() == APP_ID)
        return tuple(ItemId(value) for value in found if is_item_id(value))

    @property
    def size(self) -> int:
        return _joined(self.file_size_hi, self.file_size_lo)

    @property
    def arrived(self) -> int:
        """Received bytes, including yEnc encoding and headers."""
        return _joined(self.downloaded_size_hi, self.downloaded_size_lo)


class Group(Entry, frozen=True, kw_only=True, rename=_spelled):
    """An entry of listgroups: the queue, including post-processing."""

    nzb_name: str = ""
    max_priority: int = 0
    remaining_size_lo: int = 0
    remaining_size_hi: int = 0
    paused_size_lo: int = 0
    paused_size_hi: int = 0

    @property
    def remaining(self) -> int:
        return _joined(self.remaining_size_hi, self.remaining_size_lo)

    @property
    def paused(self) -> int:
        return _joined(self.paused_size_hi, self.paused_size_lo)


class Finished(Entry, frozen=True, kw_only=True, rename=_spelled):
    """An entry of the history."""

    name: str = ""
    dest_dir: str = ""
    final_dir: str = ""
    delete_status: str = "NONE"
    par_status: str = "NONE"
    unpack_status: str = "NONE"

    @property
    def files_go_with_it(self) -> bool:
        """Return whether NZBGet deletes the files with this entry (HistoryDelete)."""
        return (
            self.delete_status != "NONE"
            or self.par_status == "FAILURE"
            or self.unpack_status in ("FAILURE", "PASSWORD")
        )


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """The used part of the answer to status. The rate, in bytes/s, lags by half a minute."""

    download_paused: bool = False
    download_rate: int = 0
    server_time: int = 0
    up_time_sec: int | None = None
    free_disk_space_mb: int | None = msgspec.field(name="FreeDiskSpaceMB", default=None)


def phase_of(group: Group, state: State) -> Phase:
    """Return the phase of a queue entry.

    A paused entry counts as paused at once, although articles in transit still arrive. While all of
    NZBGet is paused, every entry counts as paused, although its own status does not show that.
    """
    phase = QUEUE.get(group.status, Phase.UNKNOWN)
    if phase not in (Phase.QUEUED, Phase.DOWNLOADING):
        return phase
    if is_paused(group):
        return Phase.PAUSED
    return Phase.PAUSED if state.download_paused and group.max_priority < FORCED else phase


def is_paused(group: Group) -> bool:
    """Return whether this entry itself is paused."""
    return 0 < group.remaining == group.paused


def lack_of_space(state: State, options: Sequence[Option]) -> str:
    """Return the message if NZBGet paused itself, with less free space than DiskSpace requires."""
    wanted = next((it.value for it in options if it.name == "DiskSpace"), "")
    free = state.free_disk_space_mb
    if not state.download_paused or free is None or not re.fullmatch(r"\d{1,9}", wanted):
        return ""
    if free >= int(wanted):
        return ""
    return f"NZBGet paused itself: {free} MB are free, and its setting DiskSpace is {wanted} MB"


def queued(
    client: ClientName, group: Group, state: State, trouble: str = "", held: str = ""
) -> DownloadStatus:
    """Convert a queue entry to a status.

    ``trouble`` is why no data arrives, ``held`` is why NZBGet paused itself.
    """
    phase = phase_of(group, state)
    is_held = bool(held) and phase is Phase.PAUSED and not is_paused(group)
    done = max(group.size - group.remaining, 0)
    rate = state.download_rate if phase is Phase.DOWNLOADING else 0
    return DownloadStatus(
        client=client,
        item=ItemId(str(group.nzb_id)),
        title=group.nzb_name,
        phase=phase,
        progress=min(done / group.size, 1.0) if group.size else 0.0,
        size=group.size or None,
        downloaded=min(group.arrived, group.size),
        download_rate=rate,
        eta=group.remaining // rate if rate else None,
        by_client=is_held,
        category=group.category or None,
        message=(held if is_held else trouble) or _missing(group),
        client_state=group.status,
        aliases=group.aliases,
    )


def finished(client: ClientName, entry: Finished, log: str = "") -> DownloadStatus:
    """Convert a history entry to a status. ``log`` is the log message about a failure."""
    phase, reason = outcome(entry.status, log)
    words = f"{entry.status}: {log}" if log else entry.status
    return DownloadStatus(
        client=client,
        item=ItemId(str(entry.nzb_id)),
        title=entry.name,
        phase=phase,
        progress=1.0 if phase is Phase.COMPLETED else 0.0,
        size=entry.size or None,
        downloaded=min(entry.arrived, entry.size),
        save_path=entry.final_dir or entry.dest_dir or None,
        category=entry.category or None,
        reason=reason,
        message=words if phase is Phase.FAILED else None,
        warning=_warning(entry) if phase is Phase.COMPLETED else None,
        client_state=entry.status,
        aliases=entry.aliases,
    )


def outcome(status: str, log: str = "") -> tuple[Phase, FailureReason | None]:
    """Return the result of a download. For an unknown status, its first half decides."""
    family = status.partition("/")[0]
    if status in HISTORY:
        reason = HISTORY[status]
    elif family in ("SUCCESS", "WARNING"):
        reason = None
    elif family == "FAILURE":
        reason = "client_error"
    else:
        return Phase.UNKNOWN, None
    if reason is None:
        return Phase.COMPLETED, None
    found = usenet_reason(log) if reason in VAGUE else "client_error"
    return Phase.FAILED, reason if found == "client_error" else found


def _missing(entry: Entry) -> str | None:
    """Return a message about missing articles. A few of them can be repaired."""
    if not entry.failed_articles:
        return None
    return f"{entry.failed_articles} of {entry.total_articles} articles are missing"


def _warning(entry: Finished) -> str | None:
    """Return the warning about a download that NZBGet completed with problems."""
    if not entry.status.startswith("WARNING"):
        return None
    return "; ".join(filter(None, (entry.status, _missing(entry))))
