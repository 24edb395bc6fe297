"""What NZBGet says of a download and of itself, and what that means here.

Its words are read off 21.0's and 26's source; what it does with them was seen on 21.0.
"""

from typing import Final

import msgspec

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.nzb import usenet_reason

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
    "PP_FINISHED": Phase.PROCESSING,  # about to move to the history, which says how it went
}
"""Status of an entry of listgroups (ListGroupsXmlCommand::DetectStatus), 13 to 26."""

HISTORY: Final[dict[str, FailureReason | None]] = {
    "SUCCESS/ALL": None,
    "SUCCESS/GOOD": None,  # marked so by the user
    "SUCCESS/HEALTH": None,
    "SUCCESS/MARK": None,
    "SUCCESS/PAR": None,
    "SUCCESS/UNPACK": None,
    "WARNING/DAMAGED": "missing_articles",  # and the user is to repair it
    "WARNING/HEALTH": None,  # articles are missing, but none that matters much
    "WARNING/PASSWORD": "password",
    "WARNING/REPAIRABLE": None,
    "WARNING/SCRIPT": None,
    "WARNING/SKIPPED": "rejected",  # the URL led to no NZB
    "WARNING/SPACE": "disk_full",
    "FAILURE/BAD": "rejected",  # marked so by the user or a script
    "FAILURE/FETCH": "client_error",  # the NZB was not to be had
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
"""Status of an entry of the history (NzbInfo::MakeTextStatus): None is completed, else why it
failed. What the user deleted, DELETED/MANUAL, is gone."""

GONE: Final = "DELETED/MANUAL"
VAGUE: Final = ("client_error", "unpack")
"""Reasons that NZBGet's log may put more precisely."""

FORCED: Final = 900
"""The priority from which on a pause of NZBGet as a whole does not count."""


class LogLine(msgspec.Struct, frozen=True, rename="pascal"):
    """A line of the log, of all or of one download's."""

    kind: str
    time: int
    text: str


class Option(msgspec.Struct, frozen=True, rename="pascal"):
    """One of its settings."""

    name: str
    value: str


def _spelled(field: str) -> str:
    """As NZBGet spells it: ``nzb_id`` is NZBID, ``nzb_name`` NZBName, ``dest_dir`` DestDir."""
    name = "".join(part.capitalize() for part in field.split("_"))
    return name.replace("NzbId", "NZBID").replace("Nzb", "NZB")


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename=_spelled):
    """What entries of the queue and of the history both have. Sizes in two halves of 32 bits."""

    nzb_id: int
    status: str
    category: str = ""
    file_size_lo: int = 0
    file_size_hi: int = 0
    downloaded_size_lo: int = 0
    downloaded_size_hi: int = 0
    total_articles: int = 0
    failed_articles: int = 0

    @property
    def size(self) -> int:
        return (self.file_size_hi << 32) + self.file_size_lo

    @property
    def arrived(self) -> int:
        """Bytes, with what yEnc and headers add."""
        return (self.downloaded_size_hi << 32) + self.downloaded_size_lo


class Group(Entry, frozen=True, kw_only=True, rename=_spelled):
    """An entry of listgroups: the queue, post-processing included."""

    nzb_name: str = ""
    max_priority: int = 0
    remaining_size_lo: int = 0
    remaining_size_hi: int = 0
    paused_size_lo: int = 0
    paused_size_hi: int = 0

    @property
    def remaining(self) -> int:
        return (self.remaining_size_hi << 32) + self.remaining_size_lo

    @property
    def paused(self) -> int:
        return (self.paused_size_hi << 32) + self.paused_size_lo


class Finished(Entry, frozen=True, kw_only=True, rename=_spelled):
    """An entry of the history."""

    name: str
    dest_dir: str = ""
    final_dir: str = ""
    delete_status: str = "NONE"
    par_status: str = "NONE"
    unpack_status: str = "NONE"

    @property
    def files_go_with_it(self) -> bool:
        """Whether NZBGet deletes the files when it deletes this entry (HistoryDelete)."""
        return (
            self.delete_status != "NONE"
            or self.par_status == "FAILURE"
            or self.unpack_status in ("FAILURE", "PASSWORD")
        )


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """Of status, what matters here. The rate in bytes a second lags behind by half a minute."""

    download_paused: bool
    download_rate: int
    server_time: int
    up_time_sec: int


def phase_of(group: Group, state: State) -> Phase:
    """What an entry of the queue does. A pause shows as such at once, though the articles on their
    way still arrive, and one of NZBGet as a whole, which no entry tells of, is every entry's."""
    phase = QUEUE.get(group.status, Phase.UNKNOWN)
    if phase not in (Phase.QUEUED, Phase.DOWNLOADING):
        return phase
    if 0 < group.remaining == group.paused:
        return Phase.PAUSED
    return Phase.PAUSED if state.download_paused and group.max_priority < FORCED else phase


def queued(client: ClientName, group: Group, state: State, trouble: str = "") -> DownloadStatus:
    """The status of an entry of the queue; ``trouble`` is why nothing arrives."""
    phase = phase_of(group, state)
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
        category=group.category or None,
        message=trouble or _missing(group),
        client_state=group.status,
    )


def finished(client: ClientName, entry: Finished, log: str = "") -> DownloadStatus:
    """The status of an entry of the history; ``log`` is what its log says of a failure."""
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
    )


def outcome(status: str, log: str = "") -> tuple[Phase, FailureReason | None]:
    """How a download ended. A new word is taken by its first half."""
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
    """What is lost already; a few articles can be repaired."""
    if not entry.failed_articles:
        return None
    return f"{entry.failed_articles} of {entry.total_articles} articles are missing"


def _warning(entry: Finished) -> str | None:
    """What is wrong with a download that NZBGet calls complete."""
    if not entry.status.startswith("WARNING"):
        return None
    return "; ".join(filter(None, (entry.status, _missing(entry))))
