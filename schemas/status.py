"""The status of a download in its client, and the reachability of the client."""

import datetime
import enum
from typing import Annotated, Final, Literal, NewType

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
    """What a client does with a download, in one vocabulary for all clients."""

    QUEUED = "queued"
    METADATA = "metadata"  # a magnet still fetching its metadata
    DOWNLOADING = "downloading"
    PAUSED = "paused"
    CHECKING = "checking"
    MOVING = "moving"
    PROCESSING = "processing"  # usenet: verify, repair, unpack
    COMPLETED = "completed"  # all wanted data has arrived, seeding or not
    FAILED = "failed"
    UNKNOWN = "unknown"  # a state of the client that is not in its table


TRANSFERRING: Final = frozenset({Phase.METADATA, Phase.DOWNLOADING})
"""The phases in which bytes are expected to arrive."""

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
    """A download as its client reports it.

    Sizes are in bytes, rates in bytes per second, ``eta`` in seconds, ``progress`` is from 0 to 1.
    ``downloaded`` counts the wanted bytes that have arrived.
    """

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
    moved: bool = False  # it has transferred data since it was first seen running
    by_restart: bool = False  # a restart of the client paused or resumed it
    by_client: bool = False  # the client paused it by itself; ``message`` is the reason
    save_path: str | None = None
    category: str | None = None
    reason: FailureReason | None = None  # with phase failed
    message: str | None = None  # the client's error message, failed or not
    warning: str | None = None  # with phase completed: what is missing
    client_state: str = ""  # the client's own name for the phase
    aliases: tuple[ItemId, ...] = ()  # other or earlier ids of this download in its client


class ClientStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a download client is reachable, and since when."""

    client: ClientName
    kind: str
    reachable: bool
    since: datetime.datetime
    version: str | None = None
    reason: UnreachableReason | None = None
    message: str | None = None
    warning: str | None = None  # a warning of the client while it is reachable
