"""What a download client says right now: of one download, and of itself being in reach."""

import datetime
import enum
from typing import Annotated, Literal, NewType

import msgspec

ClientName = NewType("ClientName", str)
"""The name of a download client in the settings: letters, digits, ``-`` and ``_``."""

ItemId = NewType("ItemId", str)
"""A download's id inside its client: infohash in lower-case hex, gid or nzo_id."""

Protocol = Literal["torrent", "usenet"]

UnreachableReason = Literal[
    "connection", "authentication", "banned", "rate_limited", "tls", "protocol"
]


class Phase(enum.StrEnum):
    """What the client is doing with a download, in one vocabulary for all clients."""

    QUEUED = "queued"
    METADATA = "metadata"  # a magnet still fetching its metadata
    DOWNLOADING = "downloading"
    PAUSED = "paused"
    CHECKING = "checking"
    MOVING = "moving"
    PROCESSING = "processing"  # usenet: verify, repair, unpack
    COMPLETED = "completed"  # all wanted data is there, seeding or not
    FAILED = "failed"
    UNKNOWN = "unknown"  # a word of the client's that is not in its table


FailureReason = Literal[
    "no_sources",
    "missing_files",
    "missing_articles",
    "disk_full",
    "not_writable",
    "rejected",
    "unpack",
    "password",
    "removed_from_client",
    "client_error",
]

Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DownloadStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One download as its client shows it. Sizes in bytes, rates in bytes a second, ``eta`` in
    seconds, ``progress`` from 0 to 1; ``downloaded`` counts the wanted bytes that are there."""

    client: ClientName
    item: ItemId
    title: str
    phase: Phase
    progress: Fraction = 0.0
    size: int | None = None
    downloaded: int = 0
    uploaded: int = 0
    download_rate: int = 0
    upload_rate: int = 0
    eta: int | None = None
    idle_for: int = 0  # seconds seen downloading without a byte, in steps; see the stall clock
    by_restart: bool = False  # the client's restart paused it or let it run, and nobody else
    save_path: str | None = None
    category: str | None = None
    reason: FailureReason | None = None  # with phase failed
    message: str | None = None  # the client's own words about trouble, failed or not
    warning: str | None = None  # with phase completed: what is missing all the same
    client_state: str = ""  # the client's own word for the phase


class ClientStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a download client can be asked, and since when that is so."""

    client: ClientName
    kind: str
    reachable: bool
    since: datetime.datetime
    version: str | None = None
    reason: UnreachableReason | None = None
    message: str | None = None
